//! One request to a broker and how far it has come.
//!
//! ```text
//!  Asked ──202──► Polling          Failed: removals only, tried again under a new request
//!    │ ▲
//!    ▼ │ not sent, busy: again under the same request
//!  Delayed
//! ```

use engine_model::{Alarm, RequestId, Timestamp};

/// How much earlier than it was set an alarm may come, in milliseconds.
const EARLY_MS: i64 = 1_000;

/// A request that is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Operation {
    pub(crate) request: RequestId,
    /// When it was decided.
    pub(crate) since: Timestamp,
    pub(crate) step: Step,
}

/// How far a request has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// It is being sent; its answer is not known.
    Asked,
    /// It did not reach the broker, or the broker is busy.
    Delayed {
        reason: Box<str>,
        delays: u32,
        next_at: Timestamp,
    },
    /// The broker works on it.
    Polling {
        operation: Option<Box<str>>,
        accepted_at: Timestamp,
        polls: u32,
        description: Option<Box<str>>,
        next_at: Timestamp,
    },
    /// It failed; a new request takes its place.
    Failed {
        reason: Box<str>,
        next_at: Timestamp,
    },
}

impl Operation {
    pub(crate) fn asked(request: RequestId, at: Timestamp) -> Self {
        Self {
            request,
            since: at,
            step: Step::Asked,
        }
    }

    /// How often it was delayed so far.
    pub(crate) fn delays(&self) -> u32 {
        match self.step {
            Step::Delayed { delays, .. } => delays,
            Step::Asked | Step::Polling { .. } | Step::Failed { .. } => 0,
        }
    }

    /// Since when its answer may be on the way: since it was decided, or since it was to be
    /// repeated.
    pub(crate) fn sent_at(&self, now: Timestamp) -> Option<Timestamp> {
        match &self.step {
            Step::Asked => Some(self.since),
            Step::Delayed { next_at, .. } if *next_at <= now.plus_ms(EARLY_MS) => Some(*next_at),
            Step::Delayed { .. } | Step::Polling { .. } | Step::Failed { .. } => None,
        }
    }

    /// The alarm that is set for it, and when it is due.
    pub(crate) fn alarm(&self) -> Option<(Alarm, Timestamp)> {
        let request = self.request;
        match &self.step {
            Step::Asked => None,
            Step::Polling { next_at, .. } => Some((Alarm::Poll { request }, *next_at)),
            Step::Delayed { next_at, .. } | Step::Failed { next_at, .. } => {
                Some((Alarm::Retry { request }, *next_at))
            }
        }
    }

    /// What a person should know of it besides that it is under way.
    pub(crate) fn remark(&self) -> Option<String> {
        match &self.step {
            Step::Asked => None,
            Step::Polling { description, .. } => description.as_deref().map(str::to_owned),
            Step::Delayed {
                reason, next_at, ..
            }
            | Step::Failed { reason, next_at } => {
                Some(format!("{reason}; tried again at {next_at}"))
            }
        }
    }

    pub(crate) fn accept(
        &mut self,
        operation: Option<String>,
        accepted_at: Timestamp,
        next_at: Timestamp,
    ) -> bool {
        let fits = matches!(self.step, Step::Asked | Step::Delayed { .. });
        if fits {
            self.step = Step::Polling {
                operation: operation.map(Into::into),
                accepted_at,
                polls: 0,
                description: None,
                next_at,
            };
        }
        fits
    }

    pub(crate) fn progress(&mut self, said: Option<String>, count: u32, at: Timestamp) -> bool {
        let Step::Polling {
            polls,
            description,
            next_at,
            ..
        } = &mut self.step
        else {
            return false;
        };
        *polls = count;
        *next_at = at;
        *description = said.map(Into::into);
        true
    }

    pub(crate) fn delay(&mut self, reason: String, delays: u32, next_at: Timestamp) -> bool {
        let fits = matches!(self.step, Step::Asked | Step::Delayed { .. });
        if fits {
            self.step = Step::Delayed {
                reason: reason.into(),
                delays,
                next_at,
            };
        }
        fits
    }

    pub(crate) fn fail(&mut self, reason: String, next_at: Timestamp) -> bool {
        let fits = !matches!(self.step, Step::Failed { .. });
        if fits {
            self.step = Step::Failed {
                reason: reason.into(),
                next_at,
            };
        }
        fits
    }
}
