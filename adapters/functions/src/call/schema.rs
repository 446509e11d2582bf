//! JSON schemas of a function's input and output, compiled once per revision.

use jsonschema::{Draft, Validator};
use serde_json::Value;

use crate::error::Failure;

/// Said of one value; the rest is counted.
const ERRORS_SHOWN: usize = 5;
/// A message quotes the value, which may be large.
const MESSAGE_CHARS_MAX: usize = 1000;

/// A compiled schema. Without a `$schema` of its own it is read as draft 4, which Dispatch used.
/// References to other documents are refused: validating must not reach out.
#[derive(Debug)]
pub(crate) struct Schema(Validator);

impl Schema {
    /// Compiles the schema called `name` in messages. Null and `{}` are no schema.
    pub(crate) fn compile(name: &str, schema: Option<&Value>) -> Result<Option<Self>, Failure> {
        let Some(schema) = schema.filter(|s| !s.is_null()) else {
            return Ok(None);
        };
        if schema.as_object().is_some_and(serde_json::Map::is_empty) {
            return Ok(None);
        }
        let mut options = jsonschema::options().offline();
        if schema.get("$schema").is_none() {
            options = options.with_draft(Draft::Draft4);
        }
        let bad = |e: String| Failure::of(format!("the {name} schema is not usable: {e}"));
        options
            .build(schema)
            .map(|v| Some(Self(v)))
            .map_err(|e| bad(e.to_string()))
    }

    /// What is wrong with `value`, as one line.
    pub(crate) fn check(&self, value: &Value) -> Result<(), String> {
        if self.0.is_valid(value) {
            return Ok(());
        }
        let mut errors = self.0.iter_errors(value);
        let mut shown: Vec<String> = Vec::new();
        for error in errors.by_ref().take(ERRORS_SHOWN) {
            let path = error.instance_path().to_string();
            let place = path.trim_start_matches('/').replace('/', ".");
            shown.push(if place.is_empty() {
                error.to_string()
            } else {
                format!("{place}: {error}")
            });
        }
        let more = errors.count();
        let mut text = shown.join("; ");
        if let Some((end, _)) = text.char_indices().nth(MESSAGE_CHARS_MAX) {
            text.truncate(end);
            text.push('…');
        }
        if more > 0 {
            text.push_str(&format!("; and {more} more"));
        }
        Err(text)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema(value: Value) -> Schema {
        Schema::compile("input", Some(&value))
            .expect("compiles")
            .expect("is a schema")
    }

    #[test]
    fn every_broken_rule_is_named_with_its_place() {
        let of_rows = json!({
            "type": "object", "required": ["num", "data"],
            "properties": {"num": {"type": "number"}, "data": {"type": "string"}},
        });
        let schema = schema(of_rows);
        assert_eq!(schema.check(&json!({"num": 1, "data": "x"})), Ok(()));
        let text = schema
            .check(&json!({"num": "one"}))
            .expect_err("it is invalid");
        assert!(
            text.contains("num: \"one\" is not of type \"number\""),
            "{text}"
        );
        assert!(text.contains("\"data\" is a required property"), "{text}");
    }

    #[test]
    fn without_a_dialect_a_schema_is_draft_4() {
        // A boolean exclusiveMinimum is draft 4's; later drafts want a number.
        let schema = schema(json!({"minimum": 3, "exclusiveMinimum": true}));
        assert!(schema.check(&json!(3)).is_err());
        assert!(schema.check(&json!(4)).is_ok());
    }

    #[test]
    fn a_schema_that_cannot_be_used_is_refused_when_it_is_set() {
        for bad in [
            json!({"type": "nonsense"}),
            json!({"pattern": "("}),
            json!({"$ref": "http://example.com/other.json"}),
            json!({"$ref": "file:///etc/hostname"}),
            json!(7),
        ] {
            let failure = Schema::compile("output", Some(&bad)).expect_err("it is refused");
            assert!(
                failure
                    .reason
                    .starts_with("the output schema is not usable: "),
                "{failure}"
            );
        }
    }

    #[test]
    fn no_schema_and_an_empty_one_allow_everything() {
        for none in [None, Some(Value::Null), Some(json!({}))] {
            assert!(
                Schema::compile("input", none.as_ref())
                    .expect("fine")
                    .is_none()
            );
        }
    }

    #[test]
    fn a_huge_value_makes_no_huge_message() {
        let text = schema(json!({"type": "string"})).check(&json!(vec![7; 100_000]));
        assert!(text.expect_err("it is invalid").len() < 2 * MESSAGE_CHARS_MAX);
    }
}
