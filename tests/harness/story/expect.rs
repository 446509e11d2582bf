//! What a page expects of an answer.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::process::Answer;

/// What an answer has to be.
#[derive(Debug)]
pub(super) enum Expectation {
    Says(String),
    SaysNot(String),
    Json { path: String, value: Value },
}

impl Expectation {
    /// Reads `$.a[0].b == VALUE`.
    pub(super) fn json(text: &str) -> Result<Self> {
        let (path, value) = text.split_once(" == ").context("it is not PATH == VALUE")?;
        ensure!(path.starts_with('$'), "a path begins with $");
        let value = serde_json::from_str(value).context("the value is not JSON")?;
        Ok(Self::Json {
            path: path.trim().into(),
            value,
        })
    }
}

/// Checks an answer.
pub(super) fn check(expectations: &[Expectation], answer: &Answer) -> Result<()> {
    for expectation in expectations {
        match expectation {
            Expectation::Says(text) if !answer.all.contains(text) => {
                bail!("it does not say '{text}'");
            }
            Expectation::SaysNot(text) if answer.all.contains(text) => bail!("it says '{text}'"),
            Expectation::Says(_) | Expectation::SaysNot(_) => {}
            Expectation::Json { path, value } => {
                let said: Value = serde_json::from_str(&answer.stdout).context("it is not JSON")?;
                let found = look_up(&said, path)?;
                ensure!(found == *value, "{path} is {found}, not {value}");
            }
        }
    }
    Ok(())
}

/// Follows `$.name[index].length`.
fn look_up(document: &Value, path: &str) -> Result<Value> {
    let mut at = document.clone();
    let dotted = path
        .trim_start_matches('$')
        .replace('[', ".")
        .replace(']', "");
    for name in dotted.split('.').filter(|name| !name.is_empty()) {
        at = match &at {
            Value::Array(list) if name == "length" => list.len().into(),
            Value::Array(list) => {
                let index: usize = name
                    .parse()
                    .with_context(|| format!("{name} is no index"))?;
                list.get(index)
                    .cloned()
                    .with_context(|| format!("{path}: there is no {index}"))?
            }
            Value::Object(fields) => fields
                .get(name)
                .cloned()
                .with_context(|| format!("{path}: there is no {name}"))?,
            _ => bail!("{path}: there is nothing below {name}"),
        };
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(stdout: &str) -> Answer {
        Answer {
            exit: 0,
            stdout: stdout.into(),
            all: stdout.into(),
        }
    }

    #[test]
    fn a_path_is_followed() {
        let document = json!({ "output": [{ "num": 1 }, { "num": 2 }] });
        assert_eq!(look_up(&document, "$.output[1].num").unwrap(), json!(2));
        assert_eq!(look_up(&document, "$.output.length").unwrap(), json!(2));
        assert!(look_up(&document, "$.output[2]").is_err());
    }

    #[test]
    fn an_answer_that_differs_is_refused() {
        let expect = |text: &str| check(&[Expectation::json(text).unwrap()], &answer("[3]"));
        assert!(expect("$[0] == 3").is_ok());
        assert!(expect("$[0] == 4").is_err());
        assert!(check(&[Expectation::Says("READY".into())], &answer("ERROR")).is_err());
        assert!(check(&[Expectation::SaysNot("ERROR".into())], &answer("ERROR")).is_err());
    }
}
