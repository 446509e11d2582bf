//! How an effect stands, by the last word of the log rather than by what this node has folded.
//!
//! A node that was stopped, or whose effect waited long for its turn, knows nothing of what the
//! others did meanwhile: one of them may have performed the effect, and gone on to remove what came
//! of it. A request that left then would bring back what is gone.

use std::time::Duration;

use adapter_kit::{Later, Standing};
use async_trait::async_trait;
use engine_core::is_wanted;
use engine_model::{Effect, ResourceKey, Seq};
use engine_stream::Log;
use tracing::{debug, info};

use crate::fold::Fold;

/// How long the fold may take to reach what the log has.
const FOLD_MAX: Duration = Duration::from_secs(5);

/// Wait before what could not be confirmed is looked at again.
const AGAIN: Duration = Duration::from_millis(100);

/// The standing of one effect.
pub(crate) struct ByTheLog<'a> {
    pub(crate) log: &'a dyn Log,
    pub(crate) fold: &'a Fold,
    pub(crate) key: &'a ResourceKey,
    pub(crate) effect: &'a Effect,
}

#[async_trait]
impl Standing for ByTheLog<'_> {
    async fn confirm(&self) -> Result<(), Later> {
        let last = self.log.last(self.key).await;
        let last = last.map_err(|error| later(format!("log cannot be read: {error}")))?;
        let last = last.map_or(Seq(0), |recorded| recorded.seq);
        if last > self.fold.read(|world| world.last_seq(self.key)) {
            debug!(resource = %self.key, seq = %last, "effect waits for the fold");
            let reached = tokio::time::timeout(FOLD_MAX, self.fold.reached(last)).await;
            reached.map_err(|_| later(format!("what is folded is behind {last}")))?;
        }
        let wanted = self
            .fold
            .read(|world| is_wanted(world, self.key, self.effect));
        if !wanted {
            info!(resource = %self.key, "request is not sent: others have gone on meanwhile");
            return Err(later("it is not waited for any more".into()));
        }
        Ok(())
    }
}

fn later(reason: String) -> Later {
    Later {
        reason,
        delay: AGAIN,
    }
}
