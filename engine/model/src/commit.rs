//! A commit: the events of one decision about one resource, stored as one message.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Actor, CommandId, CommitId, Event, ResourceKey, Seq, Timestamp};

/// What brought a decision about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Cause {
    /// Someone's command.
    Command(CommandId),
    /// The outcome of an effect of an earlier commit.
    Effect {
        /// The commit's position.
        seq: Seq,
        /// Which of its effects.
        index: u32,
    },
    /// A timer that came due, or the sweep that found it overdue.
    Alarm,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(id) => write!(f, "command {id}"),
            Self::Effect { seq, index } => write!(f, "effect {seq}.{index}"),
            Self::Alarm => f.write_str("alarm"),
        }
    }
}

/// The events of one decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Commit {
    /// Derived from the resource, the expected position and the cause: a repeat derives the same.
    pub id: CommitId,
    /// The resource.
    pub key: ResourceKey,
    /// What happened, in order; at least one.
    pub events: Vec<Event>,
    /// When it was decided.
    pub at: Timestamp,
    /// On whose behalf.
    pub actor: Actor,
    /// What brought it about.
    pub cause: Cause,
    /// Ties together all that one request brought about.
    pub correlation: String,
}

impl Commit {
    /// The id of the commit that `cause` brings about on `key` after position `expected`.
    #[must_use]
    pub fn id_for(key: &ResourceKey, expected: Seq, cause: Cause) -> CommitId {
        CommitId::derived(format_args!("{key}@{expected}:{cause}"))
    }
}

/// A commit and where the stream keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// Its position in the event stream.
    pub seq: Seq,
    /// The commit.
    pub commit: Commit,
}
