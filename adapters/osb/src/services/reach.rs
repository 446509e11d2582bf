//! Clients by broker, made when they are first needed and again when the broker's document changed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use adapter_kit::{Later, Vault, VaultError};
use engine_model::broker::{Progress, Verdict};
use engine_model::{ResourceKey, Sealed, ServiceTarget};
use serde::Deserialize;

use super::gate::Away;
use super::later;
use crate::client::{Client, Transport};
use crate::endpoint::{Credentials, Endpoint};
use crate::wire::Hidden;

/// How many brokers' connections are kept at most; beyond that all are made anew.
const CLIENTS_MAX: usize = 1024;

/// Why a broker could not be asked at all.
#[derive(Debug)]
pub(super) enum Obstacle {
    /// A part of Dispatch does not answer: to be tried again.
    Later(Later),
    /// What was asked for cannot be asked.
    Refused(String),
    /// It is not its turn: nothing was sent.
    Away(Away),
}

impl From<Away> for Obstacle {
    fn from(away: Away) -> Self {
        Self::Away(away)
    }
}

impl Obstacle {
    pub(super) fn reason(self) -> Result<String, Later> {
        match self {
            Self::Later(later) => Err(later),
            Self::Refused(reason) | Self::Away(Away { reason, .. }) => Ok(reason),
        }
    }

    pub(super) fn verdict<T>(self) -> Result<Verdict<T>, Later> {
        match self {
            Self::Away(away) => Ok(Verdict::Busy {
                reason: away.reason,
                retry_after_ms: Some(away.retry_after_ms),
            }),
            other => other.reason().map(|reason| Verdict::Rejected { reason }),
        }
    }

    pub(super) fn progress(self) -> Result<Progress, Later> {
        let retry_after_ms = match &self {
            Self::Away(away) => Some(away.retry_after_ms),
            Self::Later(_) | Self::Refused(_) => None,
        };
        self.reason().map(|reason| Progress::NoAnswer {
            reason,
            retry_after_ms,
        })
    }
}

/// Opens what the vault sealed. A key store that does not answer is waited for; a value that can
/// never be opened is not.
pub(super) async fn open(
    vault: &dyn Vault,
    sealed: &Sealed,
    what: &str,
) -> Result<adapter_kit::Plain, Obstacle> {
    vault.open(sealed).await.map_err(|error| match error {
        VaultError::Store(_) => Obstacle::Later(later(&error)),
        VaultError::Erased(_) | VaultError::UnknownKey(_) | VaultError::Unreadable => {
            Obstacle::Refused(format!("{what} cannot be opened: {error}"))
        }
    })
}

/// What makes a connection. Limits and pauses come and go without a new one, and every version of
/// the API is spoken over the same.
#[derive(PartialEq)]
struct Way {
    url: String,
    credentials: Sealed,
    ca: String,
}

impl Way {
    fn to(target: &ServiceTarget) -> Self {
        Self {
            url: target.url.clone(),
            credentials: target.credentials.clone(),
            ca: target.ca.clone(),
        }
    }
}

/// Clients by broker.
pub(super) struct Clients {
    timeout: Duration,
    over: Option<Arc<dyn Transport>>,
    made: Mutex<HashMap<ResourceKey, (Way, Client)>>,
}

impl Clients {
    pub(super) fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            over: None,
            made: Mutex::default(),
        }
    }

    /// Clients whose requests are carried by `transport`.
    pub(super) fn over(transport: Arc<dyn Transport>, timeout: Duration) -> Self {
        Self {
            over: Some(transport),
            ..Self::new(timeout)
        }
    }

    pub(super) async fn reach(
        &self,
        vault: &dyn Vault,
        target: &ServiceTarget,
    ) -> Result<Client, Obstacle> {
        if let Some(client) = self.known(target) {
            return Ok(client);
        }
        let plain = open(vault, &target.credentials, "the broker's credentials").await?;
        let endpoint = endpoint(target, plain.expose(), self.timeout).map_err(Obstacle::Refused)?;
        let client = match &self.over {
            Some(transport) => Client::over(transport.clone(), &endpoint),
            None => Client::new(&endpoint),
        };
        let client = client.map_err(|e| Obstacle::Refused(e.to_string()))?;
        let mut made = self.made.lock().expect("no holder panics");
        if made.len() >= CLIENTS_MAX {
            made.clear();
        }
        made.insert(target.broker.clone(), (Way::to(target), client.clone()));
        Ok(client)
    }

    fn known(&self, target: &ServiceTarget) -> Option<Client> {
        let made = self.made.lock().expect("no holder panics");
        made.get(&target.broker)
            .filter(|(known, _)| *known == Way::to(target))
            .map(|(_, c)| c.clone())
    }
}

/// A broker's sealed document; either of the first two, and a client certificate if it is asked
/// for.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    basic: Option<Basic>,
    bearer: Option<Bearer>,
    client_identity: Option<String>,
}

#[derive(Deserialize)]
struct Basic {
    username: String,
    password: String,
}

#[derive(Deserialize)]
struct Bearer {
    token: String,
}

fn endpoint(
    target: &ServiceTarget,
    document: &[u8],
    timeout: Duration,
) -> Result<Endpoint, String> {
    // What could not be parsed may hold a password, so it is not shown.
    let url = target
        .url
        .parse()
        .map_err(|_| "the broker's address is not a URL".to_owned())?;
    let document: Document = serde_json::from_slice(document)
        .map_err(|_| "the broker's credentials are neither basic nor bearer".to_owned())?;
    let credentials = match (document.basic, document.bearer) {
        (Some(_), Some(_)) => {
            return Err("the broker's credentials are both basic and bearer".into());
        }
        (Some(basic), None) => Credentials::basic(basic.username, basic.password),
        (None, Some(bearer)) => Credentials::bearer(bearer.token),
        (None, None) => Credentials::None,
    };
    let mut endpoint = Endpoint::new(url).with_credentials(credentials);
    endpoint.ca_pem = (!target.ca.is_empty()).then(|| target.ca.clone());
    endpoint.client_identity_pem = document.client_identity.map(Hidden::new);
    endpoint.timeout = timeout;
    Ok(endpoint)
}

#[cfg(test)]
mod tests {
    use engine_model::spec::BrokerLimits;
    use engine_model::{KeyId, Kind, Name, OrgName};

    use super::*;

    fn target(url: &str, ca: &str) -> ServiceTarget {
        let org = OrgName::new("demo").unwrap();
        ServiceTarget {
            broker: ResourceKey::new(org, Kind::ServiceBroker, Name::new("b").unwrap()),
            url: url.to_owned(),
            credentials: Sealed {
                key: KeyId("k".to_owned()),
                nonce: String::new(),
                ciphertext: String::new(),
            },
            ca: ca.to_owned(),
            api_version: None,
            limits: BrokerLimits::default(),
            paused_until: None,
        }
    }

    #[test]
    fn each_kind_of_credentials_is_read_and_nothing_else() {
        let read = |json: &str| {
            endpoint(&target("http://b", ""), json.as_bytes(), Duration::ZERO)
                .map(|endpoint| endpoint.credentials)
        };
        let basic = read(r#"{"basic":{"username":"u","password":"p"}}"#).unwrap();
        assert_eq!(basic, Credentials::basic("u", "p"));
        let bearer = read(r#"{"bearer":{"token":"t"}}"#).unwrap();
        assert_eq!(bearer, Credentials::bearer("t"));
        assert_eq!(read("{}").unwrap(), Credentials::None);
        for bad in [
            r#"{"basic":{"username":"u"},"canary":1}"#,
            r#""canary""#,
            r#"{"basic":{"username":"u","password":"canary"},"bearer":{"token":"t"}}"#,
        ] {
            let error = read(bad).unwrap_err();
            assert!(!error.contains("canary"), "{error}");
        }
    }

    #[test]
    fn a_bundle_and_a_client_certificate_are_taken_over() {
        let document = br#"{"clientIdentity":"PEM"}"#;
        let endpoint = endpoint(&target("https://b/x", "CA"), document, Duration::ZERO).unwrap();
        assert_eq!(endpoint.ca_pem.as_deref(), Some("CA"));
        assert_eq!(endpoint.client_identity_pem.unwrap().reveal(), "PEM");
        assert!(super::endpoint(&target("not a url", ""), b"{}", Duration::ZERO).is_err());
    }
}
