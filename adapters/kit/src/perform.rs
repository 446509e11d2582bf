//! The effect port: an adapter does what an effect names and says what came of it.

use std::time::Duration;

use async_trait::async_trait;
use engine_model::{Effect, EffectId, Outcome, ResourceKey};

/// The effect could not be tried now, and nothing has left: it is delivered again after `delay`.
///
/// Only for faults of Dispatch's own parts (the key store does not answer). What the outer world
/// refuses or fails is an [`Outcome`].
#[derive(Debug, Clone, thiserror::Error)]
#[error("{reason}")]
pub struct Later {
    /// Why, for the log; never a secret.
    pub reason: String,
    /// When to try again.
    pub delay: Duration,
}

/// How an effect stands that is being performed: its node may have been stopped since it began, or
/// wait long for a turn, while another one performed it and went on.
#[async_trait]
pub trait Standing: Send + Sync {
    /// Refuses what the resource, by the last word about it, does not wait for any more.
    ///
    /// # Errors
    /// `Later` when it does not, or when that cannot be known now.
    async fn confirm(&self) -> Result<(), Later>;
}

/// Confirms everything, for what is performed by no engine.
#[derive(Debug, Clone, Copy)]
pub struct Unquestioned;

#[async_trait]
impl Standing for Unquestioned {
    async fn confirm(&self) -> Result<(), Later> {
        Ok(())
    }
}

/// Performs the effects of one outside system.
///
/// Whatever is performed may be performed again under the same `id`: after a crash, a lost
/// acknowledgement or a takeover. An adapter makes a repeat harmless.
#[async_trait]
pub trait Performer: Send + Sync + 'static {
    /// Whether this adapter knows how to do `effect`.
    fn performs(&self, effect: &Effect) -> bool;

    /// Does it, on behalf of the resource `key`. `None` when nothing need be recorded. Before a
    /// request leaves that a repeat does not make harmless, `standing` is asked.
    ///
    /// # Errors
    /// `Later` when it could not even be tried.
    async fn perform(
        &self,
        id: EffectId,
        key: &ResourceKey,
        effect: &Effect,
        standing: &dyn Standing,
    ) -> Result<Option<Outcome>, Later>;

    /// What was learnt on the way about other resources, since this was asked last: it is recorded
    /// like an outcome of theirs. One that is lost has to come again by itself.
    fn remarks(&self) -> Vec<(ResourceKey, Outcome)> {
        Vec::new()
    }
}
