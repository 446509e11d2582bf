//! From the verdicts of this crate to the engine's words.

use std::time::Duration;

use engine_model::broker::{Aftermath, Progress, Verdict};

use crate::verdict::{self, Answer, Orphan, Refusal};

/// The longest address that is kept; a browser takes no longer one.
const URL_CHARS_MAX: usize = 2048;

/// The value of what is done, or the engine's word for anything else.
pub(super) fn settle<T, U>(answer: Answer<T>) -> Result<T, Verdict<U>> {
    Err(match answer {
        Answer::Done(value) | Answer::Exists(value) => return Ok(value),
        Answer::Accepted(accepted) => Verdict::Accepted {
            operation: accepted.operation,
            dashboard_url: accepted.dashboard_url.and_then(url),
            retry_after_ms: accepted.retry_after.map(ms),
        },
        Answer::Gone => Verdict::Gone,
        Answer::Rejected(refusal) => Verdict::Rejected {
            reason: told(&refusal),
        },
        Answer::MaintenanceConflict(refusal) => Verdict::Again {
            reason: told(&refusal),
            stale_catalog: true,
        },
        // Every request accepts that already; the broker may see it the next time.
        Answer::AsyncRequired => Verdict::Again {
            reason: "AsyncRequired: the broker does not see that it may take its time".to_owned(),
            stale_catalog: false,
        },
        Answer::Busy { retry_after } => Verdict::Busy {
            reason: "the broker is busy with this resource".to_owned(),
            retry_after_ms: retry_after.map(ms),
        },
        Answer::TooMany { retry_after } => Verdict::Busy {
            reason: "the broker has too many requests".to_owned(),
            retry_after_ms: retry_after.map(ms),
        },
        Answer::Unavailable { reason } => Verdict::NotSent { reason },
        Answer::Unknown(doubt) => Verdict::Unknown {
            reason: doubt.reason,
            orphan: doubt.orphan != Orphan::Nothing,
        },
    })
}

/// The same, for what has no value.
pub(super) fn verdict_without(settled: Result<(), Verdict<()>>) -> Verdict<()> {
    match settled {
        Ok(()) => Verdict::Done(()),
        Err(verdict) => verdict,
    }
}

/// How a failed update leaves the instance; only a failure's body speaks of it.
pub(super) fn aftermath<T>(answer: &Answer<T>) -> Aftermath {
    match answer {
        Answer::Rejected(refusal) | Answer::MaintenanceConflict(refusal) => Aftermath {
            instance_usable: refusal.instance_usable,
            update_repeatable: refusal.update_repeatable,
        },
        Answer::Unknown(doubt) => Aftermath {
            instance_usable: doubt.instance_usable,
            update_repeatable: doubt.update_repeatable,
        },
        Answer::Done(_)
        | Answer::Exists(_)
        | Answer::Accepted(_)
        | Answer::Gone
        | Answer::Busy { .. }
        | Answer::AsyncRequired
        | Answer::TooMany { .. }
        | Answer::Unavailable { .. } => Aftermath::default(),
    }
}

/// The same of a poll.
pub(super) fn aftermath_of(told: &verdict::Progress) -> Aftermath {
    match told {
        verdict::Progress::Failed(failure) => Aftermath {
            instance_usable: failure.instance_usable,
            update_repeatable: failure.update_repeatable,
        },
        verdict::Progress::InProgress { .. }
        | verdict::Progress::Succeeded { .. }
        | verdict::Progress::Gone
        | verdict::Progress::Absent
        | verdict::Progress::Unclear { .. } => Aftermath::default(),
    }
}

/// What there is to say of a request that only reads, and did not succeed.
pub(super) fn reason(verdict: Verdict<()>) -> String {
    match verdict {
        Verdict::Rejected { reason }
        | Verdict::Busy { reason, .. }
        | Verdict::Again { reason, .. }
        | Verdict::Doubt { reason }
        | Verdict::NotSent { reason }
        | Verdict::Unknown { reason, .. } => reason,
        Verdict::Done(()) | Verdict::Accepted { .. } | Verdict::Gone => {
            "an answer that makes no sense here".to_owned()
        }
    }
}

/// A bind succeeded, but the binding could not be read yet.
pub(super) fn not_fetched(verdict: Verdict<()>) -> Progress {
    let (reason, retry_after_ms) = match verdict {
        Verdict::Gone => ("the broker does not know it".to_owned(), None),
        Verdict::Busy {
            reason,
            retry_after_ms,
        } => (reason, retry_after_ms),
        other => (reason(other), None),
    };
    let reason = format!("bound, but the credentials could not be read: {reason}");
    Progress::NoAnswer {
        reason,
        retry_after_ms,
    }
}

/// How far an operation has come.
pub(super) fn progress(told: verdict::Progress) -> Progress {
    match told {
        verdict::Progress::InProgress {
            description,
            retry_after,
        } => Progress::InProgress {
            description,
            retry_after_ms: retry_after.map(ms),
        },
        verdict::Progress::Succeeded { .. } => Progress::Succeeded,
        verdict::Progress::Failed(failure) => Progress::Failed {
            reason: failure
                .description
                .unwrap_or_else(|| "the broker gives no reason".to_owned()),
        },
        verdict::Progress::Gone => Progress::Gone,
        verdict::Progress::Absent => Progress::NotFound,
        verdict::Progress::Unclear {
            reason,
            retry_after,
            ..
        } => Progress::NoAnswer {
            reason,
            retry_after_ms: retry_after.map(ms),
        },
    }
}

/// An address that can be shown; one that is too long is as good as none.
pub(super) fn url(text: String) -> Option<String> {
    let fits = text.chars().count() <= URL_CHARS_MAX && !text.chars().any(char::is_control);
    (fits && !text.is_empty()).then_some(text)
}

fn told(refusal: &Refusal) -> String {
    match &refusal.code {
        Some(code) => format!(
            "{code}: {} (status {})",
            refusal.description, refusal.status
        ),
        None => format!("{} (status {})", refusal.description, refusal.status),
    }
}

fn ms(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
}
