//! The record of a run, for views and for those who heard its end without asking a view.

use engine_model::{
    FunctionId, Name, RevisionId, RunCommand, RunError, RunErrorKind, RunEvent, RunId, RunLogs,
    RunReply, RunResult, Status, Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::tag::Tag;

/// The record of a run. Its keys come out in alphabetical order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunDocument {
    /// Whether its sender waited.
    pub blocking: bool,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<RunError>,
    /// When its execution began; null before.
    pub executed_time: Option<i64>,
    /// The function's revision, frozen when it began.
    pub faas_id: Option<RevisionId>,
    /// When it ended; null before.
    pub finished_time: Option<i64>,
    /// The function's id, frozen when it began.
    pub function_id: Option<FunctionId>,
    /// The function.
    pub function_name: Name,
    /// The request, when a gateway started it.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub http_context: Map<String, Value>,
    /// What went in.
    pub input: Value,
    /// The digest of an input that is too large to be shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_blob: Option<String>,
    /// What it printed.
    pub logs: RunLogs,
    /// The run's id.
    pub name: RunId,
    /// What came out; null when it failed or has not ended.
    pub output: Value,
    /// The digest of an output that is too large to be shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_blob: Option<String>,
    /// Why it failed, in one line.
    pub reason: Option<Vec<String>>,
    /// Secrets of the function and of the request.
    pub secrets: Vec<Name>,
    /// Services of the function.
    pub services: Vec<Name>,
    /// `INITIALIZED`, `CREATING` while it is executed, `READY` or `ERROR`.
    pub status: Status,
    /// Always empty.
    pub tags: Vec<Tag>,
}

impl RunDocument {
    /// The record of a run that was asked for.
    #[must_use]
    pub fn requested(run: RunId, function: &Name, command: &RunCommand) -> Self {
        Self {
            blocking: command.blocking,
            error: None,
            executed_time: None,
            faas_id: None,
            finished_time: None,
            function_id: None,
            function_name: function.clone(),
            http_context: command.http_context.clone(),
            input: command.input.clone(),
            input_blob: command.input_blob.clone(),
            logs: RunLogs::default(),
            name: run,
            output: Value::Null,
            output_blob: None,
            reason: None,
            secrets: command.secrets.clone(),
            services: Vec::new(),
            status: Status::Initialized,
            tags: Vec::new(),
        }
    }

    /// The record of a run that has ended, from what its sender sent and heard; the same as a
    /// view shows.
    #[must_use]
    pub fn of_reply(function: &Name, command: &RunCommand, reply: &RunReply) -> Self {
        let requested = Self::requested(reply.run, function, command);
        let begun = reply.started.iter().fold(requested, Self::after);
        let mut result = reply.result.clone();
        if let (Some(rejection), None) = (&reply.rejection, &result.error) {
            let message = rejection.to_string();
            let kind = RunErrorKind::SystemError;
            result.error = Some(RunError {
                kind,
                message,
                stacktrace: Vec::new(),
            });
        }
        begun.finished(result, reply.finished_at)
    }

    /// The record after one more event.
    #[must_use]
    pub fn after(self, event: &RunEvent) -> Self {
        match event {
            RunEvent::Started {
                function,
                revision,
                secrets,
                services,
                at,
                attempt: _,
            } => Self {
                executed_time: Some(at.unix_seconds()),
                faas_id: Some(*revision),
                function_id: Some(*function),
                secrets: secrets.clone(),
                services: services.clone(),
                status: Status::Creating,
                ..self
            },
            RunEvent::Finished { result, at } => self.finished(result.clone(), *at),
        }
    }

    fn finished(self, result: RunResult, at: Timestamp) -> Self {
        let reason = result.error.as_ref().map(|error| {
            vec![format!(
                "error running function: {}: {}",
                self.function_name, error.message
            )]
        });
        Self {
            status: if result.error.is_some() {
                Status::Error
            } else {
                Status::Ready
            },
            reason,
            error: result.error,
            finished_time: Some(at.unix_seconds()),
            logs: result.logs,
            output: result.output,
            output_blob: result.output_blob,
            ..self
        }
    }
}
