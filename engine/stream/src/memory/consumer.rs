//! A durable consumer in memory, and the inbox on it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep, sleep_until};

use super::store::{Store, Stored};
use super::{Fault, Memory, Operation, Shared, World};
use crate::message::ORIGIN;
use crate::port::{Ack, Delivery, Error, Inbox};

/// What tells consumers apart.
pub(super) type ConsumerKey = (&'static str, Option<Arc<str>>);

/// How far a consumer has come, and what is unended.
#[derive(Default)]
pub(super) struct Consumer {
    seen: u64,
    /// By position: when it comes again, and how often it was delivered.
    unended: BTreeMap<u64, (Instant, u32)>,
}

impl Consumer {
    /// Up to where all is ended.
    pub(super) fn ended(&self) -> u64 {
        let first = self.unended.keys().next();
        first.map_or(self.seen, |first| first - 1)
    }
}

/// Which subjects of its stream a consumer takes.
#[derive(Clone)]
pub(super) enum Takes {
    /// Those of which this is true.
    If(fn(&str) -> bool),
    /// This one; a stream may have such a consumer for each of its subjects.
    Only(Arc<str>),
}

impl Takes {
    fn takes(&self, subject: &str) -> bool {
        match self {
            Self::If(takes) => takes(subject),
            Self::Only(one) => **one == *subject,
        }
    }
}

/// Which stream a consumer reads, and of that which subjects.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) name: &'static str,
    pub(super) store: fn(&mut World) -> &mut Store,
    pub(super) takes: Takes,
    /// Whether what is acknowledged is gone.
    pub(super) queue: bool,
}

impl Source {
    fn key(&self) -> ConsumerKey {
        let only = match &self.takes {
            Takes::If(_) => None,
            Takes::Only(subject) => Some(subject.clone()),
        };
        (self.name, only)
    }

    /// What is to be delivered now, marked as delivered; at most `max`.
    fn take(&self, world: &mut World, max: usize, ack_wait: Duration) -> Vec<(Stored, u32)> {
        let mut consumer = world.consumers.remove(&self.key()).unwrap_or_default();
        let now = Instant::now();
        let store = (self.store)(world);
        let again: Vec<u64> = consumer
            .unended
            .iter()
            .filter(|(_, (at, _))| *at <= now)
            .map(|(seq, _)| *seq)
            .take(max)
            .collect();
        let mut taken = Vec::new();
        for seq in again {
            match store.messages.get(&seq) {
                Some(message) => {
                    let (at, deliveries) = consumer.unended.get_mut(&seq).expect("just listed");
                    *at = now + ack_wait;
                    *deliveries += 1;
                    taken.push((message.clone(), *deliveries));
                }
                None => {
                    consumer.unended.remove(&seq);
                }
            }
        }
        for (seq, message) in store.messages.range(consumer.seen + 1..) {
            if taken.len() >= max {
                break;
            }
            consumer.seen = *seq;
            if self.takes.takes(&message.subject) {
                consumer.unended.insert(*seq, (now + ack_wait, 1));
                taken.push((message.clone(), 1));
            }
        }
        world.consumers.insert(self.key(), consumer);
        taken
    }

    fn next_again(&self, world: &World) -> Option<Instant> {
        world
            .consumers
            .get(&self.key())?
            .unended
            .values()
            .map(|(at, _)| *at)
            .min()
    }
}

/// Reads a message as an item.
pub(super) type Reader<T> = fn(&Stored) -> Result<T, Error>;

/// Deliveries of consumers in memory.
pub(super) struct MemoryInbox<T> {
    pub(super) memory: Memory,
    pub(super) sources: Vec<Source>,
    pub(super) read: Reader<T>,
}

impl<T: Send> MemoryInbox<T> {
    fn take(&self, max: usize, wait: Duration) -> Result<Vec<Delivery<T>>, Error> {
        let shared = &self.memory.shared;
        let mut world = shared.world.lock().expect("no holder panics");
        let mut deliveries = Vec::new();
        for source in &self.sources {
            let left = max - deliveries.len();
            for (message, count) in source.take(&mut world, left, wait) {
                let origin = message.header(ORIGIN).and_then(|seq| seq.parse().ok());
                let seq = origin.map_or(message.seq, engine_model::Seq);
                let ack = MemoryAck {
                    shared: shared.clone(),
                    source: source.clone(),
                    seq: message.seq.0,
                };
                deliveries.push(Delivery {
                    item: (self.read)(&message)?,
                    seq,
                    deliveries: count,
                    ack: Box::new(ack) as Box<dyn Ack>,
                });
            }
        }
        Ok(deliveries)
    }

    fn next_again(&self) -> Option<Instant> {
        let world = self.memory.shared.world.lock().expect("no holder panics");
        self.sources
            .iter()
            .filter_map(|source| source.next_again(&world))
            .min()
    }

    /// Alarms that are due become messages.
    fn ring(&self) {
        let shared = &self.memory.shared;
        let rung = shared.timers.take_due(usize::MAX);
        if rung.is_empty() {
            return;
        }
        let at = shared.now();
        let mut world = shared.world.lock().expect("no holder panics");
        for (subject, due) in rung {
            let body = crate::message::json(&due);
            world
                .timers
                .replace(&subject, std::collections::HashMap::new(), body, at);
        }
        drop(world);
        // Whoever waits for alarms need not be the one who took them from the wheel.
        shared.changed.notify_waiters();
    }
}

#[async_trait]
impl<T: Send> Inbox<T> for MemoryInbox<T> {
    async fn pull(&mut self, max: usize) -> Result<Vec<Delivery<T>>, Error> {
        let shared = self.memory.shared.clone();
        let name = self.sources.first().map_or("", |source| source.name);
        let fault = shared.fault(Operation::Pull(name));
        match fault {
            Fault::None | Fault::FailAfter | Fault::Duplicate => {}
            Fault::Fail => {
                // Failing without a pause would let a loop spin while no time passes.
                sleep(Duration::from_millis(10)).await;
                return Err(Error::Unavailable("injected".into()));
            }
            Fault::Delay(delay) => sleep(delay).await,
        }
        // Delivered twice: the second time without waiting for the end of the first.
        let wait = if fault == Fault::Duplicate {
            Duration::ZERO
        } else {
            shared.ack_wait
        };
        loop {
            let changed = shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            self.ring();
            let taken = self.take(max.max(1), wait)?;
            if !taken.is_empty() {
                return Ok(taken);
            }
            let again = self.next_again();
            let wake = async {
                match again {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = changed => {}
                () = wake => {}
                () = shared.timers.wait_due() => {}
            }
        }
    }
}

/// Ends a delivery.
struct MemoryAck {
    shared: Arc<Shared>,
    source: Source,
    seq: u64,
}

impl MemoryAck {
    fn come_again(&self, delay: Duration) {
        let mut world = self.shared.world.lock().expect("no holder panics");
        if let Some(consumer) = world.consumers.get_mut(&self.source.key())
            && let Some((at, _)) = consumer.unended.get_mut(&self.seq)
        {
            *at = Instant::now() + delay;
        }
        drop(world);
        self.shared.changed.notify_waiters();
    }
}

#[async_trait]
impl Ack for MemoryAck {
    async fn ack(&self) -> Result<(), Error> {
        self.shared
            .faulty(Operation::Ack(self.source.name), || {
                let mut world = self.shared.world.lock().expect("no holder panics");
                if let Some(consumer) = world.consumers.get_mut(&self.source.key()) {
                    consumer.unended.remove(&self.seq);
                }
                if self.source.queue {
                    (self.source.store)(&mut world).remove(self.seq);
                }
            })
            .await
    }

    async fn again(&self, delay: Duration) -> Result<(), Error> {
        self.come_again(delay);
        Ok(())
    }

    async fn progress(&self) -> Result<(), Error> {
        self.come_again(self.shared.ack_wait);
        Ok(())
    }
}
