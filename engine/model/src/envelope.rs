//! Commands, who sends them, how they travel, and what their sender hears.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::spec::{InstanceSpec, Spec};
use crate::{CommandId, InstanceId, Rejection, ResourceKey, Seq, Share, Timestamp};

/// Names of message headers. The facts of a message travel as CloudEvents 1.0 attributes in NATS
/// binary mode; the rest is Dispatch's own.
pub mod header {
    /// A sender's command id, a commit's id: what the server recognises a repeat by.
    pub const MSG_ID: &str = "Nats-Msg-Id";
    /// Who asks, as text.
    pub const ACTOR: &str = "Dispatch-Actor";
    /// Where the sender hears the outcome; a core NATS subject.
    pub const REPLY_TO: &str = "Dispatch-Reply-To";
    /// Ties together all that one request brought about.
    pub const CORRELATION: &str = "Dispatch-Correlation";
    /// What caused the message.
    pub const CAUSATION: &str = "Dispatch-Causation";
    /// W3C trace context.
    pub const TRACEPARENT: &str = "traceparent";
    /// CloudEvents `id`.
    pub const CE_ID: &str = "ce-id";
    /// CloudEvents `type`.
    pub const CE_TYPE: &str = "ce-type";
    /// CloudEvents `source`.
    pub const CE_SOURCE: &str = "ce-source";
    /// CloudEvents `subject`.
    pub const CE_SUBJECT: &str = "ce-subject";
    /// CloudEvents `time`, RFC 3339.
    pub const CE_TIME: &str = "ce-time";
    /// CloudEvents `specversion`, always `1.0`.
    pub const CE_SPECVERSION: &str = "ce-specversion";
}

/// Who asked for something: `user:alice`, `account:ci`, or `engine`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Actor(pub String);

impl Actor {
    /// Longest name of an actor that is kept, in bytes.
    const BYTES_MAX: usize = 128;

    /// Dispatch itself.
    #[must_use]
    pub fn engine() -> Self {
        Self("engine".into())
    }

    /// A sender that gave no name.
    #[must_use]
    pub fn anonymous() -> Self {
        Self("anonymous".into())
    }

    /// An actor from a header: cut to a bounded length, control characters removed.
    #[must_use]
    pub fn from_header(text: &str) -> Self {
        let clean = text.chars().filter(|c| !c.is_control());
        let mut kept = String::new();
        for c in clean {
            if kept.len() + c.len_utf8() > Self::BYTES_MAX {
                break;
            }
            kept.push(c);
        }
        if kept.is_empty() {
            Self::anonymous()
        } else {
            Self(kept)
        }
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What someone wants. The subject says for which resource; the body says what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Make the resource.
    Create(Spec),
    /// Replace the whole document of the resource.
    Update(Spec),
    /// Take the resource away.
    Delete(Deletion),
    /// Read a broker's catalog now.
    Refresh,
    /// Try again what failed.
    Retry,
    /// End a resource on record, without a call to the outer world.
    Abandon {
        /// Why; kept on record.
        reason: String,
    },
    /// Replace the credentials of a binding by new ones.
    Rotate,
    /// Take an instance on record that exists at the broker already.
    Adopt {
        /// What it is.
        spec: InstanceSpec,
        /// Its id at the broker.
        instance: InstanceId,
    },
    /// Make a new revision of a function with the document of an earlier one.
    Rollback {
        /// The earlier one's number; none for the newest loaded one whose document is another.
        #[serde(default)]
        revision: Option<u32>,
    },
    /// Divide the runs of a function among its revisions.
    Route {
        /// How; nothing for the newest loaded revision, whichever that is.
        shares: Vec<Share>,
    },
}

/// How to delete.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deletion {
    /// Whether what uses the resource is deleted as well.
    #[serde(default)]
    pub cascade: bool,
}

/// A command as it was received.
#[derive(Debug, Clone, PartialEq)]
pub struct CommandEnvelope {
    /// The sender's id of it; a repeat bears the same.
    pub id: CommandId,
    /// The resource that it is for.
    pub key: ResourceKey,
    /// What is wanted.
    pub command: Command,
    /// Who asks.
    pub actor: Actor,
    /// Ties together all that the request brings about; the sender's, else the command's id.
    pub correlation: String,
    /// Where the sender hears the outcome.
    pub reply_to: Option<String>,
    /// When the server accepted it.
    pub at: Timestamp,
}

/// What the sender of a command hears.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// It was decided; a query that names `seq` sees it.
    Done {
        /// The command.
        command: CommandId,
        /// The commit's position in the event stream.
        seq: Seq,
    },
    /// It was refused.
    Rejected {
        /// The command.
        command: CommandId,
        /// Why.
        rejection: Rejection,
    },
}
