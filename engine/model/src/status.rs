//! The status that Dispatch's API shows for every kind.

use serde::{Deserialize, Serialize};

/// Derived from an aggregate's state; never stored on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    /// Accepted; waits for something that it names.
    Initialized,
    /// Being made.
    Creating,
    /// Usable.
    Ready,
    /// Usable as it was, while a change is being made.
    Updating,
    /// Not usable; `reason` says why and what comes next.
    Error,
    /// Being taken away.
    Deleting,
    /// Gone.
    Deleted,
    /// Of a run: ended because someone asked for it.
    Cancelled,
}

impl Status {
    /// The status in capitals, as shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Initialized => "INITIALIZED",
            Self::Creating => "CREATING",
            Self::Ready => "READY",
            Self::Updating => "UPDATING",
            Self::Error => "ERROR",
            Self::Deleting => "DELETING",
            Self::Deleted => "DELETED",
            Self::Cancelled => "CANCELLED",
        }
    }
}
