//! Why a view could not be kept or read.

use std::path::PathBuf;

/// Why a view could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database cannot be opened, though nothing says that it is corrupt: another process
    /// has it open, or the directory cannot be written.
    #[error("open the views in {path}")]
    Open {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: sled::Error,
    },
    /// A corrupt database could not be moved aside.
    #[error("move the corrupt views in {path} aside")]
    MoveAside {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The database could not be read or written.
    #[error("reach the stored views")]
    Store(#[from] sled::Error),
    /// A stored row is not what this program writes.
    #[error("read the stored row '{key}': {reason}")]
    Row {
        /// Its key.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// Nobody follows the streams, so there is nothing to be told.
    #[error("reach the follower: it is not running")]
    NotFollowing,
    /// The views are followed already.
    #[error("follow the streams: they are followed already")]
    AlreadyFollowing,
}

impl Error {
    /// Whether what is stored cannot be used, so that only a rebuild helps.
    pub(crate) fn is_corruption(&self) -> bool {
        match self {
            Self::Row { .. } => true,
            Self::Open { source, .. } | Self::Store(source) => corrupt(source),
            Self::MoveAside { .. } | Self::NotFollowing | Self::AlreadyFollowing => false,
        }
    }
}

/// Whether the database says that its files are not what it wrote.
pub(crate) fn corrupt(error: &sled::Error) -> bool {
    match error {
        sled::Error::Corruption { .. }
        | sled::Error::Unsupported(_)
        | sled::Error::ReportableBug(_)
        | sled::Error::CollectionNotFound(_) => true,
        sled::Error::Io(_) => false,
    }
}
