//! Header values of the form `essence; name=value; name="quoted value"`.

/// A header value and its parameters; the essence and the names are in lower case.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Media {
    pub(crate) essence: String,
    params: Vec<(String, String)>,
}

impl Media {
    /// Reads a header value. What does not look like a parameter is left out.
    pub(crate) fn parse(value: &str) -> Self {
        let (essence, mut rest) = value.split_once(';').unwrap_or((value, ""));
        let mut params = Vec::new();
        while let Some((name, after)) = rest.split_once('=') {
            // A parameter without a value may stand before the name.
            let name = name
                .rsplit(';')
                .next()
                .unwrap_or(name)
                .trim()
                .to_ascii_lowercase();
            let (value, after) = match after.trim_start().strip_prefix('"') {
                Some(quoted) => unquote(quoted),
                None => {
                    let (token, after) = after.split_once(';').unwrap_or((after, ""));
                    (token.trim().to_owned(), after)
                }
            };
            params.push((name, value));
            rest = after;
        }
        Self {
            essence: essence.trim().to_ascii_lowercase(),
            params,
        }
    }

    /// The first parameter of a name.
    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        self.params
            .iter()
            .find(|(given, _)| given == name)
            .map(|(_, value)| value.as_str())
    }

    /// Whether this is JSON: `application/json` or a dialect of it, such as
    /// `application/cloudevents+json`.
    pub(crate) fn is_json(&self) -> bool {
        let kind = self.essence.strip_prefix("application/");
        kind.is_some_and(|kind| kind == "json" || (kind.len() > 5 && kind.ends_with("+json")))
    }
}

/// Reads up to the closing quote; also returns what follows the next semicolon.
fn unquote(quoted: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => {
                let after = &quoted[at + 1..];
                return (value, after.split_once(';').map_or("", |(_, after)| after));
            }
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            _ => value.push(char),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_may_be_quoted_and_come_in_any_case() {
        let media = Media::parse(
            r#" Multipart/Form-Data ; Charset=utf-8;flag; boundary="a;b\"=c" ; boundary=second"#,
        );
        assert_eq!(media.essence, "multipart/form-data");
        assert_eq!(media.param("charset"), Some("utf-8"));
        assert_eq!(media.param("boundary"), Some("a;b\"=c"));
        assert_eq!(media.param("flag"), None);
        let unclosed = Media::parse(r#"a; b="c"#);
        assert_eq!(unclosed.param("b"), Some("c"));
    }

    #[test]
    fn json_has_dialects() {
        for (value, json) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/cloudevents+json", true),
            ("application/+json", false),
            ("application/jsonp", false),
            ("text/json", false),
            ("", false),
        ] {
            assert_eq!(Media::parse(value).is_json(), json, "{value}");
        }
    }
}
