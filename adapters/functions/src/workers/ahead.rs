//! Whether a pool's workers are given orders ahead, and which of their desks is best.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::workers::desk::{Desk, Handed};

/// Calls that take longer on average gain nothing by it.
const PACE_MAX: Duration = Duration::from_millis(5);
/// An order that was not begun by then goes to whichever worker is free first.
const PATIENCE: Duration = Duration::from_millis(20);
/// How long after a call that printed none is given ahead: of what two calls print at the same time,
/// nobody could say whose it is.
const QUIET: Duration = Duration::from_secs(10);
/// A wait that is worth it for not waking another worker.
const SOON: Duration = Duration::from_micros(500);
/// New values count for one part of so many in the average.
const WEIGHT: u64 = 8;

/// Which desk an order is to lie on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// The fullest one whose worker comes to it so soon that waking another would gain nothing: few
    /// workers that are always busy do more than many that fall asleep after every call.
    Soon,
    /// The one with the fewest orders.
    Emptiest,
}

/// What a pool knows of it.
#[derive(Debug)]
pub(crate) struct Ahead {
    /// Whether language and function allow it at all.
    allowed: bool,
    begun: Instant,
    /// What a call took lately.
    pace_us: AtomicU64,
    /// Until when it is not done, in milliseconds since `begun`.
    not_before_ms: AtomicU64,
    desks: Mutex<Vec<Weak<Desk>>>,
}

impl Ahead {
    pub(crate) fn new(allowed: bool) -> Self {
        Self {
            allowed,
            begun: Instant::now(),
            pace_us: AtomicU64::new(0),
            not_before_ms: AtomicU64::new(0),
            desks: Mutex::default(),
        }
    }

    fn desks(&self) -> MutexGuard<'_, Vec<Weak<Desk>>> {
        self.desks.lock().expect("no holder panics")
    }

    /// Takes note of a worker.
    pub(crate) fn add(&self, desk: &Arc<Desk>) {
        if self.allowed {
            let mut desks = self.desks();
            desks.retain(|known| known.strong_count() > 0);
            desks.push(Arc::downgrade(desk));
        }
    }

    /// Takes note of a call: how long its handler had it, and whether it printed.
    pub(crate) fn note(&self, took: Duration, printed: bool) {
        if !self.allowed {
            return;
        }
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX / WEIGHT);
        let pace = self.pace_us.load(Ordering::Relaxed);
        // Of two notes at the same time one may be lost, which an average can bear.
        let next = (pace * (WEIGHT - 1) + took.min(1 << 40)) / WEIGHT;
        self.pace_us.store(next, Ordering::Relaxed);
        if printed {
            let until = self.now_ms().saturating_add(QUIET.as_millis() as u64);
            self.not_before_ms.store(until, Ordering::Relaxed);
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether calls are short and quiet enough now.
    pub(crate) fn is_wise(&self) -> bool {
        self.allowed
            && self.pace_us.load(Ordering::Relaxed) <= PACE_MAX.as_micros() as u64
            && self.not_before_ms.load(Ordering::Relaxed) <= self.now_ms()
    }

    /// An open desk with room.
    pub(crate) fn desk(&self, which: Which) -> Option<Arc<Desk>> {
        let desks = self.desks();
        let open = desks.iter().filter_map(Weak::upgrade);
        let loads = open.filter_map(|desk| desk.load().map(|load| (load, desk)));
        let best = match which {
            Which::Soon => {
                let pace = self.pace_us.load(Ordering::Relaxed).max(1);
                let soon = SOON.as_micros() as u64 / pace;
                let soon = loads.filter(|(load, _)| (*load as u64) < soon);
                soon.max_by_key(|(load, _)| *load)
            }
            Which::Emptiest => loads.min_by_key(|(load, _)| *load),
        };
        best.map(|(_, desk)| desk)
    }

    /// Whether orders wait on some desk.
    pub(crate) fn is_used(&self) -> bool {
        let desks = self.desks();
        let mut open = desks.iter().filter_map(Weak::upgrade);
        open.any(|desk| desk.load().is_some_and(|load| load > 0))
    }
}

/// An order that lies on a desk.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) id: u64,
    pub(crate) desk: Arc<Desk>,
    pub(crate) told: oneshot::Receiver<Handed>,
}

impl Given {
    /// Waits until the worker has come to it, or it is back. An order whose caller left, or that waits
    /// for too long, is recalled; when it was begun by then, that is too late.
    pub(crate) async fn handed(self, cancel: &CancellationToken) -> Handed {
        let Self { desk, mut told, .. } = self;
        let soon = tokio::select! {
            biased;
            handed = &mut told => Some(handed),
            () = cancel.cancelled() => None,
            () = tokio::time::sleep(PATIENCE) => None,
        };
        let handed = match soon {
            Some(handed) => handed,
            None => {
                // It may have to wait for the worker.
                let recalled = tokio::task::spawn_blocking(move || desk.recall());
                drop(recalled);
                told.await
            }
        };
        handed.unwrap_or(Handed::Lost)
    }
}
