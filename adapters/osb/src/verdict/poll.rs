//! From the reply to a poll to how far the operation has come.

use std::time::Duration;

use super::judge::{read, words};
use super::orphan::{Mishap, Orphan, Request, orphan};
use crate::reply::{Body, Reply, What};
use crate::wire::{LastOperation, State};

/// The operation that is polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Polled {
    /// A provision.
    Provision,
    /// An update.
    Update,
    /// A deprovision.
    Deprovision,
    /// A bind.
    Bind,
    /// An unbind.
    Unbind,
    /// Any of an instance, when the caller alone knows which: nothing that an answer says is
    /// taken for senseless that makes sense for one of them.
    Instance,
}

impl Polled {
    fn deletes(self) -> bool {
        matches!(self, Self::Deprovision | Self::Unbind | Self::Instance)
    }
}

/// How far an operation has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Not finished: poll again.
    InProgress {
        /// What the broker says of it.
        description: Option<String>,
        /// How long the broker asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// Finished well.
    Succeeded {
        /// What the broker says of it.
        description: Option<String>,
    },
    /// Finished badly.
    Failed(Failure),
    /// What was to be deleted is gone: as good as succeeded.
    Gone,
    /// What was to be deleted is not known. Brokers differ in what they mean by it, so send the
    /// delete again and take its answer.
    Absent,
    /// No valid answer, whatever the reason: poll again, until there is one or time is up.
    Unclear {
        /// The HTTP status, if one came back.
        status: Option<u16>,
        /// What to show.
        reason: String,
        /// How long the broker asks to be left alone.
        retry_after: Option<Duration>,
    },
}

/// An operation that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What the broker says of it.
    pub description: Option<String>,
    /// Whether the instance can still be used; only an update or a delete can deny it.
    pub instance_usable: bool,
    /// Whether the same update may be asked for again.
    pub update_repeatable: bool,
    /// What may be left behind at the broker and is to be deleted.
    pub orphan: Orphan,
}

/// How far the operation has come.
#[must_use]
pub fn poll(polled: Polled, reply: &Reply) -> Progress {
    let unclear = |status, reason, retry_after| Progress::Unclear {
        status,
        reason,
        retry_after,
    };
    let (status, headers, body) = match &reply.what {
        What::Answered {
            status,
            headers,
            body,
        } => (*status, headers, body),
        What::NotSent(why) => return unclear(None, reply.hide.shown(why), None),
        What::TimedOut => return unclear(None, "no answer in time".to_owned(), None),
        What::Lost(why) => {
            let reason = format!("the connection ended: {}", reply.hide.shown(why));
            return unclear(None, reason, None);
        }
    };
    match status {
        200 => match read::<LastOperation>(body) {
            Ok(operation) => told(polled, reply, operation, headers.retry_after),
            Err(why) => {
                let reason = format!("status 200, malformed: {}", reply.hide.shown(&why));
                unclear(
                    Some(200),
                    with_words(reason, reply, body),
                    headers.retry_after,
                )
            }
        },
        410 if polled.deletes() => Progress::Gone,
        404 if polled.deletes() => Progress::Absent,
        _ => {
            let reason = format!("status {status}: {}", words(reply, body));
            unclear(Some(status), reason, headers.retry_after)
        }
    }
}

/// Unlike the body of a bind, a poll's holds no credentials, so it can be shown.
fn with_words(reason: String, reply: &Reply, body: &Body) -> String {
    reply
        .hide
        .shown(&format!("{reason} ({})", words(reply, body)))
}

fn told(
    polled: Polled,
    reply: &Reply,
    operation: LastOperation,
    retry_after: Option<Duration>,
) -> Progress {
    let description = operation.description.map(|text| reply.hide.shown(&text));
    match operation.state {
        State::InProgress => Progress::InProgress {
            description,
            retry_after,
        },
        State::Succeeded => Progress::Succeeded { description },
        State::Failed => {
            let updates = matches!(polled, Polled::Update | Polled::Instance);
            let changes = updates || polled == Polled::Deprovision;
            let usable = operation.instance_usable != Some(false);
            let repeatable = operation.update_repeatable != Some(false);
            Progress::Failed(Failure {
                description,
                instance_usable: !changes || usable,
                update_repeatable: !updates || repeatable,
                orphan: orphan(Request::Poll(polled), Mishap::Failed),
            })
        }
    }
}
