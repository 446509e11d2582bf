//! Who is asked next: the order in which requests to one broker leave. Pure; the moment is given.
//!
//! Organizations take turns. Cleaning up comes after all else, one request at a time and one in a
//! second. Of an instance only one request is under way that changes something.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use engine_model::spec::BrokerLimits;
use engine_model::{InstanceId, OrgName, Timestamp};

/// Requests under way at once, when the broker's document does not say. Brokers are often small.
const CONCURRENT: u32 = 16;

/// Requests in a second, when the broker's document does not say.
const PER_SECOND: u32 = 100;

/// How many seconds of work wait for a broker at most; whatever is sent away comes again. A node
/// reacts to some thousand things at once, and one slow broker shall not hold up the others.
const WAITING_SECONDS: usize = 10;

/// The bounds of that, whatever the broker's budget is.
const WAITING: std::ops::RangeInclusive<usize> = 100..=10_000;

/// Shortest time between two requests that clean up.
const BACKGROUND_MS: i64 = 1000;

/// A request that cleans up and has waited so long goes first, or a busy broker's orphans would
/// stay for ever. Shorter than the longest wait.
const BACKGROUND_WAIT_MS: i64 = 10_000;

/// Soonest that what was sent away should come again.
const AWAY_MS_MIN: u64 = 1000;

/// A request's price in credit, so that a millisecond earns a whole number of it.
const PRICE: i64 = 1000;

/// Names a request in a lane; later ones are greater.
pub(super) type Ticket = u64;

/// A request that wants to leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wish {
    /// Whose it is.
    pub(super) org: OrgName,
    /// Nobody waits for it.
    pub(super) background: bool,
    /// The instance that it changes, if it changes one.
    pub(super) changes: Option<InstanceId>,
}

#[derive(Debug)]
struct Waiter {
    wish: Wish,
    since: Timestamp,
}

/// How hard a broker may be worked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Budget {
    concurrent: usize,
    per_second: i64,
}

impl Budget {
    fn of(limits: BrokerLimits) -> Self {
        let or = |given: u32, usual| if given == 0 { usual } else { given };
        Self {
            concurrent: or(limits.concurrent, CONCURRENT) as usize,
            per_second: i64::from(or(limits.per_second, PER_SECOND)),
        }
    }

    fn waiting(self) -> usize {
        let seconds = usize::try_from(self.per_second).unwrap_or(usize::MAX);
        let (least, most) = WAITING.into_inner();
        seconds.saturating_mul(WAITING_SECONDS).clamp(least, most)
    }
}

/// Who may go now, and when to look again if nobody leaves before.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Admitted {
    pub(super) go: Vec<Ticket>,
    pub(super) wake: Option<Timestamp>,
}

/// The requests to one broker.
#[derive(Debug)]
pub(super) struct Lane {
    budget: Budget,
    /// What may be spent at once.
    credit: i64,
    credited_at: Timestamp,
    waiting: BTreeMap<Ticket, Waiter>,
    /// The organizations of those who wait in the foreground, the next one first.
    turns: VecDeque<OrgName>,
    queues: HashMap<OrgName, BTreeSet<Ticket>>,
    background: BTreeSet<Ticket>,
    running: HashMap<Ticket, Wish>,
    /// Instances of which a request is under way that changes something.
    changing: HashSet<InstanceId>,
    background_at: Timestamp,
    /// When the last one that was sent away should come again, in microseconds.
    booked_us: i64,
}

impl Lane {
    /// An empty lane, whose whole burst may be spent.
    pub(super) fn new(limits: BrokerLimits, now: Timestamp) -> Self {
        let budget = Budget::of(limits);
        Self {
            budget,
            credit: budget.per_second * PRICE,
            credited_at: now,
            waiting: BTreeMap::new(),
            turns: VecDeque::new(),
            queues: HashMap::new(),
            background: BTreeSet::new(),
            running: HashMap::new(),
            changing: HashSet::new(),
            background_at: now,
            booked_us: 0,
        }
    }

    /// The broker's document may have changed.
    pub(super) fn limit(&mut self, limits: BrokerLimits) {
        self.budget = Budget::of(limits);
    }

    /// Whether nothing waits and nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// Queues a request.
    ///
    /// # Errors
    /// When too many wait: in how many milliseconds it should come again. Those who are told so
    /// are told one moment after the other, as the budget allows.
    pub(super) fn enter(&mut self, ticket: Ticket, wish: Wish, now: Timestamp) -> Result<(), u64> {
        if self.waiting.len() >= self.budget.waiting() {
            return Err(self.book(now));
        }
        if wish.background {
            self.background.insert(ticket);
        } else {
            let queue = self.queues.entry(wish.org.clone()).or_default();
            if queue.is_empty() {
                self.turns.push_back(wish.org.clone());
            }
            queue.insert(ticket);
        }
        self.waiting.insert(ticket, Waiter { wish, since: now });
        Ok(())
    }

    /// In how many milliseconds one more request would have its turn.
    pub(super) fn book(&mut self, now: Timestamp) -> u64 {
        let each_us = 1_000_000 / self.budget.per_second.max(1);
        let now_us = now.0.saturating_mul(1000);
        let waiting = i64::try_from(self.waiting.len()).unwrap_or(i64::MAX);
        let first = now_us.saturating_add(waiting.saturating_mul(each_us));
        self.booked_us = self.booked_us.max(first).saturating_add(each_us);
        let ms = (self.booked_us - now_us) / 1000;
        u64::try_from(ms).unwrap_or_default().max(AWAY_MS_MIN)
    }

    /// Takes a request out, whether it waits, is under way, or neither.
    pub(super) fn leave(&mut self, ticket: Ticket) {
        self.unqueue(ticket);
        if let Some(wish) = self.running.remove(&ticket)
            && let Some(instance) = wish.changes
        {
            self.changing.remove(&instance);
        }
    }

    /// Takes out all who wait.
    pub(super) fn dismiss(&mut self) {
        self.waiting.clear();
        self.turns.clear();
        self.queues.clear();
        self.background.clear();
    }

    fn unqueue(&mut self, ticket: Ticket) -> Option<Wish> {
        let Waiter { wish, .. } = self.waiting.remove(&ticket)?;
        if wish.background {
            self.background.remove(&ticket);
        } else if let Some(queue) = self.queues.get_mut(&wish.org) {
            queue.remove(&ticket);
            if queue.is_empty() {
                self.queues.remove(&wish.org);
                self.turns.retain(|org| *org != wish.org);
            }
        }
        Some(wish)
    }

    /// Lets go who may go now; with `single` only when nothing else is under way.
    pub(super) fn admit(&mut self, single: bool, now: Timestamp) -> Admitted {
        self.earn(now);
        let room = if single { 1 } else { self.budget.concurrent };
        let mut admitted = Admitted::default();
        while self.running.len() < room {
            let Some(ticket) = self.next(now) else {
                admitted.wake = self.background_wake();
                break;
            };
            let missing = PRICE - self.credit;
            if missing > 0 {
                let ms = (missing + self.budget.per_second - 1) / self.budget.per_second;
                admitted.wake = Some(now.plus_ms(ms));
                break;
            }
            self.credit -= PRICE;
            self.start(ticket, now);
            admitted.go.push(ticket);
        }
        admitted
    }

    fn earn(&mut self, now: Timestamp) {
        // A clock that was set back earns nothing for a while, and costs nothing.
        let elapsed = now.since_ms(self.credited_at).clamp(0, 1000);
        let most = self.budget.per_second * PRICE;
        self.credit = (self.credit + elapsed * self.budget.per_second).min(most);
        self.credited_at = now;
    }

    fn start(&mut self, ticket: Ticket, now: Timestamp) {
        let Some(wish) = self.unqueue(ticket) else {
            return;
        };
        if wish.background {
            self.background_at = now.plus_ms(BACKGROUND_MS);
        } else if self.queues.contains_key(&wish.org) {
            // It has had its turn.
            self.turns.retain(|org| *org != wish.org);
            self.turns.push_back(wish.org.clone());
        }
        self.changing.extend(wish.changes);
        self.running.insert(ticket, wish);
    }

    fn next(&self, now: Timestamp) -> Option<Ticket> {
        let background = self.next_background(now);
        let overdue = background.filter(|ticket| {
            self.waiting
                .get(ticket)
                .is_some_and(|waiter| now.since_ms(waiter.since) >= BACKGROUND_WAIT_MS)
        });
        overdue.or_else(|| self.next_foreground()).or(background)
    }

    fn next_foreground(&self) -> Option<Ticket> {
        let queues = self.turns.iter().filter_map(|org| self.queues.get(org));
        queues
            .filter_map(|queue| queue.iter().copied().find(|ticket| self.is_free(*ticket)))
            .next()
    }

    fn next_background(&self, now: Timestamp) -> Option<Ticket> {
        if self.background.is_empty() || now < self.background_at {
            return None;
        }
        if self.running.values().any(|wish| wish.background) {
            return None;
        }
        let mut queue = self.background.iter().copied();
        queue.find(|ticket| self.is_free(*ticket))
    }

    fn background_wake(&self) -> Option<Timestamp> {
        let busy = self.running.values().any(|wish| wish.background);
        let waits = self.background.iter().any(|ticket| self.is_free(*ticket));
        (!busy && waits).then_some(self.background_at)
    }

    fn is_free(&self, ticket: Ticket) -> bool {
        let instance = self.waiting.get(&ticket).map(|waiter| waiter.wish.changes);
        instance.is_some_and(|instance| {
            instance.is_none_or(|instance| !self.changing.contains(&instance))
        })
    }
}

#[cfg(test)]
mod tests;
