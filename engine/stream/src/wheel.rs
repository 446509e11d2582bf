//! Things that come due, kept in this process: the waits that are too short for the server's
//! schedules, and everything timed of the in-memory twin.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Items by the moment when they come due; one item per key.
pub(crate) struct Wheel<T> {
    held: Mutex<Held<T>>,
    changed: Notify,
}

struct Held<T> {
    by_time: BTreeMap<(Instant, u64), (String, T)>,
    by_key: HashMap<String, (Instant, u64)>,
    serial: u64,
}

impl<T> Default for Wheel<T> {
    fn default() -> Self {
        let held = Held {
            by_time: BTreeMap::new(),
            by_key: HashMap::new(),
            serial: 0,
        };
        Self {
            held: Mutex::new(held),
            changed: Notify::new(),
        }
    }
}

impl<T> Wheel<T> {
    /// Puts `item` under `key`, in place of what is there.
    pub(crate) fn set(&self, key: String, at: Instant, item: T) {
        let mut held = self.held.lock().expect("no holder panics");
        held.remove(&key);
        held.insert(key, at, item);
        drop(held);
        self.changed.notify_waiters();
    }

    /// Puts `item` under `key` unless something is there.
    pub(crate) fn set_if_absent(&self, key: String, at: Instant, item: T) {
        let mut held = self.held.lock().expect("no holder panics");
        if !held.by_key.contains_key(&key) {
            held.insert(key, at, item);
        }
        drop(held);
        self.changed.notify_waiters();
    }

    /// Forgets what is under `key`, and returns it.
    pub(crate) fn remove(&self, key: &str) -> Option<T> {
        self.held.lock().expect("no holder panics").remove(key)
    }

    /// What is under `key`.
    pub(crate) fn get(&self, key: &str) -> Option<T>
    where
        T: Clone,
    {
        let held = self.held.lock().expect("no holder panics");
        let at = held.by_key.get(key)?;
        held.by_time.get(at).map(|(_, item)| item.clone())
    }

    /// Takes what is due, at most `max`.
    pub(crate) fn take_due(&self, max: usize) -> Vec<(String, T)> {
        let mut held = self.held.lock().expect("no holder panics");
        let now = Instant::now();
        let mut taken = Vec::new();
        while taken.len() < max {
            match held.by_time.first_entry() {
                Some(first) if first.key().0 <= now => {
                    let (key, item) = first.remove();
                    held.by_key.remove(&key);
                    taken.push((key, item));
                }
                _ => break,
            }
        }
        taken
    }

    /// Waits until something is due.
    pub(crate) async fn wait_due(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Before the look, so that no change falls between the look and the wait.
            changed.as_mut().enable();
            let first = self.first();
            match first {
                Some(at) if at <= Instant::now() => return,
                Some(at) => tokio::select! {
                    () = sleep_until(at) => return,
                    () = changed => {}
                },
                None => changed.await,
            }
        }
    }

    fn first(&self) -> Option<Instant> {
        let held = self.held.lock().expect("no holder panics");
        held.by_time.first_key_value().map(|((at, _), _)| *at)
    }
}

impl<T> Held<T> {
    fn insert(&mut self, key: String, at: Instant, item: T) {
        self.serial += 1;
        self.by_key.insert(key.clone(), (at, self.serial));
        self.by_time.insert((at, self.serial), (key, item));
    }

    fn remove(&mut self, key: &str) -> Option<T> {
        let place = self.by_key.remove(key)?;
        self.by_time.remove(&place).map(|(_, item)| item)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_due_first_comes_first_and_a_key_counts_once() {
        let wheel = Wheel::default();
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        wheel.set("a".into(), after(50), 1);
        wheel.set("b".into(), after(10), 2);
        wheel.set("a".into(), after(20), 3);
        wheel.set_if_absent("a".into(), after(1), 4);
        wheel.wait_due().await;
        assert_eq!(start.elapsed(), Duration::from_millis(10));
        assert_eq!(wheel.take_due(9), [("b".to_owned(), 2)]);
        wheel.wait_due().await;
        assert_eq!(wheel.take_due(9), [("a".to_owned(), 3)]);
        assert_eq!(start.elapsed(), Duration::from_millis(20));
        assert!(wheel.take_due(9).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_shorter_wait_wakes_who_waits_already() {
        let wheel = std::sync::Arc::new(Wheel::default());
        let start = Instant::now();
        let waiting = tokio::spawn({
            let wheel = wheel.clone();
            async move {
                wheel.wait_due().await;
                start.elapsed()
            }
        });
        tokio::task::yield_now().await;
        wheel.set("late".into(), start + Duration::from_secs(9), ());
        wheel.set("soon".into(), start + Duration::from_secs(1), ());
        assert_eq!(waiting.await.unwrap(), Duration::from_secs(1));
    }
}
