//! The log in memory: the same rules without a server, for tests and simulations. It keeps
//! messages as the server does, as JSON, so that what cannot be written or read shows here too;
//! and it goes by tokio's clock, so that a test may let time fly.

mod client;
mod consumer;
mod faults;
mod log;
mod runs;
mod store;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use engine_model::{Due, RunId, Timestamp};
use tokio::sync::{Notify, broadcast, mpsc};
use tokio::time::Instant;

pub use faults::{Fault, Faults, Operation};

use crate::message::wall_clock;
use crate::settings::ACK_WAIT;
use crate::wheel::Wheel;
use consumer::{Consumer, ConsumerKey};
use store::Store;

/// Answers that wait for a listener; beyond it they are lost, as core NATS loses them.
const ANSWERS_WAITING: usize = 1024;

/// The log in memory. Clones share it.
#[derive(Clone)]
pub struct Memory {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Memory")
    }
}

struct Shared {
    world: Mutex<World>,
    /// Something was written, ended, or will come again.
    changed: Notify,
    timers: Wheel<Due>,
    ack_wait: Duration,
    began: (Instant, Timestamp),
    faults: Option<Arc<dyn Faults>>,
    cancels: broadcast::Sender<RunId>,
}

#[derive(Default)]
struct World {
    commands: Store,
    events: Store,
    runs: Store,
    waiting: Store,
    timers: Store,
    rejected: Store,
    letters: Store,
    redo: Store,
    consumers: HashMap<ConsumerKey, Consumer>,
    listeners: HashMap<String, mpsc::Sender<Bytes>>,
    serial: u64,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Memory {
    /// An empty log that begins now.
    #[must_use]
    pub fn new() -> Self {
        Self::build(ACK_WAIT, wall_clock(), None)
    }

    /// An empty log whose clock begins at `start`, in which an unended delivery comes again after
    /// `ack_wait`, and in which `faults` says what goes wrong.
    #[must_use]
    pub fn simulated(start: Timestamp, ack_wait: Duration, faults: Arc<dyn Faults>) -> Self {
        Self::build(ack_wait, start, Some(faults))
    }

    /// An empty log in which an unended delivery comes again after `ack_wait`.
    #[must_use]
    pub fn with_ack_wait(ack_wait: Duration) -> Self {
        Self::build(ack_wait, wall_clock(), None)
    }

    fn build(ack_wait: Duration, start: Timestamp, faults: Option<Arc<dyn Faults>>) -> Self {
        let shared = Shared {
            world: Mutex::new(World::default()),
            changed: Notify::new(),
            timers: Wheel::default(),
            ack_wait,
            began: (Instant::now(), start),
            faults,
            cancels: broadcast::Sender::new(ANSWERS_WAITING),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The moment, by this log's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.shared.now()
    }

    /// Publishes as a stranger would: any subject of a stream, any headers, any body. Returns the
    /// position, or none when no stream takes the subject.
    pub fn publish(&self, subject: &str, headers: &[(&str, &str)], body: &[u8]) -> Option<u64> {
        let headers: HashMap<String, String> = headers
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect();
        let at = self.now();
        let seq = {
            let mut world = self.shared.world.lock().expect("no holder panics");
            let store = world.store_of(subject)?;
            store.publish(subject, headers, Bytes::copy_from_slice(body), at)
        };
        self.shared.changed.notify_waiters();
        Some(seq)
    }

    /// Drops all but the newest messages of the run stream, as its limits do.
    pub fn drop_runs(&self, kept: usize) {
        let mut world = self.shared.world.lock().expect("no holder panics");
        let excess = world.runs.messages.len().saturating_sub(kept);
        let oldest: Vec<u64> = world.runs.messages.keys().take(excess).copied().collect();
        for seq in oldest {
            world.runs.remove(seq);
        }
    }

    /// Hears what is answered to a new inbox, whose name is returned with it.
    #[must_use]
    pub fn listen(&self) -> (String, mpsc::Receiver<Bytes>) {
        let (sender, receiver) = mpsc::channel(ANSWERS_WAITING);
        let mut world = self.shared.world.lock().expect("no holder panics");
        world.serial += 1;
        let inbox = format!("_INBOX.memory.{}", world.serial);
        world.listeners.retain(|_, listener| !listener.is_closed());
        world.listeners.insert(inbox.clone(), sender);
        (inbox, receiver)
    }
}

impl Shared {
    fn now(&self) -> Timestamp {
        let (instant, start) = self.began;
        let passed = i64::try_from(instant.elapsed().as_millis()).unwrap_or(i64::MAX);
        start.plus_ms(passed)
    }

    /// The moment on tokio's clock that is `at` on this log's.
    fn instant(&self, at: Timestamp) -> Instant {
        let wait = u64::try_from(at.since_ms(self.now())).unwrap_or(0);
        Instant::now() + Duration::from_millis(wait)
    }
}

impl World {
    fn store_of(&mut self, subject: &str) -> Option<&mut Store> {
        match subject.split('.').nth(1)? {
            "cmd" => Some(&mut self.commands),
            "evt" => Some(&mut self.events),
            "run" | "runcmd" => Some(&mut self.runs),
            "waiting" => Some(&mut self.waiting),
            "due" => Some(&mut self.timers),
            "rejected" => Some(&mut self.rejected),
            "dead" => Some(&mut self.letters),
            "redo" => Some(&mut self.redo),
            _ => None,
        }
    }
}
