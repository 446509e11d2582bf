//! The people's side: commands, runs, queries, blobs and a look at what happens, with the
//! permissions of a client only.

mod permissions;
mod replies;
#[cfg(test)]
mod tests;

use std::sync::atomic::Ordering;
use std::time::Duration;

use adapter_kit::{
    BlobError, Blobs as _, ClientError, Commands, Digest, Queries, RunTicket, Runs, Submission,
};
use async_nats::{Message, StatusCode, Subscriber};
use async_trait::async_trait;
use bytes::Bytes;
use engine_model::{
    Actor, Answer, Code, Command, LogLine, Name, OrgName, Query, Recorded, Rejection, Reply,
    ResourceKey, RunCommand, RunId, RunReply, Seq, subject,
};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

pub use permissions::{Permissions, User, permissions};

use crate::jetstream::JetBlobs;
use crate::link::{Fault, Link, OpenError};
use crate::message::{COMMAND_ID, Headers, PART, json, map, request_headers};
use crate::port::Error;
use crate::settings::Connection;
use crate::streams::COMMITTED_PREFIX;
use replies::{Replies, Waiting};

/// Speaks for people: sends commands, and hears and asks what came of them. Clones share the
/// connection and its one inbox.
#[derive(Clone)]
pub struct Client {
    link: Link,
    replies: Replies,
    within: Duration,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("within", &self.within)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Connects. An answer is awaited for at most `within`.
    ///
    /// # Errors
    /// `OpenError` says what is wrong.
    pub async fn connect(connection: &Connection, within: Duration) -> Result<Self, OpenError> {
        let link = Link::connect(connection).await?;
        let unreachable = |error: Error| OpenError::Unreachable {
            url: connection.shown(),
            reason: error.to_string(),
        };
        Self::over(&link, within).await.map_err(unreachable)
    }

    pub(crate) async fn over(link: &Link, within: Duration) -> Result<Self, Error> {
        let replies = Replies::open(link).await?;
        Ok(Self {
            link: link.clone(),
            replies,
            within,
        })
    }

    /// The store of large bytes.
    #[must_use]
    pub fn blobs(&self) -> JetBlobs {
        JetBlobs::new(&self.link)
    }

    /// Stores what is too large for a message.
    ///
    /// # Errors
    /// `BlobError::Store`; it is safe to repeat.
    pub async fn put_blob(&self, bytes: Bytes) -> Result<Digest, BlobError> {
        self.blobs().put(bytes).await
    }

    /// Each commit of a resource from now on, as it is stored. For showing progress: what happens
    /// while the connection is lost is missed.
    ///
    /// # Errors
    /// `Unreachable` when the connection is closed.
    pub async fn watch_events(
        &self,
        key: &ResourceKey,
    ) -> Result<BoxStream<'static, Recorded>, ClientError> {
        let tail = subject::event(key);
        let tail = tail.trim_start_matches("dispatch.evt.");
        let subject = format!("{COMMITTED_PREFIX}.{tail}");
        let messages = self.subscribe(subject).await?;
        Ok(messages
            .filter_map(|message| async move { committed(&message) })
            .boxed())
    }

    /// The lines that runs of a function print from now on, or those of one run, while they run.
    /// What there was no room for is counted by the next line; what is printed while the
    /// connection is lost is missed.
    ///
    /// # Errors
    /// `Unreachable` when the connection is closed.
    pub async fn follow_logs(
        &self,
        org: &OrgName,
        function: &Name,
        run: Option<RunId>,
    ) -> Result<BoxStream<'static, (RunId, LogLine)>, ClientError> {
        let subject = match run {
            Some(run) => subject::logs(org, function, run),
            None => subject::logs_of(org, function),
        };
        let messages = self.subscribe(subject).await?;
        let line = |message: Message| async move {
            let (_, _, run) = subject::parse_run(&message.subject)?;
            Some((run, serde_json::from_slice(&message.payload).ok()?))
        };
        Ok(messages.filter_map(line).boxed())
    }

    /// The lines that builds of an image print from now on, while they go on, as
    /// [`follow_logs`](Self::follow_logs) tells those of runs.
    ///
    /// # Errors
    /// `Unreachable` when the connection is closed.
    pub async fn follow_build(
        &self,
        org: &OrgName,
        image: &Name,
    ) -> Result<BoxStream<'static, LogLine>, ClientError> {
        let subject = subject::build_log(org, image);
        let messages = self.subscribe(subject).await?;
        let line = |message: Message| async move { serde_json::from_slice(&message.payload).ok() };
        Ok(messages.filter_map(line).boxed())
    }

    /// Hears what is told on a subject; from when this returns on, nothing is missed.
    async fn subscribe(&self, subject: String) -> Result<Subscriber, ClientError> {
        let messages = self.link.client.subscribe(subject).await;
        let messages = messages.map_err(unreachable)?;
        self.link.round_trip().await.map_err(unreachable)?;
        Ok(messages)
    }

    /// Publishes a request durably. `Ok(true)` when the server had it already.
    async fn publish(
        &self,
        subject: &str,
        headers: Headers,
        body: Bytes,
        until: Instant,
    ) -> Result<Sent, ClientError> {
        let publishing = self
            .link
            .publish_patiently(subject, map(headers), body.clone());
        match timeout_at(until, publishing).await {
            Ok(Ok(ack)) => Ok(Sent {
                seq: Seq(ack.sequence),
                repeat: ack.duplicate,
            }),
            Ok(Err(Fault::TooLarge)) => Err(ClientError::Rejected(Rejection::new(
                Code::TooLarge,
                format!(
                    "{} bytes are more than a message takes: put what is large into the blob \
                     store and name its digest",
                    body.len()
                ),
            ))),
            Ok(Err(fault)) => Err(unreachable(Error::from(fault))),
            Err(_) => Err(ClientError::Unreachable(
                "the server did not acknowledge".into(),
            )),
        }
    }

    /// Publishes a request durably, and once more under another message id if the server had it
    /// already: it would not be delivered again, and who asked this time has another inbox.
    async fn ask(
        &self,
        subject: &str,
        headers: impl Fn(String) -> Headers,
        message: String,
        body: Bytes,
        until: Instant,
    ) -> Result<Sent, ClientError> {
        let first = self
            .publish(subject, headers(message.clone()), body.clone(), until)
            .await?;
        if first.repeat {
            let again = format!("{message}/{}", Uuid::new_v4().simple());
            self.publish(subject, headers(again), body, until).await?;
        }
        Ok(first)
    }
}

/// What a message carries itself (design, section 3).
const INLINE_BYTES_MAX: usize = 64 << 10;

/// Largest input of a run, as JSON: as much as a function may return.
const INPUT_BYTES_MAX: usize = 6 << 20;

impl Client {
    /// Puts a large input into the blob store.
    async fn spill(&self, command: RunCommand) -> Result<RunCommand, ClientError> {
        let input = json(&command.input);
        if input.len() <= INLINE_BYTES_MAX {
            return Ok(command);
        }
        if input.len() > INPUT_BYTES_MAX {
            let text = format!(
                "the input has {} bytes, more than the {INPUT_BYTES_MAX} that an input may have",
                input.len()
            );
            return Err(ClientError::Rejected(Rejection::new(Code::TooLarge, text)));
        }
        let digest = self.put_blob(input).await.map_err(unreachable)?;
        Ok(RunCommand {
            input: Value::Null,
            input_blob: Some(digest.to_string()),
            ..command
        })
    }
}

/// How long an answer may be on its way after the connection is there again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A request that is stored.
struct Sent {
    seq: Seq,
    /// Whether the server had it before.
    repeat: bool,
}

fn unreachable(error: impl std::fmt::Display) -> ClientError {
    ClientError::Unreachable(error.to_string())
}

/// A commit as the server repeats it once it is stored.
fn committed(message: &Message) -> Option<Recorded> {
    let seq = message
        .headers
        .as_ref()?
        .get("Nats-Sequence")?
        .as_str()
        .parse()
        .ok()?;
    let commit = serde_json::from_slice(&message.payload).ok()?;
    Some(Recorded {
        seq: Seq(seq),
        commit,
    })
}

async fn answer(
    waiting: &mut Waiting,
    until: Instant,
    within: Duration,
) -> Result<Message, ClientError> {
    match timeout_at(until, waiting.next()).await {
        Ok(Some(message)) => Ok(message),
        Ok(None) => Err(ClientError::Unreachable("the connection is closed".into())),
        Err(_) => Err(ClientError::Timeout(within)),
    }
}

fn garbled(what: &str) -> ClientError {
    ClientError::Rejected(Rejection::new(
        Code::Internal,
        format!("the {what} cannot be read"),
    ))
}

fn kind_of(command: &Command) -> &'static str {
    match command {
        Command::Create(_) => "dispatch.command.Create",
        Command::Update(_) => "dispatch.command.Update",
        Command::Delete(_) => "dispatch.command.Delete",
        Command::Refresh => "dispatch.command.Refresh",
        Command::Retry => "dispatch.command.Retry",
        Command::Abandon { .. } => "dispatch.command.Abandon",
        Command::Rotate => "dispatch.command.Rotate",
        Command::Adopt { .. } => "dispatch.command.Adopt",
        Command::Rollback { .. } => "dispatch.command.Rollback",
        Command::Route { .. } => "dispatch.command.Route",
    }
}

#[async_trait]
impl Commands for Client {
    async fn submit(&self, submission: Submission) -> Result<Reply, ClientError> {
        let Submission {
            id,
            key,
            command,
            actor,
        } = submission;
        let until = Instant::now() + self.within;
        let mut waiting = self.replies.wait();
        let inbox = Some(waiting.inbox().to_owned());
        let text = id.to_string();
        let headers = |message: String| {
            let kind = kind_of(&command).to_owned();
            let inbox = inbox.clone();
            let mut headers = request_headers(message, &text, kind, &actor.0, inbox);
            headers.push((COMMAND_ID, text.clone()));
            headers
        };
        let subject = subject::command(&key);
        let message = loop {
            let connection = self.connection();
            match self
                .ask(&subject, headers, text.clone(), json(&command), until)
                .await
            {
                Ok(_) => {}
                Err(ClientError::Rejected(rejection)) => {
                    return Ok(Reply::Rejected {
                        command: id,
                        rejection,
                    });
                }
                Err(error) => return Err(error),
            }
            let answered = self.answer_on(connection, &mut waiting, until, self.within);
            if let Some(message) = answered.await? {
                break message;
            }
        };
        serde_json::from_slice(&message.payload).map_err(|_| garbled("reply"))
    }
}

#[async_trait]
impl Runs for Client {
    async fn run(
        &self,
        id: RunId,
        org: &OrgName,
        function: &Name,
        command: RunCommand,
        actor: Actor,
        wait: Option<Duration>,
    ) -> Result<RunTicket, ClientError> {
        let within = wait.unwrap_or(self.within);
        let until = Instant::now() + within;
        let mut waiting = wait.map(|_| self.replies.wait());
        let inbox = waiting.as_ref().map(|waiting| waiting.inbox().to_owned());
        let text = id.to_string();
        let headers = |message: String| {
            request_headers(
                message,
                &text,
                "dispatch.run.Requested".into(),
                &actor.0,
                inbox.clone(),
            )
        };
        let subject = subject::run_command(org, function, id);
        let command = self.spill(command).await?;
        let body = json(&command);
        // The same key with another input is another message, so that it is refused, not dropped.
        let first = match &command.idempotency_key {
            Some(_) => format!("{text}/{}", Digest::of(&body)),
            None => text.clone(),
        };
        let Some(waiting) = &mut waiting else {
            let sent = self.publish(&subject, headers(first), body, until).await?;
            return Ok(RunTicket::Accepted {
                run: id,
                seq: sent.seq,
            });
        };
        let message = loop {
            let connection = self.connection();
            self.ask(&subject, headers, first.clone(), body.clone(), until)
                .await?;
            let answered = self.answer_on(connection, waiting, until, within);
            if let Some(message) = answered.await? {
                break message;
            }
        };
        run_outcome(&message.payload)
    }

    async fn cancel(
        &self,
        id: RunId,
        org: &OrgName,
        function: &Name,
        actor: Actor,
    ) -> Result<Seq, ClientError> {
        let until = Instant::now() + self.within;
        let mut waiting = self.replies.wait();
        let inbox = Some(waiting.inbox().to_owned());
        let text = id.to_string();
        // Each request is one of its own; what it asks for is the same each time.
        let message = format!("{text}/cancel/{}", Uuid::new_v4().simple());
        let headers = |message: String| {
            let kind = "dispatch.run.CancelRequested".into();
            request_headers(message, &text, kind, &actor.0, inbox.clone())
        };
        let subject = subject::run_cancel(org, function, id);
        let body = json(&RunCommand::cancelling());
        let message = loop {
            let connection = self.connection();
            self.ask(&subject, headers, message.clone(), body.clone(), until)
                .await?;
            let answered = self.answer_on(connection, &mut waiting, until, self.within);
            if let Some(message) = answered.await? {
                break message;
            }
        };
        match serde_json::from_slice::<Reply>(&message.payload) {
            Ok(Reply::Done { seq, .. }) => Ok(seq),
            Ok(Reply::Rejected { rejection, .. }) => Err(ClientError::Rejected(rejection)),
            Err(_) => Err(garbled("reply")),
        }
    }
}

/// How a run ended, or why it could not be read or begun.
fn run_outcome(body: &[u8]) -> Result<RunTicket, ClientError> {
    if let Ok(reply) = serde_json::from_slice::<RunReply>(body) {
        return match reply.rejection {
            Some(rejection) => Err(ClientError::Rejected(rejection)),
            None => Ok(RunTicket::Finished(reply)),
        };
    }
    match serde_json::from_slice::<Reply>(body) {
        Ok(Reply::Rejected { rejection, .. }) => Err(ClientError::Rejected(rejection)),
        Ok(Reply::Done { .. }) | Err(_) => Err(garbled("run's reply")),
    }
}

#[async_trait]
impl Queries for Client {
    async fn query(&self, query: Query) -> Result<Answer, ClientError> {
        let until = Instant::now() + self.within;
        loop {
            if let Some(answer) = self.query_once(&query, until).await? {
                return Ok(answer);
            }
        }
    }
}

impl Client {
    /// Asks the views; nothing when the connection was lost meanwhile, and perhaps the answer.
    async fn query_once(
        &self,
        query: &Query,
        until: Instant,
    ) -> Result<Option<Answer>, ClientError> {
        let connection = self.connection();
        let mut waiting = self.replies.wait();
        let inbox = waiting.inbox().to_owned();
        let sent = self
            .link
            .client
            .publish_with_reply(subject::QUERY, inbox, json(query));
        sent.await.map_err(unreachable)?;
        let mut parts = Vec::new();
        loop {
            let answered = self.answer_on(connection, &mut waiting, until, self.within);
            let Some(message) = answered.await? else {
                return Ok(None);
            };
            if message.status == Some(StatusCode::NO_RESPONDERS) {
                return Err(unreachable("no engine answers queries there"));
            }
            let (part, of) = part(&message).unwrap_or((1, 1));
            if parts.len() + 1 != part {
                return Err(garbled("answer, which lacks a part,"));
            }
            parts.push(message.payload);
            if part == of {
                break;
            }
        }
        let answer: Result<Answer, Rejection> =
            serde_json::from_slice(&parts.concat()).map_err(|_| garbled("answer"))?;
        answer.map(Some).map_err(ClientError::Rejected)
    }

    /// Counts the connections to the server so far.
    fn connection(&self) -> u64 {
        let statistics = self.link.client.statistics();
        statistics.connects.load(Ordering::Relaxed)
    }

    /// Waits for an answer. An answer travels once, and to nobody while the connection is lost:
    /// after `connection` has given way to another one, and nothing has come for a moment, there
    /// is nothing, and it is for the caller to ask again.
    async fn answer_on(
        &self,
        connection: u64,
        waiting: &mut Waiting,
        until: Instant,
        within: Duration,
    ) -> Result<Option<Message>, ClientError> {
        loop {
            let moment = (Instant::now() + ASK_AGAIN).min(until);
            match answer(waiting, moment, within).await {
                Err(ClientError::Timeout(_)) if moment < until => {
                    if self.connection() != connection {
                        return Ok(None);
                    }
                }
                answered => return answered.map(Some),
            }
        }
    }
}

fn part(message: &Message) -> Option<(usize, usize)> {
    let (part, of) = message
        .headers
        .as_ref()?
        .get(PART)?
        .as_str()
        .split_once('/')?;
    Some((part.parse().ok()?, of.parse().ok()?))
}
