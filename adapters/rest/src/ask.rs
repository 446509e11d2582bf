//! Asking the ports, each for a bounded time.

use std::future::Future;
use std::time::Duration;

use adapter_kit::{ClientError, RunTicket, Submission};
use engine_model::{
    Answer, AsOf, Code, Command, Filter, Kind, Name, Query, Reply, ResourceKey, RunCommand, RunId,
    Seq,
};
use serde_json::Value;
use tokio::time::timeout;

use crate::app::App;
use crate::caller::Caller;
use crate::refusal::Refusal;

/// How much longer than it was told to wait the engine may take to say that it waited in vain.
const SLACK: Duration = Duration::from_secs(2);

/// Up to which positions a view must have folded.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Fresh {
    pub(crate) events: Seq,
    pub(crate) runs: Seq,
}

impl App {
    async fn within<T>(
        &self,
        answer: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, Refusal> {
        let within = self.config.answer_within;
        let answered = timeout(within, answer).await;
        answered
            .map_err(|_| Refusal::timeout(within))?
            .map_err(Refusal::from)
    }

    /// Sends a command and hears its outcome; a refusal of it is an error.
    pub(crate) async fn submit(
        &self,
        caller: &Caller,
        kind: Kind,
        name: &Name,
        command: Command,
    ) -> Result<Reply, Refusal> {
        let submission = Submission {
            id: caller.command,
            key: ResourceKey::new(caller.org.clone(), kind, name.clone()),
            command,
            actor: caller.actor.clone(),
        };
        match self.within(self.ports.commands.submit(submission)).await? {
            Reply::Rejected { rejection, .. } => Err(rejection.into()),
            done @ Reply::Done { .. } => Ok(done),
        }
    }

    /// The position of the commit that a command brought about.
    pub(crate) async fn decided(
        &self,
        caller: &Caller,
        kind: Kind,
        name: &Name,
        command: Command,
    ) -> Result<Seq, Refusal> {
        match self.submit(caller, kind, name, command).await? {
            Reply::Done { seq, .. } => Ok(seq),
            Reply::Rejected { rejection, .. } => Err(rejection.into()),
        }
    }

    /// Asks the views, as they are at `fresh` or later.
    pub(crate) async fn query(
        &self,
        caller: &Caller,
        filter: Filter,
        fresh: Fresh,
    ) -> Result<Answer, Refusal> {
        let query = Query {
            org: caller.org.clone(),
            filter,
            at_least: fresh.events,
            runs_at_least: fresh.runs,
        };
        self.answer(query).await
    }

    /// Asks the views.
    pub(crate) async fn answer(&self, query: Query) -> Result<Answer, Refusal> {
        self.within(self.ports.queries.query(query)).await
    }

    /// One resource.
    pub(crate) async fn one(
        &self,
        caller: &Caller,
        kind: Kind,
        name: &Name,
        at_least: Seq,
    ) -> Result<(Value, AsOf), Refusal> {
        let filter = Filter::One {
            kind,
            name: name.clone(),
        };
        let fresh = Fresh {
            events: at_least,
            ..Fresh::default()
        };
        let Answer {
            as_of,
            mut documents,
        } = self.query(caller, filter, fresh).await?;
        let document = documents
            .pop()
            .ok_or_else(|| Refusal::not_found(kind, name))?;
        Ok((document, as_of))
    }

    /// Starts a run, and waits for its end when `wait` says how long, within the server's limit.
    pub(crate) async fn run(
        &self,
        caller: &Caller,
        id: RunId,
        function: &Name,
        command: RunCommand,
        wait: Option<Duration>,
    ) -> Result<RunTicket, Refusal> {
        let wait = wait.map(|wait| wait.min(self.config.wait_max));
        let (org, actor) = (&caller.org, caller.actor.clone());
        let ticket = self.ports.runs.run(id, org, function, command, actor, wait);
        let within = wait.map_or(self.config.answer_within, |wait| wait + SLACK);
        match timeout(within, ticket).await {
            Ok(Ok(RunTicket::Finished(reply))) => match reply.rejection {
                Some(rejection) => Err(rejection.into()),
                None => Ok(RunTicket::Finished(reply)),
            },
            Ok(Ok(accepted @ RunTicket::Accepted { .. })) => Ok(accepted),
            Ok(Err(ClientError::Timeout(waited))) => Err(goes_on(id, waited)),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(goes_on(id, within)),
        }
    }
}

impl App {
    /// Asks for the end of a run.
    pub(crate) async fn cancel(
        &self,
        caller: &Caller,
        id: RunId,
        function: &Name,
    ) -> Result<Seq, Refusal> {
        let (org, actor) = (&caller.org, caller.actor.clone());
        self.within(self.ports.runs.cancel(id, org, function, actor))
            .await
    }
}

/// Who waited in vain hears that the run goes on, and under which name.
fn goes_on(id: RunId, waited: Duration) -> Refusal {
    let message = format!(
        "run {id} has not ended within {} s; it goes on",
        waited.as_secs_f32()
    );
    Refusal::with_status(
        http::StatusCode::GATEWAY_TIMEOUT,
        Code::Unavailable,
        message,
    )
}
