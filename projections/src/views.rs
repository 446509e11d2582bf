//! The handle on all views.

use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use engine_model::{Answer, AsOf, Query, Rejection};
use engine_stream::Log;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::events::EventFold;
use crate::follow::{Fold, Follower, Request};
use crate::query;
use crate::runs::RunFold;
use crate::shown::Shown;
use crate::store::Store;

/// How long a query waits for the position that it names: longer than a healthy view ever needs,
/// shorter than a person's patience.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// How many requests for a rebuild may wait; they are all answered by one rebuild.
const REQUESTS_MAX: usize = 16;

/// How much the views keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How many runs are kept; beyond, the oldest go first.
    pub runs_max: usize,
}

impl Default for Limits {
    /// A hundred thousand runs: about 100 MB when each is 1 KB.
    fn default() -> Self {
        Self { runs_max: 100_000 }
    }
}

/// How far the views had folded when a rebuild was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rebuilt {
    /// In the event stream.
    pub events: AsOf,
    /// In the run stream.
    pub runs: AsOf,
}

/// All views. A clone is another handle on the same.
#[derive(Clone)]
pub struct Views(Arc<Inner>);

struct Inner {
    store: Store,
    limits: Limits,
    events: Desk<EventFold>,
    runs: Desk<RunFold>,
    log: OnceLock<Arc<dyn Log>>,
}

/// What queries see of one stream, and where its follower hears of requests.
struct Desk<F> {
    shown: watch::Sender<Shown>,
    requests: mpsc::Sender<Request>,
    /// What the follower takes when it begins.
    idle: Mutex<Option<(F, mpsc::Receiver<Request>)>>,
}

impl<F: Fold> Desk<F> {
    fn open(store: &Store, limits: Limits) -> Result<Self, Error> {
        let tree = store.tree(F::STREAM)?;
        let fold = match F::open(tree.clone(), limits) {
            Err(error) if error.is_corruption() => {
                tracing::error!(%error, "view corrupt, rebuilding from the stream");
                tree.clear()?;
                F::open(tree.clone(), limits)?
            }
            opened => opened?,
        };
        let shown = Shown {
            tree,
            as_of: fold.position(),
            trouble: None,
        };
        let (requests, inbox) = mpsc::channel(REQUESTS_MAX);
        let idle = Mutex::new(Some((fold, inbox)));
        Ok(Self {
            shown: watch::Sender::new(shown),
            requests,
            idle,
        })
    }

    fn follower(
        &self,
        store: &Store,
        log: &Arc<dyn Log>,
        limits: Limits,
    ) -> Result<Follower<F>, Error> {
        let taken = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let (fold, inbox) = taken.ok_or(Error::AlreadyFollowing)?;
        let (store, log, shown) = (store.clone(), log.clone(), self.shown.clone());
        Ok(Follower::new(store, log, limits, shown, inbox, fold))
    }

    async fn rebuild(&self) -> Result<AsOf, Error> {
        let (request, done) = oneshot::channel();
        self.requests
            .send(request)
            .await
            .map_err(|_| Error::NotFollowing)?;
        done.await.map_err(|_| Error::NotFollowing)
    }
}

impl Views {
    /// Opens the views that are stored in the directory `path`, which is made when it is not
    /// there. They answer at once, as of where they stood; a view that another version wrote
    /// begins anew, and so does everything when the files are corrupt, which are then moved aside.
    ///
    /// # Errors
    /// `Open` when another process has them open or the directory cannot be used.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::open_with(path, Limits::default())
    }

    /// [`Views::open`], with other limits.
    ///
    /// # Errors
    /// As [`Views::open`].
    pub fn open_with(path: &Path, limits: Limits) -> Result<Self, Error> {
        let store = Store::open(path)?;
        Ok(Self(Arc::new(Inner {
            events: Desk::open(&store, limits)?,
            runs: Desk::open(&store, limits)?,
            store,
            limits,
            log: OnceLock::new(),
        })))
    }

    /// Follows both streams of `log` until `stop`, healing whatever can be healed. What was
    /// folded is then flushed to disk.
    ///
    /// # Errors
    /// `AlreadyFollowing`.
    pub async fn follow(&self, log: Arc<dyn Log>, stop: CancellationToken) -> Result<(), Error> {
        let inner = &self.0;
        let events = inner.events.follower(&inner.store, &log, inner.limits)?;
        let runs = inner.runs.follower(&inner.store, &log, inner.limits)?;
        let _ = inner.log.set(log);
        let _ended = tokio::join!(events.run(stop.clone()), runs.run(stop));
        inner.store.flush().await
    }

    /// Answers a query. It waits at most five seconds for the position that the query names.
    ///
    /// What it answers shows at least the position in `as_of`; a run's answer gives the position
    /// in the run stream there.
    ///
    /// # Errors
    /// `NotFound`; `Unavailable`, saying how far the view is, when the position was not reached;
    /// `UnknownKind` for a kind that no view shows; `Internal` for what the node itself answers; `InvalidField` for a malformed tag filter.
    pub async fn query(&self, query: Query) -> Result<Answer, Rejection> {
        query::answer(self, query).await
    }

    /// Folds both streams from their beginning, beside the views that go on answering and
    /// following; the new ones take their place when they have folded as far.
    ///
    /// # Errors
    /// `NotFollowing` when nobody follows the streams, or when it could not be done; the log
    /// says why, and the old views stay.
    pub async fn rebuild(&self) -> Result<Rebuilt, Error> {
        let (events, runs) = tokio::join!(self.0.events.rebuild(), self.0.runs.rebuild());
        Ok(Rebuilt {
            events: events?,
            runs: runs?,
        })
    }

    /// How far the views of the event stream have folded.
    #[must_use]
    pub fn as_of(&self) -> AsOf {
        self.0.events.shown.borrow().as_of
    }

    /// How far the view of runs has folded.
    #[must_use]
    pub fn runs_as_of(&self) -> AsOf {
        self.0.runs.shown.borrow().as_of
    }

    pub(crate) fn events(&self) -> watch::Receiver<Shown> {
        self.0.events.shown.subscribe()
    }

    pub(crate) fn runs(&self) -> watch::Receiver<Shown> {
        self.0.runs.shown.subscribe()
    }

    pub(crate) fn log(&self) -> Option<Arc<dyn Log>> {
        self.0.log.get().cloned()
    }
}
