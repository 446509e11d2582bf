//! What can go wrong between the engine and a running sandbox.

use std::io;
use std::time::Duration;

/// A sandbox that could not be started, or a launcher that could not.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The helper process did not start at all.
    #[error("start the launcher's helper process")]
    StartHelper {
        /// What the system said.
        source: io::Error,
    },
    /// The helper process ended, or was killed, and every sandbox of it is gone too; or it has no
    /// descriptors left to take a request with.
    #[error("have an answer from the launcher's helper process")]
    HelperGone,
    /// This machine does not allow what every sandbox needs.
    #[error("set up sandboxes on this machine: {reason}")]
    Unsupported {
        /// What is missing, and what would allow it.
        reason: String,
    },
    /// The spec asks for what cannot be.
    #[error("accept the sandbox's description: {reason}")]
    InvalidSpec {
        /// Which rule it breaks.
        reason: String,
    },
    /// The spec is longer than one message to the helper can be.
    #[error("send the sandbox's description of {bytes} bytes, the most is {bytes_max}")]
    SpecTooLarge {
        /// Its length.
        bytes: usize,
        /// The greatest length.
        bytes_max: usize,
    },
    /// A step of the set-up failed inside the sandbox-to-be, and nothing of it is left.
    #[error("set up the sandbox: {step}")]
    Setup {
        /// What was being done.
        step: String,
        /// What the system said.
        source: io::Error,
    },
    /// The set-up took too long and was ended.
    #[error("start the sandbox within {waited:?}")]
    TimedOut {
        /// How long it was waited for.
        waited: Duration,
    },
    /// The engine's own side failed: descriptors, sockets.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }
}
