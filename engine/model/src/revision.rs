//! Revisions of a function: why there is another one, and how runs are divided among them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How many loaded revisions of a function are kept besides those that runs are routed to. It may
/// become more, never less: a stored event may name any revision that was kept when it was decided.
pub const LOADED_KEPT: usize = 10;

/// How many revisions are kept that were never loaded, so that it can be seen why.
pub const UNLOADED_KEPT: usize = 5;

/// How many revisions the runs of a function are divided among at most.
pub const SHARES_MAX: usize = 5;

/// A part of a function's runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// The revision that takes it, by number.
    pub revision: u32,
    /// How many runs of a hundred; the shares of a function make up 100.
    pub percent: u8,
}

/// Why there is another revision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Because {
    /// The function was created.
    Created,
    /// Its document changed.
    #[default]
    Updated,
    /// Its image was built otherwise.
    Image,
    /// Its services listen elsewhere.
    Services,
    /// One that could not be loaded was tried again.
    Retried,
    /// An earlier document was asked for again.
    RolledBack {
        /// The number of the revision whose document it is.
        to: u32,
    },
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Created => f.write_str("created"),
            Self::Updated => f.write_str("updated"),
            Self::Image => f.write_str("image rebuilt"),
            Self::Services => f.write_str("services changed"),
            Self::Retried => f.write_str("retried"),
            Self::RolledBack { to } => write!(f, "rolled back to {to}"),
        }
    }
}
