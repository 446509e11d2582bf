//! Follows one stream: reads, folds, stores, shows; and rebuilds beside what is shown.
//!
//! ```text
//!  log ──► live side ──► commit ──► shown to queries
//!  log ──► next side ──► commit      (only while rebuilding; takes the live side's place
//!                                     as soon as it has folded as far)
//! ```
//!
//! A side that fails is opened again from what is stored, after a while; nothing of a step that
//! failed is shown. A live side stores each handful of messages at once, one that is catching up
//! gathers larger steps.

use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use engine_model::{AsOf, Recorded, Seq, Timestamp};
use engine_stream::{Error as LogError, Log, RunRecorded};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::Error;
use crate::events::EventFold;
use crate::runs::RunFold;
use crate::shown::Shown;
use crate::store::{Store, Stream};
use crate::views::Limits;

/// How many messages are folded at a time; a step of this size takes some milliseconds.
const CHUNK_MAX: usize = 2048;

/// How many rows are stored at a time while catching up.
const STEP_ROWS: usize = 8192;

/// How long a step that is catching up gathers messages.
const GATHER: Duration = Duration::from_millis(20);

/// A message of this age is not news: whoever waits for it is not waiting for the view.
const OLD_MS: i64 = 1_000;

/// From this size on a chunk is folded outside the threads that serve requests.
const OFFLOAD_FROM: usize = 64;

/// How many rows of a view stay in memory: while catching up, so that rows which change often
/// are stored once; and when it is live.
const KEEP_CATCHING_UP: usize = 65_536;
const KEEP_LIVE: usize = 1024;

/// The wait after a failure, doubled each time.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// How often it is looked at what the stream has dropped.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// How long the first message of a stream that holds any is waited for.
const FIRST_WITHIN: Duration = Duration::from_secs(5);

/// The fold of one stream.
#[async_trait]
pub(crate) trait Fold: Send + Sized + 'static {
    type Item: Send + Sync + 'static;
    const STREAM: Stream;

    fn open(tree: sled::Tree, limits: Limits) -> Result<Self, Error>;
    fn fold(&mut self, item: &Self::Item) -> Result<(), Error>;
    fn commit(&mut self, keep: usize) -> Result<AsOf, Error>;
    fn pending(&self) -> usize;
    fn position(&self) -> AsOf;
    fn tree(&self) -> &sled::Tree;

    /// The moment of the last message that was folded.
    fn latest(&self) -> Timestamp;

    async fn tail(
        log: &dyn Log,
        after: Seq,
    ) -> Result<BoxStream<'static, Result<Self::Item, LogError>>, LogError>;

    /// Waits until it is known where the stream begins now, if that is of interest.
    async fn oldest(log: Arc<dyn Log>) -> Seq;

    /// Drops what the stream, which begins at `first` now, has dropped.
    fn prune(&mut self, first: Seq) -> Result<usize, Error>;
}

/// Someone wants a rebuild, and hears when it is done.
pub(crate) type Request = oneshot::Sender<AsOf>;

/// One fold and where it reads.
struct Side<F: Fold> {
    fold: Option<F>,
    stream: Option<BoxStream<'static, Vec<Result<F::Item, LogError>>>>,
    retry_at: Option<Instant>,
    retry_after: Duration,
    /// When what was folded is to be stored at the latest.
    commit_by: Option<Instant>,
}

/// What a side waits for.
enum Ready<I> {
    Chunk(Vec<Result<I, LogError>>),
    Lost(String),
    CommitDue,
}

impl<F: Fold> Side<F> {
    fn new(fold: F) -> Self {
        Self {
            fold: Some(fold),
            stream: None,
            retry_at: None,
            retry_after: RETRY_MIN,
            commit_by: None,
        }
    }

    /// Waits for something to do. Cancelling it loses nothing.
    async fn ready(&mut self, log: &dyn Log) -> Ready<F::Item> {
        if let Some(stream) = &mut self.stream {
            let due = async {
                match self.commit_by {
                    Some(at) => sleep_until(at).await,
                    None => pending().await,
                }
            };
            return tokio::select! {
                biased;
                chunk = stream.next() => match chunk {
                    Some(chunk) => Ready::Chunk(chunk),
                    None => Ready::Lost("the log ended the stream".into()),
                },
                () = due => Ready::CommitDue,
            };
        }
        if let Some(at) = self.retry_at {
            sleep_until(at).await;
        }
        let after = self
            .fold
            .as_ref()
            .map_or(Seq(0), |fold| fold.position().seq);
        match F::tail(log, after).await {
            Ok(stream) => {
                self.stream = Some(stream.ready_chunks(CHUNK_MAX).boxed());
                Ready::Chunk(Vec::new())
            }
            Err(error) => Ready::Lost(error.to_string()),
        }
    }

    /// Reads again after a while, from what is stored.
    fn back_off(&mut self) {
        self.stream = None;
        self.retry_at = Some(Instant::now() + self.retry_after);
        self.retry_after = (self.retry_after * 2).min(RETRY_MAX);
    }

    /// Folds a chunk, and stores it unless more is to be gathered first. `Ok(None)` when nothing
    /// was stored.
    async fn take(&mut self, chunk: Vec<F::Item>) -> Result<Option<AsOf>, Error> {
        let Some(fold) = self.fold.take() else {
            return Ok(None);
        };
        let gathering_over = self.commit_by.is_some_and(|by| by <= Instant::now());
        let (fold, stored) = offload(chunk.len(), move || {
            let mut fold = fold;
            let stored = fold_chunk(&mut fold, &chunk, gathering_over);
            (fold, stored)
        })
        .await;
        // A fold that failed has seen a part of the step: it is opened again from what is stored.
        let stored = stored?;
        self.fold = Some(fold);
        self.commit_by = match stored {
            Some(_) => None,
            None => Some(self.commit_by.unwrap_or_else(|| Instant::now() + GATHER)),
        };
        if stored.is_some() {
            self.retry_after = RETRY_MIN;
        }
        Ok(stored)
    }

    fn position(&self) -> AsOf {
        self.fold
            .as_ref()
            .map_or(crate::batch::NOTHING, Fold::position)
    }
}

fn fold_chunk<F: Fold>(
    fold: &mut F,
    chunk: &[F::Item],
    gathering_over: bool,
) -> Result<Option<AsOf>, Error> {
    chunk.iter().try_for_each(|item| fold.fold(item))?;
    let old = now().since_ms(fold.latest()) > OLD_MS;
    if old && !gathering_over && fold.pending() < STEP_ROWS {
        return Ok(None);
    }
    fold.commit(if old { KEEP_CATCHING_UP } else { KEEP_LIVE })
        .map(Some)
}

async fn offload<T: Send + 'static>(size: usize, work: impl FnOnce() -> T + Send + 'static) -> T {
    if size < OFFLOAD_FROM {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is going down, and this task with it.
            Err(_) => pending().await,
        },
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Follows one stream.
pub(crate) struct Follower<F: Fold> {
    store: Store,
    log: Arc<dyn Log>,
    limits: Limits,
    shown: watch::Sender<Shown>,
    requests: mpsc::Receiver<Request>,
    live: Side<F>,
    next: Option<Side<F>>,
    waiting: Vec<Request>,
}

enum Event<I> {
    Stop,
    Rebuild(Option<Request>),
    Live(Ready<I>),
    Next(Ready<I>),
    Oldest(Seq),
}

impl<F: Fold> Follower<F> {
    pub(crate) fn new(
        store: Store,
        log: Arc<dyn Log>,
        limits: Limits,
        shown: watch::Sender<Shown>,
        requests: mpsc::Receiver<Request>,
        fold: F,
    ) -> Self {
        let live = Side::new(fold);
        Self {
            store,
            log,
            limits,
            shown,
            requests,
            live,
            next: None,
            waiting: Vec::new(),
        }
    }

    /// Follows until `stop`, then stores what was folded.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Self {
        let mut oldest = F::oldest(self.log.clone());
        loop {
            let event = tokio::select! {
                biased;
                () = stop.cancelled() => Event::Stop,
                request = self.requests.recv() => Event::Rebuild(request),
                ready = self.live.ready(&*self.log) => Event::Live(ready),
                ready = either(self.next.as_mut(), &*self.log) => Event::Next(ready),
                first = &mut oldest => Event::Oldest(first),
            };
            match event {
                Event::Stop => break,
                Event::Rebuild(Some(request)) => self.rebuild(request),
                // The views hold the other end as long as this runs.
                Event::Rebuild(None) => break,
                Event::Live(ready) => self.handle_live(ready).await,
                Event::Next(ready) => self.handle_next(ready).await,
                Event::Oldest(first) => {
                    self.prune(first);
                    oldest = F::oldest(self.log.clone());
                }
            }
            self.swap_when_caught_up();
        }
        if let Some(fold) = &mut self.live.fold {
            let _ = fold
                .commit(0)
                .inspect_err(|error| warn!(%error, "last step not stored"));
        }
        self
    }

    async fn handle_live(&mut self, ready: Ready<F::Item>) {
        match advance(&mut self.live, ready).await {
            Ok(Some(as_of)) => self.show(as_of),
            Ok(None) => {}
            Err(Failure::Log(reason)) => {
                warn!(
                    stream = F::STREAM.as_str(),
                    reason, "log lost, reading again"
                );
                self.trouble(&reason);
                self.live.back_off();
            }
            Err(Failure::Store(error)) => {
                error!(stream = F::STREAM.as_str(), %error, "view not stored");
                self.trouble(&error.to_string());
                self.reopen(error.is_corruption());
            }
        }
        if self.live.fold.is_none() {
            self.reopen(false);
        }
    }

    async fn handle_next(&mut self, ready: Ready<F::Item>) {
        let Some(next) = &mut self.next else { return };
        match advance(next, ready).await {
            Ok(_) => {}
            Err(Failure::Log(reason)) => {
                warn!(
                    stream = F::STREAM.as_str(),
                    reason, "log lost, rebuilding on"
                );
                next.back_off();
            }
            Err(Failure::Store(error)) => {
                error!(stream = F::STREAM.as_str(), %error, "rebuild failed");
                self.next = None;
                self.waiting.clear();
            }
        }
    }

    fn show(&self, as_of: AsOf) {
        self.shown.send_modify(|shown| {
            shown.as_of = as_of;
            shown.trouble = None;
        });
    }

    fn trouble(&self, reason: &str) {
        self.shown
            .send_modify(|shown| shown.trouble = Some(reason.into()));
    }

    /// Opens the live side again from what is stored; from nothing when that cannot be used.
    fn reopen(&mut self, clear: bool) {
        self.live.back_off();
        let tree = self.shown.borrow().tree.clone();
        let open = || {
            if clear {
                warn!(
                    stream = F::STREAM.as_str(),
                    "view corrupt, rebuilding from the stream"
                );
                tree.clear()?;
            }
            F::open(tree.clone(), self.limits)
        };
        match open() {
            Ok(fold) => {
                self.shown
                    .send_modify(|shown| shown.as_of = fold.position());
                self.live.fold = Some(fold);
            }
            Err(error) => self.trouble(&error.to_string()),
        }
    }

    fn rebuild(&mut self, request: Request) {
        self.waiting.push(request);
        if self.next.is_some() {
            return;
        }
        let opened = self
            .store
            .next_tree(F::STREAM)
            .and_then(|tree| F::open(tree, self.limits));
        match opened {
            Ok(fold) => {
                info!(stream = F::STREAM.as_str(), "rebuild begun");
                self.next = Some(Side::new(fold));
            }
            Err(error) => {
                error!(stream = F::STREAM.as_str(), %error, "rebuild failed");
                self.waiting.clear();
            }
        }
    }

    /// The next side takes the live one's place once it shows as much.
    fn swap_when_caught_up(&mut self) {
        let shown = self.shown.borrow().as_of.seq;
        let caught_up = |next: &mut Side<F>| {
            next.commit_by.is_none() && next.position().seq >= shown && next.fold.is_some()
        };
        let Some(next) = self.next.take_if(caught_up) else {
            return;
        };
        let Some(fold) = &next.fold else { return };
        if let Err(error) = self.store.promote(F::STREAM) {
            error!(stream = F::STREAM.as_str(), %error, "rebuild failed");
            self.waiting.clear();
            return;
        }
        let as_of = fold.position();
        info!(
            stream = F::STREAM.as_str(),
            seq = as_of.seq.0,
            "rebuild done"
        );
        self.shown.send_replace(Shown {
            tree: fold.tree().clone(),
            as_of,
            trouble: None,
        });
        self.live = next;
        for waiting in self.waiting.drain(..) {
            // Whoever asked may have gone.
            let _ = waiting.send(as_of);
        }
    }

    fn prune(&mut self, first: Seq) {
        // Rows that wait to be stored would come back: let the next look do it.
        let Some(fold) = self.live.fold.as_mut().filter(|fold| fold.pending() == 0) else {
            return;
        };
        match fold.prune(first) {
            Ok(0) => {}
            Ok(dropped) => info!(dropped, first = first.0, "dropped what the stream dropped"),
            Err(error) => warn!(%error, "dropping failed"),
        }
    }
}

async fn either<F: Fold>(side: Option<&mut Side<F>>, log: &dyn Log) -> Ready<F::Item> {
    match side {
        Some(side) => side.ready(log).await,
        None => pending().await,
    }
}

enum Failure {
    Log(String),
    Store(Error),
}

async fn advance<F: Fold>(
    side: &mut Side<F>,
    ready: Ready<F::Item>,
) -> Result<Option<AsOf>, Failure> {
    let (chunk, lost) = match ready {
        Ready::Chunk(chunk) => split(chunk),
        Ready::CommitDue => (Vec::new(), None),
        Ready::Lost(reason) => (Vec::new(), Some(reason)),
    };
    // What came before the fault is good.
    let stored = if chunk.is_empty() && side.commit_by.is_none() {
        None
    } else {
        side.take(chunk).await.map_err(Failure::Store)?
    };
    match lost {
        None => Ok(stored),
        Some(reason) => Err(Failure::Log(reason)),
    }
}

fn split<I>(chunk: Vec<Result<I, LogError>>) -> (Vec<I>, Option<String>) {
    let mut good = Vec::with_capacity(chunk.len());
    for item in chunk {
        match item {
            Ok(item) => good.push(item),
            Err(error) => return (good, Some(error.to_string())),
        }
    }
    (good, None)
}

#[async_trait]
impl Fold for EventFold {
    type Item = Recorded;
    const STREAM: Stream = Stream::Events;

    fn open(tree: sled::Tree, _: Limits) -> Result<Self, Error> {
        Self::open(tree)
    }

    fn fold(&mut self, item: &Recorded) -> Result<(), Error> {
        self.fold(item)
    }

    fn commit(&mut self, keep: usize) -> Result<AsOf, Error> {
        self.commit(keep)
    }

    fn pending(&self) -> usize {
        self.pending()
    }

    fn position(&self) -> AsOf {
        self.position()
    }

    fn latest(&self) -> Timestamp {
        self.position().at
    }

    fn tree(&self) -> &sled::Tree {
        self.tree()
    }

    async fn tail(
        log: &dyn Log,
        after: Seq,
    ) -> Result<BoxStream<'static, Result<Recorded, LogError>>, LogError> {
        log.tail(after).await
    }

    /// Events are kept for ever.
    async fn oldest(_: Arc<dyn Log>) -> Seq {
        pending().await
    }

    fn prune(&mut self, _: Seq) -> Result<usize, Error> {
        Ok(0)
    }
}

#[async_trait]
impl Fold for RunFold {
    type Item = RunRecorded;
    const STREAM: Stream = Stream::Runs;

    fn open(tree: sled::Tree, limits: Limits) -> Result<Self, Error> {
        Self::open(tree, limits.runs_max)
    }

    fn fold(&mut self, item: &RunRecorded) -> Result<(), Error> {
        self.fold(item)
    }

    fn commit(&mut self, keep: usize) -> Result<AsOf, Error> {
        self.commit(keep)
    }

    fn pending(&self) -> usize {
        self.pending()
    }

    fn position(&self) -> AsOf {
        self.position()
    }

    fn latest(&self) -> Timestamp {
        self.position().at
    }

    fn tree(&self) -> &sled::Tree {
        self.tree()
    }

    async fn tail(
        log: &dyn Log,
        after: Seq,
    ) -> Result<BoxStream<'static, Result<RunRecorded, LogError>>, LogError> {
        log.tail_runs(after).await
    }

    /// The first message that a reader from the beginning gets is the first that there is. A
    /// stream that yields none is asked again: nothing can be told from silence.
    async fn oldest(log: Arc<dyn Log>) -> Seq {
        loop {
            sleep(PRUNE_EVERY).await;
            let first = async { log.tail_runs(Seq(0)).await.ok()?.next().await?.ok() };
            if let Ok(Some(first)) = timeout(FIRST_WITHIN, first).await {
                return match first {
                    RunRecorded::Requested { seq, .. }
                    | RunRecorded::Happened { seq, .. }
                    | RunRecorded::Unreadable { seq } => seq,
                };
            }
        }
    }

    fn prune(&mut self, first: Seq) -> Result<usize, Error> {
        self.prune(first)
    }
}
