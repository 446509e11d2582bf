//! Where a run stands, read from the last event of its log. Pure.
//!
//! ```text
//! nothing ─► Started ─► Finished
//!    │         │ ▲ ╰──► CancelRequested ─► Finished
//!    ▼         ▼ │
//! Delayed   AttemptFailed        from each of these, Finished when it is cancelled
//! ```
//!
//! Each event names the message whose delivery it belongs to. Only when that very message is
//! delivered again is its worker known to be lost; any other message for the same run is a repeat
//! of the request, and waits for what becomes of the first.

use engine_model::{Actor, RevisionId, RunEvent, RunResult, Seq, Timestamp};

/// How the next attempt begins.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Start {
    /// The last position of the run's log.
    pub(super) expected: Seq,
    /// Which attempt it will be, less one.
    pub(super) before: u32,
    /// How many of those were lost with their worker.
    pub(super) lost: u32,
    /// The revision of the attempt before it.
    pub(super) begun_on: Option<RevisionId>,
    /// Whether it takes over from a worker that was lost with the same message.
    pub(super) resumed: bool,
}

/// Where a run stands, for who was just delivered a message for it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Standing {
    /// It may begin.
    Ready(Start),
    /// It waits, and the message that it waits in is `mine` or another one.
    Waits {
        until: Timestamp,
        mine: bool,
        expected: Seq,
    },
    /// The worker that had this message is lost.
    Lost { start: Start, at_most_once: bool },
    /// It belongs to another message.
    Elsewhere,
    /// It is to end, and the worker that had this message is lost.
    Cancelled { expected: Seq, by: Actor },
    /// It has ended.
    Ended {
        seq: Seq,
        result: RunResult,
        at: Timestamp,
    },
}

/// Where the run stands whose last event is `last`, for message `command`.
pub(super) fn standing(last: Option<(Seq, RunEvent)>, command: Seq, now: Timestamp) -> Standing {
    let Some((seq, event)) = last else {
        return Standing::Ready(Start::default());
    };
    // What older programs wrote names no message; then every delivery means what it did then.
    let mine = |of: Seq| of == command || of == Seq(0);
    match event {
        RunEvent::Delayed {
            until, command: of, ..
        } => {
            let start = Start {
                expected: seq,
                ..Start::default()
            };
            waits_or(until, mine(of), start, now)
        }
        RunEvent::AttemptFailed {
            attempt,
            lost,
            revision,
            next_at,
            command: of,
            ..
        } => {
            let start = Start {
                expected: seq,
                before: attempt,
                lost,
                begun_on: Some(revision),
                resumed: false,
            };
            waits_or(next_at, mine(of), start, now)
        }
        RunEvent::Started {
            revision,
            attempt,
            command: of,
            lost,
            at_most_once,
            ..
        } if mine(of) => Standing::Lost {
            start: Start {
                expected: seq,
                before: attempt,
                lost: if of == Seq(0) { attempt } else { lost + 1 },
                begun_on: Some(revision),
                resumed: true,
            },
            at_most_once,
        },
        RunEvent::CancelRequested {
            by, command: of, ..
        } if mine(of) => Standing::Cancelled { expected: seq, by },
        RunEvent::Started { .. } | RunEvent::CancelRequested { .. } => Standing::Elsewhere,
        RunEvent::Finished { result, at, .. } => Standing::Ended { seq, result, at },
    }
}

fn waits_or(until: Timestamp, mine: bool, start: Start, now: Timestamp) -> Standing {
    if now >= until {
        Standing::Ready(start)
    } else {
        let expected = start.expected;
        Standing::Waits {
            until,
            mine,
            expected,
        }
    }
}

#[cfg(test)]
mod tests {
    use engine_model::{FunctionId, RunError, RunErrorKind};

    use super::*;

    const MINE: Seq = Seq(7);
    const OTHER: Seq = Seq(8);

    fn revision() -> RevisionId {
        RevisionId::derived(format_args!("r"))
    }

    fn started(command: Seq, attempt: u32, lost: u32) -> RunEvent {
        RunEvent::Started {
            function: FunctionId::derived(format_args!("f")),
            revision: revision(),
            secrets: vec![],
            services: vec![],
            attempt,
            at: Timestamp(1),
            command,
            lost,
            nonce: 1,
            at_most_once: false,
            digest: None,
        }
    }

    fn at(event: RunEvent, now: i64) -> Standing {
        standing(Some((Seq(20), event)), MINE, Timestamp(now))
    }

    #[test]
    fn only_the_next_delivery_of_the_same_message_means_that_a_worker_is_lost() {
        let Standing::Lost { start, .. } = at(started(MINE, 3, 1), 5) else {
            panic!("its own message came again")
        };
        assert_eq!((start.expected, start.before, start.lost), (Seq(20), 3, 2));
        assert_eq!(start.begun_on, Some(revision()));
        assert_eq!(at(started(OTHER, 3, 1), 5), Standing::Elsewhere);
        let Standing::Lost { start, .. } = at(started(Seq(0), 2, 0), 5) else {
            panic!("older programs named no message")
        };
        assert_eq!(
            (start.before, start.lost),
            (2, 2),
            "each of them was a loss"
        );
    }

    #[test]
    fn a_failed_attempt_waits_for_its_moment_in_whichever_message() {
        let failed = |command| RunEvent::AttemptFailed {
            attempt: 2,
            lost: 1,
            revision: revision(),
            error: RunError {
                kind: RunErrorKind::FunctionError,
                message: "no".into(),
                stacktrace: vec![],
            },
            at: Timestamp(1),
            next_at: Timestamp(100),
            command,
            digest: None,
        };
        for (command, mine) in [(MINE, true), (OTHER, false)] {
            let until = Timestamp(100);
            let waits = Standing::Waits {
                until,
                mine,
                expected: Seq(20),
            };
            assert_eq!(at(failed(command), 99), waits);
            let Standing::Ready(start) = at(failed(command), 100) else {
                panic!("its moment has come")
            };
            assert_eq!((start.before, start.lost), (2, 1));
        }
    }

    #[test]
    fn a_run_that_is_to_end_is_not_begun_again() {
        let cancel = |command| RunEvent::CancelRequested {
            by: Actor("user:a".into()),
            at: Timestamp(1),
            command,
            digest: None,
        };
        assert_eq!(
            at(cancel(MINE), 5),
            Standing::Cancelled {
                expected: Seq(20),
                by: Actor("user:a".into())
            }
        );
        assert_eq!(at(cancel(OTHER), 5), Standing::Elsewhere);
    }
}
