//! What people ask of the views, and what they hear.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Kind, Name, OrgName, Rejection, RunId, Seq, Timestamp};

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Query {
    /// Whose resources.
    pub org: OrgName,
    /// Which of them.
    pub filter: Filter,
    /// Wait, for a bounded time, until the view has folded this position of the event stream.
    #[serde(default)]
    pub at_least: Seq,
    /// Wait, for a bounded time, until the run view has folded this position of the run stream.
    #[serde(default)]
    pub runs_at_least: Seq,
}

/// Which documents are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Filter {
    /// One resource; refused with `not-found` when it is not there.
    One {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: Name,
    },
    /// All resources of a kind, by name.
    All {
        /// The kind.
        kind: Kind,
        /// Only those that bear this tag, as `key=value`.
        tag: Option<String>,
    },
    /// Everything that happened to a resource, oldest first; also of a deleted one.
    History {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: Name,
    },
    /// The revisions of a function that are kept, the newest first.
    Revisions {
        /// The function.
        function: Name,
    },
    /// One run.
    Run {
        /// The run.
        id: RunId,
    },
    /// Runs, the latest first.
    Runs {
        /// Only those of this function.
        function: Option<Name>,
        /// Only those that changed after this moment.
        since: Option<Timestamp>,
        /// At most so many.
        limit: u32,
    },
    /// What the server is: versions, public key, roles, listeners. Answered by the node, not by
    /// the views.
    Info,
    /// What could not be processed, oldest first. Answered by the node, not by the views.
    DeadLetters {
        /// At most so many.
        limit: u32,
    },
    /// What its broker says of an instance now, with what differs from what is on record. Answered
    /// by a node that asks the broker; nothing is recorded.
    Live {
        /// The instance.
        name: Name,
    },
    /// What may have been left at brokers and is being removed, oldest first. Answered by the node
    /// from its state.
    Orphans,
    /// Puts a dead letter back for another try. Done by the node, not by the views.
    Revive {
        /// The letter.
        letter: Seq,
    },
    /// Has the views made anew from the log; answered when they are.
    Rebuild,
}

/// The answer to a query.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// How far the view had folded.
    pub as_of: AsOf,
    /// The documents, with the field names of the v1 API.
    pub documents: Vec<Value>,
}

/// How old an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AsOf {
    /// The last position of the event stream that it shows.
    pub seq: Seq,
    /// When that was decided.
    pub at: Timestamp,
}

/// Why a query has no answer: a rejection.
pub type QueryError = Rejection;
