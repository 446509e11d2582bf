//! JSON schemas: draft 4 unless `$schema` says otherwise; nothing is fetched from anywhere.

use engine_model::{Code, Rejection};
use jsonschema::{Draft, Validator};
use serde_json::Value;

/// Longest schema, in bytes of JSON: the limit that the Open Service Broker API sets.
const SCHEMA_BYTES_MAX: usize = 64 * 1024;

/// Longest text taken from a validator: a schema or a value may be quoted in it.
const TEXT_CHARS_MAX: usize = 300;

/// Most complaints shown at once.
const COMPLAINTS_MAX: usize = 3;

fn bounded(text: &str) -> String {
    let mut short: String = text.chars().take(TEXT_CHARS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// Prepares a schema.
///
/// # Errors
/// A text for a person that says what is wrong with it.
pub(crate) fn compile(schema: &Value) -> Result<Validator, String> {
    if !matches!(schema, Value::Object(_) | Value::Bool(_)) {
        return Err("a schema is a JSON object".into());
    }
    if schema.to_string().len() > SCHEMA_BYTES_MAX {
        return Err(format!("a schema has at most {SCHEMA_BYTES_MAX} bytes"));
    }
    let options = jsonschema::options();
    let options = if schema.get("$schema").is_some() {
        options
    } else {
        options.with_draft(Draft::Draft4)
    };
    options
        .build(schema)
        .map_err(|error| bounded(&error.to_string()))
}

/// Refuses a value that does not fit a schema; null fits nothing in particular, so a null schema
/// takes any value. `what` names the value, `whose` the schema.
pub(crate) fn check(
    schema: &Value,
    value: &Value,
    what: &str,
    whose: &str,
) -> Result<(), Rejection> {
    if schema.is_null() {
        return Ok(());
    }
    let validator = compile(schema).map_err(|reason| {
        let text =
            format!("{whose} cannot be used: {reason}; it has to be corrected at its source");
        Rejection::new(Code::InvalidSchema, text)
    })?;
    let complaints: Vec<String> = validator
        .iter_errors(value)
        .take(COMPLAINTS_MAX)
        .map(|error| {
            let path = error.instance_path().to_string();
            let place = if path.is_empty() {
                "the whole".to_owned()
            } else {
                bounded(&path)
            };
            format!("{place}: {}", bounded(&error.masked().to_string()))
        })
        .collect();
    if complaints.is_empty() {
        return Ok(());
    }
    let text = format!("{what} do not fit {whose}: {}", complaints.join("; "));
    Err(Rejection::new(Code::SchemaMismatch, text))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_mismatch_names_the_place_and_the_reason_but_not_the_value() {
        let schema = json!({"type": "object", "properties": {"a": {"properties": {"b": {"type": "string", "maxLength": 3}}}}});
        let refused = check(
            &schema,
            &json!({"a": {"b": "hunter2"}}),
            "parameters",
            "the schema",
        );
        let refused = refused.unwrap_err();
        assert_eq!(refused.code, Code::SchemaMismatch);
        assert!(refused.message.contains("/a/b"), "{refused}");
        assert!(refused.message.contains("3 characters"), "{refused}");
        assert!(!refused.message.contains("hunter2"), "{refused}");
    }

    #[test]
    fn drafts_from_4_to_2020_are_understood_and_4_is_meant_when_none_is_named() {
        // `exclusiveMinimum` is a boolean in draft 4 and a number since draft 6.
        let four = json!({"minimum": 3, "exclusiveMinimum": true});
        assert!(check(&four, &json!(3), "x", "s").is_err());
        for draft in [
            "http://json-schema.org/draft-06/schema#",
            "http://json-schema.org/draft-07/schema#",
            "https://json-schema.org/draft/2019-09/schema",
            "https://json-schema.org/draft/2020-12/schema",
        ] {
            let later = json!({"$schema": draft, "exclusiveMinimum": 3});
            assert!(check(&later, &json!(3), "x", "s").is_err(), "{draft}");
            assert!(check(&later, &json!(4), "x", "s").is_ok(), "{draft}");
        }
    }

    #[test]
    fn a_schema_that_reaches_out_or_is_none_is_refused() {
        for bad in [
            json!({"$ref": "http://127.0.0.1:1/x.json"}),
            json!({"type": "gizmo"}),
            json!({"pattern": "("}),
            json!("text"),
            json!({"description": "x".repeat(SCHEMA_BYTES_MAX)}),
        ] {
            assert!(compile(&bad).is_err(), "{}", bounded(&bad.to_string()));
        }
    }
}
