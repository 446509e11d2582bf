//! One fold and where it reads: it waits, gathers, stores, and reads again after a fault.

use std::future::pending;
use std::time::{Duration, SystemTime};

use engine_model::{AsOf, Seq, Timestamp};
use engine_stream::{Error as LogError, Log};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::time::{Instant, sleep_until};

use crate::Error;
use crate::batch::NOTHING;
use crate::follow::Fold;

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

/// What a log had ready.
pub(super) type Chunk<I> = Vec<Result<I, LogError>>;

/// One fold and where it reads.
pub(super) struct Side<F: Fold> {
    pub(super) fold: Option<F>,
    stream: Option<BoxStream<'static, Chunk<F::Item>>>,
    retry_at: Option<Instant>,
    retry_after: Duration,
    /// When what was folded is to be stored at the latest.
    pub(super) commit_by: Option<Instant>,
    stored_at: Option<Instant>,
}

/// What a side waits for.
pub(super) enum Ready<I> {
    Chunk(Chunk<I>),
    Lost(String),
    CommitDue,
}

impl<F: Fold> Side<F> {
    pub(super) fn new(fold: F) -> Self {
        Self {
            fold: Some(fold),
            stream: None,
            retry_at: None,
            retry_after: RETRY_MIN,
            commit_by: None,
            stored_at: None,
        }
    }

    /// Waits for something to do. Cancelling it loses nothing.
    pub(super) async fn ready(&mut self, log: &dyn Log) -> Ready<F::Item> {
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
    pub(super) fn back_off(&mut self) {
        self.stream = None;
        self.retry_at = Some(Instant::now() + self.retry_after);
        self.retry_after = (self.retry_after * 2).min(RETRY_MAX);
    }

    /// Folds a chunk, and stores it, unless more is to be gathered first and `at_once` is not
    /// asked for. `Ok(None)` when nothing was stored.
    async fn take(&mut self, chunk: Vec<F::Item>, at_once: bool) -> Result<Option<AsOf>, Error> {
        let Some(fold) = self.fold.take() else {
            return Ok(None);
        };
        let gathered = self.commit_by.is_some_and(|by| by <= Instant::now());
        let rested = self.stored_at.is_none_or(|at| at.elapsed() >= F::SPACING);
        let (fold, step) = offload(chunk.len(), move || {
            let mut fold = fold;
            let step = fold_chunk(&mut fold, &chunk, at_once || gathered, rested);
            (fold, step)
        })
        .await;
        // A fold that failed has seen a part of the step: it is opened again from what is stored.
        let step = step?;
        self.fold = Some(fold);
        Ok(match step {
            Step::Stored(as_of) => {
                self.commit_by = None;
                self.stored_at = Some(Instant::now());
                self.retry_after = RETRY_MIN;
                Some(as_of)
            }
            Step::Gathering(at_most) => {
                self.commit_by
                    .get_or_insert_with(|| Instant::now() + at_most);
                None
            }
        })
    }

    pub(super) fn position(&self) -> AsOf {
        self.fold.as_ref().map_or(NOTHING, Fold::position)
    }
}

/// What came of a chunk.
enum Step {
    Stored(AsOf),
    /// More is gathered, for at most so long.
    Gathering(Duration),
}

fn fold_chunk<F: Fold>(
    fold: &mut F,
    chunk: &[F::Item],
    at_once: bool,
    rested: bool,
) -> Result<Step, Error> {
    chunk.iter().try_for_each(|item| fold.fold(item))?;
    let old = now().since_ms(fold.latest()) > OLD_MS;
    if !at_once && fold.pending() < STEP_ROWS {
        if old {
            return Ok(Step::Gathering(GATHER));
        }
        if !rested {
            return Ok(Step::Gathering(F::SPACING));
        }
    }
    let keep = if old { KEEP_CATCHING_UP } else { KEEP_LIVE };
    fold.commit(keep).map(Step::Stored)
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

/// Does what there is to do. Returns what was stored, and why the log was lost.
pub(super) async fn advance<F: Fold>(
    side: &mut Side<F>,
    ready: Ready<F::Item>,
) -> Result<(Option<AsOf>, Option<String>), Error> {
    let (chunk, lost) = match ready {
        Ready::Chunk(chunk) => split(chunk),
        Ready::CommitDue => (Vec::new(), None),
        Ready::Lost(reason) => (Vec::new(), Some(reason)),
    };
    if chunk.is_empty() && side.commit_by.is_none() {
        return Ok((None, lost));
    }
    // What came before the fault is good, and is not kept waiting for what comes after it.
    let stored = side.take(chunk, lost.is_some()).await?;
    Ok((stored, lost))
}

fn split<I>(chunk: Chunk<I>) -> (Vec<I>, Option<String>) {
    let mut good = Vec::with_capacity(chunk.len());
    for item in chunk {
        match item {
            Ok(item) => good.push(item),
            Err(error) => return (good, Some(error.to_string())),
        }
    }
    (good, None)
}
