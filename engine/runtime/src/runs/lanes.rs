//! Which functions have a lane: as many as may, and each in its turn when there are more.

use std::collections::{HashMap, HashSet, VecDeque};

use tokio::task::Id;
use tokio_util::sync::CancellationToken;

use super::intake::Key;

/// At a look, at most this part of all lanes is closed for those that have none.
const PART: usize = 4;

/// The lanes that are open, and who waits for one.
#[derive(Debug)]
pub(super) struct Lanes {
    max: usize,
    open: HashMap<Key, Lane>,
    /// Who wants a lane, the next one first.
    queue: VecDeque<Key>,
    /// The same.
    queued: HashSet<Key>,
    opened: u64,
}

#[derive(Debug)]
struct Lane {
    close: CancellationToken,
    task: Id,
    /// Counts the lanes that were opened.
    number: u64,
}

impl Lanes {
    /// At most `max` at a time.
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            open: HashMap::new(),
            queue: VecDeque::new(),
            queued: HashSet::new(),
            opened: 0,
        }
    }

    /// These functions are to have a lane.
    pub(super) fn want(&mut self, keys: Vec<Key>) {
        for key in keys {
            if !self.open.contains_key(&key) && self.queued.insert(key.clone()) {
                self.queue.push_back(key);
            }
        }
    }

    /// The function whose lane is to be opened now.
    pub(super) fn next(&mut self) -> Option<Key> {
        if self.open.len() >= self.max {
            return None;
        }
        let key = self.queue.pop_front()?;
        self.queued.remove(&key);
        Some(key)
    }

    /// The lane of a function is open, and `task` keeps it until `close`.
    pub(super) fn opened(&mut self, key: Key, close: CancellationToken, task: Id) {
        self.opened += 1;
        let number = self.opened;
        let lane = Lane {
            close,
            task,
            number,
        };
        self.open.insert(key, lane);
    }

    /// The task of a lane has ended, however it did.
    pub(super) fn ended(&mut self, task: Id) {
        self.open.retain(|_, lane| lane.task != task);
    }

    /// Closes some lanes, when all are taken and others want one: the oldest of those
    /// organizations that have most.
    pub(super) fn make_room(&mut self) {
        if self.open.len() < self.max {
            return;
        }
        let lanes = self.open.iter();
        let mut staying: Vec<_> = lanes
            .filter(|(_, lane)| !lane.close.is_cancelled())
            .collect();
        let closing = self.open.len() - staying.len();
        let wanted = self.queue.len().min(self.max.div_ceil(PART));
        staying.sort_by_key(|(_, lane)| lane.number);
        let mut orgs = HashMap::new();
        for ((org, _), _) in &staying {
            *orgs.entry(org).or_insert(0_usize) += 1;
        }
        for _ in closing..wanted {
            let most = orgs.values().copied().max().unwrap_or(0);
            let Some(at) = staying.iter().position(|((org, _), _)| orgs[org] == most) else {
                return;
            };
            let ((org, _), lane) = staying.remove(at);
            lane.close.cancel();
            orgs.entry(org).and_modify(|count| *count -= 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use engine_model::{Name, OrgName};
    use tokio::task::JoinSet;

    use super::*;

    fn key(org: &str, function: usize) -> Key {
        let function = Name::new(format!("f{function}")).unwrap();
        (OrgName::new(org).unwrap(), function)
    }

    /// Opens what may be opened; each lane lasts until it is closed.
    fn open(lanes: &mut Lanes, tasks: &mut JoinSet<()>) -> Vec<Key> {
        let mut opened = Vec::new();
        while let Some(key) = lanes.next() {
            let close = CancellationToken::new();
            let task = tasks.spawn(close.clone().cancelled_owned()).id();
            lanes.opened(key.clone(), close, task);
            opened.push(key);
        }
        opened
    }

    #[tokio::test]
    async fn who_has_no_lane_gets_one_of_the_organization_that_has_most() {
        let (mut lanes, mut tasks) = (Lanes::new(8), JoinSet::new());
        let crowd: Vec<_> = (0..20).map(|n| key("crowd", n)).collect();
        lanes.want(vec![key("small", 0)]);
        lanes.want(crowd.clone());
        assert_eq!(open(&mut lanes, &mut tasks).len(), 8);
        lanes.want(vec![key("small", 1)]);
        let mut had = HashSet::new();
        for _ in 0..20 {
            lanes.make_room();
            lanes.make_room();
            for _ in 0..2 {
                let (task, ()) = tasks.join_next_with_id().await.unwrap().unwrap();
                lanes.ended(task);
            }
            assert_eq!(lanes.open.len(), 6, "a quarter, however often it is looked");
            lanes.want(crowd.clone());
            had.extend(open(&mut lanes, &mut tasks));
        }
        assert!(had.contains(&key("small", 1)), "{had:?}");
        assert!(crowd.iter().all(|key| had.contains(key)), "each in turn");
        let small = lanes.open.keys().filter(|key| key.0.as_str() == "small");
        assert_eq!(small.count(), 2, "it is the crowd that makes room");
    }

    #[tokio::test]
    async fn lanes_stay_open_while_there_are_enough() {
        let (mut lanes, mut tasks) = (Lanes::new(8), JoinSet::new());
        lanes.want((0..8).map(|n| key("a", n)).collect());
        open(&mut lanes, &mut tasks);
        lanes.want(vec![key("a", 3)]);
        lanes.make_room();
        assert!(lanes.open.values().all(|lane| !lane.close.is_cancelled()));
    }

    #[tokio::test]
    async fn a_lane_that_panics_is_opened_anew() {
        let (mut lanes, mut tasks) = (Lanes::new(1), JoinSet::new());
        lanes.want(vec![key("a", 0)]);
        let first = lanes.next().unwrap();
        let task = tasks.spawn(async { panic!("as the test wants") }).id();
        lanes.opened(first.clone(), CancellationToken::new(), task);
        lanes.want(vec![first.clone()]);
        assert_eq!(lanes.next(), None);
        let error = tasks.join_next_with_id().await.unwrap().unwrap_err();
        lanes.ended(error.id());
        lanes.want(vec![first.clone()]);
        assert_eq!(lanes.next(), Some(first));
    }
}
