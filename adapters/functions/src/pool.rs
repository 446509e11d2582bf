//! The workers of one function revision: warm ones last-in first-out, calls first-come first-served.
//!
//! The idle list is behind a mutex that is held for nanoseconds and never across an await: a task
//! that owns it would cost every warm call two more hops between threads, which is most of what a
//! call may take.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::error::Failure;
use crate::floor::Floor;
use crate::revision::Prepared;
use crate::worker::Worker;

/// With a worker for every processor, another helps only calls that wait for something outside.
/// It is started when a call has waited for longer than it would take to start one twice, within
/// these bounds: on a busy machine starting takes longer, and one more worker helps less.
const PATIENCE_MIN: Duration = Duration::from_millis(5);
const PATIENCE_MAX: Duration = Duration::from_millis(100);

/// The pool of one loaded revision.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) revision: Prepared,
    floor: Arc<Floor>,
    processors: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    idle: Vec<(Worker, Instant)>,
    waiters: VecDeque<Waiter>,
    /// Idle, leased and starting workers.
    live: usize,
    starting: bool,
    retired: bool,
}

#[derive(Debug)]
struct Waiter {
    sender: oneshot::Sender<Result<Lease, Failure>>,
    since: Instant,
}

/// A worker that is out of its pool; dropping it brings it back, or counts it out if it is unfit.
#[derive(Debug)]
pub(crate) struct Lease {
    pool: Arc<Pool>,
    worker: Option<Worker>,
}

/// Why a call got no worker.
#[derive(Debug)]
pub(crate) enum NoWorker {
    /// So many calls wait already.
    Crowded(usize),
    /// The deadline passed first.
    Deadline,
    /// The pool is gone.
    Gone,
    /// A worker could not be started, and there is no other.
    Failed(Failure),
}

impl Pool {
    /// A pool with its first worker, which has proved that the handler loads.
    pub(crate) fn new(revision: Prepared, floor: Arc<Floor>, first: Worker) -> Self {
        let inner = Inner {
            idle: vec![(first, Instant::now())],
            live: 1,
            ..Inner::default()
        };
        let processors = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            revision,
            floor,
            processors,
            inner: Mutex::new(inner),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder panics")
    }

    /// A worker of this revision: the one idle for the shortest time, or the first to come free.
    pub(crate) async fn lease(self: &Arc<Self>, deadline: Instant) -> Result<Lease, NoWorker> {
        let mut waiting = match self.idle_or_wait()? {
            Ok(lease) => return Ok(lease),
            Err(waiting) => waiting,
        };
        let mut pause = self.patience();
        let answer = loop {
            let until = deadline.min(Instant::now() + pause);
            let answer = tokio::time::timeout_at(until, &mut waiting).await;
            if answer.is_ok() || until >= deadline {
                break answer;
            }
            // Another worker may have been starting at the first look, or patience have grown.
            self.scale();
            pause = PATIENCE_MAX;
        };
        match answer {
            Ok(Ok(Ok(lease))) => Ok(lease),
            Ok(Ok(Err(failure))) => Err(NoWorker::Failed(failure)),
            Ok(Err(_)) => Err(NoWorker::Gone),
            Err(_) => Err(NoWorker::Deadline),
        }
    }

    fn idle_or_wait(
        self: &Arc<Self>,
    ) -> Result<Result<Lease, oneshot::Receiver<Result<Lease, Failure>>>, NoWorker> {
        loop {
            let popped = {
                let mut inner = self.inner();
                match inner.idle.pop() {
                    Some((worker, _)) => worker,
                    None => {
                        if inner.waiters.len() >= self.floor.settings.waiters_max {
                            inner.waiters.retain(|waiter| !waiter.sender.is_closed());
                        }
                        if inner.waiters.len() >= self.floor.settings.waiters_max {
                            return Err(NoWorker::Crowded(inner.waiters.len()));
                        }
                        let (sender, receiver) = oneshot::channel();
                        inner.waiters.push_back(Waiter {
                            sender,
                            since: Instant::now(),
                        });
                        drop(inner);
                        self.scale();
                        return Ok(Err(receiver));
                    }
                }
            };
            let mut lease = Lease {
                pool: Arc::clone(self),
                worker: Some(popped),
            };
            if lease.worker().is_sound() {
                return Ok(Ok(lease));
            }
            lease.worker().unfit = true;
        }
    }

    fn patience(&self) -> Duration {
        (2 * self.floor.start_cost()).clamp(PATIENCE_MIN, PATIENCE_MAX)
    }

    /// Starts one more worker if calls wait and none is starting: one at a time, so that a burst
    /// of calls does not become a burst of processes. Beyond one for each processor it takes a
    /// call that has waited for some time.
    fn scale(self: &Arc<Self>) {
        {
            let mut inner = self.inner();
            let Some(oldest) = inner.waiters.front() else {
                return;
            };
            let most = self.floor.settings.workers_max;
            let patient = oldest.since.elapsed() < self.patience();
            let most = if patient {
                self.processors.min(most)
            } else {
                most
            };
            if inner.starting || inner.live >= most {
                return;
            }
            inner.starting = true;
            inner.live += 1;
        }
        self.start();
    }

    fn start(self: &Arc<Self>) {
        let pool = Arc::clone(self);
        self.floor.tasks.spawn(async move {
            let hired = pool.revision.hire(&pool.floor).await;
            pool.inner().starting = false;
            match hired {
                Ok(worker) => drop(Lease {
                    pool: Arc::clone(&pool),
                    worker: Some(worker),
                }),
                Err(failure) => pool.not_started(&failure),
            }
            pool.scale();
        });
    }

    fn not_started(&self, failure: &Failure) {
        tracing::warn!(revision = %self.revision.id, error = %failure, "a worker did not start");
        let mut inner = self.inner();
        inner.live -= 1;
        // With no other worker to wait for, waiting on would end in a misleading timeout.
        if inner.live == 0 {
            for waiter in inner.waiters.drain(..) {
                let _ = waiter.sender.send(Err(failure.clone()));
            }
        }
    }

    /// Takes a worker back: to the call that waits the longest, or onto the idle list.
    fn take_back(self: &Arc<Self>, worker: Worker) {
        let mut worker = Some(worker);
        let mut inner = self.inner();
        let unfit = worker.as_ref().is_some_and(|w| w.unfit);
        if unfit || (inner.retired && inner.waiters.is_empty()) {
            inner.live -= 1;
            // A worker that broke is replaced at once, so that the next call finds one warm.
            let wanted = !inner.waiters.is_empty() || (inner.live == 0 && !inner.retired);
            let replace = wanted && !inner.starting;
            if replace {
                inner.starting = true;
                inner.live += 1;
            }
            drop(inner);
            drop(worker);
            if replace {
                self.start();
            }
            return;
        }
        while let Some(waiter) = inner.waiters.pop_front() {
            let lease = Lease {
                pool: Arc::clone(self),
                worker: worker.take(),
            };
            match waiter.sender.send(Ok(lease)) {
                Ok(()) => return,
                // That caller gave up; take the worker out before the lease is dropped.
                Err(Ok(mut lease)) => worker = lease.worker.take(),
                Err(Err(_)) => unreachable!("a lease was sent"),
            }
        }
        if self.floor.is_starved() {
            inner.live -= 1;
        } else if let Some(worker) = worker.take() {
            inner.idle.push((worker, Instant::now()));
        }
        drop(inner);
        drop(worker);
    }

    /// Since when the worker that was idle the longest has been so.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        self.inner().idle.first().map(|(_, since)| *since)
    }

    /// Ends the worker that was idle the longest.
    pub(crate) fn evict_oldest(&self) {
        let evicted = {
            let mut inner = self.inner();
            (!inner.idle.is_empty()).then(|| {
                inner.live -= 1;
                inner.idle.remove(0)
            })
        };
        drop(evicted);
    }

    /// Ends the workers that have been idle for longer than `ttl`, and those `tainted` says left
    /// processes behind.
    pub(crate) fn sweep(&self, ttl: Duration, tainted: impl Fn(u32) -> bool) {
        let ended: Vec<_> = {
            let mut inner = self.inner();
            let ended: Vec<_> = inner
                .idle
                .extract_if(.., |(worker, since)| {
                    since.elapsed() >= ttl || worker.pid().is_some_and(&tainted)
                })
                .collect();
            inner.live -= ended.len();
            ended
        };
        drop(ended);
    }

    /// Keeps no idle worker from now on. Calls that are under way or wait are still served, and so
    /// is one that found this pool just before it was retired.
    pub(crate) fn retire(&self) {
        let idle = {
            let mut inner = self.inner();
            inner.retired = true;
            inner.live -= inner.idle.len();
            std::mem::take(&mut inner.idle)
        };
        drop(idle);
    }

    /// The workers in all, the idle ones, and the first processes of the idle ones.
    pub(crate) fn count(&self) -> (usize, usize, Vec<u32>) {
        let inner = self.inner();
        let pids = inner
            .idle
            .iter()
            .filter_map(|(worker, _)| worker.pid())
            .collect();
        (inner.live, inner.idle.len(), pids)
    }
}

impl Lease {
    pub(crate) fn worker(&mut self) -> &mut Worker {
        self.worker
            .as_mut()
            .expect("only dropping the lease takes it out")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(worker) = self.worker.take() {
            self.pool.take_back(worker);
        }
    }
}
