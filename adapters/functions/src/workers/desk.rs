//! A worker's desk: the orders of the next calls lie there while it works on one.
//!
//! ```text
//! shut ─ open(first order) ─► open ─ put(order)… ─► next ─► … ─► nobody left: shut
//!                              └─ recall / lose: whoever's order was not begun has it back
//! ```
//!
//! A worker that finds its next order as it ends the last one does not sleep in between, and neither
//! has to be woken, which is most of what a short call costs. The kernel's queue says of each order
//! whether it was begun, so that none is carried out twice and none waits behind a slow one.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use adapter_sandbox::Queue;
use tokio::sync::oneshot;

use crate::workers::pool::Lease;

/// So many orders lie on a desk at most, besides the one that is worked on.
pub(crate) const ORDERS_MAX: usize = 64;
/// The load of a desk on which nothing can be put.
const SHUT: usize = usize::MAX;
/// Ids are whole numbers that every language's JSON reads exactly.
const ID_MAX: u64 = (1 << 53) - 1;

/// Where the orders of one worker lie.
#[derive(Debug)]
pub(crate) struct Desk {
    /// None for a worker that takes an order only when it is asked for one.
    queue: Option<Queue>,
    /// How many orders wait, for those who look for a desk.
    load: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    open: bool,
    /// What was put for the call that has the worker.
    in_hand: Vec<u8>,
    /// Oldest first, as in the queue.
    waiting: VecDeque<Place>,
    calls: u64,
    ids: RandomState,
    /// The digest of the binding files that the worker was given; none if that is not known.
    bindings: Option<Vec<u8>>,
}

#[derive(Debug)]
struct Place {
    order: Vec<u8>,
    caller: oneshot::Sender<Handed>,
}

/// What a caller is told whose order lies on a desk.
#[derive(Debug)]
pub(crate) enum Handed {
    /// The worker is its own now, and has the order.
    Worker(Lease),
    /// The order was taken back: nothing of it was begun.
    Back,
    /// The worker ended after it had taken the order.
    Lost,
}

impl Desk {
    pub(crate) fn new(queue: Option<Queue>) -> Self {
        Self {
            queue,
            load: AtomicUsize::new(SHUT),
            state: Mutex::new(State {
                open: false,
                in_hand: Vec::new(),
                waiting: VecDeque::new(),
                calls: 0,
                ids: RandomState::new(),
                bindings: Some(Vec::new()),
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// An id that no function can tell from those before it, so that neither a late answer nor one
    /// written beforehand can pass for its own; and the order that is made with it. `make` is told
    /// whether the binding files have to go along.
    pub(crate) fn compose(
        &self,
        bindings: &[u8],
        make: impl FnOnce(u64, bool) -> Vec<u8>,
    ) -> (u64, Vec<u8>) {
        self.state().compose(bindings, make)
    }

    /// Puts the order of the call that has the worker, and opens the desk for others. The order
    /// again if that cannot be.
    pub(crate) fn open(&self, order: Vec<u8>) -> Result<(), Vec<u8>> {
        let mut state = self.state();
        match &self.queue {
            Some(queue) if fits(&order) && matches!(queue.put(&order), Ok(true)) => {
                state.in_hand = order;
                state.open = true;
                self.load.store(0, Ordering::Relaxed);
                Ok(())
            }
            _ => Err(order),
        }
    }

    /// How many orders wait here; none if no other can be put.
    pub(crate) fn load(&self) -> Option<usize> {
        let load = self.load.load(Ordering::Relaxed);
        (load < ORDERS_MAX).then_some(load)
    }

    /// Puts an order behind the others, if there is room; its id, and what becomes of it.
    pub(crate) fn put(
        &self,
        bindings: &[u8],
        make: impl FnOnce(u64, bool) -> Vec<u8>,
    ) -> Option<(u64, oneshot::Receiver<Handed>)> {
        let mut state = self.state();
        let queue = self.queue.as_ref()?;
        if !state.open || state.waiting.len() >= ORDERS_MAX {
            return None;
        }
        let before = state.bindings.clone();
        let (id, order) = state.compose(bindings, make);
        if !fits(&order) || !matches!(queue.put(&order), Ok(true)) {
            state.bindings = before;
            return None;
        }
        let (caller, told) = oneshot::channel();
        state.waiting.push_back(Place { order, caller });
        self.load.store(state.waiting.len(), Ordering::Relaxed);
        Some((id, told))
    }

    /// Whose order the worker has next; it is in hand then. The desk is shut when there is none.
    pub(crate) fn next(&self) -> Option<oneshot::Sender<Handed>> {
        let mut state = self.state();
        let Some(Place { order, caller }) = state.waiting.pop_front() else {
            self.shut(&mut state);
            return None;
        };
        state.in_hand = order;
        if state.open {
            self.load.store(state.waiting.len(), Ordering::Relaxed);
        }
        Some(caller)
    }

    /// Shuts the desk if no order waits; whether it is shut.
    pub(crate) fn shut_if_empty(&self) -> bool {
        let mut state = self.state();
        if state.waiting.is_empty() {
            self.shut(&mut state);
        }
        state.waiting.is_empty()
    }

    fn shut(&self, state: &mut State) {
        state.open = false;
        self.load.store(SHUT, Ordering::Relaxed);
    }

    /// Shuts the desk and gives the orders back that the worker has not begun; the one in hand stays.
    pub(crate) fn recall(&self) {
        let mut state = self.state();
        self.shut(&mut state);
        if self.take_back(&mut state)
            && let Some(queue) = &self.queue
        {
            // There is room, as nothing else is in it; a worker that shut its end has no use for it.
            let _ = queue.put(&state.in_hand);
        }
    }

    /// Shuts the desk of a worker that is done for, and tells everyone. Whether even the order in
    /// hand was not begun.
    pub(crate) fn lose(&self) -> bool {
        let mut state = self.state();
        self.shut(&mut state);
        let untouched = self.take_back(&mut state);
        for place in state.waiting.drain(..) {
            let _ = place.caller.send(Handed::Lost);
        }
        untouched
    }

    /// Gives back what was not begun of those that wait; whether the order in hand was among it.
    fn take_back(&self, state: &mut State) -> bool {
        let Some(queue) = &self.queue else {
            return false;
        };
        let taken = queue.take_back();
        if taken > 0 {
            // One of them may have carried the files.
            state.bindings = None;
        }
        let kept = state.waiting.len().saturating_sub(taken);
        let untouched = taken > state.waiting.len();
        for place in state.waiting.drain(kept..) {
            // Whoever left has no use for it.
            let _ = place.caller.send(Handed::Back);
        }
        untouched
    }
}

impl State {
    fn compose(
        &mut self,
        bindings: &[u8],
        make: impl FnOnce(u64, bool) -> Vec<u8>,
    ) -> (u64, Vec<u8>) {
        self.calls += 1;
        let id = self.ids.hash_one(self.calls) & ID_MAX;
        // What a worker has been given before is not given again.
        let fresh = self.bindings.as_deref() != Some(bindings);
        if fresh {
            self.bindings = Some(bindings.to_vec());
        }
        (id, make(id, fresh))
    }
}

fn fits(order: &[u8]) -> bool {
    order.len() <= Queue::PACKET_BYTES_MAX
}
