//! What the engine needs of a log. JetStream and the twin both do it, and one conformance suite
//! holds both to it.

use std::collections::HashSet;
use std::time::Duration;

use async_trait::async_trait;
use engine_model::{
    CommandEnvelope, CommandId, Commit, Due, LogLine, Name, OrgName, Recorded, Rejection, Reply,
    ResourceKey, Role, RunEnvelope, RunEvent, RunId, RunReply, RunWake, Seq, TimerRequest,
    Timestamp,
};
use futures::stream::BoxStream;

/// Why the log did not do what it was asked to.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// No answer in time, or no connection: it is safe to repeat.
    #[error("log unavailable: {0}")]
    Unavailable(String),
    /// A stored message is not what this program writes.
    #[error("message {seq} of {stream} cannot be read: {reason}")]
    Corrupt {
        /// The stream.
        stream: &'static str,
        /// Its position.
        seq: Seq,
        /// What is wrong with it.
        reason: String,
    },
    /// The server refused for good: configuration, permissions, sizes.
    #[error("log refused: {0}")]
    Refused(String),
}

/// Why a commit was not appended.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// Another commit is there at or after the expected position: read up and decide again.
    #[error("another commit came first")]
    Clash,
    /// It does not fit a message.
    #[error("the commit has {bytes} bytes, more than a message takes")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// It is not known whether it was appended, after all repeats: repeat it unchanged later.
    #[error(transparent)]
    Log(#[from] Error),
}

/// A message that is not what its subject promises.
#[derive(Debug, Clone)]
pub struct Unreadable {
    /// The organization, if the subject names one.
    pub org: Option<OrgName>,
    /// The sender's id of it, else one derived from its position.
    pub command: CommandId,
    /// Where the sender listens.
    pub reply_to: Option<String>,
    /// What is wrong with it.
    pub rejection: Rejection,
}

/// How a delivery ends. A delivery that is dropped unended comes again after a while.
#[async_trait]
pub trait Ack: Send + Sync {
    /// It is handled: it does not come again.
    async fn ack(&self) -> Result<(), Error>;
    /// It comes again, not before `delay`.
    async fn again(&self, delay: Duration) -> Result<(), Error>;
    /// It is still being handled: its time begins anew.
    async fn progress(&self) -> Result<(), Error>;
}

/// Something delivered; it may have come before.
pub struct Delivery<T> {
    /// What.
    pub item: T,
    /// Its position in its stream.
    pub seq: Seq,
    /// How often it has been delivered, from 1.
    pub deliveries: u32,
    /// How to end it.
    pub ack: Box<dyn Ack>,
}

/// A command, or what was sent in its place.
pub type CommandDelivery = Delivery<Result<CommandEnvelope, Unreadable>>;

/// Deliveries of one consumer, shared by all nodes that have the role for it.
#[async_trait]
pub trait Inbox<T>: Send {
    /// Waits for the next delivery, and returns it with up to `max - 1` more that are there
    /// already. Cancelling it loses nothing.
    ///
    /// # Errors
    /// `Unavailable` when the server is away: call it again.
    async fn pull(&mut self, max: usize) -> Result<Vec<Delivery<T>>, Error>;
}

/// An event of a run to be appended.
#[derive(Debug, Clone)]
pub struct RunAppend {
    /// The organization.
    pub org: OrgName,
    /// The function.
    pub function: Name,
    /// The run.
    pub run: RunId,
    /// The event.
    pub event: RunEvent,
    /// The last position of this run's events; 0 for none.
    pub expected: Seq,
}

/// A run that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRun {
    /// The organization.
    pub org: OrgName,
    /// The function.
    pub function: Name,
    /// The run.
    pub run: RunId,
    /// The position of its last event.
    pub seq: Seq,
}

/// What the run stream holds, in order.
#[derive(Debug, Clone)]
pub enum RunRecorded {
    /// Someone asked for a run.
    Requested {
        /// Its position.
        seq: Seq,
        /// What was asked.
        envelope: RunEnvelope,
    },
    /// Something happened to a run.
    Happened {
        /// Its position.
        seq: Seq,
        /// The organization.
        org: OrgName,
        /// The function.
        function: Name,
        /// The run.
        run: RunId,
        /// What.
        event: RunEvent,
    },
    /// A message that nobody can read; it is skipped.
    Unreadable {
        /// Its position.
        seq: Seq,
    },
}

/// Something that could not be processed after all tries.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct DeadLetter {
    /// Position in the dead-letter stream; 0 before it is buried.
    pub seq: Seq,
    /// The organization, if known.
    pub org: Option<OrgName>,
    /// The stream that it came from: `commands`, `events`, `runs` or `timers`.
    pub stream: String,
    /// Its position there.
    pub origin: Seq,
    /// Its subject.
    pub subject: String,
    /// Why it could not be processed.
    pub reason: String,
    /// How often it was tried.
    pub tries: u32,
    /// When it was given up.
    pub at: Timestamp,
}

/// The log of one installation.
#[async_trait]
pub trait Log: Send + Sync + 'static {
    /// Appends a commit, provided that the last position of its resource's subject is `expected`
    /// (0: none). A time-out is resent unchanged a bounded number of times. A commit that is
    /// there already, as the subject's last, is a success with its position.
    async fn append(&self, commit: &Commit, expected: Seq) -> Result<Seq, AppendError>;

    /// Appends commits of different resources, each on its own terms, as one atomic batch where
    /// that is cheaper; a clash inside the batch falls back to single appends. One result per
    /// commit, in order.
    async fn append_group(&self, group: &[(Commit, Seq)]) -> Vec<Result<Seq, AppendError>>;

    /// The last commit of a resource.
    async fn last(&self, key: &ResourceKey) -> Result<Option<Recorded>, Error>;

    /// All commits of one resource, oldest first.
    async fn history(&self, key: &ResourceKey) -> Result<Vec<Recorded>, Error>;

    /// The last position of the event stream.
    async fn head(&self) -> Result<Seq, Error>;

    /// All commits after a position, oldest first, and then each new one as it comes. It heals
    /// itself after a lost connection; an `Err` ends it.
    async fn tail(&self, after: Seq) -> Result<BoxStream<'static, Result<Recorded, Error>>, Error>;

    /// Commands that are accepted and not yet decided.
    async fn commands(&self) -> Result<Box<dyn Inbox<Result<CommandEnvelope, Unreadable>>>, Error>;

    /// Commits for the reactor of a role, shared by the nodes that have it.
    async fn reactions(&self, role: Role) -> Result<Box<dyn Inbox<Recorded>>, Error>;

    /// Sets a timer; setting the same resource's same alarm again replaces it.
    async fn set_timer(&self, timer: &TimerRequest) -> Result<(), Error>;

    /// Takes back the timer of a resource's alarm, and returns what it would have rung for; nothing
    /// when there is none, or it has rung.
    async fn drop_timer(&self, due: &Due) -> Result<Option<Due>, Error>;

    /// What the timer of a resource's alarm is to ring for, or has rung for and nobody has ended;
    /// nothing when there is none.
    async fn timer(&self, due: &Due) -> Result<Option<Due>, Error>;

    /// Alarms that have come due.
    async fn alarms(&self) -> Result<Box<dyn Inbox<Due>>, Error>;

    /// Tells the sender of a command its outcome, if it listens; and keeps a refusal for those
    /// that did not.
    async fn answer(
        &self,
        org: Option<&OrgName>,
        reply_to: Option<&str>,
        reply: &Reply,
    ) -> Result<(), Error>;

    /// Keeps what could not be processed, durably, before it is acknowledged.
    async fn bury(&self, letter: &DeadLetter) -> Result<(), Error>;

    /// What could not be processed, oldest first, at most `limit`.
    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, Error>;

    /// Run commands, shared by the workers.
    async fn run_commands(&self) -> Result<Box<dyn Inbox<Result<RunEnvelope, Unreadable>>>, Error>;

    /// Requests to end runs, shared by the workers, which no run command stands before.
    async fn run_cancels(&self) -> Result<Box<dyn Inbox<Result<RunEnvelope, Unreadable>>>, Error>;

    /// Puts runs aside until there is room for them, in this order, one result each. The position
    /// is that of the message which asked for the run: put aside again within seconds, it is one.
    async fn put_aside(&self, runs: &[(RunWake, Seq)]) -> Vec<Result<(), Error>>;

    /// The runs of a function that were put aside, in order, shared by the workers.
    async fn waiting_runs(
        &self,
        org: &OrgName,
        function: &Name,
    ) -> Result<Box<dyn Inbox<RunWake>>, Error>;

    /// How many runs of which functions are put aside, those included that are delivered and not
    /// ended yet.
    async fn waiting(&self) -> Result<Vec<(OrgName, Name, u64)>, Error>;

    /// The runs of a function that are put aside, those included that are delivered and not ended
    /// yet.
    async fn runs_aside(&self, org: &OrgName, function: &Name) -> Result<HashSet<RunId>, Error>;

    /// Appends an event of a run, provided that the run's last position is `expected`. A repeat
    /// that is there already, as the last, is a success with its position.
    async fn append_run(&self, append: RunAppend) -> Result<Seq, AppendError>;

    /// The last event of a run.
    async fn last_run_event(
        &self,
        org: &OrgName,
        function: &Name,
        run: RunId,
    ) -> Result<Option<(Seq, RunEvent)>, Error>;

    /// Asks for a run once more, in the name of who asked for it first. A repeat within seconds is
    /// the same request.
    async fn ask_run(&self, wake: &RunWake) -> Result<Seq, Error>;

    /// The last message that asked for a run under its own id, and its position.
    async fn last_request(
        &self,
        org: &OrgName,
        function: &Name,
        run: RunId,
    ) -> Result<Option<(Seq, RunEnvelope)>, Error>;

    /// Up to which position all run commands are ended.
    async fn requests_ended(&self) -> Result<Seq, Error>;

    /// The runs that have not ended, whose last event is from before a moment, and which do not wait
    /// for a later one: in the order of those events, at most `limit`. It costs the server a look at
    /// every run that it keeps.
    async fn open_runs(&self, before: Timestamp, limit: usize) -> Result<Vec<OpenRun>, Error>;

    /// Says to all nodes that are there that a run is to end; nothing keeps it.
    async fn signal_cancel(&self, run: RunId) -> Result<(), Error>;

    /// The runs that are to end, from when this returns on. What is said while the connection is
    /// lost is missed.
    async fn cancel_signals(&self) -> Result<BoxStream<'static, RunId>, Error>;

    /// Tells the sender of a run command how it ended, if it listens.
    async fn answer_run(&self, reply_to: &str, reply: &RunReply) -> Result<(), Error>;

    /// Tells whoever listens a line that a run printed; `false` when there is no room for it now.
    /// Never waits, and nothing keeps it. A log to which nobody can listen takes every line.
    fn tell_line(&self, org: &OrgName, function: &Name, run: RunId, line: &LogLine) -> bool {
        let _ = (org, function, run, line);
        true
    }

    /// Tells whoever listens a line that the build of an image printed, as [`tell_line`](Self::tell_line)
    /// does.
    fn tell_build_line(&self, org: &OrgName, image: &Name, line: &LogLine) -> bool {
        let _ = (org, image, line);
        true
    }

    /// From when on the log of runs is whole: what is older may have been dropped. Nothing when all
    /// is there that ever was.
    async fn runs_since(&self) -> Result<Option<Timestamp>, Error>;

    /// For how long a run is kept after it was asked for.
    fn runs_kept(&self) -> Duration;

    /// The run stream after a position, oldest first, and then each message as it comes.
    async fn tail_runs(
        &self,
        after: Seq,
    ) -> Result<BoxStream<'static, Result<RunRecorded, Error>>, Error>;

    /// Puts the messages that a dead letter names back for another try, and removes the letter.
    async fn revive(&self, letter: Seq) -> Result<(), Error>;
}
