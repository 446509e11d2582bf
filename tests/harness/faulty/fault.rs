//! What goes wrong with one request: whether the broker does its work, what is said, and how far
//! that comes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::wire::Response;

/// What goes wrong with one request.
#[derive(Debug, Clone)]
pub struct Fault {
    pub(super) wait: Duration,
    /// When the broker behind hears of a request that nobody waits for any more.
    pub(super) late: Option<Duration>,
    /// Whether the broker behind hears of the request.
    pub(super) applied: bool,
    pub(super) say: Say,
    pub(super) deliver: Deliver,
}

#[derive(Clone)]
pub(super) enum Say {
    /// What the broker says.
    Usual,
    /// That, changed.
    Edited(Arc<dyn Fn(&mut Response) + Send + Sync>),
    /// Something else.
    Other(Response),
}

impl fmt::Debug for Say {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usual => f.write_str("Usual"),
            Self::Edited(_) => f.write_str("Edited"),
            Self::Other(other) => write!(f, "Other({})", other.status),
        }
    }
}

/// How far an answer comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deliver {
    Whole,
    /// The connection is reset before the request's body is read.
    ResetUnread,
    /// The connection is reset in place of an answer.
    Reset,
    /// The connection is closed in place of an answer.
    Close,
    /// Nothing comes, and the connection stays.
    Hang,
    /// Half of the head, then a reset.
    HalfHead,
    /// The head and half of the body, then a reset.
    HalfBody,
    /// A byte at a time.
    Drip(Duration),
}

impl Fault {
    fn new(applied: bool, say: Say, deliver: Deliver) -> Self {
        Self {
            wait: Duration::ZERO,
            late: None,
            applied,
            say,
            deliver,
        }
    }

    /// Nothing goes wrong, to let a request pass before the next fault.
    #[must_use]
    pub fn none() -> Self {
        Self::new(true, Say::Usual, Deliver::Whole)
    }

    /// This answer in place of the broker's, which hears nothing of the request.
    #[must_use]
    pub fn say(status: u16, body: impl Into<Vec<u8>>) -> Self {
        let response = Response::new(status, body);
        Self::new(false, Say::Other(response), Deliver::Whole)
    }

    /// An error of the broker API.
    #[must_use]
    pub fn error(status: u16, word: &str, description: &str) -> Self {
        let body = json!({ "error": word, "description": description });
        Self::say(status, body.to_string())
    }

    /// 422 `ConcurrencyError`.
    #[must_use]
    pub fn concurrency() -> Self {
        Self::error(422, "ConcurrencyError", "another operation is in progress")
    }

    /// The answer to a poll.
    #[must_use]
    pub fn state(state: &str, description: &str) -> Self {
        let body = json!({ "state": state, "description": description });
        Self::say(200, body.to_string())
    }

    /// A page, as a proxy before a broker shows it.
    #[must_use]
    pub fn html(status: u16) -> Self {
        let page = "<!DOCTYPE html><html><head><title>Bad Gateway</title></head></html>";
        Self::say(status, page).header("content-type", "text/html; charset=utf-8")
    }

    /// A redirect to another place.
    #[must_use]
    pub fn redirect(to: &str) -> Self {
        Self::say(307, "").header("location", to)
    }

    /// What the broker says, with its JSON body changed.
    #[must_use]
    pub fn edited(edit: impl Fn(&mut Value) + Send + Sync + 'static) -> Self {
        let edited = move |response: &mut Response| {
            let mut body: Value = serde_json::from_slice(&response.body).unwrap_or_default();
            edit(&mut body);
            response.body = body.to_string().into_bytes();
        };
        Self::new(true, Say::Edited(Arc::new(edited)), Deliver::Whole)
    }

    /// What the broker says, with another status.
    #[must_use]
    pub fn with_status(status: u16) -> Self {
        let edited = move |response: &mut Response| response.status = status;
        Self::new(true, Say::Edited(Arc::new(edited)), Deliver::Whole)
    }

    /// What the broker says, with a body of so many bytes more.
    #[must_use]
    pub fn huge(bytes: usize) -> Self {
        Self::edited(move |body| body["filler"] = Value::String("x".repeat(bytes)))
    }

    /// What the broker says, as another type of content.
    #[must_use]
    pub fn content_type(name: &'static str) -> Self {
        let edited = move |response: &mut Response| response.set("content-type", name);
        Self::new(true, Say::Edited(Arc::new(edited)), Deliver::Whole)
    }

    /// The connection is reset before the request's body is read.
    #[must_use]
    pub fn reset_unread() -> Self {
        Self::new(false, Say::Usual, Deliver::ResetUnread)
    }

    /// The connection is reset after the whole request was read.
    #[must_use]
    pub fn reset() -> Self {
        Self::new(false, Say::Usual, Deliver::Reset)
    }

    /// The connection is closed, in good order, in place of an answer.
    #[must_use]
    pub fn close() -> Self {
        Self::new(false, Say::Usual, Deliver::Close)
    }

    /// No answer ever, on a connection that stays.
    #[must_use]
    pub fn hang() -> Self {
        Self::new(false, Say::Usual, Deliver::Hang)
    }

    /// No answer ever, and the broker does its work after this long, whoever still waits.
    #[must_use]
    pub fn late(wait: Duration) -> Self {
        let mut fault = Self::hang();
        fault.late = Some(wait);
        fault
    }

    /// Half of the head of the broker's answer, then a reset.
    #[must_use]
    pub fn half_head() -> Self {
        Self::new(true, Say::Usual, Deliver::HalfHead)
    }

    /// Half of the body of the broker's answer, then a reset.
    #[must_use]
    pub fn half_body() -> Self {
        Self::new(true, Say::Usual, Deliver::HalfBody)
    }

    /// The broker's answer, a byte at a time.
    #[must_use]
    pub fn drip(each: Duration) -> Self {
        Self::new(true, Say::Usual, Deliver::Drip(each))
    }

    /// The same, but the broker did its work before.
    #[must_use]
    pub fn applied(mut self) -> Self {
        self.applied = true;
        self
    }

    /// The same, after the work was done and this long has passed.
    #[must_use]
    pub fn delayed(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// The same, with a header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl ToString) -> Self {
        let value = value.to_string();
        self.say = match self.say {
            Say::Other(mut response) => {
                response.set(name, value);
                Say::Other(response)
            }
            Say::Usual => Say::Edited(Arc::new(move |response| response.set(name, &value))),
            Say::Edited(edit) => Say::Edited(Arc::new(move |response| {
                edit(response);
                response.set(name, &value);
            })),
        };
        self
    }
}
