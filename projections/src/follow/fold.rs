//! What a follower folds: the views of events, or the view of runs.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use engine_model::{AsOf, Recorded, Seq, Timestamp};
use engine_stream::{Error as LogError, Log, RunRecorded};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::time::{sleep, timeout};

use crate::Error;
use crate::events::EventFold;
use crate::runs::RunFold;
use crate::store::Stream;
use crate::views::Limits;

/// How often it is looked at what the stream has dropped.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// How long the first message of a stream that holds any is waited for.
const FIRST_WITHIN: Duration = Duration::from_secs(5);

/// The fold of one stream.
#[async_trait]
pub(crate) trait Fold: Send + Sized + 'static {
    type Item: Send + Sync + 'static;
    const STREAM: Stream;
    /// The least time between two steps of a live side. What happens within it is stored as one.
    const SPACING: Duration;

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

#[async_trait]
impl Fold for EventFold {
    type Item = Recorded;
    const STREAM: Stream = Stream::Events;
    /// None: people wait for their commit to be seen.
    const SPACING: Duration = Duration::ZERO;

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
    /// A run that is over within this time is stored once instead of three times. Who waits for
    /// a run hears its end without the view.
    const SPACING: Duration = Duration::from_millis(5);

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
