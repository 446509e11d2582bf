//! What a registry asks of whoever reads it, and what this node has to show.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderValue;
use serde::Deserialize;

/// A user and a password.
#[derive(PartialEq, Eq)]
pub(super) struct Login {
    pub(super) user: String,
    password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl Login {
    /// What `docker login` and its likes have noted in their file for this very registry.
    pub(super) fn noted(file: &Path, registry: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Logins {
            #[serde(default)]
            auths: HashMap<String, Noted>,
        }
        #[derive(Deserialize)]
        struct Noted {
            #[serde(default)]
            auth: String,
        }
        let text = std::fs::read(file).ok()?;
        let logins = serde_json::from_slice::<Logins>(&text).ok()?;
        let host = |key: &str| {
            let plain = key
                .trim_start_matches("https://")
                .trim_start_matches("http://");
            plain.split('/').next().unwrap_or_default().to_owned()
        };
        let mut logins = logins.auths.into_iter();
        let (_, noted) = logins.find(|(key, _)| host(key) == registry)?;
        let pair = String::from_utf8(STANDARD.decode(noted.auth).ok()?).ok()?;
        let (user, password) = pair.split_once(':')?;
        Some(Self {
            user: user.to_owned(),
            password: password.to_owned(),
        })
    }

    /// As HTTP has it.
    pub(super) fn header(&self) -> HeaderValue {
        let pair = STANDARD.encode(format!("{}:{}", self.user, self.password));
        let header = HeaderValue::try_from(format!("Basic {pair}"));
        let mut header = header.expect("base64 is plain text");
        header.set_sensitive(true);
        header
    }
}

/// What a registry asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// The login itself.
    Basic,
    /// A token, which somebody else gives.
    Bearer {
        realm: String,
        service: Option<String>,
    },
}

impl Challenge {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let mut facts = parameters(rest);
        Some(Self::Bearer {
            realm: facts.remove("realm")?,
            service: facts.remove("service"),
        })
    }
}

/// `name="value"`, separated by commas; a comma within quotes is part of a value.
fn parameters(text: &str) -> HashMap<String, String> {
    let mut all = HashMap::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once('=') {
        let (value, left) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => {
                let end = after.find(',').unwrap_or(after.len());
                after.split_at(end)
            }
        };
        let name = name.trim_matches([',', ' ']).to_ascii_lowercase();
        all.insert(name, value.trim().to_owned());
        rest = left;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_those_of_the_very_registry() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let auth = STANDARD.encode("joe:s3:cret");
        let text =
            format!(r#"{{"auths":{{"https://a.example/v1/":{{"auth":"{auth}"}},"b:5000":{{}}}}}}"#);
        std::fs::write(file.path(), text).expect("it is written");
        let of = |registry| Login::noted(file.path(), registry);
        let login = of("a.example").expect("it is noted");
        assert_eq!(
            (login.user.as_str(), login.password.as_str()),
            ("joe", "s3:cret")
        );
        assert!(!format!("{login:?}").contains("s3"), "{login:?}");
        for other in ["b:5000", "example", "a.example.org"] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn a_registry_asks_for_a_login_or_for_a_token() {
        assert_eq!(
            Challenge::parse("Basic realm=\"a registry\""),
            Some(Challenge::Basic)
        );
        let text =
            "Bearer realm=\"https://auth.example/token\",service=\"a, b\",scope=\"x:y:pull,push\"";
        let bearer = Challenge::Bearer {
            realm: "https://auth.example/token".into(),
            service: Some("a, b".into()),
        };
        assert_eq!(Challenge::parse(text), Some(bearer));
        for other in ["Negotiate", "Bearer", "Bearer service=x", ""] {
            assert_eq!(Challenge::parse(other), None, "{other}");
        }
    }
}
