//! The world as folded from the event stream, shared with everyone who reads it.
//!
//! It has two writers that never disagree: the tail of the stream, and the ledger, which applies
//! its own commits as soon as they are acknowledged. A position is applied once per resource, so
//! whoever comes second changes nothing.

use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use engine_core::{IllegalEvent, World};
use engine_model::{Kind, Recorded, ResourceKey, Seq};
use engine_stream::{Error, Log};
use futures::StreamExt;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Changes that a slow follower may lag behind before it is told to look at everything.
const CHANGES_MAX: usize = 4096;

/// Commits that are applied under one lock while the stream is being replayed.
const REPLAY_CHUNK: usize = 1024;

/// Wait before the tail is opened again after it broke.
const REOPEN: Duration = Duration::from_millis(200);

/// Why the fold cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    /// The log ended for good.
    #[error("tail of the event stream")]
    Log(#[from] Error),
    /// A stored event cannot follow what is before it.
    #[error("event at {seq}: {source}")]
    Illegal {
        /// Its position.
        seq: Seq,
        /// What is wrong.
        source: IllegalEvent,
    },
}

/// The folded world.
pub struct Fold {
    world: RwLock<World>,
    /// Everything up to here is folded; moved by the tail alone.
    position: watch::Sender<Seq>,
    changes: broadcast::Sender<ResourceKey>,
}

impl Default for Fold {
    fn default() -> Self {
        Self {
            world: RwLock::new(World::default()),
            position: watch::Sender::new(Seq(0)),
            changes: broadcast::Sender::new(CHANGES_MAX),
        }
    }
}

impl Fold {
    /// Reads the world. Keep it short: the writers wait.
    pub fn read<T>(&self, look: impl FnOnce(&World) -> T) -> T {
        look(&self.world.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The position up to which all of the stream is folded.
    #[must_use]
    pub fn position(&self) -> Seq {
        *self.position.borrow()
    }

    /// Waits until all up to `seq` is folded. Cancelling it loses nothing.
    pub async fn reached(&self, seq: Seq) {
        let mut position = self.position.subscribe();
        // The sender lives in `self`, so the wait can only end by the position.
        let _ = position.wait_for(|at| *at >= seq).await;
    }

    /// Hears which resources change. One that lags too far is told so and looks at everything.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<ResourceKey> {
        self.changes.subscribe()
    }

    /// Applies commits, those that are already applied excepted.
    ///
    /// # Errors
    /// `Illegal` when an event cannot follow what is folded.
    pub fn apply<'a>(
        &self,
        commits: impl IntoIterator<Item = &'a Recorded>,
    ) -> Result<(), FoldError> {
        let mut changed = Vec::new();
        {
            let mut world = self.world.write().unwrap_or_else(PoisonError::into_inner);
            for recorded in commits {
                let fresh = world.apply(recorded).map_err(|source| FoldError::Illegal {
                    seq: recorded.seq,
                    source,
                })?;
                if fresh && follows(recorded.commit.key.kind) {
                    changed.push(recorded.commit.key.clone());
                }
            }
        }
        for key in changed {
            let _ = self.changes.send(key);
        }
        Ok(())
    }

    /// Follows the event stream until `stop`; reopens it when it breaks.
    ///
    /// # Errors
    /// `Illegal`, or `Log` when a stored message cannot be read.
    pub async fn follow(&self, log: &dyn Log, stop: CancellationToken) -> Result<(), FoldError> {
        let mut after = self.position();
        loop {
            let opened = tokio::select! {
                opened = log.tail(after) => opened,
                () = stop.cancelled() => return Ok(()),
            };
            let mut tail = match opened {
                Ok(tail) => tail.ready_chunks(REPLAY_CHUNK),
                Err(Error::Unavailable(reason)) => {
                    warn!(%reason, "event stream unavailable");
                    tokio::time::sleep(REOPEN).await;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            loop {
                let chunk = tokio::select! {
                    chunk = tail.next() => chunk,
                    () = stop.cancelled() => return Ok(()),
                };
                let Some(chunk) = chunk else { break };
                let broken = chunk.iter().find_map(|item| item.as_ref().err().cloned());
                let commits: Vec<Recorded> = chunk.into_iter().map_while(Result::ok).collect();
                self.apply(&commits)?;
                if let Some(last) = commits.last() {
                    after = last.seq;
                    self.position.send_replace(after);
                }
                match broken {
                    None => {}
                    Some(Error::Unavailable(reason)) => {
                        debug!(%reason, "event stream broke, opening it again");
                        break;
                    }
                    Some(error) => return Err(error.into()),
                }
            }
            tokio::time::sleep(REOPEN).await;
        }
    }
}

/// Kinds whose changes someone on a node follows.
fn follows(kind: Kind) -> bool {
    matches!(kind, Kind::API | Kind::Function | Kind::ServiceAccount)
}
