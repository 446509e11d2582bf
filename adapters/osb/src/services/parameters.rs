//! Parameters as they are sent: the user's, with the secrets merged in, checked against the plan.

use adapter_kit::Vault;
use engine_model::Sealed;
use serde_json::{Map, Value};

use super::reach::{Obstacle, open};
use crate::wire::Hidden;

/// The largest parameter schema that a broker may have.
pub(super) const SCHEMA_BYTES_MAX: usize = 64 * 1024;

/// How many of a schema's complaints are shown.
const COMPLAINTS_MAX: usize = 5;

/// What is sent, and what of it no text may show.
pub(super) struct Merged {
    pub(super) parameters: Option<Hidden<Value>>,
    pub(super) secrets: Vec<String>,
}

impl Merged {
    pub(super) async fn new(
        vault: &dyn Vault,
        parameters: &Value,
        sealed: &[Sealed],
    ) -> Result<Self, Obstacle> {
        let mut merged = match parameters {
            Value::Null if sealed.is_empty() => {
                return Ok(Self {
                    parameters: None,
                    secrets: Vec::new(),
                });
            }
            Value::Null => Map::new(),
            Value::Object(parameters) => parameters.clone(),
            _ => {
                return Err(Obstacle::Refused(
                    "the parameters are not an object".to_owned(),
                ));
            }
        };
        let mut secrets = Vec::new();
        for sealed in sealed {
            let plain = open(vault, sealed, "a secret of the parameters").await?;
            let map: Map<String, Value> = serde_json::from_slice(plain.expose()).map_err(|_| {
                Obstacle::Refused("a secret of the parameters is not a map".to_owned())
            })?;
            secrets.extend(map.values().filter_map(Value::as_str).map(str::to_owned));
            merged.extend(map);
        }
        Ok(Self {
            parameters: Some(Hidden::new(Value::Object(merged))),
            secrets,
        })
    }

    /// Whether the plan's schema allows them. No parameters are checked as none given.
    pub(super) fn check(&self, schema: &Value) -> Result<(), String> {
        if schema.is_null() {
            return Ok(());
        }
        let validator = compile(schema)?;
        let none = Value::Object(Map::new());
        let parameters = self.parameters.as_ref().map_or(&none, Hidden::reveal);
        let complaints: Vec<String> = validator
            .iter_errors(parameters)
            .take(COMPLAINTS_MAX)
            // Masked: the value that offends may be a secret.
            .map(|error| match error.instance_path().as_str() {
                "" => error.masked().to_string(),
                path => format!("{path}: {}", error.masked()),
            })
            .collect();
        if complaints.is_empty() {
            return Ok(());
        }
        Err(format!(
            "the parameters do not fit the plan's schema: {}",
            complaints.join("; ")
        ))
    }
}

/// Compiles a schema of a plan: small, whole in itself, of any draft from 4 on.
pub(super) fn compile(schema: &Value) -> Result<jsonschema::Validator, String> {
    if schema.to_string().len() > SCHEMA_BYTES_MAX {
        return Err(format!(
            "the plan's schema is larger than {SCHEMA_BYTES_MAX} bytes"
        ));
    }
    jsonschema::validator_for(schema).map_err(|e| format!("the plan's schema cannot be used: {e}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(parameters: Value, schema: Value) -> Result<(), String> {
        let parameters = (!parameters.is_null()).then(|| Hidden::new(parameters));
        Merged {
            parameters,
            secrets: Vec::new(),
        }
        .check(&schema)
    }

    #[test]
    fn parameters_are_checked_under_the_draft_that_the_schema_names() {
        for draft in [
            "http://json-schema.org/draft-04/schema#",
            "http://json-schema.org/draft-06/schema#",
            "http://json-schema.org/draft-07/schema#",
            "https://json-schema.org/draft/2019-09/schema",
            "https://json-schema.org/draft/2020-12/schema",
        ] {
            let schema = json!({
                "$schema": draft, "type": "object", "required": ["location"],
                "properties": {"location": {"type": "string"}, "size": {"type": "integer"}},
            });
            assert_eq!(
                check(json!({"location": "westus"}), schema.clone()),
                Ok(()),
                "{draft}"
            );
            assert!(
                check(json!({"size": 1}), schema.clone()).is_err(),
                "{draft}"
            );
            assert!(check(Value::Null, schema).is_err(), "{draft}");
        }
        assert_eq!(check(json!({"any": 1}), Value::Null), Ok(()));
    }

    #[test]
    fn a_complaint_names_the_place_and_not_the_value() {
        let schema = json!({
            "properties": {"password": {"type": "integer"}, "tier": {"enum": ["a", "b"]}},
            "additionalProperties": false,
        });
        let given = json!({"password": "canary-1", "tier": "canary-2", "extra": "canary-3"});
        let complaint = check(given, schema).unwrap_err();
        assert!(!complaint.contains("canary"), "{complaint}");
        for word in ["/password", "/tier", "extra"] {
            assert!(complaint.contains(word), "{complaint}");
        }
    }

    #[test]
    fn a_schema_that_is_too_large_or_reaches_outside_cannot_be_used() {
        let large = json!({"description": "x".repeat(SCHEMA_BYTES_MAX)});
        assert!(check(Value::Null, large).unwrap_err().contains("larger"));
        let outside = json!({"$ref": "http://127.0.0.1:1/schema.json"});
        assert!(
            check(Value::Null, outside)
                .unwrap_err()
                .contains("cannot be used")
        );
        let file = json!({"$ref": "file:///etc/hostname"});
        assert!(
            check(Value::Null, file)
                .unwrap_err()
                .contains("cannot be used")
        );
    }
}
