//! What came of a request, as plain data.

use std::time::Duration;

use bytes::Bytes;

use crate::text::Hide;

/// What came of a request.
#[derive(Debug, Clone)]
pub struct Reply {
    /// What happened.
    pub what: What,
    /// What no text that is made of this may show.
    pub hide: Hide,
}

/// The four ways in which a request can end.
#[derive(Debug, Clone)]
pub enum What {
    /// A status line came back.
    Answered {
        /// The HTTP status.
        status: u16,
        /// The few headers that mean something.
        headers: Headers,
        /// What could be read of the body.
        body: Body,
    },
    /// Not a byte of the request has left: no address, refused, no TLS session.
    NotSent(String),
    /// Bytes may have left, and no status came back in time.
    TimedOut,
    /// Bytes may have left, and the connection ended before a status came back.
    Lost(String),
}

/// The response headers that mean something to the platform.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers {
    /// How long the broker asks to be left alone.
    pub retry_after: Option<Duration>,
    /// The version of what was fetched.
    pub etag: Option<String>,
}

/// A response body, as far as it could be read.
#[derive(Clone)]
pub enum Body {
    /// All of it.
    Whole(Bytes),
    /// More than the platform is willing to read.
    TooLarge,
    /// It ended before its time, or not in time.
    Cut(String),
}

impl std::fmt::Debug for Body {
    /// The size at most: a body may hold credentials.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole(bytes) => write!(f, "Whole({} bytes)", bytes.len()),
            Self::TooLarge => f.write_str("TooLarge"),
            Self::Cut(why) => write!(f, "Cut({why})"),
        }
    }
}
