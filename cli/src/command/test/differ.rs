//! How what came out differs from what was expected: a pair of lines for each place.

use serde_json::Value;

/// `- place: expected` and `+ place: came`, in the order of the expected value; nothing when both
/// are equal.
pub(super) fn lines(expected: &Value, came: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    compare("$", Some(expected), Some(came), &mut lines);
    lines
}

fn compare(place: &str, expected: Option<&Value>, came: Option<&Value>, lines: &mut Vec<String>) {
    match (expected, came) {
        (Some(Value::Object(expected)), Some(Value::Object(came))) => {
            for (key, value) in expected {
                compare(&below(place, key), Some(value), came.get(key), lines);
            }
            for (key, value) in came.iter().filter(|(key, _)| !expected.contains_key(*key)) {
                compare(&below(place, key), None, Some(value), lines);
            }
        }
        (Some(Value::Array(expected)), Some(Value::Array(came))) => {
            for at in 0..expected.len().max(came.len()) {
                let place = format!("{place}[{at}]");
                compare(&place, expected.get(at), came.get(at), lines);
            }
        }
        (expected, came) if same(expected, came) => {}
        (expected, came) => {
            let sides = [("-", expected), ("+", came)];
            let line = |(sign, value): (_, Option<_>)| Some(format!("{sign} {place}: {}", value?));
            lines.extend(sides.into_iter().filter_map(line));
        }
    }
}

/// 1 and 1.0 are the same number.
fn same(one: Option<&Value>, other: Option<&Value>) -> bool {
    match (one, other) {
        (Some(Value::Number(one)), Some(Value::Number(other))) => {
            one == other || (one.as_f64().is_some() && one.as_f64() == other.as_f64())
        }
        (one, other) => one == other,
    }
}

fn below(place: &str, key: &str) -> String {
    let plain = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if plain {
        format!("{place}.{key}")
    } else {
        format!("{place}[{key:?}]")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_place_that_differs_is_named_once() {
        let expected = json!({"a": 1, "b": [1, 2, {"c d": "x"}], "gone": null, "n": 2.0});
        let came = json!({"a": 1, "b": [1, 3, {"c d": "y"}, 4], "n": 2, "more": true});
        assert_eq!(
            lines(&expected, &came),
            [
                "- $.b[1]: 2",
                "+ $.b[1]: 3",
                "- $.b[2][\"c d\"]: \"x\"",
                "+ $.b[2][\"c d\"]: \"y\"",
                "+ $.b[3]: 4",
                "- $.gone: null",
                "+ $.more: true",
            ]
        );
        assert!(lines(&expected, &expected).is_empty());
    }
}
