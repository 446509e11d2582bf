//! What all pools of a node share: the launcher, the memory budget, the stem cells.
//!
//! A stem cell is a generic worker that was started before anybody asked: it sits ready inside its
//! sandbox, and giving it a function takes a fraction of a millisecond. There are a few for every
//! blueprint that some loaded function uses; taking one orders the next.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use adapter_sandbox::Launcher;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::blueprint::Blueprint;
use crate::config::Pools;
use crate::error::Failure;
use crate::packs::language::Language;
use crate::workers::budget::{Budget, FOR_A_STEM, Permit};
use crate::workers::pool::Pool;
use crate::workers::worker::{Reaper, Worker};

/// A refill waits so long, in order not to take the processor from the call that caused it.
const REFILL_DELAY: Duration = Duration::from_millis(20);
/// A start that waits for memory gives up another idle worker so often.
const EVICT_EVERY: Duration = Duration::from_millis(20);
/// No longer: by then every worker has been busy all the time.
const RESERVE_MAX: Duration = Duration::from_secs(30);
/// The budget is kept in permits of this many bytes.
const PERMIT_BYTES: u64 = 1 << 20;

/// What a worker is wanted for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Need {
    /// A call waits for it, of a function that has so many workers.
    Call {
        /// Without the wanted one.
        have: usize,
    },
    /// To have one more ready, if there is room.
    Spare,
}

/// The shared ground of all pools.
#[derive(Debug)]
pub(crate) struct Floor {
    pub(crate) launcher: Launcher,
    pub(crate) settings: Pools,
    pub(crate) tasks: TaskTracker,
    pub(crate) reaper: Reaper,
    pub(crate) closing: CancellationToken,
    budget: Arc<Budget>,
    start_us: AtomicU64,
    shut: AtomicBool,
    stems: Mutex<HashMap<String, Stems>>,
    pools: Mutex<HashMap<String, Arc<Pool>>>,
}

#[derive(Debug, Default)]
struct Stems {
    ready: Vec<Worker>,
    ordered: usize,
    /// How many loaded functions have this blueprint.
    users: usize,
}

impl Floor {
    pub(crate) fn new(
        launcher: Launcher,
        settings: Pools,
        runtime: tokio::runtime::Handle,
    ) -> Self {
        let permits = u32::try_from(settings.memory_budget_bytes / PERMIT_BYTES);
        let budget = Budget::new(permits.unwrap_or(u32::MAX));
        Self {
            launcher,
            settings,
            tasks: TaskTracker::new(),
            reaper: Reaper {
                tasks: TaskTracker::new(),
                runtime,
            },
            closing: CancellationToken::new(),
            budget: Arc::new(budget),
            start_us: AtomicU64::new(0),
            shut: AtomicBool::new(false),
            stems: Mutex::default(),
            pools: Mutex::default(),
        }
    }

    /// The pools by revision. Held for look-ups only.
    pub(crate) fn pools(&self) -> MutexGuard<'_, HashMap<String, Arc<Pool>>> {
        self.pools.lock().expect("no holder panics")
    }

    fn stems(&self) -> MutexGuard<'_, HashMap<String, Stems>> {
        self.stems.lock().expect("no holder panics")
    }

    /// A generic worker: a stem cell if one is ready, otherwise a new one.
    pub(crate) async fn hire(
        self: &Arc<Self>,
        blueprint: &Arc<Blueprint>,
        need: Need,
        order: &[u8],
    ) -> Result<Worker, Failure> {
        let ready = loop {
            let stem = self
                .stems()
                .get_mut(&blueprint.key)
                .and_then(|stems| stems.ready.pop());
            match stem {
                Some(mut stem) => {
                    if stem.is_sound() {
                        break Some(stem);
                    }
                }
                None => break None,
            }
        };
        self.restock(blueprint, REFILL_DELAY);
        match ready {
            Some(stem) => Ok(stem),
            None => self.start(blueprint, need, Some(order)).await,
        }
    }

    /// Starts a generic worker, once there is memory for it. `order` makes it a function.
    pub(crate) async fn start(
        &self,
        blueprint: &Blueprint,
        need: Need,
        order: Option<&[u8]>,
    ) -> Result<Worker, Failure> {
        self.fits(blueprint.language)?;
        let permit = match need {
            Need::Call { have } => self.reserve(blueprint.language, have).await?,
            Need::Spare => {
                let permit = self.reserve_spare(blueprint.language).await;
                permit.ok_or_else(|| self.full())?
            }
        };
        self.start_with(blueprint, permit, order).await
    }

    async fn start_with(
        &self,
        blueprint: &Blueprint,
        permit: Permit,
        order: Option<&[u8]>,
    ) -> Result<Worker, Failure> {
        let launcher = self.launcher.clone();
        let begun = Instant::now();
        let worker = Worker::start(launcher, blueprint, permit, self.reaper.clone(), order).await;
        let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.start_us.store(took, Ordering::Relaxed);
        worker
    }

    async fn reserve(&self, language: Language, have: usize) -> Result<Permit, Failure> {
        let closed = || Failure::now("this node is shutting down");
        if self.shut.load(Ordering::Acquire) {
            return Err(closed());
        }
        if let Some(permit) = self.budget.take_now(permits(language)) {
            return Ok(permit);
        }
        let mut place = self.budget.queue(permits(language), have);
        let end = Instant::now() + RESERVE_MAX;
        // Given-up workers free their share when they are reaped, and one may not be enough.
        while Instant::now() < end {
            self.evict();
            match tokio::time::timeout(EVICT_EVERY, place.permit()).await {
                Ok(Some(permit)) => return Ok(permit),
                Ok(None) => return Err(closed()),
                Err(_) => {}
            }
        }
        Err(self.full())
    }

    /// Refuses a worker for which there is no room even on an idle node.
    fn fits(&self, language: Language) -> Result<(), Failure> {
        if self.budget.holds(permits(language)) {
            return Ok(());
        }
        Err(Failure::now(format!(
            "a {} worker is expected to take {} MiB, and all workers of this node together may take {} MiB",
            language.label(),
            language.worker_bytes() >> 20,
            self.settings.memory_budget_bytes >> 20
        )))
    }

    fn full(&self) -> Failure {
        let budget = self.settings.memory_budget_bytes >> 20;
        Failure::now(format!(
            "this node's workers already take all of their {budget} MiB"
        ))
    }

    /// What starting a worker took the last time.
    pub(crate) fn start_cost(&self) -> Duration {
        Duration::from_micros(self.start_us.load(Ordering::Relaxed))
    }

    /// The fewest workers that a function has which waits for memory, if any does.
    pub(crate) fn neediest(&self) -> Option<usize> {
        self.budget.neediest()
    }

    /// Gives up the stems, and the worker that was idle for the longest time.
    fn evict(&self) {
        for stems in self.stems().values_mut() {
            stems.ready.clear();
        }
        self.evict_idle();
    }

    /// Ends the worker that was idle for the longest time; one that its function always wants to
    /// have only when another function has none at all.
    fn evict_idle(&self) {
        let pools: Vec<Arc<Pool>> = self.pools().values().cloned().collect();
        let oldest = |spare: bool| {
            let idle = pools
                .iter()
                .filter_map(|pool| pool.idle_since(spare).map(|since| (since, pool)));
            idle.min_by_key(|(since, _)| *since).map(|(_, pool)| pool)
        };
        let last_resort = || {
            (self.neediest() == Some(0))
                .then(|| oldest(false))
                .flatten()
        };
        if let Some(pool) = oldest(true).or_else(last_resort) {
            pool.evict_oldest();
        }
    }

    /// Memory for a worker that no call waits for: what nobody else wants, or the place of the
    /// worker that was idle for the longest time. Its function is a stem away from its next call;
    /// without stems it and every other would be a whole cold start away.
    async fn reserve_spare(&self, language: Language) -> Option<Permit> {
        if self.neediest().is_some() || self.closing.is_cancelled() || self.fits(language).is_err()
        {
            return None;
        }
        if let Some(permit) = self.budget.take_now(permits(language)) {
            return Some(permit);
        }
        self.evict_idle();
        let mut place = self.budget.queue(permits(language), FOR_A_STEM);
        tokio::time::timeout(EVICT_EVERY, place.permit())
            .await
            .ok()?
    }

    /// Keeps stems for a blueprint from now on, until as many `forget` as `keep` it.
    pub(crate) fn keep(self: &Arc<Self>, blueprint: &Arc<Blueprint>) {
        self.stems().entry(blueprint.key.clone()).or_default().users += 1;
        self.restock(blueprint, Duration::ZERO);
    }

    /// The opposite of `keep`.
    pub(crate) fn forget(&self, blueprint: &Blueprint) {
        let mut stems = self.stems();
        let Some(entry) = stems.get_mut(&blueprint.key) else {
            return;
        };
        entry.users = entry.users.saturating_sub(1);
        if entry.users == 0 {
            stems.remove(&blueprint.key);
        }
    }

    /// Orders stems where there are fewer than there should be.
    fn restock(self: &Arc<Self>, blueprint: &Arc<Blueprint>, delay: Duration) {
        let missing = {
            let mut stems = self.stems();
            let Some(entry) = stems.get_mut(&blueprint.key) else {
                return;
            };
            let missing = self
                .settings
                .stems
                .saturating_sub(entry.ready.len() + entry.ordered);
            entry.ordered += missing;
            missing
        };
        for _ in 0..missing {
            let (floor, blueprint) = (Arc::downgrade(self), Arc::clone(blueprint));
            let closing = self.closing.clone();
            let stock = async move {
                let _ = closing.run_until_cancelled(tokio::time::sleep(delay)).await;
                if let Some(floor) = Weak::upgrade(&floor) {
                    floor.stock(&blueprint).await;
                }
            };
            self.tasks.spawn_on(stock, &self.reaper.runtime);
        }
    }

    async fn stock(&self, blueprint: &Blueprint) {
        let started = match self.reserve_spare(blueprint.language).await {
            Some(permit) => Some(self.start_with(blueprint, permit, None).await),
            None => None,
        };
        let mut stems = self.stems();
        let Some(entry) = stems.get_mut(&blueprint.key) else {
            return;
        };
        entry.ordered = entry.ordered.saturating_sub(1);
        match started {
            Some(Ok(stem)) if !self.closing.is_cancelled() => entry.ready.push(stem),
            Some(Err(failure)) => tracing::warn!(error = %failure, "a stem cell did not start"),
            _ => {}
        }
    }

    /// How many stems are ready, and their first processes.
    pub(crate) fn stem_pids(&self) -> Vec<u32> {
        let stems = self.stems();
        stems
            .values()
            .flat_map(|s| s.ready.iter().filter_map(Worker::pid))
            .collect()
    }

    /// What the budget has given out.
    pub(crate) fn reserved_bytes(&self) -> u64 {
        let free = u64::from(self.budget.free()) * PERMIT_BYTES;
        self.settings.memory_budget_bytes.saturating_sub(free)
    }

    /// Starts nothing any more, and gives up what is idle.
    pub(crate) fn close(&self) {
        self.shut.store(true, Ordering::Release);
        self.closing.cancel();
        self.budget.close();
        self.stems().clear();
    }
}

fn permits(language: Language) -> u32 {
    u32::try_from(language.worker_bytes() / PERMIT_BYTES).expect("a pack is refused otherwise")
}
