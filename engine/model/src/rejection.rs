//! Expected refusals: values with a stable code, one page each in `docs/errors/`.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($(#[$doc:meta])* $code:ident => $text:literal, $http:literal;)+) => {
        /// Why something was refused. The text is stable and names the page in `docs/errors/`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Code {
            $($(#[$doc])* #[serde(rename = $text)] $code,)+
        }

        impl Code {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$code,)+];

            /// The stable text.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$code => $text,)+ }
            }

            /// The HTTP status that the REST API answers with.
            #[must_use]
            pub fn http(self) -> u16 {
                match self { $(Self::$code => $http,)+ }
            }
        }
    };
}

codes! {
    /// The message is not a command: not JSON, or not of a command's shape.
    MalformedCommand => "malformed-command", 400;
    /// The subject names no kind that takes commands.
    UnknownKind => "unknown-kind", 400;
    /// A name is against the pattern.
    InvalidName => "invalid-name", 422;
    /// The command does not fit the kind that its subject names.
    WrongKind => "wrong-kind", 400;
    /// A field's value cannot be used.
    InvalidField => "invalid-field", 422;
    /// Parameters or input do not fit their JSON schema.
    SchemaMismatch => "schema-mismatch", 400;
    /// A JSON schema itself cannot be used.
    InvalidSchema => "invalid-schema", 422;
    /// The message is larger than the server takes.
    TooLarge => "too-large", 413;
    /// The resource is there already.
    AlreadyExists => "already-exists", 409;
    /// The resource is not there.
    NotFound => "not-found", 404;
    /// Something that the command names is not there.
    MissingReference => "missing-reference", 400;
    /// Others use the resource.
    InUse => "in-use", 409;
    /// The resource's state does not allow it now.
    NotReady => "not-ready", 409;
    /// The resource is being deleted.
    BeingDeleted => "being-deleted", 409;
    /// The idempotency key was used for a run with another input.
    IdempotencyConflict => "idempotency-conflict", 409;
    /// The run has ended already.
    AlreadyEnded => "already-ended", 409;
    /// Too many others changed the resource at the same time, or wait for the same.
    Busy => "busy", 429;
    /// The sender may not do this.
    Forbidden => "forbidden", 403;
    /// The sender is not known.
    Unauthenticated => "unauthenticated", 401;
    /// A sealed value cannot be opened.
    CannotUnseal => "cannot-unseal", 400;
    /// The kind is derived by the engine and takes no commands of this sort.
    ReadOnly => "read-only", 405;
    /// No node that could do it answered in time.
    Unavailable => "unavailable", 503;
    /// A fault of Dispatch itself.
    Internal => "internal", 500;
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An expected refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message} [{code}]")]
pub struct Rejection {
    /// The stable code.
    pub code: Code,
    /// What is wrong and what to do, for a person; never a secret.
    pub message: String,
}

impl Rejection {
    /// A refusal with `code` and a text for a person.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}
