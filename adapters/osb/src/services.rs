//! The performer of the service effects: opens what is sealed, asks the broker, says what came of
//! it in the engine's words, and seals what the broker gives.
//!
//! ```text
//!  effect ──► Gate (turn, budget, circuit) ──► Client ──► verdict ──► outcome
//!                                  └──────────► remarks: how the broker is
//! ```
//!
//! It keeps connections, the order of what waits, and how each broker does; all of it can be lost.
//! Whatever is performed again is sent again, unchanged.

mod binding;
mod catalog;
mod circuit;
mod endpoints;
mod extras;
mod gate;
mod instance;
mod lane;
mod line;
mod parameters;
mod reach;
mod translate;
mod version;

use std::sync::Arc;
use std::time::Duration;

use adapter_kit::{Later, Performer, Standing, Vault};
use async_trait::async_trait;
use engine_model::{
    Effect, EffectId, Outcome, RequestId, ResourceKey, Sealed, ServiceCall, ServiceTarget,
    Timestamp,
};
use serde_json::Value;

use crate::client::Transport;
use gate::Gate;
use reach::Clients;

/// How long to leave a key store alone that did not answer.
const STORE_DELAY: Duration = Duration::from_secs(1);

/// Performs the effects on service brokers.
pub struct Services {
    vault: Arc<dyn Vault>,
    clients: Clients,
    gate: Option<Gate>,
}

impl Services {
    /// Asks brokers with the usual deadline of a request.
    #[must_use]
    pub fn new(vault: Arc<dyn Vault>) -> Self {
        Self::with_timeout(vault, crate::endpoint::TIMEOUT_DEFAULT)
    }

    /// Asks brokers with this deadline of a request.
    #[must_use]
    pub fn with_timeout(vault: Arc<dyn Vault>, timeout: Duration) -> Self {
        Self {
            vault,
            clients: Clients::new(timeout),
            gate: Some(Gate::new(Arc::new(system_time), true)),
        }
    }

    /// Asks brokers through `transport`, which keeps the deadlines. Requests leave at once, and
    /// no circuit is kept, unless [`Services::watching_by`] gives a clock.
    #[must_use]
    pub fn over(vault: Arc<dyn Vault>, transport: Arc<dyn Transport>) -> Self {
        let timeout = crate::endpoint::TIMEOUT_DEFAULT;
        Self {
            vault,
            clients: Clients::over(transport, timeout),
            gate: None,
        }
    }

    /// Keeps the brokers' circuits by this clock, and lets no request wait for its turn: what
    /// cannot leave now is answered as if the broker were busy.
    #[must_use]
    pub fn watching_by(self, clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self {
            gate: Some(Gate::new(Arc::new(clock), false)),
            ..self
        }
    }
}

fn system_time() -> Timestamp {
    Timestamp(chrono::Utc::now().timestamp_millis())
}

impl std::fmt::Debug for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Services").finish_non_exhaustive()
    }
}

#[async_trait]
impl Performer for Services {
    fn performs(&self, effect: &Effect) -> bool {
        matches!(
            effect,
            Effect::ReadCatalog { .. }
                | Effect::Provision { .. }
                | Effect::FetchInstance { .. }
                | Effect::UpdateInstance { .. }
                | Effect::PollInstance { .. }
                | Effect::Deprovision { .. }
                | Effect::Bind { .. }
                | Effect::PollBinding { .. }
                | Effect::Unbind { .. }
        )
    }

    async fn perform(
        &self,
        id: EffectId,
        _key: &ResourceKey,
        effect: &Effect,
        standing: &dyn Standing,
    ) -> Result<Option<Outcome>, Later> {
        let outcome = match effect {
            Effect::ReadCatalog { .. } => Outcome::Broker(self.broker(id, effect).await?),
            Effect::Provision { .. }
            | Effect::FetchInstance { .. }
            | Effect::UpdateInstance { .. }
            | Effect::PollInstance { .. }
            | Effect::Deprovision { .. } => {
                Outcome::Instance(self.instance(id, effect, standing).await?)
            }
            Effect::Bind { .. } | Effect::PollBinding { .. } | Effect::Unbind { .. } => {
                Outcome::Binding(self.binding(id, effect, standing).await?)
            }
            _ => return Ok(None),
        };
        Ok(Some(outcome))
    }

    fn remarks(&self) -> Vec<(ResourceKey, Outcome)> {
        self.gate.as_ref().map(Gate::remarks).unwrap_or_default()
    }
}

/// What a provision, an update and a bind have in common.
struct Asked<'a> {
    target: &'a ServiceTarget,
    call: &'a ServiceCall,
    parameters: &'a Value,
    secret_parameters: &'a [Sealed],
    schema: &'a Value,
    standing: &'a dyn Standing,
}

fn later(error: &adapter_kit::VaultError) -> Later {
    Later {
        reason: error.to_string(),
        delay: STORE_DELAY,
    }
}

fn of_effect(id: EffectId) -> RequestId {
    RequestId::derived(format_args!("effect {id}"))
}

/// A second request of an effect is one of its own.
fn of_fetch(id: EffectId) -> RequestId {
    RequestId::derived(format_args!("effect {id} fetch"))
}
