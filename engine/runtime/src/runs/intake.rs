//! How many runs this node has in hand, of a function, of an organization and in all. What is over
//! is not taken in: it is put aside in a stream of its own, so that nothing waits behind it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine_model::{Name, OrgName};
use tokio::sync::Notify;

/// A function of an organization.
pub(super) type Key = (OrgName, Name);

/// How many runs a node takes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bounds {
    function: usize,
    org: usize,
    all: usize,
}

impl Bounds {
    fn room(self, counts: Bounds) -> usize {
        let function = self.function.saturating_sub(counts.function);
        let org = self.org.saturating_sub(counts.org);
        function.min(org).min(self.all.saturating_sub(counts.all))
    }
}

/// Counts the runs that this node has in hand.
#[derive(Debug)]
pub(crate) struct Intake {
    /// For runs that nobody waits for: enough to keep workers busy. The rest loses nothing by
    /// waiting where it costs no memory.
    left: Bounds,
    /// For runs that somebody waits for, which are refused beyond it; more than the queues of a
    /// function and of an organization hold, so that theirs is the word where there is one.
    waited: Bounds,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    counts: Mutex<Counts>,
    /// A run has left.
    freed: Notify,
    /// A function has fallen behind.
    fell: Notify,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    orgs: HashMap<OrgName, usize>,
    functions: HashMap<Key, usize>,
    /// Functions of which runs are put aside: later ones go behind those.
    behind: HashSet<Key>,
}

/// Held while a run is in hand, or may come in at any moment.
#[derive(Debug)]
pub(super) struct Place {
    shared: Arc<Shared>,
    key: Key,
}

impl Intake {
    /// For a node that carries out `slots` runs at once and takes in `all`.
    pub(crate) fn new(slots: usize, all: usize) -> Self {
        Self {
            left: Bounds {
                function: slots * 2,
                org: all / 4,
                all: all / 2,
            },
            waited: Bounds {
                function: (all / 4).max(slots),
                org: all / 2,
                all,
            },
            shared: Arc::default(),
        }
    }

    /// Takes a run in, if there is room for it.
    pub(super) fn enter(&self, key: &Key, somebody_waits: bool) -> Option<Place> {
        let mut counts = self.shared.lock();
        let bounds = match somebody_waits {
            true => self.waited,
            false if counts.behind.contains(key) => return None,
            false => self.left,
        };
        (bounds.room(counts.of(key)) > 0).then(|| self.place(&mut counts, key))
    }

    /// Keeps places for runs of a function that nobody waits for: as many as there is room for, up
    /// to so many.
    pub(super) fn some_places(&self, key: &Key, max: usize) -> Vec<Place> {
        let mut counts = self.shared.lock();
        let room = self.left.room(counts.of(key)).min(max);
        (0..room).map(|_| self.place(&mut counts, key)).collect()
    }

    /// The same, once there is room for one at least.
    pub(super) async fn places(&self, key: &Key, max: usize) -> Vec<Place> {
        loop {
            self.room(key).await;
            // Another may have been faster.
            let places = self.some_places(key, max.max(1));
            if !places.is_empty() {
                return places;
            }
        }
    }

    fn place(&self, counts: &mut Counts, key: &Key) -> Place {
        counts.all += 1;
        *counts.orgs.entry(key.0.clone()).or_default() += 1;
        *counts.functions.entry(key.clone()).or_default() += 1;
        Place {
            shared: self.shared.clone(),
            key: key.clone(),
        }
    }

    /// Waits until there is room for runs of a function that nobody waits for, and says for how
    /// many.
    pub(super) async fn room(&self, key: &Key) -> usize {
        loop {
            let freed = self.shared.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            let counts = self.shared.lock().of(key);
            match self.left.room(counts) {
                0 => freed.await,
                room => return room,
            }
        }
    }

    /// How many runs of a function are in hand.
    pub(super) fn in_hand(&self, key: &Key) -> usize {
        self.shared.lock().of(key).function
    }

    /// Runs of this function are put aside from now on.
    pub(super) fn fall_behind(&self, key: &Key) {
        if self.shared.lock().behind.insert(key.clone()) {
            self.shared.fell.notify_one();
        }
    }

    pub(super) fn is_behind(&self, key: &Key) -> bool {
        self.shared.lock().behind.contains(key)
    }

    /// None of this function's runs is put aside any more.
    pub(super) fn caught_up(&self, key: &Key) {
        self.shared.lock().behind.remove(key);
    }

    /// Waits until a function falls behind.
    pub(super) async fn fell_behind(&self) {
        self.shared.fell.notified().await;
    }

    /// The functions that are behind.
    pub(super) fn behind(&self) -> Vec<Key> {
        self.shared.lock().behind.iter().cloned().collect()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn of(&self, key: &Key) -> Bounds {
        Bounds {
            function: self.functions.get(key).copied().unwrap_or(0),
            org: self.orgs.get(&key.0).copied().unwrap_or(0),
            all: self.all,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.shared.lock();
        counts.all -= 1;
        if let Some(org) = counts.orgs.get_mut(&self.key.0) {
            *org -= 1;
            if *org == 0 {
                counts.orgs.remove(&self.key.0);
            }
        }
        if let Some(function) = counts.functions.get_mut(&self.key) {
            *function -= 1;
            if *function == 0 {
                counts.functions.remove(&self.key);
            }
        }
        drop(counts);
        self.shared.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn key(org: &str, function: &str) -> Key {
        (OrgName::new(org).unwrap(), Name::new(function).unwrap())
    }

    fn fill(intake: &Intake, key: &Key, somebody_waits: bool) -> Vec<Place> {
        std::iter::from_fn(|| intake.enter(key, somebody_waits)).collect()
    }

    #[test]
    fn one_function_and_one_organization_leave_room_for_others() {
        let intake = Intake::new(4, 64);
        let mut held = fill(&intake, &key("a", "f"), false);
        assert_eq!(held.len(), 8, "of a function");
        held.extend(fill(&intake, &key("a", "g"), false));
        assert_eq!(held.len(), 16, "of an organization");
        assert!(intake.enter(&key("a", "h"), false).is_none());
        let waited = intake.enter(&key("a", "h"), true);
        assert!(waited.is_some(), "whom somebody waits for comes in");
        for org in ["b", "c", "d", "e"] {
            for function in ["f", "g"] {
                held.extend(fill(&intake, &key(org, function), false));
            }
        }
        assert_eq!(
            held.len(),
            31,
            "half of the node, with the one that is waited for"
        );
        let waited = fill(&intake, &key("b", "h"), true);
        assert_eq!(waited.len(), 16, "a quarter of the node for one function");
        drop((held, waited));
        let counts = intake.shared.lock();
        assert_eq!(counts.all, usize::from(true), "the one that was waited for");
        assert_eq!(counts.functions.len(), 1);
    }

    #[test]
    fn what_comes_after_those_that_were_put_aside_goes_behind_them() {
        let intake = Intake::new(4, 64);
        let f = key("a", "f");
        intake.fall_behind(&f);
        assert!(intake.enter(&f, false).is_none());
        assert!(intake.enter(&f, true).is_some(), "somebody waits");
        assert!(intake.enter(&key("a", "g"), false).is_some());
        assert!(intake.fell_behind().now_or_never().is_some());
        assert_eq!(intake.behind(), std::slice::from_ref(&f));
        intake.caught_up(&f);
        assert!(intake.enter(&f, false).is_some());
    }

    #[test]
    fn who_waits_for_room_hears_when_a_run_leaves() {
        let intake = Intake::new(1, 64);
        let f = key("a", "f");
        let held = fill(&intake, &f, false);
        let more = intake.enter(&f, true);
        let mut room = Box::pin(intake.room(&f));
        assert_eq!(room.as_mut().now_or_never(), None);
        drop((held, more));
        assert_eq!(room.now_or_never(), Some(2));
        assert_eq!(intake.in_hand(&f), 0);
    }

    #[test]
    fn functions_that_catch_up_together_take_no_more_than_there_is_room_for() {
        let intake = Intake::new(4, 64);
        let lanes: Vec<_> = (0..12).map(|n| key("a", &format!("f{n}"))).collect();
        for key in &lanes {
            intake.fall_behind(key);
        }
        // All of them see room before any takes some.
        let mut rooms: Vec<_> = lanes.iter().map(|f| Box::pin(intake.room(f))).collect();
        let seen = rooms
            .iter_mut()
            .filter_map(|room| room.as_mut().now_or_never());
        assert_eq!(seen.sum::<usize>(), 12 * 8);
        let mut held: Vec<_> = lanes
            .iter()
            .flat_map(|f| intake.some_places(f, 16))
            .collect();
        assert_eq!(held.len(), 16, "of an organization");
        let waited = intake.enter(&key("a", "f0"), true);
        assert!(waited.is_some(), "whom somebody waits for comes in");
        let mut places = Box::pin(intake.places(&lanes[5], 16));
        assert!(places.as_mut().now_or_never().is_none());
        drop(waited);
        held.truncate(13);
        let places = places.now_or_never().map(|places| places.len());
        assert_eq!(places, Some(3));
    }
}
