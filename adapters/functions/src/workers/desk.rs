//! A worker's desk: the orders of the next calls lie there while it works on one.
//!
//! ```text
//! shut ─ open(first order) ─► open ─ put(order)… ─► next ─► … ─► nobody left: shut
//!                              └─ recall / lose: whoever's order was not begun has it back
//! ```
//!
//! A worker that finds its next order as it ends the last one does not sleep in between, and neither
//! has to be woken, which is most of what a short call costs. The kernel's queue says of each order
//! whether it was begun, so that none is carried out twice and none waits behind a slow one. The worker
//! takes orders while they are taken back, so it is by their ids that these are known, and the one in
//! hand may be among them although a later one was begun.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use adapter_sandbox::Queue;
use futures::FutureExt as _;
use tokio::sync::{Notify, oneshot};

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
    /// The order in hand was taken back.
    returned: Notify,
    /// Orders were taken back since it was opened.
    disturbed: AtomicBool,
    /// How many are at it now.
    recalling: AtomicUsize,
}

#[derive(Debug)]
struct State {
    open: bool,
    /// The order of the call that has the worker.
    in_hand: u64,
    /// Oldest first, as in the queue.
    waiting: VecDeque<Place>,
    calls: u64,
    ids: RandomState,
    /// The digest of the binding files that the worker was given; none if that is not known.
    bindings: Option<Vec<u8>>,
}

#[derive(Debug)]
struct Place {
    id: u64,
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
                in_hand: 0,
                waiting: VecDeque::new(),
                calls: 0,
                ids: RandomState::new(),
                bindings: Some(Vec::new()),
            }),
            returned: Notify::new(),
            disturbed: AtomicBool::new(false),
            recalling: AtomicUsize::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// An id that cannot be told from those before it, and the order that is made with it: neither a late
    /// answer can pass for its own, nor one that was written before the function had the order. `make` is
    /// told whether the binding files have to go along.
    pub(crate) fn compose(
        &self,
        bindings: &[u8],
        make: impl FnOnce(u64, bool) -> Vec<u8>,
    ) -> (u64, Vec<u8>) {
        self.state().compose(bindings, make)
    }

    /// Puts the order of the call that has the worker, and opens the desk for others. The order
    /// again if that cannot be.
    pub(crate) fn open(&self, id: u64, order: Vec<u8>) -> Result<(), Vec<u8>> {
        let mut state = self.state();
        match &self.queue {
            Some(queue) if fits(&order) && matches!(queue.put(&order), Ok(true)) => {
                state.in_hand = id;
                state.open = true;
                // One that began before may still be at it.
                if self.recalling.load(Ordering::Acquire) == 0 {
                    self.disturbed.store(false, Ordering::Release);
                }
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
            // Another desk may have room.
            self.load.store(SHUT, Ordering::Relaxed);
            return None;
        }
        let (caller, told) = oneshot::channel();
        state.waiting.push_back(Place { id, caller });
        self.load.store(state.waiting.len(), Ordering::Relaxed);
        Some((id, told))
    }

    /// Whose order the worker has next; it is in hand then. The desk is shut when there is none.
    pub(crate) fn next(&self) -> Option<oneshot::Sender<Handed>> {
        let mut state = self.state();
        let Some(Place { id, caller }) = state.waiting.pop_front() else {
            self.shut(&mut state);
            return None;
        };
        state.in_hand = id;
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

    /// Resolves when the order in hand was taken back, so that its call has to go elsewhere.
    pub(crate) async fn returned(&self) {
        self.returned.notified().await;
    }

    /// Whether the answer to another order may come although that in hand has none.
    pub(crate) fn is_disturbed(&self) -> bool {
        self.disturbed.load(Ordering::Acquire)
    }

    /// Whether the order in hand was taken back, once it is known.
    pub(crate) async fn has_returned(&self) -> bool {
        loop {
            let settled = self.recalling.load(Ordering::Acquire) == 0;
            // In this order: who recalls tells of it first, and then is done.
            if self.returned().now_or_never().is_some() {
                return true;
            }
            if settled {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Shuts the desk and gives the orders back that the worker has not begun. It may wait for a worker
    /// that wants it to, so it is not for a thread that serves calls.
    pub(crate) fn recall(&self) {
        let back = self.take_back();
        self.give_back(&mut self.state(), &back);
        self.recalling.fetch_sub(1, Ordering::Release);
    }

    /// Shuts the desk of a worker that is done for, and tells everyone; as `recall`. Whether not even
    /// the order in hand was begun.
    pub(crate) fn lose(&self) -> bool {
        let back = self.take_back();
        let mut state = self.state();
        self.give_back(&mut state, &back);
        self.recalling.fetch_sub(1, Ordering::Release);
        for place in state.waiting.drain(..) {
            let _ = place.caller.send(Handed::Lost);
        }
        back.contains(&state.in_hand)
    }

    /// The ids of the orders that were taken back. It begins what the caller has to end.
    fn take_back(&self) -> Vec<u64> {
        {
            let mut state = self.state();
            self.shut(&mut state);
            self.recalling.fetch_add(1, Ordering::AcqRel);
            self.disturbed.store(true, Ordering::Release);
        }
        let Some(queue) = &self.queue else {
            return Vec::new();
        };
        let beginnings = queue.take_back::<32>();
        beginnings.iter().filter_map(|order| id_of(order)).collect()
    }

    fn give_back(&self, state: &mut State, back: &[u64]) {
        if !back.is_empty() {
            // One of them may have carried the files.
            state.bindings = None;
        }
        let waiting = std::mem::take(&mut state.waiting);
        for place in waiting {
            if back.contains(&place.id) {
                // Whoever left has no use for it.
                let _ = place.caller.send(Handed::Back);
            } else {
                state.waiting.push_back(place);
            }
        }
        if back.contains(&state.in_hand) {
            self.returned.notify_one();
        }
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

/// The id of an order, of its first bytes.
fn id_of(order: &[u8]) -> Option<u64> {
    let rest = order.strip_prefix(br#"{"call":"#)?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit());
    let text: String = digits.map(|&byte| char::from(byte)).collect();
    text.parse().ok()
}

fn fits(order: &[u8]) -> bool {
    order.len() <= Queue::PACKET_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::workers::frame;

    #[test]
    fn an_order_is_known_by_its_first_bytes() {
        for id in [0, 7, ID_MAX] {
            let order = frame::call(id, &json!({}), &json!([1, 2, 3]), None);
            assert_eq!(id_of(&order[..order.len().min(32)]), Some(id));
        }
        assert_eq!(id_of(b"{\"init\":{}}"), None);
    }
}
