//! A removal that is under way, and what a broker's answers make of it.

use engine_model::Timestamp;
use engine_model::broker::Progress;

use super::answer::{Changes, overdue, progressed};
use super::{Change, Life, Past, Stage};
use crate::operation::{Operation, Step};
use crate::pace::{self, Backoff};

/// A removal that is under way.
pub(super) struct Removal<'a> {
    pub(super) op: &'a Operation,
    /// The creation that the broker has in hand meanwhile, and how long it may take.
    pub(super) creation: Option<(&'a Operation, i64)>,
    pub(super) limit_ms: i64,
    pub(super) number: u32,
    pub(super) orphan: bool,
    /// Whether there is probably nothing to remove, so that refusals are as good as `Gone`.
    pub(super) unlikely: bool,
    pub(super) sure_at: Timestamp,
}

impl<'a> Removal<'a> {
    pub(super) fn of<A, M>(life: &'a Life<A, M>) -> Option<Self> {
        let number = life.removals;
        match &life.stage {
            Stage::Orphaned {
                attempt,
                sure_at,
                removal,
                ..
            } => Some(Self {
                op: removal,
                creation: None,
                limit_ms: attempt.limit_ms,
                number,
                orphan: true,
                unlikely: false,
                sure_at: *sure_at,
            }),
            Stage::Removing {
                attempt,
                past,
                removal,
            } => Some(Self {
                op: removal,
                creation: match past {
                    Past::Underway(op) => Some((op, attempt.limit_ms)),
                    Past::Asked(_) | Past::Made(_) | Past::Maybe { .. } | Past::Unlikely => None,
                },
                limit_ms: attempt.limit_ms,
                number,
                orphan: false,
                unlikely: matches!(past, Past::Unlikely),
                sure_at: match past {
                    Past::Maybe { sure_at } => *sure_at,
                    Past::Asked(_) | Past::Underway(_) | Past::Made(_) | Past::Unlikely => {
                        removal.since
                    }
                },
            }),
            Stage::Waiting
            | Stage::Creating { .. }
            | Stage::Made { .. }
            | Stage::Failed { .. }
            | Stage::Deleting { .. } => None,
        }
    }

    pub(super) fn done<A, M>(&self) -> Change<A, M> {
        let request = self.op.request;
        if self.orphan {
            Change::OrphanRemoved { request }
        } else {
            Change::Removed { request }
        }
    }

    /// 410. It is believed once a late request can no longer make what it says is not there.
    pub(super) fn gone<A, M>(&self, now: Timestamp) -> Changes<A, M> {
        if now >= self.sure_at {
            return vec![self.done()];
        }
        if matches!(self.op.step, Step::Failed { .. }) {
            return Vec::new();
        }
        vec![Change::RemovalFailed {
            request: self.op.request,
            reason: "the broker does not have it yet; asked once more in case the lost request \
                     is still on its way"
                .into(),
            next_at: self.sure_at,
        }]
    }

    pub(super) fn failed<A, M>(&self, reason: &str, now: Timestamp) -> Change<A, M> {
        let backoff: Backoff = if self.orphan {
            pace::ORPHAN
        } else {
            pace::REMOVAL
        };
        Change::RemovalFailed {
            request: self.op.request,
            reason: reason.to_owned(),
            next_at: pace::again_at(now, backoff, self.op.request, self.number, None),
        }
    }

    pub(super) fn polled<A, M>(&self, progress: &Progress, now: Timestamp) -> Changes<A, M> {
        let Step::Polling { accepted_at, .. } = &self.op.step else {
            return Vec::new();
        };
        match progress {
            Progress::Succeeded => vec![self.done()],
            Progress::Gone => self.gone(now),
            Progress::Failed { reason } => vec![self.failed(reason, now)],
            // Whether it is gone or was never known: the answer to another DELETE decides.
            Progress::NotFound => vec![self.failed(
                "the broker no longer knows the operation; it is asked to delete once more",
                now,
            )],
            Progress::InProgress { .. } | Progress::NoAnswer { .. } => {
                if now >= accepted_at.plus_ms(self.limit_ms) {
                    vec![self.failed(&overdue(self.limit_ms), now)]
                } else {
                    progressed(self.op, self.limit_ms, progress, now)
                }
            }
        }
    }
}
