//! What an adapter that faces people needs of the engine.

use std::time::Duration;

use async_trait::async_trait;
use engine_model::{
    Actor, Answer, Command, CommandId, Name, OrgName, Query, Rejection, Reply, ResourceKey,
    RunCommand, RunId, RunReply, Seq,
};

/// Why a request had no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    /// It was refused.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// Nobody answered in time. A command that was accepted is still decided: repeat it under the
    /// same id, or ask for its outcome.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The server cannot be reached.
    #[error("unreachable: {0}")]
    Unreachable(String),
}

/// A command to be submitted.
#[derive(Debug, Clone)]
pub struct Submission {
    /// Its id; the same for a repeat.
    pub id: CommandId,
    /// The resource that it is for.
    pub key: ResourceKey,
    /// What is wanted.
    pub command: Command,
    /// Who asks.
    pub actor: Actor,
}

/// Sends commands and hears their outcome.
#[async_trait]
pub trait Commands: Send + Sync + 'static {
    /// Publishes a command durably and waits for its outcome.
    ///
    /// # Errors
    /// `Timeout` or `Unreachable`; a refusal is a [`Reply`].
    async fn submit(&self, submission: Submission) -> Result<Reply, ClientError>;
}

/// What one knows of a run that was asked for.
#[derive(Debug, Clone)]
pub enum RunTicket {
    /// It is durable, and will be run.
    Accepted {
        /// The run.
        run: RunId,
        /// Position of the command in the run stream.
        seq: Seq,
    },
    /// It has ended.
    Finished(RunReply),
}

/// Starts runs.
#[async_trait]
pub trait Runs: Send + Sync + 'static {
    /// Publishes a run command durably; waits for its end when `wait` says how long.
    ///
    /// # Errors
    /// `Rejected` when the function cannot be run, `Timeout` when it did not end in time (it goes
    /// on), `Unreachable`.
    async fn run(
        &self,
        id: RunId,
        org: &OrgName,
        function: &Name,
        command: RunCommand,
        actor: Actor,
        wait: Option<Duration>,
    ) -> Result<RunTicket, ClientError>;

    /// Asks for the end of a run, and returns the position in the run stream at which this is on
    /// record. What is carried out is killed then, wherever that is. It is safe to repeat.
    ///
    /// # Errors
    /// `Rejected` with `already-ended` when the run has ended otherwise; `Timeout`; `Unreachable`.
    async fn cancel(
        &self,
        id: RunId,
        org: &OrgName,
        function: &Name,
        actor: Actor,
    ) -> Result<Seq, ClientError>;
}

/// Asks the views.
#[async_trait]
pub trait Queries: Send + Sync + 'static {
    /// Asks the views.
    ///
    /// # Errors
    /// `Rejected` (such as `not-found`), `Timeout`, `Unreachable`.
    async fn query(&self, query: Query) -> Result<Answer, ClientError>;
}
