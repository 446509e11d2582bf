//! Runs: each is a little log of its own, in a stream of its own.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Actor, Code, FunctionId, Name, OrgName, Rejection, RevisionId, RunId, Seq, Timestamp};

/// What someone wants to have run. The subject names the function and the run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunCommand {
    /// The function's second argument.
    #[serde(default)]
    pub input: Value,
    /// The digest of an input over 64 KB in the blob store; then `input` is null.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_blob: Option<String>,
    /// Whether the sender waits.
    #[serde(default)]
    pub blocking: bool,
    /// Secrets besides the function's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Name>,
    /// Set when a gateway started it.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub http_context: Map<String, Value>,
    /// Whether the result is to say how long each stage took.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub timings: bool,
    /// Requests with the same key ask for one run of the function; its id is [`RunId::of_key`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// It is not begun before this moment.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "moment")]
    pub not_before: Option<Timestamp>,
    /// Asks for the end of the run that the subject names, and for nothing else.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancel: bool,
}

/// A moment as people write it: RFC 3339, or milliseconds since 1970.
mod moment {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
    use serde_json::Value;

    use crate::Timestamp;

    pub(super) fn serialize<S: Serializer>(
        at: &Option<Timestamp>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        at.map(Timestamp::rfc3339).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        let wrong = || {
            D::Error::custom(
                "notBefore is neither RFC 3339 nor milliseconds since 1970, up to the year 9999",
            )
        };
        match Value::deserialize(from)? {
            Value::Null => Ok(None),
            Value::String(text) => Timestamp::parse(&text).map(Some).ok_or_else(wrong),
            Value::Number(ms) => {
                let at = ms.as_i64().map(Timestamp);
                at.and_then(Timestamp::writable).map(Some).ok_or_else(wrong)
            }
            _ => Err(wrong()),
        }
    }
}

/// Longest idempotency key, in bytes.
const KEY_BYTES_MAX: usize = 256;

impl RunCommand {
    /// What asks for the end of a run.
    #[must_use]
    pub fn cancelling() -> Self {
        Self {
            cancel: true,
            ..Self::default()
        }
    }

    /// The run that the command is for: the one that its key names, else `id`.
    ///
    /// # Errors
    /// `invalid-field` when the key is empty, too long, or no printable text.
    pub fn run_id(&self, id: RunId, org: &OrgName, function: &Name) -> Result<RunId, Rejection> {
        let Some(key) = &self.idempotency_key else {
            return Ok(id);
        };
        let fits = (1..=KEY_BYTES_MAX).contains(&key.len());
        if fits && !key.chars().any(char::is_control) {
            return Ok(RunId::of_key(org, function, key));
        }
        let text =
            format!("an idempotency key is 1 to {KEY_BYTES_MAX} bytes without control characters");
        Err(Rejection::new(Code::InvalidField, text))
    }
}

impl RunId {
    /// The run that requests with an idempotency key ask for.
    #[must_use]
    pub fn of_key(org: &OrgName, function: &Name, key: &str) -> Self {
        Self::derived(format_args!("run/{org}/{function}/{key}"))
    }
}

/// A run that waits for a moment, as its timer keeps it: all that is needed to ask for it again.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunWake {
    /// The run.
    pub id: RunId,
    /// The organization.
    pub org: OrgName,
    /// The function.
    pub function: Name,
    /// What is wanted.
    pub command: RunCommand,
    /// Who asked.
    pub actor: Actor,
    /// Where the sender hears the outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// The position of the event that says that it waits; when that is gone, so is the run. 0 in
    /// what older programs wrote.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub after: Seq,
}

/// A run command as it was received.
#[derive(Debug, Clone, PartialEq)]
pub struct RunEnvelope {
    /// The run, named by its sender: a repeat bears the same.
    pub id: RunId,
    /// The organization.
    pub org: OrgName,
    /// The function.
    pub function: Name,
    /// What is wanted.
    pub command: RunCommand,
    /// Who asks.
    pub actor: Actor,
    /// Where the sender hears the outcome.
    pub reply_to: Option<String>,
    /// When the server accepted it.
    pub at: Timestamp,
}

impl RunEnvelope {
    /// What a timer keeps of it, when the event at `after` says that it waits.
    #[must_use]
    pub fn wake(&self, after: Seq) -> RunWake {
        RunWake {
            id: self.id,
            org: self.org.clone(),
            function: self.function.clone(),
            command: self.command.clone(),
            actor: self.actor.clone(),
            reply_to: self.reply_to.clone(),
            after,
        }
    }
}

/// What happened to a run. The first `Finished` wins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum RunEvent {
    /// It waits for its moment.
    Delayed {
        /// When it may begin.
        until: Timestamp,
        /// When it was put off.
        at: Timestamp,
        /// The position of the message that waits, itself or in a timer.
        #[serde(default)]
        command: Seq,
        /// The digest of its input, when an idempotency key names it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest: Option<String>,
    },
    /// A worker took it.
    Started {
        /// The function, frozen.
        function: FunctionId,
        /// Its revision, frozen.
        revision: RevisionId,
        /// Secrets of the function and of the request.
        secrets: Vec<Name>,
        /// Services of the function.
        services: Vec<Name>,
        /// Counts the attempts from 1.
        attempt: u32,
        /// When.
        at: Timestamp,
        /// The position of the message whose delivery it was: only that one's next delivery says
        /// that its worker is lost. 0 in what older programs wrote.
        #[serde(default)]
        command: Seq,
        /// How many attempts before this one were lost with their worker.
        #[serde(default, skip_serializing_if = "is_zero")]
        lost: u32,
        /// Drawn by the node that took it: two nodes that begin the same attempt in the same moment
        /// write two events. 0 in what older programs wrote.
        #[serde(default, skip_serializing_if = "is_zero")]
        nonce: u32,
        /// It is never begun again.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        at_most_once: bool,
        /// The digest of its input, when an idempotency key names it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest: Option<String>,
    },
    /// An attempt failed, and there will be another one.
    AttemptFailed {
        /// Which attempt, from 1.
        attempt: u32,
        /// How many attempts so far were lost with their worker.
        #[serde(default, skip_serializing_if = "is_zero")]
        lost: u32,
        /// The revision that it was made on, and that the next one is made on if it is there.
        revision: RevisionId,
        /// Why it failed.
        error: RunError,
        /// When it failed.
        at: Timestamp,
        /// When the next one may begin.
        next_at: Timestamp,
        /// The position of the message that waits, itself or in a timer.
        #[serde(default)]
        command: Seq,
        /// The digest of its input, when an idempotency key names it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest: Option<String>,
    },
    /// Someone asked for its end while it was being carried out.
    CancelRequested {
        /// Who.
        by: Actor,
        /// When.
        at: Timestamp,
        /// As in the `Started` that it concerns.
        command: Seq,
        /// The digest of its input, when an idempotency key names it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest: Option<String>,
    },
    /// It ended.
    Finished {
        /// How.
        result: RunResult,
        /// When.
        at: Timestamp,
        /// The digest of its input, when an idempotency key names it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest: Option<String>,
    },
}

impl RunEvent {
    /// When it happened.
    #[must_use]
    pub fn at(&self) -> Timestamp {
        match self {
            Self::Delayed { at, .. }
            | Self::Started { at, .. }
            | Self::AttemptFailed { at, .. }
            | Self::CancelRequested { at, .. }
            | Self::Finished { at, .. } => *at,
        }
    }

    /// The digest of the run's input, when an idempotency key names it.
    #[must_use]
    pub fn digest(&self) -> Option<&str> {
        match self {
            Self::Delayed { digest, .. }
            | Self::Started { digest, .. }
            | Self::AttemptFailed { digest, .. }
            | Self::CancelRequested { digest, .. }
            | Self::Finished { digest, .. } => digest.as_deref(),
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunResult {
    /// What the function returned; null when it failed.
    pub output: Value,
    /// The digest of an output over 64 KB in the blob store; then `output` is null.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_blob: Option<String>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<RunError>,
    /// What it printed.
    #[serde(default)]
    pub logs: RunLogs,
    /// Why the function was not even called, when the platform had no room or no place for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Code>,
    /// How long each stage took, if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timings: Option<RunTimings>,
}

/// How long each stage of a run took, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RunTimings {
    /// Waiting for a worker, without the time in which one was started for it.
    pub queue_us: u64,
    /// Starting a worker; 0 when one was there.
    pub start_us: u64,
    /// Making the handler's arguments ready and handing them over.
    pub injection_us: u64,
    /// From then to the handler's answer.
    pub handler_us: u64,
    /// Holding input and output against their schemas.
    pub validation_us: u64,
}

/// A line that a run printed, as it is told while the run goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogLine {
    /// Where to.
    pub stream: LogStream,
    /// The line, without its end.
    pub text: String,
    /// Lines before this one that were left out, because nobody had room for them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost: u64,
}

/// One of the two streams of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

fn is_zero<N: Default + PartialEq>(number: &N) -> bool {
    *number == N::default()
}

/// Why a run failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunError {
    /// Whose fault it is.
    #[serde(rename = "type")]
    pub kind: RunErrorKind,
    /// For a person.
    pub message: String,
    /// Where, one line each.
    #[serde(default)]
    pub stacktrace: Vec<String>,
}

/// Whose fault a failed run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunErrorKind {
    /// The caller's.
    InputError,
    /// The function's.
    FunctionError,
    /// Dispatch's, or the machine's.
    SystemError,
    /// Nobody's: someone asked for its end.
    Cancelled,
}

/// What a run printed, a line an element.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunLogs {
    /// Standard error.
    #[serde(default)]
    pub stderr: Vec<String>,
    /// Standard output.
    #[serde(default)]
    pub stdout: Vec<String>,
}

/// What the sender of a run command hears when the run has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunReply {
    /// The run.
    pub run: RunId,
    /// Position of the last event in the run stream; a query that names it sees the run.
    pub seq: Seq,
    /// The event that began it; none when it could not begin.
    pub started: Option<RunEvent>,
    /// Why it could not begin, when the function is not there or not ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejection: Option<Rejection>,
    /// How it ended.
    pub result: RunResult,
    /// When it ended.
    pub finished_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_moment_that_cannot_be_written_is_refused() {
        let read = |at: Value| serde_json::from_value::<RunCommand>(json!({ "notBefore": at }));
        for at in [
            json!(i64::MAX),
            json!(Timestamp::MAX.0 + 1),
            json!(Timestamp::MIN.0 - 1),
            json!("9999-12-31T23:59:59-01:00"),
        ] {
            assert!(read(at.clone()).is_err(), "{at}");
        }
        let last = read(json!(Timestamp::MAX.0)).unwrap();
        let again: RunCommand =
            serde_json::from_value(serde_json::to_value(&last).unwrap()).unwrap();
        assert_eq!((again.not_before, again), (Some(Timestamp::MAX), last));
    }
}
