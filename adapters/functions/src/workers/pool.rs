//! The workers of one function revision: warm ones last-in first-out, calls first-come first-served.
//!
//! The idle list is behind a mutex that is held for nanoseconds and never across an await: a task
//! that owns it would cost every warm call two more hops between threads, which is most of what a
//! call may take.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use engine_model::spec::Isolation;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::error::Failure;
use crate::revision::Prepared;
use crate::workers::ahead::{Ahead, Given, Which};
use crate::workers::desk::Handed;
use crate::workers::floor::{Floor, Need};
use crate::workers::worker::{Conduct, Worker};

/// With a worker for every processor, another helps only calls that wait for something outside.
/// It is started when a call has waited for longer than it would take to start one twice, within
/// these bounds: on a busy machine starting takes longer, and one more worker helps less.
const PATIENCE_MIN: Duration = Duration::from_millis(5);
const PATIENCE_MAX: Duration = Duration::from_millis(100);
/// Wait before a worker that is only to be kept ready is started again after it did not start.
const REST: Duration = Duration::from_secs(5);

/// Workers that end badly one after the other, from which on the next are started with a pause and
/// run in the background: one alone may be an accident.
const STRIKES: u32 = 2;
/// No more are remembered, so that as many good calls make up for any number of bad ones.
const STRIKES_MAX: u32 = 12;
/// The first such pause; each further bad end doubles it.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// No longer: who mends the function is to see it soon.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// The pool of one loaded revision.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) revision: Prepared,
    floor: Arc<Floor>,
    processors: usize,
    /// Kept even when nobody calls.
    min: usize,
    /// Never more.
    max: usize,
    idle_ttl: Duration,
    pub(crate) ahead: Ahead,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    idle: Vec<(Worker, Instant)>,
    waiters: VecDeque<Waiter>,
    /// Idle, leased and starting workers.
    live: usize,
    starting: bool,
    /// How many more calls ended a worker than did not, lately.
    strikes: u32,
    /// A worker that no call waited for did not start; until then it is not tried again.
    rest_until: Option<Instant>,
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

/// A worker that is idle, for as long as it is: when it has served again it is another.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Idle {
    pub(crate) pid: u32,
    since: Instant,
}

impl Idle {
    fn of(worker: &Worker, since: Instant) -> Option<Self> {
        worker.pid().map(|pid| Self { pid, since })
    }
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
        let worker = &revision.blueprint.language.manifest().worker;
        let ahead = Ahead::new(worker.queue && revision.isolation == Isolation::Shared);
        ahead.add(&first.desk);
        let inner = Inner {
            idle: vec![(first, Instant::now())],
            live: 1,
            ..Inner::default()
        };
        let processors = std::thread::available_parallelism().map_or(2, usize::from);
        let max = revision.scale.max.unwrap_or(floor.settings.workers_max);
        Self {
            processors,
            min: revision.scale.min.min(max),
            max: max.max(1),
            idle_ttl: revision.scale.idle.unwrap_or(floor.settings.idle_ttl),
            revision,
            floor,
            ahead,
            inner: Mutex::new(inner),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder panics")
    }

    /// A worker of this revision: the one idle for the shortest time, or the first to come free.
    /// Whoever is `patient` waits however many others do.
    pub(crate) async fn lease(
        self: &Arc<Self>,
        deadline: Instant,
        patient: bool,
    ) -> Result<Lease, NoWorker> {
        let mut waiting = match self.idle_or_wait(patient)? {
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

    /// The worker that was idle for the shortest time, if there is one.
    pub(crate) fn lease_idle(self: &Arc<Self>) -> Option<Lease> {
        loop {
            let (worker, _) = self.inner().idle.pop()?;
            if let Some(lease) = self.sound(worker) {
                return Some(lease);
            }
        }
    }

    /// Puts the order of a call on the desk of a worker that is about to be done with another, where
    /// that is wise and nobody waits who came before.
    pub(crate) fn give(
        self: &Arc<Self>,
        which: Which,
        bindings: &[u8],
        make: impl FnOnce(u64, bool) -> Vec<u8>,
    ) -> Option<Given> {
        if !self.ahead.is_wise() || self.floor.neediest().is_some() {
            return None;
        }
        let few = {
            let inner = self.inner();
            if !inner.waiters.is_empty() || inner.retired {
                return None;
            }
            inner.live < self.processors
        };
        let desk = self.ahead.desk(which)?;
        let (id, told) = desk.put(bindings, make)?;
        if few && which == Which::Emptiest {
            self.scale();
        }
        Some(Given { id, desk, told })
    }

    /// A lease of a worker that was idle, if it is as it was left.
    fn sound(self: &Arc<Self>, worker: Worker) -> Option<Lease> {
        let mut lease = Lease {
            pool: Arc::clone(self),
            worker: Some(worker),
        };
        if lease.worker().is_sound() {
            return Some(lease);
        }
        lease.worker().unfit = true;
        lease.worker().conduct = Some(Conduct::Bad);
        None
    }

    fn idle_or_wait(
        self: &Arc<Self>,
        patient: bool,
    ) -> Result<Result<Lease, oneshot::Receiver<Result<Lease, Failure>>>, NoWorker> {
        loop {
            let popped = {
                let mut inner = self.inner();
                match inner.idle.pop() {
                    Some((worker, _)) => worker,
                    None => {
                        let most = self.floor.settings.waiters_max;
                        if !patient && inner.waiters.len() >= most {
                            inner.waiters.retain(|waiter| !waiter.sender.is_closed());
                        }
                        if !patient && inner.waiters.len() >= most {
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
            if let Some(lease) = self.sound(popped) {
                return Ok(Ok(lease));
            }
        }
    }

    fn patience(&self) -> Duration {
        (2 * self.floor.start_cost()).clamp(PATIENCE_MIN, PATIENCE_MAX)
    }

    /// Starts one more worker if one is wanted and none is starting: one at a time, so that a
    /// burst of calls does not become a burst of processes.
    pub(crate) fn scale(self: &Arc<Self>) {
        let need = {
            let mut inner = self.inner();
            let Some(need) = self.need(&inner) else {
                return;
            };
            inner.starting = true;
            inner.live += 1;
            need
        };
        self.start(need);
    }

    /// What one more worker is wanted for. Beyond one for each processor it takes a call that has
    /// waited for some time.
    fn need(&self, inner: &Inner) -> Option<Need> {
        if inner.starting || inner.live >= self.max {
            return None;
        }
        if let Some(oldest) = inner.waiters.front() {
            let patient = oldest.since.elapsed() < self.patience();
            if inner.live < self.processors || !patient {
                return Some(Need::Call { have: inner.live });
            }
        }
        let rested = inner.rest_until.is_none_or(|until| until <= Instant::now());
        let helps = inner.live < self.processors && self.ahead.is_used();
        let wanted = inner.live < self.min || helps;
        (wanted && !inner.retired && rested).then_some(Need::Spare)
    }

    fn start(self: &Arc<Self>, need: Need) {
        let pool = Arc::clone(self);
        let strikes = self.inner().strikes;
        let start = async move {
            let pause = tokio::time::sleep(pause(strikes));
            pool.floor.closing.run_until_cancelled(pause).await;
            let begun = Instant::now();
            let background = strikes >= STRIKES;
            let hired = pool.revision.hire(&pool.floor, need, background).await;
            pool.inner().starting = false;
            match hired {
                Ok(mut worker) => {
                    pool.ahead.add(&worker.desk);
                    worker.hired = Some(begun.elapsed());
                    drop(Lease {
                        pool: Arc::clone(&pool),
                        worker: Some(worker),
                    });
                }
                Err(failure) => pool.not_started(&failure, need),
            }
            pool.scale();
        };
        let floor = &self.floor;
        floor.tasks.spawn_on(start, &floor.reaper.runtime);
    }

    fn not_started(&self, failure: &Failure, need: Need) {
        tracing::warn!(revision = %self.revision.id, error = %failure, "a worker did not start");
        let mut inner = self.inner();
        inner.live -= 1;
        if matches!(need, Need::Spare) {
            inner.rest_until = Some(Instant::now() + REST);
        }
        // With no other worker to wait for, waiting on would end in a misleading timeout.
        if inner.live == 0 && matches!(need, Need::Call { .. }) {
            for waiter in inner.waiters.drain(..) {
                let _ = waiter.sender.send(Err(failure.clone()));
            }
        }
    }

    /// Takes a worker back: to the call whose order it has next, to the one that waits the longest, or
    /// onto the idle list.
    fn take_back(self: &Arc<Self>, mut worker: Worker) {
        let (unfit, live) = {
            let mut inner = self.inner();
            (inner.judge(&mut worker), inner.live)
        };
        let mut worker = if worker.lost {
            self.lose(&worker);
            worker
        } else {
            if unfit || self.owes(live) {
                // Whoever has the worker by then goes elsewhere.
                let desk = Arc::clone(&worker.desk);
                self.floor.reaper.spawn(move || desk.recall());
            }
            match self.pass_on(worker) {
                Some(worker) => worker,
                None => return,
            }
        };
        let unchecked = std::mem::take(&mut worker.unchecked);
        let unfit = unfit || worker.unfit || (unchecked && !worker.is_sound());
        let mut worker = Some(worker);
        let mut inner = self.inner();
        if unfit || (inner.retired && inner.waiters.is_empty()) {
            inner.live -= 1;
            // A worker that broke is replaced at once, so that the next call finds one warm.
            let keep = inner.live < self.min.max(1) && !inner.retired;
            let need = if inner.starting {
                None
            } else if !inner.waiters.is_empty() {
                Some(Need::Call { have: inner.live })
            } else {
                keep.then_some(Need::Spare)
            };
            if need.is_some() {
                inner.starting = true;
                inner.live += 1;
            }
            drop(inner);
            drop(worker);
            if let Some(need) = need {
                self.start(need);
            }
            return;
        }
        if self.owes(inner.live) {
            inner.live -= 1;
            drop(inner);
            drop(worker);
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
        if self.floor.neediest().is_some() && !self.keeps(&inner) {
            inner.live -= 1;
        } else if let Some(worker) = worker.take() {
            inner.idle.push((worker, Instant::now()));
        }
        drop(inner);
        drop(worker);
    }

    /// Tells those whose orders lie before a worker that is done for.
    fn lose(&self, worker: &Worker) {
        let desk = Arc::clone(&worker.desk);
        self.floor.reaper.spawn(move || {
            let _untouched = desk.lose();
        });
    }

    /// Gives a worker to the caller whose order it has next; the worker again if there is none.
    fn pass_on(self: &Arc<Self>, mut worker: Worker) -> Option<Worker> {
        if let Some(caller) = worker.desk.next() {
            let lease = Lease {
                pool: Arc::clone(self),
                worker: Some(worker),
            };
            match caller.send(Handed::Worker(lease)) {
                Ok(()) => return None,
                // Nobody is there to end what may have been begun.
                Err(Handed::Worker(mut lease)) => {
                    worker = lease.worker.take()?;
                    worker.unfit = true;
                    self.lose(&worker);
                    return Some(worker);
                }
                Err(Handed::Back | Handed::Lost) => unreachable!("a lease was sent"),
            }
        }
        Some(worker)
    }

    /// Whether another function waits for memory which has at least two workers less than this: then
    /// this one gives up a worker even while calls wait for it, and has no less than the other.
    fn owes(&self, live: usize) -> bool {
        self.floor.neediest().is_some_and(|have| have + 1 < live)
    }

    /// Whether idle workers are kept although some function waits for memory: those that are always
    /// to be there, unless that one has none at all.
    fn keeps(&self, inner: &Inner) -> bool {
        inner.live <= self.min && self.floor.neediest() != Some(0)
    }

    /// Since when the worker that was idle the longest has been so; with `spare`, only if there are
    /// more workers than are always to be there.
    pub(crate) fn idle_since(&self, spare: bool) -> Option<Instant> {
        let inner = self.inner();
        if spare && inner.live <= self.min {
            return None;
        }
        inner.idle.first().map(|(_, since)| *since)
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

    /// The workers that are idle now.
    pub(crate) fn idle(&self) -> Vec<Idle> {
        let inner = self.inner();
        let idle = inner.idle.iter();
        idle.filter_map(|(worker, since)| Idle::of(worker, *since))
            .collect()
    }

    /// Ends the workers that have been idle for too long, those that died, and those in `tainted`,
    /// which left processes behind; and starts those that are always to be there.
    pub(crate) fn sweep(self: &Arc<Self>, tainted: &HashSet<Idle>) {
        let ended: Vec<_> = {
            let mut inner = self.inner();
            let mut spare = inner.live.saturating_sub(self.min);
            let ended: Vec<_> = inner
                .idle
                .extract_if(.., |(worker, since)| {
                    let left = Idle::of(worker, *since).is_some_and(|idle| tainted.contains(&idle));
                    if left || !worker.is_sound() {
                        return true;
                    }
                    let over = spare > 0 && since.elapsed() >= self.idle_ttl;
                    spare -= usize::from(over);
                    over
                })
                .collect();
            inner.live -= ended.len();
            ended
        };
        drop(ended);
        self.scale();
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

impl Inner {
    /// Takes note of what the worker's last call made of it; whether it has to go.
    fn judge(&mut self, worker: &mut Worker) -> bool {
        match worker.conduct.take() {
            Some(Conduct::Bad) => self.strikes = (self.strikes + 1).min(STRIKES_MAX),
            Some(Conduct::Good) => self.strikes = self.strikes.saturating_sub(1),
            None => {}
        }
        // One in the background cannot come back; when there is no reason any more, another can.
        worker.unfit || (worker.background && self.strikes == 0)
    }
}

/// How long to wait before a worker is started.
fn pause(strikes: u32) -> Duration {
    match strikes.checked_sub(STRIKES) {
        None => Duration::ZERO,
        Some(more) => PAUSE_MAX.min(PAUSE_MIN * (1 << more.min(16))),
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
