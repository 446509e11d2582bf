//! What goes wrong, in three circles: the node, an image or function, one run.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Why functions cannot be served on this node at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The sandbox launcher does not start.
    #[error("start the sandbox launcher")]
    Launcher(#[source] adapter_sandbox::Error),
    /// A directory or file of the state directory cannot be made.
    #[error("prepare {path}")]
    State {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A language pack that was to be added is none.
    #[error("add a language pack: {reason}")]
    Pack {
        /// Which one, and what it lacks.
        reason: String,
    },
}

/// Why a base image, a layer or a function is not to be had: exactly one reason, ready to be shown
/// to the person who asked for it. It never holds a secret: nothing that is built or loaded has one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Failure {
    /// The reason; one line, unless it quotes the last lines of a tool.
    pub reason: String,
    /// Whether the same request may succeed later, because it was this node that failed.
    pub transient: bool,
}

impl Failure {
    /// A failure that comes of what was asked for, and will come again.
    pub(crate) fn of(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            transient: false,
        }
    }

    /// A failure of this node, now.
    pub(crate) fn now(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            transient: true,
        }
    }

    /// A failure of this node in doing something with a file of its own.
    pub(crate) fn io(doing: &str, source: &io::Error) -> Self {
        Self::now(format!("failed to {doing}: {source}"))
    }
}

/// Who has to look at a failed run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorType {
    /// The caller: the input is not what the function takes.
    InputError,
    /// The function's author.
    FunctionError,
    /// The operator of this node.
    SystemError,
}

/// The error of a run, in the shape that Dispatch's API shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunError {
    /// Who has to look at it.
    #[serde(rename = "type")]
    pub kind: ErrorType,
    /// What went wrong.
    pub message: String,
    /// Where, line by line, as the function's language writes it; often empty.
    pub stacktrace: Vec<String>,
}

impl RunError {
    pub(crate) fn new(kind: ErrorType, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            stacktrace: Vec::new(),
        }
    }

    pub(crate) fn input(message: impl Into<String>) -> Self {
        Self::new(ErrorType::InputError, message)
    }

    pub(crate) fn function(message: impl Into<String>) -> Self {
        Self::new(ErrorType::FunctionError, message)
    }

    pub(crate) fn system(message: impl Into<String>) -> Self {
        Self::new(ErrorType::SystemError, message)
    }
}

/// The whole chain of an error as one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}
