//! `last_operation`, and answers that carry nothing.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Message, lenient, typed};

/// The longest `operation` that a broker may hand out.
pub const OPERATION_CHARS_MAX: usize = 10_000;

/// How far an operation has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum State {
    /// Not finished.
    #[serde(rename = "in progress")]
    InProgress,
    /// Finished well.
    #[serde(rename = "succeeded")]
    Succeeded,
    /// Finished badly.
    #[serde(rename = "failed")]
    Failed,
}

/// The answer to a poll.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct LastOperation {
    /// How far the operation has come.
    pub state: State,
    /// What the broker says of it.
    #[serde(default, deserialize_with = "lenient")]
    pub description: Option<String>,
    /// Whether the instance can be used after a failed update or delete; silent means yes.
    #[serde(default, deserialize_with = "lenient")]
    pub instance_usable: Option<bool>,
    /// Whether a failed update may be repeated as it was; silent means yes.
    #[serde(default, deserialize_with = "lenient")]
    pub update_repeatable: Option<bool>,
}

impl Message for LastOperation {
    fn read(object: Map<String, Value>) -> Result<Self, String> {
        typed(object)
    }
}

/// An answer whose being an object is all that matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Empty;

impl Message for Empty {
    fn read(_: Map<String, Value>) -> Result<Self, String> {
        Ok(Self)
    }
}
