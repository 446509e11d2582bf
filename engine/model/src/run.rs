//! Runs: each is a little log of its own, in a stream of its own.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Actor, Code, FunctionId, Name, OrgName, Rejection, RevisionId, RunId, Seq, Timestamp};

/// What someone wants to have run. The subject names the function and the run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
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

/// What happened to a run. The first `Finished` wins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum RunEvent {
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
    },
    /// It ended.
    Finished {
        /// How.
        result: RunResult,
        /// When.
        at: Timestamp,
    },
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

fn is_zero(number: &u64) -> bool {
    *number == 0
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
