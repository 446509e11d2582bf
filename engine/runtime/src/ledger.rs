//! The ledger: the one place of a node where decisions become commits.
//!
//! It takes what has come in while the last group was being written, decides it together, and
//! appends it as one group, so that under load the cost of an fsync is shared, and a lone command
//! pays for nobody else. One append is in flight per resource: a request for a resource that this
//! group already writes waits for the next.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use engine_core::{Decision, Input, decide};
use engine_model::{
    Actor, Alarm, Cause, Command, CommandId, Commit, Effect, Event, Outcome, Recorded, Rejection,
    ResourceKey, Sealed, Seq,
};
use engine_model::{Code, Timestamp};
use engine_stream::{AppendError, Error, Log};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::clock::now;
use crate::fold::{Fold, FoldError};

/// Requests that wait for the ledger before their senders do: a few groups.
const QUEUE_MAX: usize = 4096;

/// Requests decided together: a batch of the server holds at most 1000.
const GROUP_MAX: usize = 512;

/// Clashes with other nodes before a request is refused as `busy`.
const CLASHES_MAX: u32 = 8;

/// What is asked of `decide`.
#[derive(Debug)]
pub enum Ask {
    /// Someone's command, with its secret re-sealed.
    Command {
        /// Its id.
        id: CommandId,
        /// What is wanted.
        command: Box<Command>,
        /// Its secret, if it has one.
        sealed: Option<Sealed>,
    },
    /// What came of an effect.
    Outcome(Box<Outcome>),
    /// An effect that is a word from one resource to another.
    Nudge(Box<Effect>),
    /// An alarm that needs a decision.
    Due(Alarm),
}

/// A request to decide.
#[derive(Debug)]
pub struct Request {
    /// The resource.
    pub key: ResourceKey,
    /// What is asked.
    pub ask: Ask,
    /// On whose behalf.
    pub actor: Actor,
    /// What brought it about.
    pub cause: Cause,
    /// Ties together what one request brings about.
    pub correlation: String,
}

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decided {
    /// The position of the last commit of the decision, or of the one that decided the same
    /// command before; the resource's last position when there was nothing to record.
    pub seq: Seq,
}

/// Why nothing was decided.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// It was refused.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The log did not take it; it is safe to repeat.
    #[error(transparent)]
    Log(#[from] Error),
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

type Answer = oneshot::Sender<Result<Decided, LedgerError>>;

struct Waiting {
    request: Request,
    answer: Answer,
    clashes: u32,
}

/// A handle to the ledger.
#[derive(Clone)]
pub struct Ledger {
    requests: mpsc::Sender<Waiting>,
}

/// A decision that is on its way.
pub(crate) type Pending = oneshot::Receiver<Result<Decided, LedgerError>>;

impl Ledger {
    /// A ledger on `log`, and the work that must be driven for it to answer.
    pub fn new(
        log: Arc<dyn Log>,
        fold: Arc<Fold>,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = Result<(), FoldError>> + Send) {
        let (requests, inbox) = mpsc::channel(QUEUE_MAX);
        let desk = Desk {
            log,
            fold,
            waiting: VecDeque::new(),
        };
        (Self { requests }, desk.work(inbox, stop))
    }

    /// Hands in a request; requests for one resource are decided in the order of these calls.
    ///
    /// # Errors
    /// `Stopping` when the ledger takes nothing more.
    pub(crate) async fn hand_in(&self, request: Request) -> Result<Pending, LedgerError> {
        let (answer, pending) = oneshot::channel();
        let waiting = Waiting {
            request,
            answer,
            clashes: 0,
        };
        self.requests
            .send(waiting)
            .await
            .map_err(|_| LedgerError::Stopping)?;
        Ok(pending)
    }

    /// Decides a request and waits until it is durable.
    ///
    /// # Errors
    /// `Rejected`, `Log` or `Stopping`.
    pub async fn decide(&self, request: Request) -> Result<Decided, LedgerError> {
        self.hand_in(request)
            .await?
            .await
            .unwrap_or(Err(LedgerError::Stopping))
    }
}

struct Desk {
    log: Arc<dyn Log>,
    fold: Arc<Fold>,
    waiting: VecDeque<Waiting>,
}

/// Commits of one group, and who waits for them.
#[derive(Default)]
struct Group {
    commits: Vec<(Commit, Seq)>,
    waiters: Vec<Waiting>,
    held: HashSet<ResourceKey>,
}

impl Desk {
    async fn work(
        mut self,
        mut inbox: mpsc::Receiver<Waiting>,
        stop: CancellationToken,
    ) -> Result<(), FoldError> {
        let mut fresh = Vec::with_capacity(GROUP_MAX);
        loop {
            if self.waiting.is_empty() {
                let more = tokio::select! {
                    more = inbox.recv_many(&mut fresh, GROUP_MAX) => more,
                    () = stop.cancelled() => 0,
                };
                if more == 0 {
                    return Ok(());
                }
            } else {
                while fresh.len() < GROUP_MAX
                    && let Ok(waiting) = inbox.try_recv()
                {
                    fresh.push(waiting);
                }
            }
            self.waiting.extend(fresh.drain(..));
            self.round().await?;
        }
    }

    /// Decides what waits, as far as it fits one group, and writes it.
    async fn round(&mut self) -> Result<(), FoldError> {
        let mut group = Group::default();
        let mut later = VecDeque::new();
        let at = now();
        while let Some(waiting) = self.waiting.pop_front() {
            let full = group.commits.len() >= GROUP_MAX;
            if full || group.held.contains(&waiting.request.key) {
                // Later requests for the same resource must not overtake it.
                group.held.insert(waiting.request.key.clone());
                later.push_back(waiting);
                continue;
            }
            match self
                .fold
                .read(|world| decide_one(world, &waiting.request, at))
            {
                Err(rejection) => answer(waiting, Err(rejection.into())),
                Ok(decision) => {
                    self.take(decision, waiting, &mut group, &mut later, at)
                        .await?
                }
            }
        }
        self.waiting = later;
        self.write(group).await
    }

    /// Puts a decision into the group, or writes it alone when it has several commits.
    async fn take(
        &mut self,
        decision: Decision,
        waiting: Waiting,
        group: &mut Group,
        later: &mut VecDeque<Waiting>,
        at: Timestamp,
    ) -> Result<(), FoldError> {
        if decision.writes.is_empty() {
            let last = || self.fold.read(|world| world.last_seq(&waiting.request.key));
            let seq = decision.repeated.unwrap_or_else(last);
            answer(waiting, Ok(Decided { seq }));
            return Ok(());
        }
        if decision
            .writes
            .iter()
            .any(|(key, _)| group.held.contains(key))
        {
            group.held.insert(waiting.request.key.clone());
            later.push_back(waiting);
            return Ok(());
        }
        if decision.writes.len() > 1 {
            return self.write_in_order(decision, waiting, at).await;
        }
        for (key, events) in decision.writes {
            group.held.insert(key.clone());
            group
                .commits
                .push(self.commit(key, events, &waiting.request, at));
        }
        group.waiters.push(waiting);
        Ok(())
    }

    fn commit(
        &self,
        key: ResourceKey,
        events: Vec<Event>,
        request: &Request,
        at: Timestamp,
    ) -> (Commit, Seq) {
        let expected = self.fold.read(|world| world.last_seq(&key));
        let commit = Commit {
            id: Commit::id_for(&key, expected, request.cause),
            key,
            events,
            at,
            actor: request.actor.clone(),
            cause: request.cause,
            correlation: request.correlation.clone(),
        };
        (commit, expected)
    }

    async fn write(&mut self, group: Group) -> Result<(), FoldError> {
        let results = match &group.commits[..] {
            [] => return Ok(()),
            [(commit, expected)] => vec![self.log.append(commit, *expected).await],
            many => self.log.append_group(many).await,
        };
        let mut applied = Vec::with_capacity(results.len());
        let mut ended = Vec::with_capacity(results.len());
        for (((commit, _), waiting), result) in
            group.commits.into_iter().zip(group.waiters).zip(results)
        {
            let seq = result.as_ref().ok().copied();
            ended.push((waiting, result));
            if let Some(seq) = seq {
                applied.push(Recorded { seq, commit });
            }
        }
        self.learn(&applied).await?;
        for (waiting, result) in ended {
            self.end(waiting, result).await?;
        }
        Ok(())
    }

    /// A decision about several resources: each is written after the one before it, and the one
    /// that asked comes last, so that a crash in between leaves the request to be made again.
    async fn write_in_order(
        &mut self,
        decision: Decision,
        waiting: Waiting,
        at: Timestamp,
    ) -> Result<(), FoldError> {
        let mut last = Err(AppendError::Clash);
        for (key, events) in decision.writes {
            let (commit, expected) = self.commit(key, events, &waiting.request, at);
            last = self.log.append(&commit, expected).await;
            match &last {
                Ok(seq) => self.learn(&[Recorded { seq: *seq, commit }]).await?,
                Err(AppendError::Clash) => {
                    self.read_up(&commit.key).await?;
                    break;
                }
                Err(_) => break,
            }
        }
        self.end(waiting, last).await
    }

    /// Applies own commits. The log may have recognised a commit that another node wrote under
    /// the same id, so what cannot be applied is read from the stream instead.
    async fn learn(&self, applied: &[Recorded]) -> Result<(), FoldError> {
        if self.fold.apply(applied).is_ok() {
            return Ok(());
        }
        for recorded in applied {
            self.read_up(&recorded.commit.key).await?;
        }
        Ok(())
    }

    async fn end(
        &mut self,
        mut waiting: Waiting,
        result: Result<Seq, AppendError>,
    ) -> Result<(), FoldError> {
        match result {
            Ok(seq) => answer(waiting, Ok(Decided { seq })),
            Err(AppendError::Clash) if waiting.clashes < CLASHES_MAX => {
                waiting.clashes += 1;
                self.read_up(&waiting.request.key).await?;
                self.waiting.push_back(waiting);
            }
            Err(AppendError::Clash) => {
                let text = format!("too many others changed {} just now", waiting.request.key);
                answer(waiting, Err(Rejection::new(Code::Busy, text).into()));
            }
            Err(AppendError::TooLarge { bytes }) => {
                let text = format!(
                    "its events have {bytes} bytes, more than a message takes; put what is large \
                     into the blob store"
                );
                answer(waiting, Err(Rejection::new(Code::TooLarge, text).into()));
            }
            Err(AppendError::Log(error)) => answer(waiting, Err(error.into())),
        }
        Ok(())
    }

    /// Folds what others wrote about a resource, without waiting for the tail.
    async fn read_up(&self, key: &ResourceKey) -> Result<(), FoldError> {
        let history = self.log.history(key).await?;
        self.fold.apply(&history)
    }
}

fn decide_one(
    world: &engine_core::World,
    request: &Request,
    at: Timestamp,
) -> Result<Decision, Rejection> {
    let input = match &request.ask {
        Ask::Command {
            id,
            command,
            sealed,
        } => Input::Command {
            id: *id,
            command,
            sealed: sealed.as_ref(),
        },
        Ask::Outcome(outcome) => Input::Outcome { outcome },
        Ask::Nudge(effect) => Input::Nudge { effect },
        Ask::Due(alarm) => Input::Due { alarm: *alarm },
    };
    decide(world, &request.key, input, at)
}

fn answer(waiting: Waiting, result: Result<Decided, LedgerError>) {
    // A sender that went away needs no answer: what was decided is on record.
    let _ = waiting.answer.send(result);
}
