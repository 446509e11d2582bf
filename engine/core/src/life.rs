//! The life of something that a broker makes: an instance, or a binding. Both are asked for,
//! made, and taken away in the same way, so the rules stand here once.
//!
//! ```text
//!            request        done                delete
//!  Waiting ─────────► Creating ─────► Made ──────────────► Deleting ──removal──► Removing ─► gone
//!     │                 │   │                                 ▲  ▲                  │  ▲
//!     │ delete          │   └──────────── delete ─────────────┘  │                  └──┘ again
//!     └─────────────────┼────────────────────────────────────────┘
//!                       ▼ failed          removal
//!                     Failed ◄──removed── Orphaned ──┐
//!                       └────── orphan ──────▲  └────┘ again
//! ```

use engine_model::{RequestId, Timestamp};

use crate::operation::{Operation, Step};

mod answer;
mod evolve;
mod next;
mod removal;

pub(crate) use answer::{AGAIN_MAX, again, answered, polled, progress, removal_answered};
pub(crate) use next::{ANSWER_MS, Retry, delete, next, remove, retry};

/// One attempt to make it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Attempt<A> {
    pub(crate) request: RequestId,
    /// Counts the attempts from 1.
    pub(crate) number: u32,
    /// How long the broker may work on it, in milliseconds.
    pub(crate) limit_ms: i64,
    /// Whether it is only taken on record, and was there before: then a failure leaves nothing
    /// that could be removed.
    pub(crate) existing: bool,
    /// What was asked for.
    pub(crate) what: A,
}

/// How far it has come, and how often it was asked for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Life<A, M> {
    pub(crate) stage: Stage<A, M>,
    /// How often it was tried to make it.
    pub(crate) attempts: u32,
    /// How often it was tried to remove it.
    pub(crate) removals: u32,
}

/// How far it has come. `A` is what was asked for, `M` what came of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Stage<A, M> {
    /// Nothing was sent yet.
    Waiting,
    /// The broker is making it.
    Creating { attempt: Attempt<A>, op: Operation },
    /// It is there.
    Made { attempt: Attempt<A>, made: M },
    /// It could not be made.
    Failed {
        attempt: Attempt<A>,
        reason: Box<str>,
        left: Left,
        /// Whether it is made anew without being asked.
        again: bool,
    },
    /// It could not be made, and what may have been left is being removed.
    Orphaned {
        attempt: Attempt<A>,
        reason: Box<str>,
        sure_at: Timestamp,
        removal: Operation,
        /// Whether it is made anew without being asked.
        again: bool,
    },
    /// It is to go, and waits for what must go first.
    Deleting { past: Option<(Attempt<A>, Past<M>)> },
    /// The broker is taking it away.
    Removing {
        attempt: Attempt<A>,
        past: Past<M>,
        removal: Operation,
    },
}

/// What a failed attempt may have left at the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// Nothing: the broker confirmed it.
    Nothing,
    /// Nothing, as far as the answer can be trusted.
    Unlikely,
    /// Possibly something. Before `sure_at` a late request could still bring it about.
    Orphan { sure_at: Timestamp },
}

/// What is known of the making of something that is to go.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Past<M> {
    /// The request is being sent.
    Asked(Operation),
    /// The broker is still making it.
    Underway(Operation),
    /// It is there.
    Made(M),
    /// It may be there. Before `sure_at` a late request could still bring it about.
    Maybe { sure_at: Timestamp },
    /// It is probably not there.
    Unlikely,
}

/// What happens in a life; events of instances and bindings are translated to it and from it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Change<A, M> {
    Requested(Attempt<A>),
    Accepted {
        request: RequestId,
        operation: Option<String>,
        dashboard_url: Option<String>,
        next_at: Timestamp,
    },
    Progressed {
        request: RequestId,
        description: Option<String>,
        polls: u32,
        next_at: Timestamp,
    },
    Delayed {
        request: RequestId,
        reason: String,
        delays: u32,
        stale_catalog: bool,
        next_at: Timestamp,
    },
    Made {
        request: RequestId,
        made: M,
    },
    Failed {
        request: RequestId,
        reason: String,
        orphan: bool,
        again: bool,
    },
    DeleteRequested,
    RemovalRequested {
        request: RequestId,
        number: u32,
    },
    RemovalFailed {
        request: RequestId,
        reason: String,
        next_at: Timestamp,
    },
    OrphanRemoved {
        request: RequestId,
    },
    Removed {
        request: RequestId,
    },
    OrphanAbandoned {
        reason: String,
    },
    Deleted,
    Abandoned {
        reason: String,
    },
}

impl<A, M> Life<A, M> {
    pub(crate) fn new() -> Self {
        Self {
            stage: Stage::Waiting,
            attempts: 0,
            removals: 0,
        }
    }

    /// The attempt that was last, while it is known.
    pub(crate) fn attempt(&self) -> Option<&Attempt<A>> {
        match &self.stage {
            Stage::Waiting | Stage::Deleting { past: None } => None,
            Stage::Creating { attempt, .. }
            | Stage::Made { attempt, .. }
            | Stage::Failed { attempt, .. }
            | Stage::Orphaned { attempt, .. }
            | Stage::Removing { attempt, .. }
            | Stage::Deleting {
                past: Some((attempt, _)),
            } => Some(attempt),
        }
    }

    /// The attempt that was last, to be changed by an update.
    pub(crate) fn attempt_mut(&mut self) -> Option<&mut Attempt<A>> {
        match &mut self.stage {
            Stage::Waiting | Stage::Deleting { past: None } => None,
            Stage::Creating { attempt, .. }
            | Stage::Made { attempt, .. }
            | Stage::Failed { attempt, .. }
            | Stage::Orphaned { attempt, .. }
            | Stage::Removing { attempt, .. }
            | Stage::Deleting {
                past: Some((attempt, _)),
            } => Some(attempt),
        }
    }

    /// What came of it, if it is there, or was when its end was asked for.
    pub(crate) fn made(&self) -> Option<&M> {
        match &self.stage {
            Stage::Made { made, .. }
            | Stage::Deleting {
                past: Some((_, Past::Made(made))),
            }
            | Stage::Removing {
                past: Past::Made(made),
                ..
            } => Some(made),
            _ => None,
        }
    }

    /// The request that is under way now.
    pub(crate) fn current(&self) -> Option<&Operation> {
        match &self.stage {
            Stage::Creating { op, .. } => Some(op),
            Stage::Orphaned { removal, .. } | Stage::Removing { removal, .. } => Some(removal),
            Stage::Waiting | Stage::Made { .. } | Stage::Failed { .. } | Stage::Deleting { .. } => {
                None
            }
        }
    }

    /// A creation that is still under way at the broker while its removal is being tried, and was
    /// refused for that reason: it is waited for.
    pub(crate) fn unfinished(&self) -> Option<&Operation> {
        match &self.stage {
            Stage::Removing {
                past: Past::Underway(op),
                removal,
                ..
            } if matches!(removal.step, Step::Delayed { .. }) => Some(op),
            _ => None,
        }
    }

    /// Whether this request made it, is making it, or is taking it away.
    pub(crate) fn knows(&self, request: RequestId) -> bool {
        self.attempt().is_some_and(|own| own.request == request)
            || self.current().is_some_and(|op| op.request == request)
    }

    /// Whether the broker has a request of it in hand.
    pub(crate) fn is_in_hand(&self) -> bool {
        let op = match &self.stage {
            Stage::Deleting {
                past: Some((_, Past::Asked(op) | Past::Underway(op))),
            } => Some(op),
            _ => self.current(),
        };
        op.is_some_and(|op| matches!(op.step, Step::Asked | Step::Polling { .. }))
    }

    /// Since when an answer is waited for.
    pub(crate) fn asked_since(&self) -> Option<Timestamp> {
        let op = match &self.stage {
            Stage::Deleting {
                past: Some((_, Past::Asked(op))),
            } => Some(op),
            _ => self.current(),
        };
        op.filter(|op| matches!(op.step, Step::Asked))
            .map(|op| op.since)
    }

    pub(crate) fn is_made(&self) -> bool {
        matches!(self.stage, Stage::Made { .. })
    }

    /// Whether its end was asked for.
    pub(crate) fn is_going(&self) -> bool {
        matches!(self.stage, Stage::Deleting { .. } | Stage::Removing { .. })
    }
}
