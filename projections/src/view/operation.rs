//! The last operation at a broker, for instances and bindings alike.

use engine_model::{RequestId, Timestamp};
use serde::{Deserialize, Serialize};

/// The last operation that a broker was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OperationDocument {
    /// The broker's words for people, or why it is delayed or failed.
    pub description: Option<String>,
    /// When it is looked at next.
    pub next_at: Option<i64>,
    /// How often the broker was asked how it goes.
    pub polls: u32,
    /// When it was asked for.
    pub since: i64,
    /// `in progress`, `succeeded` or `failed`, as the Open Service Broker API spells it.
    pub state: String,
    /// `provision`, `adopt`, `update`, `deprovision`, `bind`, `rotate` or `unbind`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// The last operation, as a view keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Operation {
    kind: Work,
    request: RequestId,
    state: State,
    description: Option<String>,
    polls: u32,
    since: Timestamp,
    next_at: Option<Timestamp>,
    /// It is tried again because of what `description` says.
    again: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Work {
    Provision,
    Adopt,
    Update,
    Deprovision,
    Bind,
    Rotate,
    Unbind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    /// It is being sent.
    Asked,
    /// It was sent, or is sent again later.
    InProgress,
    Succeeded,
    Failed,
}

/// How much earlier than it was set an alarm may come, in milliseconds.
const EARLY_MS: i64 = 1_000;

impl Operation {
    /// It is asked for.
    pub(crate) fn asked(kind: Work, request: RequestId, at: Timestamp) -> Self {
        let state = State::Asked;
        let again = false;
        Self {
            kind,
            request,
            state,
            description: None,
            polls: 0,
            since: at,
            next_at: None,
            again,
        }
    }

    /// The broker works on it.
    pub(crate) fn underway(self, description: Option<String>, next_at: Timestamp) -> Self {
        Self {
            state: State::InProgress,
            description,
            next_at: Some(next_at),
            again: false,
            ..self
        }
    }

    /// It is repeated later.
    pub(crate) fn delayed(self, reason: &str, next_at: Timestamp) -> Self {
        let description = Some(reason.to_owned());
        Self {
            state: State::InProgress,
            description,
            next_at: Some(next_at),
            again: true,
            ..self
        }
    }

    /// Whether it is this request.
    pub(crate) fn is(&self, request: RequestId) -> bool {
        self.request == request
    }

    /// Whether nothing is known of it but that it is being sent.
    pub(crate) fn is_asked(&self) -> bool {
        self.state == State::Asked
    }

    /// Whether its answer may be on the way: it is being sent, or to be sent again now.
    pub(crate) fn is_sent(&self, at: Timestamp) -> bool {
        let due = |next: Timestamp| next <= at.plus_ms(EARLY_MS);
        self.is_asked()
            || (self.state == State::InProgress && self.again && self.next_at.is_some_and(due))
    }

    /// Whether the broker may have it in hand.
    pub(crate) fn is_in_hand(&self) -> bool {
        self.is_asked() || (self.state == State::InProgress && !self.again)
    }

    /// When it was asked for.
    pub(crate) fn since(&self) -> Timestamp {
        self.since
    }

    /// The broker was asked how it goes.
    pub(crate) fn polled(self, polls: u32) -> Self {
        Self { polls, ..self }
    }

    /// It succeeded.
    pub(crate) fn succeeded(self) -> Self {
        Self {
            state: State::Succeeded,
            next_at: None,
            again: false,
            ..self
        }
    }

    /// It failed; it is tried again when `next_at` says when.
    pub(crate) fn failed(self, reason: &str, next_at: Option<Timestamp>) -> Self {
        let description = Some(reason.to_owned());
        Self {
            state: State::Failed,
            description,
            next_at,
            again: next_at.is_some(),
            ..self
        }
    }

    /// What is to be said of it before it is done.
    pub(crate) fn remark(&self) -> Option<String> {
        match (&self.description, self.next_at) {
            _ if self.state == State::Succeeded => None,
            (Some(reason), Some(at)) if self.again => {
                Some(format!("{reason}; tried again at {at}"))
            }
            (description, _) => description.clone(),
        }
    }

    /// What people see.
    pub(crate) fn document(&self) -> OperationDocument {
        let kind = match self.kind {
            Work::Provision => "provision",
            Work::Adopt => "adopt",
            Work::Update => "update",
            Work::Deprovision => "deprovision",
            Work::Bind => "bind",
            Work::Rotate => "rotate",
            Work::Unbind => "unbind",
        };
        let state = match self.state {
            State::Asked | State::InProgress => "in progress",
            State::Succeeded => "succeeded",
            State::Failed => "failed",
        };
        OperationDocument {
            description: self.description.clone(),
            next_at: self.next_at.map(Timestamp::unix_seconds),
            polls: self.polls,
            since: self.since.unix_seconds(),
            state: state.into(),
            kind: kind.into(),
        }
    }
}
