//! What a broker's answer changes: every answer meets every stage on purpose. Answers to other
//! requests than those that are waited for change nothing, with one exception: word that something
//! was made after all, which must not be left there.

use engine_model::broker::{Progress, Verdict};
use engine_model::{RequestId, Timestamp};

use super::next::remove;
use super::removal::Removal;
use super::{Attempt, Change, Life, Past, Stage};
use crate::operation::{Operation, Step};
use crate::pace::{self, OPERATION_MS_MAX};

/// How long a request is certainly sent by one node only, in milliseconds: less than the time
/// after which what a node does not end is handed to another one.
const REPEAT_MS: i64 = 10_000;

/// How often a broker must refuse to remove what is probably not there, before that is as good as
/// its word that it is gone: a gateway before it may refuse anything for a moment.
const REFUSALS_MIN: u32 = 3;

pub(super) type Changes<A, M> = Vec<Change<A, M>>;

/// How often a request is repeated that the broker wants to be asked otherwise.
pub(crate) const AGAIN_MAX: u32 = 5;

/// The answer to a request to make it.
pub(crate) fn answered<A, M, T>(
    life: &Life<A, M>,
    id: uuid::Uuid,
    request: RequestId,
    verdict: &Verdict<T>,
    made: impl Fn(&T) -> M,
    now: Timestamp,
) -> Changes<A, M> {
    let exists = matches!(
        verdict,
        Verdict::Done(_)
            | Verdict::Accepted { .. }
            | Verdict::Doubt { .. }
            | Verdict::Unknown { orphan: true, .. }
    );
    match &life.stage {
        Stage::Creating { attempt, op } if op.request == request => {
            first_answer(attempt, op, verdict, made, now)
        }
        Stage::Deleting {
            past: Some((attempt, Past::Asked(op))),
        } if op.request == request => first_answer(attempt, op, verdict, made, now),
        Stage::Deleting {
            past: Some((attempt, Past::Underway(_) | Past::Maybe { .. } | Past::Unlikely)),
        } if attempt.request == request => match verdict {
            Verdict::Done(given) => vec![Change::Made {
                request,
                made: made(given),
            }],
            _ => Vec::new(),
        },
        // It was given up, and came all the same, or may have.
        Stage::Failed { attempt, .. } | Stage::Orphaned { attempt, .. }
            if attempt.request == request && exists =>
        {
            vec![remove(life, id)]
        }
        Stage::Removing {
            attempt,
            past: Past::Maybe { .. } | Past::Unlikely,
            ..
        } if attempt.request == request && exists => vec![remove(life, id)],
        Stage::Removing {
            past: Past::Underway(op),
            ..
        } if op.request == request => match verdict {
            Verdict::Done(given) => {
                let made = made(given);
                ended(life, id, Change::Made { request, made })
            }
            _ => Vec::new(),
        },
        Stage::Waiting
        | Stage::Creating { .. }
        | Stage::Made { .. }
        | Stage::Failed { .. }
        | Stage::Orphaned { .. }
        | Stage::Deleting { .. }
        | Stage::Removing { .. } => Vec::new(),
    }
}

fn first_answer<A, M, T>(
    attempt: &Attempt<A>,
    op: &Operation,
    verdict: &Verdict<T>,
    made: impl Fn(&T) -> M,
    now: Timestamp,
) -> Changes<A, M> {
    let request = op.request;
    let failed = |reason: &str, orphan| {
        vec![Change::Failed {
            request,
            reason: reason.to_owned(),
            orphan,
            again: false,
        }]
    };
    match (&op.step, verdict) {
        (_, Verdict::Done(given)) => vec![Change::Made {
            request,
            made: made(given),
        }],
        (Step::Asked | Step::Delayed { .. }, Verdict::Doubt { reason }) => vec![Change::Failed {
            request,
            reason: reason.clone(),
            orphan: true,
            again: true,
        }],
        // A second answer to a request that is being polled: the poll knows better.
        (Step::Polling { .. } | Step::Failed { .. }, _) => Vec::new(),
        (Step::Asked | Step::Delayed { .. }, Verdict::Accepted { .. }) => {
            accepted(op, attempt.limit_ms, verdict, now)
        }
        (Step::Asked | Step::Delayed { .. }, Verdict::Gone) => failed(
            "the broker answered 410 Gone to a request to create",
            may_be_a_repeat(op, now),
        ),
        (Step::Asked | Step::Delayed { .. }, Verdict::Rejected { reason }) => {
            failed(reason, may_be_a_repeat(op, now))
        }
        (Step::Asked | Step::Delayed { .. }, Verdict::Unknown { reason, orphan }) => {
            failed(reason, *orphan)
        }
        (Step::Delayed { delays, .. }, Verdict::Again { reason, .. }) if *delays >= AGAIN_MAX => {
            failed(reason, false)
        }
        (
            Step::Asked | Step::Delayed { .. },
            Verdict::Busy { reason, .. } | Verdict::NotSent { reason },
        ) if now.since_ms(op.since) >= OPERATION_MS_MAX => {
            failed(&format!("given up after 7 days: {reason}"), true)
        }
        (
            Step::Asked | Step::Delayed { .. },
            Verdict::Busy { .. } | Verdict::NotSent { .. } | Verdict::Again { .. },
        ) => delayed(op, verdict, now),
    }
}

/// Whether a refusal may be the answer to a repeat of a request that was carried out: then it says
/// nothing of what the first one made. Another node repeats what one that died may have sent.
fn may_be_a_repeat(op: &Operation, now: Timestamp) -> bool {
    now.since_ms(op.since) >= REPEAT_MS
}

/// A creation has ended that its removal waited for: now it can be removed.
fn ended<A, M>(life: &Life<A, M>, id: uuid::Uuid, how: Change<A, M>) -> Changes<A, M> {
    if life.unfinished().is_some() {
        vec![how, remove(life, id)]
    } else {
        vec![how]
    }
}

/// The answer to a request to remove it.
pub(crate) fn removal_answered<A, M, T>(
    life: &Life<A, M>,
    request: RequestId,
    verdict: &Verdict<T>,
    now: Timestamp,
) -> Changes<A, M> {
    let Some(removal) = Removal::of(life).filter(|removal| removal.op.request == request) else {
        return Vec::new();
    };
    match (&removal.op.step, verdict) {
        (_, Verdict::Done(_)) => vec![removal.done()],
        (_, Verdict::Gone) => removal.gone(now),
        (Step::Polling { .. } | Step::Failed { .. }, _) => Vec::new(),
        (Step::Asked | Step::Delayed { .. }, Verdict::Accepted { .. }) => {
            accepted(removal.op, removal.limit_ms, verdict, now)
        }
        (Step::Asked | Step::Delayed { .. }, Verdict::Rejected { .. })
            if removal.unlikely && removal.number >= REFUSALS_MIN =>
        {
            vec![removal.done()]
        }
        (
            Step::Asked | Step::Delayed { .. },
            Verdict::Rejected { reason }
            | Verdict::Doubt { reason }
            | Verdict::Unknown { reason, .. },
        ) => vec![removal.failed(reason, now)],
        (
            Step::Asked | Step::Delayed { .. },
            Verdict::Busy { .. } | Verdict::NotSent { .. } | Verdict::Again { .. },
        ) => match removal.creation {
            // It is refused while the broker makes it: that is waited for as closely as by a poll.
            Some((creation, limit_ms)) if matches!(verdict, Verdict::Busy { .. }) => {
                waiting(removal.op, creation, limit_ms, verdict_reason(verdict), now)
            }
            Some(_) | None => delayed(removal.op, verdict, now),
        },
    }
}

fn verdict_reason<T>(verdict: &Verdict<T>) -> &str {
    match verdict {
        Verdict::Rejected { reason }
        | Verdict::Busy { reason, .. }
        | Verdict::Again { reason, .. }
        | Verdict::NotSent { reason }
        | Verdict::Doubt { reason }
        | Verdict::Unknown { reason, .. } => reason,
        Verdict::Done(_) | Verdict::Accepted { .. } | Verdict::Gone => "",
    }
}

/// The removal waits until the creation has ended.
fn waiting<A, M>(
    removal: &Operation,
    creation: &Operation,
    limit_ms: i64,
    reason: &str,
    now: Timestamp,
) -> Changes<A, M> {
    let accepted_at = match &creation.step {
        Step::Polling { accepted_at, .. } => *accepted_at,
        Step::Asked | Step::Delayed { .. } | Step::Failed { .. } => creation.since,
    };
    vec![Change::Delayed {
        request: removal.request,
        reason: reason.to_owned(),
        delays: removal.delays().saturating_add(1),
        stale_catalog: false,
        next_at: pace::poll_at(now, creation.since, accepted_at.plus_ms(limit_ms), None),
    }]
}

/// What a poll said of the request that began the operation.
pub(crate) fn polled<A, M>(
    life: &Life<A, M>,
    id: uuid::Uuid,
    request: RequestId,
    progress: &Progress,
    made: impl Fn() -> Option<M>,
    now: Timestamp,
) -> Changes<A, M> {
    if let Some(removal) = Removal::of(life)
        && removal.op.request == request
    {
        return removal.polled(progress, now);
    }
    match &life.stage {
        Stage::Creating { attempt, op } if op.request == request => {
            creation_polled(attempt, op, progress, made, now)
        }
        Stage::Deleting {
            past: Some((attempt, Past::Underway(op))),
        } if op.request == request => creation_polled(attempt, op, progress, made, now),
        Stage::Removing {
            attempt,
            past: Past::Underway(op),
            removal,
        } if op.request == request => {
            let mut changes = creation_polled(attempt, op, progress, made, now);
            match changes.pop() {
                Some(how @ (Change::Made { .. } | Change::Failed { .. })) => ended(life, id, how),
                // It is done, and what came of it is told by another answer: it can be removed.
                Some(_) if matches!(progress, Progress::Succeeded) => {
                    let reason = "its end was asked for before its result was fetched".to_owned();
                    let orphan = true;
                    let how = Change::Failed {
                        request,
                        reason,
                        orphan,
                        again: false,
                    };
                    ended(life, id, how)
                }
                // Also when the poll brought no news: the removal's alarm has rung for it.
                _ if life.unfinished().is_some() && matches!(op.step, Step::Polling { .. }) => {
                    let reason = "the broker is still making it";
                    waiting(removal, op, attempt.limit_ms, reason, now)
                }
                Some(_) | None => Vec::new(),
            }
        }
        Stage::Waiting
        | Stage::Creating { .. }
        | Stage::Made { .. }
        | Stage::Failed { .. }
        | Stage::Orphaned { .. }
        | Stage::Deleting { .. }
        | Stage::Removing { .. } => Vec::new(),
    }
}

fn creation_polled<A, M>(
    attempt: &Attempt<A>,
    op: &Operation,
    progress: &Progress,
    made: impl Fn() -> Option<M>,
    now: Timestamp,
) -> Changes<A, M> {
    let request = op.request;
    let Step::Polling { accepted_at, .. } = &op.step else {
        return Vec::new();
    };
    match progress {
        Progress::Succeeded => {
            if let Some(made) = made() {
                return vec![Change::Made { request, made }];
            }
        }
        Progress::Failed { reason } => {
            return vec![Change::Failed {
                request,
                reason: reason.clone(),
                orphan: true,
                again: false,
            }];
        }
        Progress::InProgress { .. }
        | Progress::Gone
        | Progress::NotFound
        | Progress::NoAnswer { .. } => {}
    }
    if now >= accepted_at.plus_ms(attempt.limit_ms) {
        return vec![Change::Failed {
            request,
            reason: overdue(attempt.limit_ms),
            orphan: true,
            again: false,
        }];
    }
    progressed(op, attempt.limit_ms, progress, now)
}

pub(super) fn overdue(limit_ms: i64) -> String {
    format!("the broker was not done after {} s", limit_ms / 1000)
}

fn accepted<A, M, T>(
    op: &Operation,
    limit_ms: i64,
    verdict: &Verdict<T>,
    now: Timestamp,
) -> Changes<A, M> {
    let Verdict::Accepted {
        operation,
        dashboard_url,
        retry_after_ms,
    } = verdict
    else {
        return Vec::new();
    };
    vec![Change::Accepted {
        request: op.request,
        operation: operation.clone(),
        dashboard_url: dashboard_url.clone(),
        next_at: pace::poll_at(now, op.since, now.plus_ms(limit_ms), *retry_after_ms),
    }]
}

pub(super) fn progressed<A, M>(
    op: &Operation,
    limit_ms: i64,
    said: &Progress,
    now: Timestamp,
) -> Changes<A, M> {
    let told = progress(op, limit_ms, said, now);
    let change = told.map(|(description, polls, next_at)| Change::Progressed {
        request: op.request,
        description,
        polls,
        next_at,
    });
    change.into_iter().collect()
}

/// What is kept of a poll after which the broker is asked again: its words, the count of polls,
/// and when the next poll is kept at the latest. Nothing is kept of a poll that says what the one
/// before it said: whoever asked asks again, see [`again`], and if it does not, the next poll that
/// is kept makes good for it.
pub(crate) fn progress(
    op: &Operation,
    limit_ms: i64,
    said: &Progress,
    now: Timestamp,
) -> Option<(Option<String>, u32, Timestamp)> {
    let Step::Polling {
        polls,
        accepted_at,
        description: known,
        ..
    } = &op.step
    else {
        return None;
    };
    let (description, retry_after_ms) = told(said);
    let news = *polls == 0 || description.as_deref() != known.as_deref();
    if !news && again(op, limit_ms, said, now).is_some() {
        return None;
    }
    let until = accepted_at.plus_ms(limit_ms);
    let next_at = pace::kept_at(now, op.since, until, retry_after_ms);
    Some((description, polls.saturating_add(1), next_at))
}

/// When the broker is asked again, if that is before the next poll that is kept.
pub(crate) fn again(
    op: &Operation,
    limit_ms: i64,
    said: &Progress,
    now: Timestamp,
) -> Option<Timestamp> {
    let Step::Polling {
        accepted_at,
        next_at,
        ..
    } = &op.step
    else {
        return None;
    };
    let (_, retry_after_ms) = told(said);
    let until = accepted_at.plus_ms(limit_ms);
    let at = pace::poll_at(now, op.since, until, retry_after_ms);
    (at < *next_at).then_some(at)
}

/// The broker's words for people, and its wish for the next poll.
fn told(said: &Progress) -> (Option<String>, Option<u64>) {
    match said {
        Progress::InProgress {
            description,
            retry_after_ms,
        } => (description.clone(), *retry_after_ms),
        Progress::NoAnswer {
            reason,
            retry_after_ms,
        } => (
            Some(format!("no valid answer to a poll: {reason}")),
            *retry_after_ms,
        ),
        Progress::Gone => (Some("the broker answered 410 Gone to a poll".into()), None),
        Progress::NotFound => (Some("the broker answered 404 to a poll".into()), None),
        Progress::Succeeded | Progress::Failed { .. } => {
            (Some("done; its result is being fetched".into()), None)
        }
    }
}

fn delayed<A, M, T>(op: &Operation, verdict: &Verdict<T>, now: Timestamp) -> Changes<A, M> {
    let (reason, retry_after_ms) = match verdict {
        Verdict::Busy {
            reason,
            retry_after_ms,
        } => (reason, *retry_after_ms),
        Verdict::NotSent { reason } | Verdict::Again { reason, .. } => (reason, None),
        Verdict::Done(_)
        | Verdict::Accepted { .. }
        | Verdict::Gone
        | Verdict::Rejected { .. }
        | Verdict::Doubt { .. }
        | Verdict::Unknown { .. } => return Vec::new(),
    };
    let delays = op.delays().saturating_add(1);
    let stale_catalog = matches!(
        verdict,
        Verdict::Again {
            stale_catalog: true,
            ..
        }
    );
    vec![Change::Delayed {
        request: op.request,
        reason: reason.clone(),
        delays,
        stale_catalog,
        next_at: pace::again_at(now, pace::DELAYED, op.request, delays, retry_after_ms),
    }]
}
