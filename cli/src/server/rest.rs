//! Who may use the REST API: service accounts, by their bearer tokens.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use adapter_rest::{Authenticator, Identity, Scope};
use async_trait::async_trait;
use engine_core::accounts;
use engine_model::{Actor, Kind, Name, OrgName};
use engine_runtime::Fold;
use sha2::{Digest, Sha256};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

/// Finds the service account that a token belongs to. Tokens are looked up by their hash, so that
/// the time it takes says nothing about a token.
pub(crate) struct Accounts {
    fold: Arc<Fold>,
    /// The first account of the installation may look after all of it.
    operator: (OrgName, Name),
    known: RwLock<HashMap<String, (OrgName, Name)>>,
}

impl Accounts {
    /// The accounts of the world as it is now.
    pub(crate) fn new(fold: Arc<Fold>, operator: (OrgName, Name)) -> Self {
        let known = RwLock::new(read(&fold));
        Self {
            fold,
            operator,
            known,
        }
    }

    /// Follows the world.
    pub(crate) async fn follow(&self, stop: CancellationToken) {
        let mut changes = self.fold.changes();
        self.refresh();
        loop {
            let change = tokio::select! {
                change = changes.recv() => change,
                () = stop.cancelled() => return,
            };
            match change {
                Ok(key) if key.kind != Kind::ServiceAccount => {}
                Ok(_) | Err(RecvError::Lagged(_)) => self.refresh(),
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn refresh(&self) {
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = read(&self.fold);
    }
}

fn read(fold: &Fold) -> HashMap<String, (OrgName, Name)> {
    let all = fold.read(accounts);
    all.into_iter()
        .map(|account| (account.token_sha256, (account.org, account.name)))
        .collect()
}

#[async_trait]
impl Authenticator for Accounts {
    async fn authenticate(&self, bearer: &str) -> Option<Identity> {
        let hash = hash(bearer);
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let account = known.get(&hash)?;
        let actor = Actor(format!("account:{}", account.1));
        let scope = if *account == self.operator {
            Scope::All
        } else {
            Scope::Org(account.0.clone())
        };
        Some(Identity { actor, scope })
    }
}

/// SHA-256 of a token, 64 hexadecimal digits.
pub(crate) fn hash(token: &str) -> String {
    use std::fmt::Write;
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(token.as_bytes()) {
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}
