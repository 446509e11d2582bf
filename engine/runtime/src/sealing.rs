//! Secrets of a command are opened and sealed again before the command is decided: what the
//! event stream keeps can be shredded by erasing one key.

use std::collections::BTreeMap;

use adapter_kit::{Plain, Vault, VaultError};
use engine_model::spec::Spec;
use engine_model::{ClientSealed, Code, Command, CommandEnvelope, KeyId, Rejection, Sealed};
use serde::Deserialize;

/// Why a command's secret could not be re-sealed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The sender's fault.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The key store's; it is safe to repeat.
    #[error(transparent)]
    Vault(VaultError),
}

/// A broker's credentials as a client seals them: basic, bearer or none, with a client certificate
/// if the broker asks for one.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct BrokerCredentials {
    basic: Option<Basic>,
    bearer: Option<Bearer>,
    #[serde(rename = "clientIdentity")]
    _client_identity: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Basic {
    #[serde(rename = "username")]
    _username: String,
    #[serde(rename = "password")]
    _password: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bearer {
    #[serde(rename = "token")]
    _token: String,
}

/// Re-seals the secret of a command, if it has one, under a data key of its own.
pub(crate) async fn reseal(
    vault: &dyn Vault,
    envelope: &CommandEnvelope,
) -> Result<Option<Sealed>, Error> {
    let Some((sealed, fits)) = secret_of(&envelope.command) else {
        return Ok(None);
    };
    let plain = vault.open_client(sealed).map_err(|error| match error {
        VaultError::Store(_) => Error::Vault(error),
        _ => cannot_unseal(&error.to_string()).into(),
    })?;
    fits(&plain)?;
    let key = KeyId(format!("{}/{}", envelope.key, envelope.id));
    vault
        .seal(&key, &plain)
        .await
        .map(Some)
        .map_err(Error::Vault)
}

type Fits = fn(&Plain) -> Result<(), Rejection>;

fn secret_of(command: &Command) -> Option<(&ClientSealed, Fits)> {
    match command {
        Command::Create(spec) | Command::Update(spec) => match spec {
            Spec::Secret(secret) => Some((&secret.secrets, fits_secret as Fits)),
            Spec::ServiceBroker(broker) => Some((&broker.credentials, fits_broker as Fits)),
            Spec::BaseImage(_)
            | Spec::Image(_)
            | Spec::Function(_)
            | Spec::ServiceInstance(_)
            | Spec::ServiceBinding(_)
            | Spec::API(_)
            | Spec::Schedule(_)
            | Spec::Organization(_)
            | Spec::ServiceAccount(_)
            | Spec::Application(_) => None,
        },
        Command::Delete(_)
        | Command::Refresh
        | Command::Retry
        | Command::Abandon { .. }
        | Command::Rotate
        | Command::Adopt { .. }
        | Command::Rollback { .. }
        | Command::Route { .. } => None,
    }
}

// The parser's own text could quote the secret, so none of it is passed on.

fn fits_secret(plain: &Plain) -> Result<(), Rejection> {
    let map: Result<BTreeMap<String, String>, _> = serde_json::from_slice(plain.expose());
    map.map(drop).map_err(|_| {
        Rejection::new(
            Code::InvalidField,
            "a secret is a JSON object whose values are strings",
        )
    })
}

fn fits_broker(plain: &Plain) -> Result<(), Rejection> {
    let credentials: Result<BrokerCredentials, _> = serde_json::from_slice(plain.expose());
    match credentials {
        Ok(credentials) if credentials.basic.is_none() || credentials.bearer.is_none() => Ok(()),
        Ok(_) | Err(_) => Err(Rejection::new(
            Code::InvalidField,
            "broker credentials are {\"basic\":{\"username\":…,\"password\":…}} or \
             {\"bearer\":{\"token\":…}} or {}, each with \"clientIdentity\" where the broker asks \
             for a certificate",
        )),
    }
}

fn cannot_unseal(why: &str) -> Rejection {
    let text = format!("{why}; seal it to the server's public key, which `dispatch info` shows");
    Rejection::new(Code::CannotUnseal, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_broker_credentials_fits_and_nothing_else_and_nothing_is_quoted() {
        for good in [
            "{}",
            r#"{"basic":{"username":"u","password":"p"}}"#,
            r#"{"bearer":{"token":"t"},"clientIdentity":"PEM"}"#,
        ] {
            assert!(fits_broker(&Plain::new(good.into())).is_ok(), "{good}");
        }
        for bad in [
            r#""canary""#,
            r#"{"basic":{"username":"canary"}}"#,
            r#"{"canary":1}"#,
            r#"{"basic":{"username":"u","password":"canary"},"bearer":{"token":"t"}}"#,
        ] {
            let refused = fits_broker(&Plain::new(bad.into())).unwrap_err();
            assert!(!refused.message.contains("canary"), "{refused}");
        }
    }
}
