//! Unwrapped data keys, kept for a short while.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use engine_model::KeyId;

use crate::master::Key;

/// How many data keys are kept: 4096 of about 200 bytes are under 1 MB, and cover the secrets
/// that one node's functions use at a time.
const KEYS_MAX: usize = 4096;

/// How long a key is used without asking the store. It bounds how long a node can still open
/// what another node has erased.
pub(crate) const KEPT_FOR: Duration = Duration::from_secs(30);

/// A bounded cache. Keys are wiped when they leave it.
#[derive(Default)]
pub(crate) struct Cache(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    keys: HashMap<KeyId, (Key, Instant)>,
    erasures: u64,
}

/// What the cache was like before the store was asked.
#[derive(Clone, Copy)]
pub(crate) struct Erasures(u64);

impl Cache {
    /// The key, if it was put in less than [`KEPT_FOR`] before `now`.
    pub(crate) fn get(&self, id: &KeyId, now: Instant) -> Option<Key> {
        let inner = self.0.lock().expect("no holder panics");
        let (key, since) = inner.keys.get(id)?;
        (now.duration_since(*since) < KEPT_FOR).then(|| key.clone())
    }

    /// To be taken before the store is asked for a key that is then put in.
    pub(crate) fn erasures(&self) -> Erasures {
        Erasures(self.0.lock().expect("no holder panics").erasures)
    }

    /// Puts a key in, unless one was erased since `before`: it may have been this one.
    pub(crate) fn put(&self, id: &KeyId, key: &Key, before: Erasures, now: Instant) {
        let mut inner = self.0.lock().expect("no holder panics");
        if inner.erasures != before.0 {
            return;
        }
        if inner.keys.len() >= KEYS_MAX {
            inner
                .keys
                .retain(|_, (_, since)| now.duration_since(*since) < KEPT_FOR);
        }
        if inner.keys.len() >= KEYS_MAX {
            // All are fresh: any may go, it is only asked for again.
            let victim = inner.keys.keys().next().cloned();
            victim.and_then(|victim| inner.keys.remove(&victim));
        }
        inner.keys.insert(id.clone(), (key.clone(), now));
    }

    /// Takes a key out.
    pub(crate) fn remove(&self, id: &KeyId) {
        let mut inner = self.0.lock().expect("no holder panics");
        inner.erasures += 1;
        inner.keys.remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> KeyId {
        KeyId(format!("k{n}"))
    }

    #[test]
    fn a_key_is_used_for_a_while_and_no_longer() {
        let (cache, start) = (Cache::default(), Instant::now());
        cache.put(&id(1), &Key::default(), cache.erasures(), start);
        assert!(
            cache
                .get(&id(1), start + KEPT_FOR - Duration::from_millis(1))
                .is_some()
        );
        assert!(cache.get(&id(1), start + KEPT_FOR).is_none());
    }

    #[test]
    fn it_never_holds_more_than_its_bound() {
        let (cache, now) = (Cache::default(), Instant::now());
        for n in 0..KEYS_MAX + 10 {
            cache.put(&id(n), &Key::default(), cache.erasures(), now);
        }
        assert_eq!(cache.0.lock().unwrap().keys.len(), KEYS_MAX);
        assert!(cache.get(&id(KEYS_MAX + 9), now).is_some());
    }

    #[test]
    fn a_key_that_was_read_before_an_erasure_is_not_put_in_after_it() {
        let (cache, now) = (Cache::default(), Instant::now());
        let before = cache.erasures();
        cache.remove(&id(1));
        cache.put(&id(1), &Key::default(), before, now);
        assert!(cache.get(&id(1), now).is_none());
    }
}
