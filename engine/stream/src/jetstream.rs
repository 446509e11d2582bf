//! The log on a NATS server with JetStream.

mod append;
mod blobs;
mod inbox;
mod keys;
mod letters;
mod open_runs;
#[cfg(test)]
mod open_tests;
mod pull;
mod queries;
mod read;
mod replay;
mod runs;
mod tail;
mod timers;
mod waiting;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::account::Account;
use async_trait::async_trait;
use engine_model::{
    Answer, CommandEnvelope, Commit, Due, LogLine, Name, OrgName, Query, Recorded, Rejection,
    Reply, ResourceKey, Role, RunEnvelope, RunEvent, RunId, RunReply, RunWake, Seq, TimerRequest,
    Timestamp, subject,
};
use futures::FutureExt as _;
use futures::stream::BoxStream;

pub use append::BATCH_FROM;
#[cfg(any(test, feature = "testing"))]
pub(crate) use append::{apart, as_batch};
pub use blobs::JetBlobs;
pub use keys::JetKeys;
pub use queries::QueryService;

use crate::client::Client;
use crate::link::{Link, OpenError};
use crate::message::{json, map, plain_headers, wall_clock};
use crate::port::{
    AppendError, DeadLetter, Error, Inbox, Log, OpenRun, RunAppend, RunRecorded, Unreadable,
};
use crate::settings::{Connection, Settings};
use crate::streams;
use inbox::{Durable, JetInbox};
use timers::LocalAlarms;

/// The oldest API level that knows atomic batches and message schedules: server 2.12.
const API_LEVEL_MIN: usize = 2;

/// The consumer of run commands.
const WORKERS: &str = "workers";

/// The log on a NATS server with JetStream. Clones share their connections.
#[derive(Clone)]
pub struct JetStream {
    /// For everything that somebody waits for.
    link: Link,
    /// For replays, so that nobody waits behind a million commits.
    bulk: Link,
    settings: Settings,
    alarms: Arc<LocalAlarms>,
}

impl std::fmt::Debug for JetStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JetStream")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl JetStream {
    /// Tells whoever listens; the client queues what it sends, and when that queue is full, the line
    /// is left out.
    fn tell(&self, subject: String, line: &LogLine) -> bool {
        let sent = self.link.client.publish(subject, json(line));
        matches!(sent.now_or_never(), Some(Ok(())))
    }

    /// Connects, checks that the server can do what is needed, and makes or checks the streams.
    ///
    /// # Errors
    /// `OpenError` says what is wrong and what to do. Nothing is ever deleted or made anew.
    pub async fn open(connection: &Connection, settings: Settings) -> Result<Self, OpenError> {
        let link = Link::connect(connection).await?;
        check_server(&link, connection).await?;
        streams::ensure(&link, &settings).await?;
        let bulk = connection
            .clone()
            .named(format!("{} (replay)", connection.name));
        let bulk = Link::connect(&bulk).await?;
        let alarms = Arc::new(LocalAlarms::new(settings.ack_wait));
        Ok(Self {
            link,
            bulk,
            settings,
            alarms,
        })
    }

    /// The store of large bytes.
    #[must_use]
    pub fn blobs(&self) -> JetBlobs {
        JetBlobs::new(&self.link)
    }

    /// The store of wrapped data keys.
    #[must_use]
    pub fn keys(&self) -> JetKeys {
        JetKeys::new(&self.link)
    }

    /// Waits until the server has everything that was sent: acks and answers are sent without
    /// waiting, and what has not left when the last clone is dropped never leaves.
    ///
    /// # Errors
    /// `Unavailable` when the connection is lost.
    pub async fn flush(&self) -> Result<(), Error> {
        self.link.round_trip().await
    }

    /// The people's side over the same connection, for an adapter in this process. It waits for an
    /// answer for at most `within`.
    ///
    /// # Errors
    /// `Unavailable` when the connection is closed.
    pub async fn client(&self, within: Duration) -> Result<Client, Error> {
        Client::over(&self.link, within).await
    }

    /// Answers queries, until what is returned is dropped or stopped: a NATS micro service named
    /// `dispatch`, shared by the nodes that serve it.
    ///
    /// # Errors
    /// `Unavailable` when the connection is closed.
    pub async fn serve_queries<F, A>(&self, answer: F) -> Result<QueryService, Error>
    where
        F: Fn(Query) -> A + Send + Sync + 'static,
        A: Future<Output = Result<Answer, Rejection>> + Send + 'static,
    {
        QueryService::start(&self.link, answer).await
    }

    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    async fn inbox<T: Send + 'static>(
        &self,
        durables: Vec<Durable>,
        read: inbox::Reader<T>,
    ) -> Result<JetInbox<T>, Error> {
        JetInbox::open(&self.link, durables, read, self.settings.ack_wait).await
    }
}

async fn check_server(link: &Link, connection: &Connection) -> Result<(), OpenError> {
    let url = connection.shown();
    let version = link.client.server_info().version;
    let too_old = |found| OpenError::TooOld {
        url: url.clone(),
        found,
    };
    if !link.client.is_server_compatible(2, 12, 0) {
        return Err(too_old(version));
    }
    let account: Account =
        link.jetstream
            .query_account()
            .await
            .map_err(|error| OpenError::NoJetStream {
                url: url.clone(),
                reason: error.to_string(),
            })?;
    // In a cluster, the server that answers for JetStream may be an older one.
    if account.requests.level < API_LEVEL_MIN {
        return Err(too_old(format!(
            "{version}, with API level {}",
            account.requests.level
        )));
    }
    Ok(())
}

#[async_trait]
impl Log for JetStream {
    async fn append(&self, commit: &Commit, expected: Seq) -> Result<Seq, AppendError> {
        append::append(&self.link, commit, expected).await
    }

    async fn append_group(&self, group: &[(Commit, Seq)]) -> Vec<Result<Seq, AppendError>> {
        append::append_group(&self.link, group).await
    }

    async fn last(&self, key: &ResourceKey) -> Result<Option<Recorded>, Error> {
        read::last(&self.link, key).await
    }

    async fn history(&self, key: &ResourceKey) -> Result<Vec<Recorded>, Error> {
        read::history(&self.link, key).await
    }

    async fn head(&self) -> Result<Seq, Error> {
        read::head(&self.link, streams::EVENTS).await
    }

    async fn tail(&self, after: Seq) -> Result<BoxStream<'static, Result<Recorded, Error>>, Error> {
        tail::follow_commits(self.bulk.clone(), after).await
    }

    async fn commands(&self) -> Result<Box<dyn Inbox<Result<CommandEnvelope, Unreadable>>>, Error> {
        let decider = Durable::new(streams::COMMANDS, "decider", "");
        Ok(Box::new(self.inbox(vec![decider], read::command).await?))
    }

    async fn reactions(&self, role: Role) -> Result<Box<dyn Inbox<Recorded>>, Error> {
        let name = match role {
            Role::Engine => "reactor-engine",
            Role::Worker => "reactor-worker",
            Role::Gateway => "reactor-gateway",
        };
        let events = Durable::new(streams::EVENTS, name, "");
        let redo = Durable::new(streams::REDO, name, "");
        Ok(Box::new(
            self.inbox(vec![events, redo], read::commit).await?,
        ))
    }

    async fn set_timer(&self, timer: &TimerRequest) -> Result<(), Error> {
        timers::set(&self.link, &self.alarms, timer).await
    }

    async fn drop_timer(&self, due: &Due) -> Result<Option<Due>, Error> {
        timers::take_back(&self.link, &self.alarms, due).await
    }

    async fn timer(&self, due: &Due) -> Result<Option<Due>, Error> {
        timers::look(&self.link, &self.alarms, due).await
    }

    async fn alarms(&self) -> Result<Box<dyn Inbox<Due>>, Error> {
        let due = Durable::new(streams::TIMERS, "alarms", subject::DUE);
        let remote = self.inbox(vec![due], read::due).await?;
        Ok(Box::new(timers::Alarms::new(self.alarms.clone(), remote)))
    }

    async fn answer(
        &self,
        org: Option<&OrgName>,
        reply_to: Option<&str>,
        reply: &Reply,
    ) -> Result<(), Error> {
        let body = json(reply);
        if let Some(reply_to) = reply_to {
            let sent = self
                .link
                .client
                .publish(reply_to.to_owned(), body.clone())
                .await;
            sent.map_err(crate::link::unavailable)?;
        }
        let Reply::Rejected { command, rejection } = reply else {
            return Ok(());
        };
        let kind = format!("dispatch.rejected.{}", rejection.code);
        let headers = plain_headers(command.to_string(), &kind, wall_clock());
        let subject = subject::rejected(org, *command);
        self.link
            .publish_patiently(&subject, map(headers), body)
            .await?;
        Ok(())
    }

    async fn bury(&self, letter: &DeadLetter) -> Result<(), Error> {
        letters::bury(&self.link, letter).await
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, Error> {
        letters::list(&self.link, limit).await
    }

    async fn run_commands(&self) -> Result<Box<dyn Inbox<Result<RunEnvelope, Unreadable>>>, Error> {
        let workers = Durable::new(streams::RUNS, WORKERS, subject::RUN_REQUESTS);
        Ok(Box::new(
            self.inbox(vec![workers], read::run_command).await?,
        ))
    }

    async fn run_cancels(&self) -> Result<Box<dyn Inbox<Result<RunEnvelope, Unreadable>>>, Error> {
        let cancels = Durable::new(streams::RUNS, "cancels", subject::RUN_CANCELS);
        Ok(Box::new(
            self.inbox(vec![cancels], read::run_command).await?,
        ))
    }

    async fn put_aside(&self, runs: &[(RunWake, Seq)]) -> Vec<Result<(), Error>> {
        waiting::put_aside(&self.link, runs).await
    }

    async fn waiting_runs(
        &self,
        org: &OrgName,
        function: &Name,
    ) -> Result<Box<dyn Inbox<RunWake>>, Error> {
        let consumer = waiting::consumer(org, function);
        Ok(Box::new(self.inbox(vec![consumer], waiting::read).await?))
    }

    async fn waiting(&self) -> Result<Vec<(OrgName, Name, u64)>, Error> {
        waiting::counts(&self.link).await
    }

    async fn runs_aside(&self, org: &OrgName, function: &Name) -> Result<HashSet<RunId>, Error> {
        open_runs::aside(&self.bulk, &subject::waiting(org, function)).await
    }

    async fn append_run(&self, append: RunAppend) -> Result<Seq, AppendError> {
        runs::append(&self.link, append).await
    }

    async fn last_run_event(
        &self,
        org: &OrgName,
        function: &Name,
        run: RunId,
    ) -> Result<Option<(Seq, RunEvent)>, Error> {
        runs::last(&self.link, &subject::run(org, function, run)).await
    }

    async fn ask_run(&self, wake: &RunWake) -> Result<Seq, Error> {
        runs::ask(&self.link, wake).await
    }

    async fn last_request(
        &self,
        org: &OrgName,
        function: &Name,
        run: RunId,
    ) -> Result<Option<(Seq, RunEnvelope)>, Error> {
        runs::last_request(&self.link, &subject::run_command(org, function, run)).await
    }

    async fn requests_ended(&self) -> Result<Seq, Error> {
        open_runs::ended(&self.link, streams::RUNS, WORKERS).await
    }

    async fn open_runs(&self, before: Timestamp, limit: usize) -> Result<Vec<OpenRun>, Error> {
        open_runs::open(&self.bulk, before, limit).await
    }

    async fn signal_cancel(&self, run: RunId) -> Result<(), Error> {
        let said = self
            .link
            .client
            .publish(subject::CANCELS, run.to_string().into());
        said.await.map_err(crate::link::unavailable)
    }

    async fn cancel_signals(&self) -> Result<BoxStream<'static, RunId>, Error> {
        runs::cancel_signals(&self.link).await
    }

    async fn answer_run(&self, reply_to: &str, reply: &RunReply) -> Result<(), Error> {
        let sent = self
            .link
            .client
            .publish(reply_to.to_owned(), json(reply))
            .await;
        sent.map_err(crate::link::unavailable)
    }

    fn tell_line(&self, org: &OrgName, function: &Name, run: RunId, line: &LogLine) -> bool {
        self.tell(subject::logs(org, function, run), line)
    }

    fn tell_build_line(&self, org: &OrgName, image: &Name, line: &LogLine) -> bool {
        self.tell(subject::build_log(org, image), line)
    }

    async fn runs_since(&self) -> Result<Option<Timestamp>, Error> {
        read::since(&self.link, streams::RUNS).await
    }

    fn runs_kept(&self) -> Duration {
        self.settings.run_retention.age
    }

    async fn tail_runs(
        &self,
        after: Seq,
    ) -> Result<BoxStream<'static, Result<RunRecorded, Error>>, Error> {
        tail::follow(self.bulk.clone(), streams::RUNS, after, runs::recorded).await
    }

    async fn revive(&self, letter: Seq) -> Result<(), Error> {
        letters::revive(&self.link, letter).await
    }
}
