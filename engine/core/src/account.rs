//! Who may come in.

use engine_model::{Name, OrgName};

use crate::state::State;
use crate::world::World;

/// A service account, and the hash of its token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Where it belongs.
    pub org: OrgName,
    /// Its name.
    pub name: Name,
    /// SHA-256 of its token, 64 hexadecimal digits.
    pub token_sha256: String,
}

/// All service accounts.
#[must_use]
pub fn accounts(world: &World) -> Vec<Account> {
    let account = |(key, state): (&std::sync::Arc<engine_model::ResourceKey>, &State)| match state {
        State::ServiceAccount(account) => Some(Account {
            org: key.org.clone(),
            name: key.name.clone(),
            token_sha256: account.spec.token_sha256.clone(),
        }),
        _ => None,
    };
    world.states().filter_map(account).collect()
}
