//! What a life does next of itself, at someone's wish to delete it, and at a wish to try again.

use engine_model::{RequestId, Timestamp};

use super::{Change, Left, Life, Past, Stage};
use crate::operation::{Operation, Step};

/// How long an answer is waited for, in milliseconds, before what may have been made is removed
/// without it: several times as long as any request takes.
pub(crate) const ANSWER_MS: i64 = 180_000;

/// A request to remove it.
pub(crate) fn remove<A, M>(life: &Life<A, M>, id: uuid::Uuid) -> Change<A, M> {
    let number = life.removals.saturating_add(1);
    Change::RemovalRequested {
        request: RequestId::derived(format_args!("{id}:removal:{number}")),
        number,
    }
}

/// What it does next without being asked. `free` says that nothing has to go before it.
pub(crate) fn next<A, M>(
    life: &Life<A, M>,
    id: uuid::Uuid,
    free: bool,
    now: Timestamp,
) -> Vec<Change<A, M>> {
    let again = |removal: &Operation| match &removal.step {
        Step::Failed { next_at, .. } if *next_at <= now => vec![remove(life, id)],
        Step::Failed { .. } | Step::Asked | Step::Delayed { .. } | Step::Polling { .. } => {
            Vec::new()
        }
    };
    match &life.stage {
        Stage::Failed {
            left: Left::Orphan { .. },
            ..
        } => vec![remove(life, id)],
        Stage::Orphaned { removal, .. } | Stage::Removing { removal, .. } => again(removal),
        Stage::Deleting { .. } if !free => Vec::new(),
        Stage::Deleting { past: None } => vec![Change::Deleted],
        Stage::Deleting {
            past: Some((_, Past::Asked(op))),
        } if now.since_ms(op.since) < ANSWER_MS => Vec::new(),
        Stage::Deleting { past: Some(_) } => vec![remove(life, id)],
        Stage::Waiting | Stage::Creating { .. } | Stage::Made { .. } | Stage::Failed { .. } => {
            Vec::new()
        }
    }
}

/// Someone wants it gone; nothing when that was asked for before.
pub(crate) fn delete<A, M>(life: &Life<A, M>) -> Vec<Change<A, M>> {
    if life.is_going() {
        Vec::new()
    } else {
        vec![Change::DeleteRequested]
    }
}

/// What a wish to try again comes to.
pub(crate) enum Retry<A, M> {
    /// This happens.
    Changes(Vec<Change<A, M>>),
    /// It is to be asked for anew.
    Request,
    /// It cannot be tried again now.
    Refused(&'static str),
}

/// Someone wants it to be tried again.
pub(crate) fn retry<A, M>(life: &Life<A, M>, id: uuid::Uuid, now: Timestamp) -> Retry<A, M> {
    let hurry = |op: &Operation| match &op.step {
        Step::Delayed { reason, delays, .. } => Retry::Changes(vec![Change::Delayed {
            request: op.request,
            reason: reason.to_string(),
            delays: *delays,
            stale_catalog: false,
            next_at: now,
        }]),
        Step::Failed { .. } => Retry::Changes(vec![remove(life, id)]),
        Step::Asked | Step::Polling { .. } => Retry::Refused("the broker is working on it"),
    };
    match &life.stage {
        Stage::Creating { op, .. } => hurry(op),
        Stage::Orphaned { removal, .. } | Stage::Removing { removal, .. } => hurry(removal),
        Stage::Failed {
            left: Left::Orphan { .. },
            ..
        } => Retry::Changes(vec![remove(life, id)]),
        Stage::Failed { .. } => Retry::Request,
        Stage::Waiting => Retry::Refused("it still waits for what it names"),
        Stage::Made { .. } => Retry::Refused("nothing has failed"),
        Stage::Deleting { .. } => Retry::Refused("it is being deleted"),
    }
}
