//! Query parameters, and which documents they ask for.

use std::str::FromStr;

use axum::extract::{FromRequestParts, Query};
use engine_model::Code;
use http::StatusCode;
use http::request::Parts;
use serde_json::Value;

use crate::refusal::Refusal;

/// The parameter that every list knows.
pub(crate) const TAGS: &str = "tags";

/// A parameter that asks for the documents with this text in a field.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    pub(crate) parameter: &'static str,
    pub(crate) field: &'static str,
}

/// The query parameters of a request, in their order.
#[derive(Debug, Default)]
pub(crate) struct Params(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let read = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
        let bad = |_| Refusal::new(Code::MalformedCommand, "the query string cannot be read");
        read.map(|Query(pairs)| Self(pairs)).map_err(bad)
    }
}

impl Params {
    /// Refuses parameters other than `known`: a misspelt filter that is not heard would show more
    /// than was asked for.
    pub(crate) fn only<'a>(
        self,
        known: impl IntoIterator<Item = &'a str> + Clone,
    ) -> Result<Self, Refusal> {
        let strange = |(key, _): &&(String, String)| known.clone().into_iter().all(|k| k != key);
        let Some((key, _)) = self.0.iter().find(strange) else {
            return Ok(self);
        };
        let shown: String = key.chars().take(80).collect();
        let known: Vec<_> = known.into_iter().collect();
        let message = match known.join(", ") {
            none if none.is_empty() => format!("there is no parameter '{shown}' here"),
            known => format!("there is no parameter '{shown}' here; there are: {known}"),
        };
        Err(Refusal::new(Code::InvalidField, message))
    }

    /// The last value of a parameter.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .rev()
            .find(|(k, _)| k == key)
            .map(|(_, value)| value.as_str())
    }

    /// The value of a parameter, read.
    pub(crate) fn read<T: FromStr>(&self, key: &str, what: &str) -> Result<Option<T>, Refusal> {
        let Some(text) = self.get(key) else {
            return Ok(None);
        };
        text.parse().map(Some).map_err(|_| {
            Refusal::new(
                Code::InvalidField,
                format!("the parameter '{key}' is not {what}"),
            )
        })
    }
}

/// Which documents are wanted.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    tags: Vec<(String, String)>,
    fields: Vec<(&'static str, String)>,
}

impl Wanted {
    /// Reads the tags and the fields that are asked for.
    pub(crate) fn read(params: &Params, fields: &[Field]) -> Result<Self, Refusal> {
        let tags = params.0.iter().filter(|(key, _)| key == TAGS);
        let tags = tags.map(|(_, text)| tag(text)).collect::<Result<_, _>>()?;
        let asked = |f: &Field| {
            params
                .get(f.parameter)
                .map(|text| (f.field, text.to_owned()))
        };
        Ok(Self {
            tags,
            fields: fields.iter().filter_map(asked).collect(),
        })
    }

    /// A tag that the view can look for by itself.
    pub(crate) fn tag(&self) -> Option<String> {
        self.tags
            .first()
            .map(|(key, value)| format!("{key}={value}"))
    }

    /// Whether `document` is wanted.
    pub(crate) fn takes(&self, document: &Value) -> bool {
        let borne = document[TAGS].as_array().map_or(&[][..], Vec::as_slice);
        let bears = |(key, value): &(String, String)| {
            borne
                .iter()
                .any(|tag| tag["key"] == **key && tag["value"] == **value)
        };
        let says = |(field, wanted): &(&'static str, String)| {
            let text = document[*field].as_str().unwrap_or_default();
            // Statuses are capitals, whoever asks for them.
            text == wanted || (*field == "status" && text.eq_ignore_ascii_case(wanted))
        };
        self.tags.iter().all(bears) && self.fields.iter().all(says)
    }
}

/// `key=value`; the original knew `app` as another word for `Application`.
fn tag(text: &str) -> Result<(String, String), Refusal> {
    match text.split_once('=') {
        Some(("app", value)) => Ok(("Application".into(), value.into())),
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => {
            let shown: String = text.chars().take(80).collect();
            let message = format!("error parsing tag '{shown}': invalid format");
            Err(Refusal::with_status(
                StatusCode::BAD_REQUEST,
                Code::InvalidField,
                message,
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn params(pairs: &[(&str, &str)]) -> Params {
        Params(
            pairs
                .iter()
                .map(|(k, v)| ((*k).into(), (*v).into()))
                .collect(),
        )
    }

    #[test]
    fn a_document_must_bear_every_tag_and_say_every_field() {
        let fields = [Field {
            parameter: "state",
            field: "status",
        }];
        let asked = params(&[("tags", "app=shop"), ("tags", "a=b"), ("state", "ready")]);
        let wanted = Wanted::read(&asked, &fields).unwrap();
        let shop = json!({ "key": "Application", "value": "shop" });
        let other = json!({ "key": "a", "value": "b" });
        assert!(wanted.takes(&json!({ "status": "READY", "tags": [shop, other] })));
        assert!(!wanted.takes(&json!({ "status": "ERROR", "tags": [shop, other] })));
        assert!(!wanted.takes(&json!({ "status": "READY", "tags": [shop] })));
        assert!(!wanted.takes(&json!({ "status": "READY", "tags": null })));
        assert_eq!(wanted.tag().as_deref(), Some("Application=shop"));
    }

    #[test]
    fn an_unknown_parameter_is_refused_with_the_known_ones() {
        let refusal = params(&[("colour", "red")])
            .only(["tags", "state"])
            .unwrap_err();
        assert!(refusal.message.contains("'colour'") && refusal.message.contains("tags, state"));
    }
}
