//! Where a broker is and how it is spoken to.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use url::Url;

use crate::wire::Hidden;

/// How long a request may take, from connecting to the last byte of the answer: the 60 seconds
/// that the specification names as typical and that other platforms use, so brokers expect it.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);

/// A broker's address, the credentials for it, and how its certificate is checked.
///
/// `Debug` never shows a credential.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The base URL, `/v2/…` is appended to its path. It must not hold credentials.
    pub url: Url,
    /// What goes into the `Authorization` header of every request.
    pub credentials: Credentials,
    /// Certificates (PEM) that the broker's must be signed by, instead of the system's.
    pub ca_pem: Option<String>,
    /// A certificate chain and its key (PEM) that the broker may ask for.
    pub client_identity_pem: Option<Hidden<String>>,
    /// The version that every request announces.
    pub api_version: ApiVersion,
    /// The longest that one request may take.
    pub timeout: Duration,
}

impl Endpoint {
    /// The broker at `url`, with the default version and timeout and no credentials.
    #[must_use]
    pub fn new(url: Url) -> Self {
        Self {
            url,
            credentials: Credentials::None,
            ca_pem: None,
            client_identity_pem: None,
            api_version: ApiVersion::default(),
            timeout: TIMEOUT_DEFAULT,
        }
    }

    /// The same broker, with these credentials.
    #[must_use]
    pub fn with_credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = credentials;
        self
    }
}

/// How the platform proves who it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Credentials {
    /// Not at all.
    #[default]
    None,
    /// HTTP basic authentication, which every broker understands.
    Basic {
        /// The user's name.
        username: String,
        /// The user's password.
        password: Hidden<String>,
    },
    /// A token, where the broker's operator agreed to one.
    Bearer(Hidden<String>),
}

impl Credentials {
    /// HTTP basic authentication.
    #[must_use]
    pub fn basic(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self::Basic {
            username: username.into(),
            password: Hidden::new(password.into()),
        }
    }

    /// A bearer token.
    #[must_use]
    pub fn bearer(token: impl Into<String>) -> Self {
        Self::Bearer(Hidden::new(token.into()))
    }
}

/// A version of the Open Service Broker API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiVersion {
    /// The part before the point.
    pub major: u16,
    /// The part after the point.
    pub minor: u16,
}

impl Default for ApiVersion {
    fn default() -> Self {
        Self {
            major: 2,
            minor: 17,
        }
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A version that is not written as two numbers with a point between them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a version like 2.17: {0:?}")]
pub struct BadVersion(String);

impl FromStr for ApiVersion {
    type Err = BadVersion;

    fn from_str(text: &str) -> Result<Self, BadVersion> {
        let bad = || BadVersion(text.to_owned());
        let (major, minor) = text.split_once('.').ok_or_else(bad)?;
        Ok(Self {
            major: major.parse().map_err(|_| bad())?,
            minor: minor.parse().map_err(|_| bad())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_credential() {
        let mut endpoint = Endpoint::new("https://broker.example".parse().unwrap())
            .with_credentials(Credentials::basic("user", "canary-1"));
        endpoint.client_identity_pem = Some(Hidden::new("canary-2".to_owned()));
        let bearer = Credentials::bearer("canary-3");
        let shown = format!("{endpoint:?} {endpoint:#?} {bearer:?}");
        assert!(!shown.contains("canary"), "{shown}");
        assert!(shown.contains("broker.example"));
    }

    #[test]
    fn a_version_is_two_numbers() {
        assert_eq!(
            "2.14".parse::<ApiVersion>().unwrap(),
            ApiVersion {
                major: 2,
                minor: 14
            }
        );
        assert_eq!(ApiVersion::default().to_string(), "2.17");
        for bad in ["", "2", "2.", "2.17.1", "2.x", "v2.17"] {
            assert!(bad.parse::<ApiVersion>().is_err(), "{bad}");
        }
    }
}
