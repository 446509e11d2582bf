//! Ids that stand in a path, and the pair that says what an instance is an instance of.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The id of an instance or of a binding.
///
/// Any text will do but the empty one and `.` and `..`, which a URL cannot carry as a segment
/// however they are encoded.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(String);

/// A text that cannot be an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an id that a URL can carry: {0:?}")]
pub struct BadId(String);

impl Id {
    /// Reads an id.
    ///
    /// # Errors
    /// When a URL could not carry it.
    pub fn parse(text: &str) -> Result<Self, BadId> {
        match text {
            "" | "." | ".." => Err(BadId(text.to_owned())),
            _ => Ok(Self(text.to_owned())),
        }
    }

    /// The id's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Uuid> for Id {
    fn from(id: Uuid) -> Self {
        Self(id.to_string())
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an instance is an instance of; goes with every poll, fetch and delete.
///
/// While a change of plan is polled, the plan is the one from before the change.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Offer {
    /// The service's id in the broker's catalog.
    pub service_id: String,
    /// The plan's id in the broker's catalog.
    pub plan_id: String,
}
