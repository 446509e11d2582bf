//! The people's side of the twin. It waits for an answer for as long as tokio's clock says.

use std::time::Duration;

use adapter_kit::{ClientError, Commands, RunTicket, Runs, Submission};
use async_trait::async_trait;
use bytes::Bytes;
use engine_model::{
    Actor, Name, OrgName, Reply, RunCommand, RunId, RunReply, Seq, header, subject,
};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::Memory;
use crate::message::{COMMAND_ID, json};

/// How long the answer to a command is awaited.
const WITHIN: Duration = Duration::from_secs(30);

async fn heard(
    answers: &mut mpsc::Receiver<Bytes>,
    within: Duration,
) -> Result<Bytes, ClientError> {
    let heard = timeout(within, answers.recv()).await;
    heard.ok().flatten().ok_or(ClientError::Timeout(within))
}

#[async_trait]
impl Commands for Memory {
    async fn submit(&self, submission: Submission) -> Result<Reply, ClientError> {
        let (inbox, mut answers) = self.listen();
        let id = submission.id.to_string();
        // Each submission is delivered, as a client's repeat is: the engine knows it by its id.
        let headers = [
            (COMMAND_ID, id.as_str()),
            (header::ACTOR, submission.actor.0.as_str()),
            (header::REPLY_TO, inbox.as_str()),
        ];
        self.publish(
            &subject::command(&submission.key),
            &headers,
            &json(&submission.command),
        );
        let answer = heard(&mut answers, WITHIN).await?;
        serde_json::from_slice(&answer).map_err(|e| ClientError::Unreachable(e.to_string()))
    }
}

#[async_trait]
impl Runs for Memory {
    async fn run(
        &self,
        id: RunId,
        org: &OrgName,
        function: &Name,
        command: RunCommand,
        actor: Actor,
        wait: Option<Duration>,
    ) -> Result<RunTicket, ClientError> {
        let (inbox, mut answers) = self.listen();
        let headers = [
            (header::ACTOR, actor.0.as_str()),
            (header::REPLY_TO, inbox.as_str()),
        ];
        let subject = subject::run_command(org, function, id);
        let seq = self
            .publish(&subject, &headers, &json(&command))
            .map_or(Seq(0), Seq);
        let Some(within) = wait else {
            return Ok(RunTicket::Accepted { run: id, seq });
        };
        let answer = heard(&mut answers, within).await?;
        match serde_json::from_slice::<RunReply>(&answer) {
            Ok(RunReply {
                rejection: Some(rejection),
                ..
            }) => Err(ClientError::Rejected(rejection)),
            Ok(reply) => Ok(RunTicket::Finished(reply)),
            Err(error) => match serde_json::from_slice(&answer) {
                Ok(Reply::Rejected { rejection, .. }) => Err(ClientError::Rejected(rejection)),
                _ => Err(ClientError::Unreachable(error.to_string())),
            },
        }
    }

    async fn cancel(
        &self,
        id: RunId,
        org: &OrgName,
        function: &Name,
        actor: Actor,
    ) -> Result<Seq, ClientError> {
        let (inbox, mut answers) = self.listen();
        let headers = [
            (header::ACTOR, actor.0.as_str()),
            (header::REPLY_TO, inbox.as_str()),
        ];
        let subject = subject::run_cancel(org, function, id);
        self.publish(&subject, &headers, &json(&RunCommand::cancelling()));
        let answer = heard(&mut answers, WITHIN).await?;
        match serde_json::from_slice(&answer) {
            Ok(Reply::Done { seq, .. }) => Ok(seq),
            Ok(Reply::Rejected { rejection, .. }) => Err(ClientError::Rejected(rejection)),
            Err(error) => Err(ClientError::Unreachable(error.to_string())),
        }
    }
}
