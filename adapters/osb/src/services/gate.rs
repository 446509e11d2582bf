//! Where requests wait for their turn, and where their brokers' health is noted: what the pure
//! [`Lane`] and [`Circuit`] of each broker decide, with a clock, wakers and timers.
//!
//! A place is held by a [`Turn`]: dropping it, or the future that waits for it, frees the place.
//! Waiting is short, and a delivery is told to be alive all the while by who performs its effect.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use engine_model::spec::BrokerLimits;
use engine_model::{BrokerOutcome, Outcome, ResourceKey, ServiceTarget, Timestamp};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::circuit::{Circuit, Health};
use super::lane::{Lane, Ticket, Wish};
use crate::client::Watch;
use crate::reply::Reply;

/// Tells the moment.
pub(super) type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// How long a request waits for its turn at most. Longer waits are better stored than held.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// A broker's wish to be left alone is waited out when it is no longer than this.
const REST_MS_MAX: u64 = 5_000;

/// Where nobody waits: when what has to let another request go first should come again.
const FIRST_MS: u64 = 1_000;

/// Brokers known at most; beyond that, those with nothing under way are forgotten.
const ROADS_MAX: usize = 1024;

/// Nothing is sent now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Away {
    pub(super) reason: String,
    pub(super) retry_after_ms: u64,
}

/// The roads to all brokers.
pub(super) struct Gate {
    clock: Clock,
    /// Whether requests are queued; otherwise only circuits are kept.
    paced: bool,
    roads: Mutex<HashMap<ResourceKey, Arc<Road>>>,
    remarks: Arc<Mutex<BTreeMap<ResourceKey, BrokerOutcome>>>,
}

/// The road to one broker.
struct Road {
    broker: ResourceKey,
    clock: Clock,
    paced: bool,
    state: Mutex<State>,
    remarks: Arc<Mutex<BTreeMap<ResourceKey, BrokerOutcome>>>,
}

struct State {
    lane: Lane,
    circuit: Circuit,
    last: Ticket,
    waiting: HashMap<Ticket, oneshot::Sender<Result<(), Away>>>,
    alarm: Option<(Timestamp, AbortHandle)>,
}

/// The right to send a request; it ends when this is dropped.
pub(super) struct Turn {
    road: Arc<Road>,
    ticket: Ticket,
    background: bool,
}

impl Gate {
    pub(super) fn new(clock: Clock, paced: bool) -> Self {
        Self {
            clock,
            paced,
            roads: Mutex::default(),
            remarks: Arc::default(),
        }
    }

    /// Waits until it is this request's turn.
    ///
    /// # Errors
    /// When it is better to come again later; nothing was sent.
    pub(super) async fn turn(&self, target: &ServiceTarget, wish: Wish) -> Result<Turn, Away> {
        let road = self.road(target);
        let (turn, word) = road.enter(target, self.limits(target), wish)?;
        if !self.paced {
            return Ok(turn);
        }
        match tokio::time::timeout(WAIT_MAX, word).await {
            Ok(Ok(Ok(()))) => Ok(turn),
            Ok(Ok(Err(away))) => Err(away),
            // Nobody drops a word that was not given, but if so, it is not yet its turn.
            Ok(Err(_)) | Err(_) => Err(road.overdue()),
        }
    }

    /// What was learnt of brokers since this was asked last.
    pub(super) fn remarks(&self) -> Vec<(ResourceKey, Outcome)> {
        let remarks = std::mem::take(&mut *lock(&self.remarks));
        remarks
            .into_iter()
            .map(|(broker, remark)| (broker, Outcome::Broker(remark)))
            .collect()
    }

    /// Where nobody waits, there is nothing to be shared out either.
    fn limits(&self, target: &ServiceTarget) -> BrokerLimits {
        if self.paced {
            return target.limits;
        }
        BrokerLimits {
            concurrent: u32::MAX,
            per_second: u32::MAX,
        }
    }

    fn road(&self, target: &ServiceTarget) -> Arc<Road> {
        let mut roads = lock(&self.roads);
        if let Some(road) = roads.get(&target.broker) {
            return road.clone();
        }
        if roads.len() >= ROADS_MAX {
            roads
                .retain(|_, road| Arc::strong_count(road) > 1 || !lock(&road.state).lane.is_idle());
        }
        let road = Arc::new(Road {
            broker: target.broker.clone(),
            clock: self.clock.clone(),
            paced: self.paced,
            state: Mutex::new(State {
                lane: Lane::new(self.limits(target), (self.clock)()),
                circuit: Circuit::default(),
                last: 0,
                waiting: HashMap::new(),
                alarm: None,
            }),
            remarks: self.remarks.clone(),
        });
        roads.insert(target.broker.clone(), road.clone());
        road
    }
}

type Word = oneshot::Receiver<Result<(), Away>>;

impl Road {
    fn enter(
        self: &Arc<Self>,
        target: &ServiceTarget,
        limits: BrokerLimits,
        wish: Wish,
    ) -> Result<(Turn, Word), Away> {
        let now = (self.clock)();
        let mut state = lock(&self.state);
        state.lane.limit(limits);
        state.circuit.know(target.paused_until);
        if let Some(away) = silence(&state.circuit, now) {
            return Err(away);
        }
        let (ticket, background) = (state.last + 1, wish.background);
        state.last = ticket;
        state.lane.enter(ticket, wish, now).map_err(full)?;
        let (tell, word) = oneshot::channel();
        state.waiting.insert(ticket, tell);
        // Made while the lock is held: its drop would take the lock.
        let turn = Turn {
            road: self.clone(),
            ticket,
            background,
        };
        self.pump(&mut state);
        if !self.paced && state.waiting.contains_key(&ticket) {
            drop(state);
            drop(turn);
            return Err(Away {
                reason: "another request to the broker goes first".to_owned(),
                retry_after_ms: FIRST_MS,
            });
        }
        Ok((turn, word))
    }

    fn overdue(&self) -> Away {
        let retry_after_ms = lock(&self.state).lane.book((self.clock)());
        full(retry_after_ms)
    }

    /// Lets go who may go, and sends away who would wait in vain.
    fn pump(self: &Arc<Self>, state: &mut State) {
        let now = (self.clock)();
        if let Some(away) = silence(&state.circuit, now) {
            state.lane.dismiss();
            for (_, tell) in state.waiting.drain() {
                let _ = tell.send(Err(away.clone()));
            }
            return;
        }
        if let Some(rest) = state.circuit.resting_ms(now) {
            let ms = i64::try_from(rest).unwrap_or(i64::MAX);
            return self.wake(state, now, now.plus_ms(ms));
        }
        let admitted = state.lane.admit(state.circuit.is_trying(), now);
        for ticket in admitted.go {
            if let Some(tell) = state.waiting.remove(&ticket) {
                // Who went away meanwhile gives the place back when dropped.
                let _ = tell.send(Ok(()));
            }
        }
        if let Some(at) = admitted.wake {
            self.wake(state, now, at);
        }
    }

    /// Looks again at `at`, unless that happens sooner anyway.
    fn wake(self: &Arc<Self>, state: &mut State, now: Timestamp, at: Timestamp) {
        if !self.paced {
            return;
        }
        if let Some((sooner, _)) = &state.alarm
            && (now..=at).contains(sooner)
        {
            return;
        }
        let wait = Duration::from_millis(u64::try_from(at.since_ms(now)).unwrap_or_default());
        let road = Arc::downgrade(self);
        let task = tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            if let Some(road) = Weak::upgrade(&road) {
                let mut state = lock(&road.state);
                state.alarm = None;
                road.pump(&mut state);
            }
        });
        if let Some((_, earlier)) = state.alarm.replace((at, task.abort_handle())) {
            earlier.abort();
        }
    }

    fn seen(self: &Arc<Self>, reply: &Reply, background: bool) {
        let health = Health::of(reply);
        let mut state = lock(&self.state);
        let remark = state.circuit.seen(health, background, (self.clock)());
        self.pump(&mut state);
        drop(state);
        if let Some(remark) = remark {
            lock(&self.remarks).insert(self.broker.clone(), remark);
        }
    }
}

impl Drop for Road {
    fn drop(&mut self) {
        if let Some((_, alarm)) = lock(&self.state).alarm.take() {
            alarm.abort();
        }
    }
}

impl Turn {
    /// Hears what came of the requests of this turn.
    pub(super) fn watch(&self) -> Arc<dyn Watch> {
        Arc::new(Ear(self.road.clone(), self.background))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = lock(&self.road.state);
        state.waiting.remove(&self.ticket);
        state.lane.leave(self.ticket);
        self.road.pump(&mut state);
    }
}

/// The road, and whether its request is sent in the background.
struct Ear(Arc<Road>, bool);

impl Watch for Ear {
    fn seen(&self, reply: &Reply) {
        self.0.seen(reply, self.1);
    }
}

impl fmt::Debug for Ear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ear({})", self.0.broker)
    }
}

/// Why nothing is sent now that would not pass in a moment.
fn silence(circuit: &Circuit, now: Timestamp) -> Option<Away> {
    if let Some(retry_after_ms) = circuit.paused_ms(now) {
        let reason = "nothing is sent to the broker for a while, because its requests failed one \
                      after the other";
        return Some(Away {
            reason: reason.to_owned(),
            retry_after_ms,
        });
    }
    let retry_after_ms = circuit.resting_ms(now).filter(|ms| *ms > REST_MS_MAX)?;
    Some(Away {
        reason: "the broker asked to be left alone for a while".to_owned(),
        retry_after_ms,
    })
}

fn full(retry_after_ms: u64) -> Away {
    Away {
        reason: "too many requests wait for this broker".to_owned(),
        retry_after_ms,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
