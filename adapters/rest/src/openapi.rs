//! The description of the API, for tools.

use axum::response::IntoResponse;
use http::header::CONTENT_TYPE;

/// OpenAPI 3.1; a test below holds it to the table of routes.
const DOCUMENT: &str = include_str!("openapi.json");

/// Answers with the description.
pub(crate) async fn document() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], DOCUMENT)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use engine_model::Code;
    use serde_json::Value;

    use super::*;
    use crate::routes;

    fn parsed() -> Value {
        serde_json::from_str(DOCUMENT).unwrap()
    }

    #[test]
    fn it_describes_exactly_what_is_served() {
        let served: BTreeSet<(String, String)> = routes::table()
            .iter()
            .flat_map(|place| {
                let word = |method: &http::Method| method.as_str().to_ascii_lowercase();
                place
                    .methods
                    .iter()
                    .map(move |method| (place.path.to_owned(), word(method)))
            })
            .collect();
        let document = parsed();
        let verbs = ["get", "post", "put", "patch", "delete"];
        let described: BTreeSet<(String, String)> = document["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, item)| {
                let methods = item.as_object().unwrap().keys();
                let methods = methods.filter(|key| verbs.contains(&key.as_str()));
                methods.map(move |method| (path.clone(), method.clone()))
            })
            .collect();
        assert_eq!(described, served);
    }

    #[test]
    fn it_names_every_code_of_a_refusal() {
        let document = parsed();
        let named = document["components"]["schemas"]["Error"]["properties"]["error"]["enum"]
            .as_array()
            .unwrap()
            .iter()
            .map(|code| code.as_str().unwrap())
            .collect::<BTreeSet<_>>();
        assert_eq!(named, Code::ALL.iter().map(|code| code.as_str()).collect());
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn check(document: &Value, value: &Value) {
            match value {
                Value::Object(fields) => {
                    if let Some(Value::String(to)) = fields.get("$ref") {
                        let pointer = to.strip_prefix('#').unwrap();
                        assert!(document.pointer(pointer).is_some(), "{to}");
                    }
                    fields.values().for_each(|value| check(document, value));
                }
                Value::Array(values) => values.iter().for_each(|value| check(document, value)),
                _ => {}
            }
        }
        let document = parsed();
        check(&document, &document);
    }
}
