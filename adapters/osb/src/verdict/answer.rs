//! The closed set of meanings that an answer can have.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::orphan::{Mishap, Orphan};
use crate::wire::{Catalog, Message, OPERATION_CHARS_MAX};

/// What came of a request other than a poll.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer<T> {
    /// It is done.
    Done(T),
    /// A create found that the same thing exists already and is complete.
    Exists(T),
    /// The broker has begun; it is to be polled.
    Accepted(Accepted),
    /// A delete found nothing to delete, which is as good as done; a fetch found nothing.
    Gone,
    /// The broker refused, and nothing has changed.
    Rejected(Refusal),
    /// The broker is busy with this very resource: wait for that, then ask again. Nothing has
    /// changed, and nothing may be cleaned up.
    Busy {
        /// How long the broker asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// The broker does this only asynchronously: ask again, accepting that.
    AsyncRequired,
    /// The catalog that the request was made from is out of date: fetch it again.
    MaintenanceConflict(Refusal),
    /// Too many requests; nothing has changed.
    TooMany {
        /// How long the broker asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// The broker has not received the request.
    Unavailable {
        /// Why.
        reason: String,
    },
    /// The request may have been received, and what came of it is not known.
    Unknown(Doubt),
}

/// The broker has begun.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub struct Accepted {
    /// To be sent with every poll, unchanged.
    #[serde(default)]
    pub operation: Option<String>,
    /// Where a person can look at the instance; the first answer has it.
    #[serde(default, deserialize_with = "text_or_none")]
    pub dashboard_url: Option<String>,
    /// Labels and attributes of the instance.
    #[serde(default)]
    pub metadata: Option<Value>,
    /// How long to wait before the first poll.
    #[serde(skip)]
    pub retry_after: Option<Duration>,
}

fn text_or_none<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Option<String>, D::Error> {
    Ok(match Option::<Value>::deserialize(d)? {
        Some(Value::String(text)) => Some(text),
        _ => None,
    })
}

impl Message for Accepted {
    fn read(object: Map<String, Value>) -> Result<Self, String> {
        match object.get("operation") {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) if text.chars().count() <= OPERATION_CHARS_MAX => {}
            Some(Value::String(_)) => {
                return Err(format!(
                    "operation is longer than {OPERATION_CHARS_MAX} characters"
                ));
            }
            Some(_) => return Err("operation is not a string".to_owned()),
        }
        Self::deserialize(Value::Object(object)).map_err(|e| e.to_string())
    }
}

/// A refusal, in the broker's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The error word, like `RequiresApp`.
    pub code: Option<String>,
    /// What to show.
    pub description: String,
    /// Whether the instance can still be used; only an update or a delete can deny it.
    pub instance_usable: bool,
    /// Whether the same update may be asked for again.
    pub update_repeatable: bool,
}

/// The request may have been received, and what came of it is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubt {
    /// What happened.
    pub mishap: Mishap,
    /// The HTTP status, if one came back.
    pub status: Option<u16>,
    /// What to show.
    pub reason: String,
    /// How long the broker asks to be left alone.
    pub retry_after: Option<Duration>,
    /// What may be left behind at the broker and is to be deleted.
    pub orphan: Orphan,
    /// Whether the instance can still be used, as far as the broker says.
    pub instance_usable: bool,
    /// Whether the same update may be asked for again, as far as the broker says.
    pub update_repeatable: bool,
}

/// What came of fetching the catalog.
#[derive(Debug, Clone, PartialEq)]
pub enum Fetched {
    /// It is as it was when its ETag was given.
    NotModified,
    /// Here it is.
    Catalog {
        /// To be named in the next fetch.
        etag: Option<String>,
        /// What the broker offers.
        catalog: Catalog,
    },
}
