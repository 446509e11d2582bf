//! The private part of a plan: what stands behind it. What of it concerns users is shown to them in
//! the plan's metadata, so that it need not be written twice.

use serde_json::{Map, Value, json};

use super::{Error, rule};
use crate::record::Backing;

/// The key of a plan's private part.
const PRIVATE_KEY: &str = "backing";
/// A shorter lifetime would have a platform do nothing but rotate.
const LIFETIME_SECONDS_MIN: i64 = 3;

/// Takes the private part out of a plan: its backing, and how many seconds the passwords of its
/// bindings are good for.
pub(super) fn take_private_part(
    plan: &mut Value,
    at: &str,
) -> Result<(Backing, Option<i64>), Error> {
    let missing = || {
        let problem = "it needs `backing` with its `kind`, shared or dedicated";
        rule(at, problem)
    };
    let fields = plan.as_object_mut().ok_or_else(missing)?;
    let Some(Value::Object(mut private)) = fields.remove(PRIVATE_KEY) else {
        return Err(missing());
    };
    let storage = note(&mut private, "storage", at)?;
    let lifetime = match note(&mut private, "credential_lifetime", at)? {
        None => None,
        Some(text) => Some(seconds(&text).ok_or_else(|| {
            let problem = format!("its `credential_lifetime` {text:?} is not like 90m, 24h or 30d");
            rule(at, problem)
        })?),
    };
    let backing: Backing = serde_json::from_value(Value::Object(private))
        .map_err(|error| rule(at, format!("its `backing` is wrong: {error}")))?;
    check(&backing, at)?;
    show(fields, storage, &backing, at)?;
    Ok((backing, lifetime))
}

fn note(private: &mut Map<String, Value>, key: &str, at: &str) -> Result<Option<String>, Error> {
    match private.remove(key) {
        None => Ok(None),
        Some(Value::String(text)) if !text.is_empty() => Ok(Some(text)),
        Some(_) => Err(rule(at, format!("its `{key}` must be a text, not empty"))),
    }
}

/// The seconds of a duration such as `90m`: a number with one of the units s, m, h and d.
fn seconds(text: &str) -> Option<i64> {
    let unit = match text.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return None,
    };
    let number: i64 = text.get(..text.len() - 1)?.parse().ok()?;
    number
        .checked_mul(unit)
        .filter(|seconds| (LIFETIME_SECONDS_MIN..=i64::from(u32::MAX)).contains(seconds))
}

fn check(backing: &Backing, at: &str) -> Result<(), Error> {
    for name in backing.extensions() {
        let named = name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b));
        if name.is_empty() || !named {
            return Err(rule(at, format!("{name:?} is no name of an extension")));
        }
    }
    if let Backing::Dedicated { settings, .. } = backing {
        for (name, value) in settings {
            let named = name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b"_.".contains(&b));
            if !named || value.to_string().contains(['\n', '\r', '\0']) {
                return Err(rule(at, format!("the setting {name:?} cannot be written")));
            }
        }
    }
    Ok(())
}

/// Adds to the plan's metadata what users want to know; what stands there already is left.
fn show(
    plan: &mut Map<String, Value>,
    storage: Option<String>,
    backing: &Backing,
    at: &str,
) -> Result<(), Error> {
    let connections = match backing {
        Backing::Shared {
            connections_max, ..
        } => *connections_max,
        Backing::Dedicated {
            connections_max, ..
        } => Some(*connections_max),
    };
    let extensions = (!backing.extensions().is_empty()).then(|| json!(backing.extensions()));
    let facts = [
        ("storage", storage.map(Value::String)),
        ("connections", connections.map(|max| json!(max))),
        ("extensions", extensions),
    ];
    let metadata = plan.entry("metadata").or_insert_with(|| json!({}));
    let metadata = metadata
        .as_object_mut()
        .ok_or_else(|| rule(at, "its `metadata` must be an object"))?;
    for (key, fact) in facts {
        if let Some(fact) = fact {
            metadata.entry(key).or_insert(fact);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_is_a_number_with_a_unit() {
        for (text, expected) in [
            ("24h", Some(86_400)),
            ("90m", Some(5_400)),
            ("30d", Some(2_592_000)),
            ("5s", Some(5)),
            ("1s", None),
            ("-5h", None),
            ("24", None),
            ("h", None),
            ("", None),
            ("9é", None),
            ("99999999999999999999d", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }
}
