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
    /// The attempts at it, once there was more than one or there will be; the last one last.
    #[serde(default, skip_serializing_if = "is_plain")]
    pub attempts: Vec<AttemptDocument>,
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
    /// The key that its sender gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
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
    /// `INITIALIZED`, `CREATING` while it is executed, `READY`, `ERROR` or `CANCELLED`.
    pub status: Status,
    /// Always empty.
    pub tags: Vec<Tag>,
    /// While it waits for a moment: which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_until: Option<i64>,
}

/// One attempt at a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttemptDocument {
    /// Counts from 1.
    pub attempt: u32,
    /// Why it failed; none while it goes on, when it succeeded, and when its node was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<RunError>,
    /// When it began.
    pub executed_time: Option<i64>,
    /// The revision that it was made on.
    pub faas_id: Option<RevisionId>,
    /// When it ended.
    pub finished_time: Option<i64>,
    /// When the next one may begin, with milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_at: Option<String>,
}

impl RunDocument {
    /// The record of a run that was asked for.
    #[must_use]
    pub fn requested(run: RunId, function: &Name, command: &RunCommand) -> Self {
        Self {
            attempts: Vec::new(),
            blocking: command.blocking,
            error: None,
            executed_time: None,
            faas_id: None,
            finished_time: None,
            function_id: None,
            function_name: function.clone(),
            http_context: command.http_context.clone(),
            idempotency_key: command.idempotency_key.clone(),
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
            waits_until: command.not_before.map(Timestamp::unix_seconds),
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
            RunEvent::Delayed { until, .. } => Self {
                reason: Some(vec![format!("waits until {until}")]),
                waits_until: Some(until.unix_seconds()),
                ..self
            },
            RunEvent::Started {
                function,
                revision,
                secrets,
                services,
                at,
                attempt,
                ..
            } => Self {
                attempts: begun(self.attempts, *attempt, *revision, *at),
                executed_time: Some(at.unix_seconds()),
                faas_id: Some(*revision),
                function_id: Some(*function),
                reason: None,
                secrets: secrets.clone(),
                services: services.clone(),
                status: Status::Creating,
                waits_until: None,
                ..self
            },
            RunEvent::AttemptFailed {
                attempt,
                error,
                at,
                next_at,
                ..
            } => self.failed(*attempt, error, *at, *next_at),
            RunEvent::CancelRequested { by, .. } => Self {
                reason: Some(vec![format!("being cancelled by {}", by.0)]),
                ..self
            },
            RunEvent::Finished { result, at, .. } => self.finished(result.clone(), *at),
        }
    }

    fn failed(self, attempt: u32, error: &RunError, at: Timestamp, next_at: Timestamp) -> Self {
        let mut attempts = self.attempts;
        if let Some(last) = attempts.last_mut().filter(|last| last.attempt == attempt) {
            last.error = Some(error.clone());
            last.finished_time = Some(at.unix_seconds());
            last.next_at = Some(next_at.rfc3339());
        }
        let reason = format!(
            "attempt {attempt} failed: {}; the next one begins at {next_at}",
            error.message
        );
        Self {
            attempts,
            reason: Some(vec![reason]),
            waits_until: Some(next_at.unix_seconds()),
            ..self
        }
    }

    fn finished(self, result: RunResult, at: Timestamp) -> Self {
        let reason = result.error.as_ref().map(|error| {
            vec![format!(
                "error running function: {}: {}",
                self.function_name, error.message
            )]
        });
        let status = match &result.error {
            None => Status::Ready,
            Some(error) if error.kind == RunErrorKind::Cancelled => Status::Cancelled,
            Some(_) => Status::Error,
        };
        let mut attempts = self.attempts;
        if let Some(last) = attempts
            .last_mut()
            .filter(|last| last.finished_time.is_none())
        {
            last.error.clone_from(&result.error);
            last.finished_time = Some(at.unix_seconds());
        }
        Self {
            status,
            attempts,
            waits_until: None,
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

/// Whether there is nothing to tell but what the record says anyway.
fn is_plain(attempts: &Vec<AttemptDocument>) -> bool {
    matches!(
        attempts.as_slice(),
        [] | [AttemptDocument { next_at: None, .. }]
    )
}

/// The attempts with one more.
fn begun(
    mut attempts: Vec<AttemptDocument>,
    attempt: u32,
    revision: RevisionId,
    at: Timestamp,
) -> Vec<AttemptDocument> {
    attempts.push(AttemptDocument {
        attempt,
        error: None,
        executed_time: Some(at.unix_seconds()),
        faas_id: Some(revision),
        finished_time: None,
        next_at: None,
    });
    attempts
}
