//! How a life goes on by what happens.

use engine_model::Timestamp;

use super::{Attempt, Change, Left, Life, Past, Stage};
use crate::operation::{Operation, Step};

/// A broker whose answer did not come gets as long again, and this many milliseconds, before its
/// word that a thing is not there is believed.
const LATE_MS: i64 = 5_000;

/// How long a request may take, in milliseconds.
const REQUEST_MS: i64 = 60_000;

impl<A, M> Life<A, M> {
    /// What becomes of it by `change`: `Ok(None)` when it is gone, `Err` when that cannot be.
    pub(crate) fn evolve(self, change: Change<A, M>, at: Timestamp) -> Result<Option<Self>, ()> {
        let (mut attempts, mut removals) = (self.attempts, self.removals);
        let stage = match (self.stage, change) {
            (_, Change::Abandoned { .. }) => return Ok(None),
            (
                Stage::Waiting
                | Stage::Failed {
                    left: Left::Nothing | Left::Unlikely,
                    ..
                },
                Change::Requested(attempt),
            ) => {
                attempts = attempt.number;
                let op = Operation::asked(attempt.request, at);
                Stage::Creating { attempt, op }
            }
            (Stage::Creating { attempt, op }, change) => creating(attempt, op, change, at)?,
            (Stage::Waiting, Change::DeleteRequested)
            | (
                Stage::Failed {
                    left: Left::Nothing,
                    ..
                },
                Change::DeleteRequested,
            ) => Stage::Deleting { past: None },
            (Stage::Made { attempt, made }, Change::DeleteRequested) => Stage::Deleting {
                past: Some((attempt, Past::Made(made))),
            },
            (Stage::Failed { attempt, left, .. }, Change::DeleteRequested) => {
                let past = match left {
                    Left::Orphan { sure_at } => Past::Maybe { sure_at },
                    Left::Nothing | Left::Unlikely => Past::Unlikely,
                };
                Stage::Deleting {
                    past: Some((attempt, past)),
                }
            }
            (
                Stage::Orphaned {
                    attempt,
                    sure_at,
                    removal,
                    ..
                },
                Change::DeleteRequested,
            ) => Stage::Removing {
                attempt,
                past: Past::Maybe { sure_at },
                removal,
            },
            (
                Stage::Failed {
                    attempt,
                    reason,
                    left,
                    again,
                },
                Change::RemovalRequested { request, number },
            ) => {
                removals = number;
                let sure_at = match left {
                    Left::Orphan { sure_at } => sure_at,
                    // An answer came that nobody expected: so may a request that was repeated.
                    Left::Nothing | Left::Unlikely => at.plus_ms(REQUEST_MS + LATE_MS),
                };
                Stage::Orphaned {
                    attempt,
                    reason,
                    sure_at,
                    removal: Operation::asked(request, at),
                    again,
                }
            }
            (
                Stage::Orphaned {
                    attempt,
                    reason,
                    sure_at,
                    again,
                    ..
                },
                Change::RemovalRequested { request, number },
            ) => {
                removals = number;
                Stage::Orphaned {
                    attempt,
                    reason,
                    sure_at,
                    again,
                    removal: Operation::asked(request, at),
                }
            }
            (
                Stage::Deleting {
                    past: Some((attempt, past)),
                }
                | Stage::Removing { attempt, past, .. },
                Change::RemovalRequested { request, number },
            ) => {
                removals = number;
                let past = match past {
                    // Nobody waits for that answer any more.
                    Past::Asked(op) => Past::Maybe { sure_at: op.since },
                    other => other,
                };
                Stage::Removing {
                    attempt,
                    past,
                    removal: Operation::asked(request, at),
                }
            }
            (Stage::Deleting { past: None }, Change::Deleted) => return Ok(None),
            (
                Stage::Deleting {
                    past: Some((attempt, past)),
                },
                change,
            ) => {
                let past = still_answered(past, change, at)?;
                Stage::Deleting {
                    past: Some((attempt, past)),
                }
            }
            (
                Stage::Orphaned {
                    attempt,
                    reason,
                    again,
                    ..
                },
                Change::OrphanRemoved { .. },
            ) => Stage::Failed {
                attempt,
                reason,
                left: Left::Nothing,
                again,
            },
            (
                Stage::Orphaned {
                    attempt, reason, ..
                }
                | Stage::Failed {
                    attempt,
                    reason,
                    left: Left::Orphan { .. },
                    ..
                },
                Change::OrphanAbandoned { .. },
            ) => Stage::Failed {
                attempt,
                reason,
                left: Left::Nothing,
                again: false,
            },
            (Stage::Removing { .. }, Change::Removed { .. }) => return Ok(None),
            (
                Stage::Removing {
                    attempt,
                    past: past @ Past::Underway(_),
                    removal,
                },
                change @ (Change::Made { .. } | Change::Failed { .. }),
            ) => Stage::Removing {
                attempt,
                past: still_answered(past, change, at)?,
                removal,
            },
            (
                Stage::Orphaned {
                    attempt,
                    reason,
                    sure_at,
                    removal,
                    again,
                },
                change,
            ) => Stage::Orphaned {
                attempt,
                reason,
                sure_at,
                again,
                removal: removing(removal, change, at)?,
            },
            (
                Stage::Removing {
                    attempt,
                    past,
                    removal,
                },
                change,
            ) => Stage::Removing {
                attempt,
                past,
                removal: removing(removal, change, at)?,
            },
            (
                Stage::Waiting
                | Stage::Made { .. }
                | Stage::Failed { .. }
                | Stage::Deleting { past: None },
                _,
            ) => return Err(()),
        };
        Ok(Some(Self {
            stage,
            attempts,
            removals,
        }))
    }
}

/// When a broker's word is believed that it does not have what `op` asked for.
fn sure_at(op: &Operation, at: Timestamp) -> Timestamp {
    match op.step {
        Step::Asked | Step::Delayed { .. } => at.plus_ms(at.since_ms(op.since).max(0) + LATE_MS),
        Step::Polling { .. } | Step::Failed { .. } => at,
    }
}

fn creating<A, M>(
    attempt: Attempt<A>,
    mut op: Operation,
    change: Change<A, M>,
    at: Timestamp,
) -> Result<Stage<A, M>, ()> {
    let fits = match change {
        Change::Made { request, made } if request == op.request => {
            return Ok(Stage::Made { attempt, made });
        }
        Change::Failed {
            request,
            reason,
            orphan,
            again,
        } if request == op.request => {
            let left = if attempt.existing {
                Left::Nothing
            } else if orphan {
                let sure_at = sure_at(&op, at);
                Left::Orphan { sure_at }
            } else {
                Left::Unlikely
            };
            return Ok(Stage::Failed {
                attempt,
                reason: reason.into(),
                left,
                again,
            });
        }
        Change::DeleteRequested if attempt.existing => {
            return Ok(Stage::Deleting { past: None });
        }
        Change::DeleteRequested => {
            let past = match (op.sent_at(at), &op.step) {
                (Some(since), _) => Past::Asked(Operation {
                    since,
                    step: Step::Asked,
                    ..op
                }),
                (None, Step::Polling { .. }) => Past::Underway(op),
                (None, _) => Past::Maybe { sure_at: at },
            };
            return Ok(Stage::Deleting {
                past: Some((attempt, past)),
            });
        }
        other => underway(&mut op, other, at),
    };
    if fits {
        Ok(Stage::Creating { attempt, op })
    } else {
        Err(())
    }
}

fn removing<A, M>(
    mut removal: Operation,
    change: Change<A, M>,
    at: Timestamp,
) -> Result<Operation, ()> {
    let fits = match change {
        Change::RemovalFailed {
            request,
            reason,
            next_at,
        } => request == removal.request && removal.fail(reason, next_at),
        other => underway(&mut removal, other, at),
    };
    if fits { Ok(removal) } else { Err(()) }
}

/// What happens to any request that is under way.
fn underway<A, M>(op: &mut Operation, change: Change<A, M>, at: Timestamp) -> bool {
    match change {
        Change::Accepted {
            request,
            operation,
            next_at,
            ..
        } => request == op.request && op.accept(operation, at, next_at),
        Change::Progressed {
            request,
            description,
            polls,
            next_at,
        } => request == op.request && op.progress(description, polls, next_at),
        Change::Delayed {
            request,
            reason,
            delays,
            next_at,
            ..
        } => request == op.request && op.delay(reason, delays, next_at),
        Change::Requested(_)
        | Change::Made { .. }
        | Change::Failed { .. }
        | Change::DeleteRequested
        | Change::RemovalRequested { .. }
        | Change::RemovalFailed { .. }
        | Change::OrphanRemoved { .. }
        | Change::Removed { .. }
        | Change::OrphanAbandoned { .. }
        | Change::Deleted
        | Change::Abandoned { .. } => false,
    }
}

/// An answer to the request that was under way when the end was asked for.
fn still_answered<A, M>(past: Past<M>, change: Change<A, M>, at: Timestamp) -> Result<Past<M>, ()> {
    match (past, change) {
        (
            Past::Asked(_) | Past::Underway(_) | Past::Maybe { .. } | Past::Unlikely,
            Change::Made { made, .. },
        ) => Ok(Past::Made(made)),
        (Past::Asked(op) | Past::Underway(op), Change::Failed { orphan, .. }) => {
            if orphan {
                let sure_at = sure_at(&op, at);
                Ok(Past::Maybe { sure_at })
            } else {
                Ok(Past::Unlikely)
            }
        }
        (Past::Asked(_), Change::Delayed { .. }) => Ok(Past::Maybe { sure_at: at }),
        (Past::Asked(mut op) | Past::Underway(mut op), change) => {
            if underway(&mut op, change, at) {
                Ok(Past::Underway(op))
            } else {
                Err(())
            }
        }
        (Past::Made(_) | Past::Maybe { .. } | Past::Unlikely, _) => Err(()),
    }
}
