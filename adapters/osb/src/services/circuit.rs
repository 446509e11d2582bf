//! How a broker is: failures in a row, pauses on record, and rests that it asked for. Pure; the
//! engine decides when a circuit opens and for how long.
//!
//! ```text
//!  closed ──5 failures──► (the engine opens it) ──► nothing is sent until its moment
//!    ▲                                                   │
//!    └──────── any answer ◄──── one request at a time ◄──┘
//! ```

use std::time::Duration;

use engine_model::{BrokerOutcome, Timestamp};

use crate::reply::{Reply, What};

/// Failures in a row that are worth a remark: the engine opens the circuit at the same number.
const FAILURES: u32 = 5;

/// What a request tells of its broker's health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Health {
    /// It answered, whatever it said.
    Answered,
    /// It has too many requests, and says for how long.
    Overrun(Option<Duration>),
    /// It could not be reached, or did not answer in time.
    Silent(String),
    /// It answered with an error of its own.
    Erred(String),
}

impl Health {
    /// Judges by what came back. 408 is an answer, like every status below 500.
    pub(super) fn of(reply: &Reply) -> Self {
        let hide = &reply.hide;
        match &reply.what {
            What::NotSent(why) => Self::Silent(format!("not reached: {}", hide.shown(why))),
            What::TimedOut => Self::Silent("no answer in time".to_owned()),
            What::Lost(why) => Self::Silent(format!("the connection ended: {}", hide.shown(why))),
            What::Answered {
                status: 429,
                headers,
                ..
            } => Self::Overrun(headers.retry_after),
            What::Answered { status, .. } if (200..500).contains(status) => Self::Answered,
            What::Answered { status, body, .. } => {
                let words = crate::verdict::words(reply, body);
                Self::Erred(format!("status {status}: {words}"))
            }
        }
    }
}

/// How a broker is, as far as this node has seen.
#[derive(Debug, Default)]
pub(super) struct Circuit {
    /// Failures in a row.
    failures: u32,
    /// The pause on record, when the circuit is open.
    until: Option<Timestamp>,
    /// A pause after which a request was answered; it may be on record for a moment still.
    over: Option<Timestamp>,
    /// The broker asked to be left alone so long.
    rest_until: Timestamp,
}

impl Circuit {
    /// Takes note of what is on record.
    pub(super) fn know(&mut self, paused_until: Option<Timestamp>) {
        self.until = paused_until;
    }

    fn open(&self) -> Option<Timestamp> {
        self.until.filter(|until| self.over != Some(*until))
    }

    /// For how long nothing may be sent because the circuit is open, in milliseconds.
    pub(super) fn paused_ms(&self, now: Timestamp) -> Option<u64> {
        rest(self.open()?, now)
    }

    /// For how long the broker wants to be left alone, in milliseconds.
    pub(super) fn resting_ms(&self, now: Timestamp) -> Option<u64> {
        rest(self.rest_until, now)
    }

    /// Whether requests go one at a time.
    pub(super) fn is_trying(&self) -> bool {
        self.open().is_some() || self.failures >= FAILURES
    }

    /// Learns from a request, and says what the engine should know. That a broker cannot remove
    /// one orphan, tried again and again in the background, says nothing about the others.
    pub(super) fn seen(
        &mut self,
        health: Health,
        background: bool,
        now: Timestamp,
    ) -> Option<BrokerOutcome> {
        match health {
            Health::Erred(_) if background => return None,
            Health::Silent(reason) | Health::Erred(reason) => {
                self.failures = self.failures.saturating_add(1);
                let telling = self.failures >= FAILURES || self.open().is_some();
                return telling.then_some(BrokerOutcome::Unwell {
                    reason,
                    failures: self.failures,
                });
            }
            Health::Overrun(Some(wait)) => {
                let ms = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
                self.rest_until = self.rest_until.max(now.plus_ms(ms));
            }
            Health::Overrun(None) | Health::Answered => {}
        }
        self.failures = 0;
        let open = self.open()?;
        self.over = Some(open);
        Some(BrokerOutcome::Well)
    }
}

fn rest(until: Timestamp, now: Timestamp) -> Option<u64> {
    let ms = u64::try_from(until.since_ms(now)).ok()?;
    (ms > 0).then_some(ms)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::reply::{Body, Headers};
    use crate::text::Hide;

    fn failed() -> Health {
        Health::Silent("refused".to_owned())
    }

    fn at(ms: i64) -> Timestamp {
        Timestamp(ms)
    }

    fn health(what: What) -> Health {
        Health::of(&Reply {
            what,
            hide: Hide::default(),
        })
    }

    fn answered(status: u16) -> Health {
        let headers = Headers {
            retry_after: Some(Duration::from_secs(3)),
            etag: None,
        };
        let body = Body::Whole(Bytes::from_static(b"oops"));
        health(What::Answered {
            status,
            headers,
            body,
        })
    }

    #[test]
    fn a_broker_fails_by_silence_and_by_5xx_and_answers_with_anything_else() {
        for status in [200, 204, 302, 400, 404, 408, 410, 412, 422, 499] {
            assert_eq!(answered(status), Health::Answered, "{status}");
        }
        assert_eq!(answered(429), Health::Overrun(Some(Duration::from_secs(3))));
        for status in [500, 503, 599, 999, 199] {
            let expected = Health::Erred(format!("status {status}: oops"));
            assert_eq!(answered(status), expected);
        }
        for what in [
            What::TimedOut,
            What::Lost("reset".to_owned()),
            What::NotSent("refused".to_owned()),
        ] {
            assert!(matches!(health(what), Health::Silent(_)));
        }
    }

    #[test]
    fn five_failures_in_a_row_are_remarked_and_any_answer_begins_anew() {
        let mut circuit = Circuit::default();
        for _ in 0..2 {
            for n in 1..FAILURES {
                assert_eq!(circuit.seen(failed(), false, at(0)), None, "{n}");
                assert!(!circuit.is_trying());
            }
            assert_eq!(circuit.seen(Health::Answered, false, at(0)), None);
        }
        for _ in 1..FAILURES {
            circuit.seen(failed(), false, at(0));
        }
        for failures in [FAILURES, FAILURES + 1] {
            let unwell = BrokerOutcome::Unwell {
                reason: "refused".to_owned(),
                failures,
            };
            assert_eq!(circuit.seen(failed(), false, at(0)), Some(unwell));
            assert!(circuit.is_trying());
        }
    }

    #[test]
    fn an_orphan_that_cannot_be_removed_says_nothing_of_the_broker() {
        let mut circuit = Circuit::default();
        let erred = || Health::Erred("status 500: not today".to_owned());
        for _ in 0..99 {
            assert_eq!(circuit.seen(erred(), true, at(0)), None);
        }
        for _ in 1..FAILURES {
            assert_eq!(circuit.seen(erred(), false, at(0)), None);
        }
        assert_eq!(
            circuit.seen(erred(), true, at(0)),
            None,
            "nor anything good"
        );
        let silent = circuit.seen(failed(), true, at(0));
        assert!(matches!(
            silent,
            Some(BrokerOutcome::Unwell { failures: 5, .. })
        ));
    }

    #[test]
    fn nothing_is_sent_until_the_moment_and_then_one_at_a_time() {
        let mut circuit = Circuit::default();
        circuit.know(Some(at(1000)));
        assert_eq!(circuit.paused_ms(at(400)), Some(600));
        assert_eq!(circuit.paused_ms(at(1000)), None);
        assert!(circuit.is_trying());
        let again = circuit.seen(failed(), false, at(1001));
        assert!(matches!(
            again,
            Some(BrokerOutcome::Unwell { failures: 1, .. })
        ));
        circuit.know(Some(at(3000)));
        assert_eq!(circuit.paused_ms(at(2000)), Some(1000));
        let well = circuit.seen(Health::Answered, false, at(3001));
        assert_eq!(well, Some(BrokerOutcome::Well));
    }

    #[test]
    fn a_pause_that_is_over_counts_no_more_though_it_is_still_on_record() {
        let mut circuit = Circuit::default();
        circuit.know(Some(at(1000)));
        circuit.seen(Health::Answered, false, at(1001));
        circuit.know(Some(at(1000)));
        assert!(!circuit.is_trying());
        assert_eq!(circuit.seen(failed(), false, at(1002)), None);
        assert_eq!(circuit.seen(Health::Answered, false, at(1003)), None);
        circuit.know(Some(at(5000)));
        assert_eq!(circuit.paused_ms(at(4000)), Some(1000), "another pause");
    }

    #[test]
    fn a_rest_that_the_broker_asked_for_is_kept() {
        let mut circuit = Circuit::default();
        let rest = |s| Health::Overrun(Some(Duration::from_secs(s)));
        circuit.seen(rest(7), false, at(0));
        circuit.seen(rest(2), false, at(0));
        assert_eq!(circuit.resting_ms(at(3000)), Some(4000));
        assert_eq!(circuit.resting_ms(at(7000)), None);
        circuit.seen(Health::Overrun(None), false, at(8000));
        assert_eq!(circuit.resting_ms(at(8000)), None);
    }
}
