//! Every task of a node is spawned here; nothing is detached.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// How long a drained node waits for its tasks before it drops them.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// What happens when a task ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The node cannot go on without it: its end stops the node.
    Essential,
    /// It may end when its work is done.
    Finite,
}

/// The tasks of a node, under one stop signal.
#[derive(Debug)]
pub struct Tasks {
    set: JoinSet<()>,
    stop: CancellationToken,
}

impl Tasks {
    /// No tasks yet; `stop` ends them all.
    #[must_use]
    pub fn new(stop: CancellationToken) -> Self {
        Self {
            set: JoinSet::new(),
            stop,
        }
    }

    /// Spawns a task. It is expected to end soon after the stop signal.
    pub fn spawn<F, E>(&mut self, kind: Kind, name: &'static str, work: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Display + Send + 'static,
    {
        let stop = self.stop.clone();
        self.set.spawn(async move {
            let outcome = work.await;
            match (&outcome, kind) {
                (Err(error), _) => error!(task = name, %error, "task failed"),
                (Ok(()), Kind::Essential) if !stop.is_cancelled() => {
                    error!(task = name, "task ended");
                }
                (Ok(()), _) => {}
            }
            if kind == Kind::Essential {
                stop.cancel();
            }
        });
    }

    /// Stops all tasks and waits for them, for a bounded time. `true` when all of them ended by
    /// themselves.
    pub async fn drain(mut self) -> bool {
        self.stop.cancel();
        let all = async { while self.set.join_next().await.is_some() {} };
        let graceful = tokio::time::timeout(DRAIN_MAX, all).await.is_ok();
        if graceful {
            info!("node drained");
        } else {
            warn!(
                left = self.set.len(),
                "node dropped tasks that did not end in time"
            );
            self.set.shutdown().await;
        }
        graceful
    }
}
