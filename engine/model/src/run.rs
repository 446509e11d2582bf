//! Runs: each is a little log of its own, in a stream of its own.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Actor, FunctionId, Name, OrgName, Rejection, RevisionId, RunId, Seq, Timestamp};

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
