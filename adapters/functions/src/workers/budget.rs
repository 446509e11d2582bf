//! The memory that all workers of a node together may be expected to take, shared out fairly.
//!
//! Whoever waits and has the fewest workers is served first, and among equals the one that waits
//! for the longest time: a function with many calls goes through its own queue, and does not keep
//! another from its first worker. A large ask at the head is not overtaken by small ones.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::oneshot;

/// What a stem says it has: it is served last, and nobody gives up anything for it.
pub(crate) const FOR_A_STEM: usize = usize::MAX;

/// The budget, in permits.
#[derive(Debug)]
pub(crate) struct Budget {
    all: u32,
    inner: Mutex<Inner>,
    /// The fewest workers that one of those who wait has; `FOR_A_STEM` when nobody else waits.
    fewest: AtomicUsize,
}

#[derive(Debug)]
struct Inner {
    free: u32,
    closed: bool,
    asks: Vec<Ask>,
    asked: u64,
}

#[derive(Debug)]
struct Ask {
    number: u64,
    permits: u32,
    have: usize,
    sender: oneshot::Sender<Permit>,
}

/// A part of the budget; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Permit {
    budget: Arc<Budget>,
    permits: u32,
}

/// A place in the queue; dropping it leaves the queue.
#[derive(Debug)]
pub(crate) struct Place {
    budget: Arc<Budget>,
    number: u64,
    receiver: oneshot::Receiver<Permit>,
}

impl Budget {
    pub(crate) fn new(permits: u32) -> Self {
        let inner = Inner {
            free: permits,
            closed: false,
            asks: Vec::new(),
            asked: 0,
        };
        Self {
            all: permits,
            inner: Mutex::new(inner),
            fewest: AtomicUsize::new(FOR_A_STEM),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder panics")
    }

    /// Takes so many permits, if they are free and nobody waits for them.
    pub(crate) fn take_now(self: &Arc<Self>, permits: u32) -> Option<Permit> {
        let mut inner = self.inner();
        if inner.closed || !inner.asks.is_empty() || inner.free < permits {
            return None;
        }
        inner.free -= permits;
        Some(Permit {
            budget: Arc::clone(self),
            permits,
        })
    }

    /// Whether so many permits can ever be had.
    pub(crate) fn holds(&self, permits: u32) -> bool {
        permits <= self.all
    }

    /// Queues up for so many permits on behalf of a function that has so many workers. Who asks
    /// for more than there ever are is told so at once, and keeps nobody waiting.
    pub(crate) fn queue(self: &Arc<Self>, permits: u32, have: usize) -> Place {
        let (sender, receiver) = oneshot::channel();
        let number = {
            let mut inner = self.inner();
            inner.asked += 1;
            let number = inner.asked;
            if !inner.closed && self.holds(permits) {
                inner.asks.push(Ask {
                    number,
                    permits,
                    have,
                    sender,
                });
            }
            number
        };
        self.hand_out();
        Place {
            budget: Arc::clone(self),
            number,
            receiver,
        }
    }

    /// The fewest workers that a function has which waits for another; `None` when none waits.
    pub(crate) fn neediest(&self) -> Option<usize> {
        let fewest = self.fewest.load(Ordering::Relaxed);
        (fewest != FOR_A_STEM).then_some(fewest)
    }

    /// What is free now.
    pub(crate) fn free(&self) -> u32 {
        self.inner().free
    }

    /// Nobody gets anything any more; those who wait are told so.
    pub(crate) fn close(&self) {
        let mut inner = self.inner();
        inner.closed = true;
        let asks = std::mem::take(&mut inner.asks);
        drop(inner);
        drop(asks);
        self.fewest.store(FOR_A_STEM, Ordering::Relaxed);
    }

    fn hand_out(self: &Arc<Self>) {
        let mut granted = Vec::new();
        {
            let mut inner = self.inner();
            while let Some(index) = next(&inner.asks) {
                let permits = inner.asks[index].permits;
                if permits > inner.free {
                    break;
                }
                inner.free -= permits;
                granted.push(inner.asks.swap_remove(index));
            }
            let fewest = inner.asks.iter().map(|ask| ask.have).min();
            self.fewest
                .store(fewest.unwrap_or(FOR_A_STEM), Ordering::Relaxed);
        }
        for ask in granted {
            // If its asker is gone, dropping the permit brings it back.
            let _ = ask.sender.send(Permit {
                budget: Arc::clone(self),
                permits: ask.permits,
            });
        }
    }
}

fn next(asks: &[Ask]) -> Option<usize> {
    (0..asks.len()).min_by_key(|&index| (asks[index].have, asks[index].number))
}

impl Place {
    /// Waits for the permits; `None` when they are not to be had, or not any more. Waiting may be broken off and
    /// taken up again without losing the place.
    pub(crate) async fn permit(&mut self) -> Option<Permit> {
        (&mut self.receiver).await.ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let left = {
            let mut inner = self.budget.inner();
            let before = inner.asks.len();
            inner.asks.retain(|ask| ask.number != self.number);
            inner.asks.len() < before
        };
        if left {
            // Whoever is next may ask for less.
            self.budget.hand_out();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.budget.inner().free += self.permits;
        self.budget.hand_out();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn who_has_the_fewest_is_served_first_and_then_who_waited_the_longest() {
        let budget = Arc::new(Budget::new(1));
        let mut held = budget.take_now(1);
        let mut places: Vec<_> = [3, 1, 0, 0]
            .map(|have| budget.queue(1, have))
            .into_iter()
            .collect();
        assert_eq!(budget.neediest(), Some(0));
        for expected in [2, 3, 1, 0] {
            drop(held.take());
            for (index, place) in places.iter_mut().enumerate() {
                match place.permit().now_or_never() {
                    Some(permit) if index == expected => held = permit,
                    Some(None) => assert!(index != expected, "{index} was served before"),
                    Some(Some(_)) => panic!("{index} was served instead of {expected}"),
                    None => {}
                }
            }
            assert!(held.is_some(), "{expected} was not served");
            // A finished place must not be asked again.
            places[expected] = budget.queue(1, FOR_A_STEM - 1);
        }
    }

    #[test]
    fn a_large_ask_is_not_overtaken_and_leaves_when_it_is_given_up() {
        let budget = Arc::new(Budget::new(3));
        let held = budget.take_now(1);
        let large = budget.queue(3, 0);
        let mut small = budget.queue(1, 0);
        assert!(budget.take_now(1).is_none(), "somebody waits");
        assert!(small.permit().now_or_never().is_none());
        drop(large);
        assert!(small.permit().now_or_never().flatten().is_some());
        drop((held, small));
        assert_eq!(budget.free(), 3);
        assert_eq!(budget.neediest(), None);
    }

    #[test]
    fn an_ask_that_can_never_be_met_keeps_nobody_waiting() {
        let budget = Arc::new(Budget::new(3));
        let mut impossible = budget.queue(4, 0);
        assert!(matches!(impossible.permit().now_or_never(), Some(None)));
        assert_eq!(budget.neediest(), None);
        assert!(budget.take_now(3).is_some());
    }

    #[test]
    fn a_permit_for_somebody_who_went_away_comes_back() {
        let budget = Arc::new(Budget::new(1));
        let held = budget.take_now(1);
        let place = budget.queue(1, 0);
        drop(held);
        drop(place);
        assert_eq!(budget.free(), 1);
    }

    #[test]
    fn closing_tells_all_who_wait() {
        let budget = Arc::new(Budget::new(0));
        let mut place = budget.queue(1, 0);
        budget.close();
        assert!(matches!(place.permit().now_or_never(), Some(None)));
        assert!(matches!(
            budget.queue(0, 0).permit().now_or_never(),
            Some(None)
        ));
    }
}
