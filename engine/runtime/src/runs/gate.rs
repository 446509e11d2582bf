//! How many runs this node carries out at once, per function and per organization. What is over
//! waits here, for a bounded time in bounded numbers: each organization in turn, and within it
//! each of its functions.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine_model::{Name, OrgName};
use tokio::sync::oneshot;

/// Runs of one function that wait on a node. Those that nobody waits for stay in the stream.
pub(super) const WAITING_MAX: usize = 256;

/// Runs that wait on a node in all; less than a node has in hand, so that others still come in.
const WAITING_ALL_MAX: usize = 1024;

/// Runs of one organization that wait on a node: however many functions it has, others come in.
const WAITING_ORG_MAX: usize = WAITING_ALL_MAX / 2;

/// What limits a run; 0 is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) function: usize,
    pub(super) org: usize,
}

/// Lets runs in.
#[derive(Debug, Default)]
pub(crate) struct Gate(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    orgs: HashMap<OrgName, Org>,
    /// Organizations with waiting runs, the next one first.
    turns: VecDeque<OrgName>,
    waiting: usize,
}

#[derive(Debug, Default)]
struct Org {
    running: usize,
    functions: HashMap<Name, Function>,
    /// Functions with waiting runs, the next one first.
    turns: VecDeque<Name>,
}

#[derive(Debug, Default)]
struct Function {
    running: usize,
    waiting: VecDeque<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    limits: Limits,
    enter: oneshot::Sender<Pass>,
}

/// Held while a run is carried out.
#[derive(Debug)]
pub(super) struct Pass {
    gate: Arc<Mutex<State>>,
    /// None when it was handed over and not taken.
    of: Option<(OrgName, Name)>,
}

/// How a run gets in.
#[derive(Debug)]
pub(super) enum Entry {
    /// At once.
    Now(Pass),
    /// When others are out.
    Later(oneshot::Receiver<Pass>),
    /// So many wait already.
    Full(usize),
}

impl Gate {
    /// A run wants in.
    pub(super) fn enter(&self, org: &OrgName, function: &Name, limits: Limits) -> Entry {
        let mut state = lock(&self.0);
        if state.has_room(org, function, limits) {
            state.count_in(org, function);
            return Entry::Now(self.pass(org, function));
        }
        let all = state.waiting;
        let own = state.orgs.entry(org.clone()).or_default();
        // Those that gave up make room.
        let (mut gone, mut of_org) = (0, 0);
        for queue in own.functions.values_mut() {
            let before = queue.waiting.len();
            queue.waiting.retain(|waiter| !waiter.enter.is_closed());
            gone += before - queue.waiting.len();
            of_org += queue.waiting.len();
        }
        let queue = own.functions.entry(function.clone()).or_default();
        let (waiting, all) = (queue.waiting.len(), all - gone);
        if waiting >= WAITING_MAX || of_org >= WAITING_ORG_MAX || all >= WAITING_ALL_MAX {
            state.waiting = all;
            return Entry::Full(waiting.max(all.min(WAITING_MAX)));
        }
        let (enter, entered) = oneshot::channel();
        queue.waiting.push_back(Waiter { limits, enter });
        if !own.turns.contains(function) {
            own.turns.push_back(function.clone());
        }
        if !state.turns.contains(org) {
            state.turns.push_back(org.clone());
        }
        state.waiting = all + 1;
        Entry::Later(entered)
    }

    /// The functions of which runs wait.
    pub(super) fn waiting(&self) -> Vec<(OrgName, Name)> {
        let state = lock(&self.0);
        let of_org = |(org, own): (&OrgName, &Org)| {
            let waiting = own.functions.iter();
            let waiting = waiting.filter(|(_, function)| !function.waiting.is_empty());
            let keys = waiting.map(|(name, _)| (org.clone(), name.clone()));
            keys.collect::<Vec<_>>()
        };
        state.orgs.iter().flat_map(of_org).collect()
    }

    /// The runs of a function that wait are held to other limits from now on.
    pub(super) fn adjust(&self, org: &OrgName, function: &Name, limits: Limits) {
        let mut state = lock(&self.0);
        let own = state.orgs.get_mut(org);
        if let Some(queue) = own.and_then(|own| own.functions.get_mut(function)) {
            for waiter in &mut queue.waiting {
                waiter.limits = limits;
            }
        }
        let_in(&self.0, &mut state);
    }

    fn pass(&self, org: &OrgName, function: &Name) -> Pass {
        Pass {
            gate: self.0.clone(),
            of: Some((org.clone(), function.clone())),
        }
    }
}

fn lock(state: &Arc<Mutex<State>>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn has_room(&self, org: &OrgName, function: &Name, limits: Limits) -> bool {
        let Some(own) = self.orgs.get(org) else {
            return true;
        };
        let running = own.functions.get(function).map_or(0, |f| f.running);
        fits(own.running, limits.org) && fits(running, limits.function)
    }

    fn count_in(&mut self, org: &OrgName, function: &Name) {
        let own = self.orgs.entry(org.clone()).or_default();
        own.running += 1;
        own.functions.entry(function.clone()).or_default().running += 1;
    }

    fn count_out(&mut self, org: &OrgName, function: &Name) {
        let Some(own) = self.orgs.get_mut(org) else {
            return;
        };
        own.running -= 1;
        if let Some(queue) = own.functions.get_mut(function) {
            queue.running -= 1;
            if queue.running == 0 && queue.waiting.is_empty() {
                own.functions.remove(function);
            }
        }
        if own.functions.is_empty() {
            self.orgs.remove(org);
        }
    }

    /// The next run that may enter, and whose it is.
    fn next(&mut self) -> Option<(OrgName, Name, oneshot::Sender<Pass>)> {
        for _ in 0..self.turns.len() {
            let org = self.turns.pop_front()?;
            let Some(own) = self.orgs.get_mut(&org) else {
                continue;
            };
            let (found, dropped) = own.next();
            self.waiting -= dropped + usize::from(found.is_some());
            if !own.turns.is_empty() {
                self.turns.push_back(org.clone());
            }
            if let Some((function, enter)) = found {
                self.count_in(&org, &function);
                return Some((org, function, enter));
            }
        }
        None
    }
}

impl Org {
    /// The next run of this organization that may enter, and how many have given up before it.
    fn next(&mut self) -> (Option<(Name, oneshot::Sender<Pass>)>, usize) {
        let mut dropped = 0;
        for _ in 0..self.turns.len() {
            let Some(name) = self.turns.pop_front() else {
                break;
            };
            let Some(queue) = self.functions.get_mut(&name) else {
                continue;
            };
            while queue.waiting.front().is_some_and(|w| w.enter.is_closed()) {
                queue.waiting.pop_front();
                dropped += 1;
            }
            let may = queue.waiting.front().is_some_and(|waiter| {
                fits(self.running, waiter.limits.org) && fits(queue.running, waiter.limits.function)
            });
            let taken = if may { queue.waiting.pop_front() } else { None };
            if !queue.waiting.is_empty() {
                self.turns.push_back(name.clone());
            }
            if let Some(waiter) = taken {
                return (Some((name, waiter.enter)), dropped);
            }
        }
        (None, dropped)
    }
}

fn fits(running: usize, limit: usize) -> bool {
    limit == 0 || running < limit
}

impl Drop for Pass {
    fn drop(&mut self) {
        let Some((org, function)) = self.of.take() else {
            return;
        };
        let mut state = lock(&self.gate);
        state.count_out(&org, &function);
        let_in(&self.gate, &mut state);
    }
}

/// Lets those in that wait and for which there is room.
fn let_in(gate: &Arc<Mutex<State>>, state: &mut State) {
    while let Some((org, function, enter)) = state.next() {
        let pass = Pass {
            gate: gate.clone(),
            of: Some((org.clone(), function.clone())),
        };
        if let Err(mut unwanted) = enter.send(pass) {
            // It gave up in this moment; its drop would take the lock that is held.
            unwanted.of = None;
            state.count_out(&org, &function);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn org(n: &str) -> OrgName {
        OrgName::new(n).unwrap()
    }

    fn function(n: &str) -> Name {
        Name::new(n).unwrap()
    }

    const ONE: Limits = Limits {
        function: 1,
        org: 0,
    };

    fn now(entry: Entry) -> Pass {
        match entry {
            Entry::Now(pass) => pass,
            other => panic!("{other:?}"),
        }
    }

    fn later(entry: Entry) -> oneshot::Receiver<Pass> {
        match entry {
            Entry::Later(entered) => entered,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn no_more_than_its_limit_is_in_and_the_rest_comes_in_order() {
        let gate = Gate::default();
        let (a, f) = (org("a"), function("f"));
        let first = now(gate.enter(&a, &f, ONE));
        let mut second = later(gate.enter(&a, &f, ONE));
        let mut third = later(gate.enter(&a, &f, ONE));
        // Another function is not concerned.
        let _other = now(gate.enter(&a, &function("g"), ONE));
        drop(first);
        let pass = second.try_recv().unwrap();
        assert!(third.try_recv().is_err(), "one at a time");
        drop(pass);
        drop(third.try_recv().unwrap());
        drop(_other);
        assert!(lock(&gate.0).orgs.is_empty(), "nothing is kept of the past");
    }

    #[test]
    fn organizations_and_functions_take_turns() {
        let gate = Gate::default();
        let two = Limits {
            function: 0,
            org: 1,
        };
        let (a, b) = (org("a"), org("b"));
        let (f, g) = (function("f"), function("g"));
        let mut held = now(gate.enter(&a, &f, two));
        // A crowd of one function waits, and then one run of another.
        let mut crowd: Vec<_> = (0..5).map(|_| later(gate.enter(&a, &f, two))).collect();
        let mut single = later(gate.enter(&a, &g, two));
        drop(now(gate.enter(&b, &f, two)));
        drop(held);
        held = crowd[0].try_recv().unwrap();
        drop(held);
        let pass = single.try_recv();
        assert!(pass.is_ok(), "the other function is next, before the crowd");
        drop(pass);
        assert!(crowd[1].try_recv().is_ok());
    }

    #[test]
    fn those_that_wait_take_a_new_limit() {
        let gate = Gate::default();
        let (a, f) = (org("a"), function("f"));
        let _held = now(gate.enter(&a, &f, ONE));
        let mut waiting: Vec<_> = (0..4).map(|_| later(gate.enter(&a, &f, ONE))).collect();
        assert_eq!(gate.waiting(), [(a.clone(), f.clone())]);
        let three = Limits { function: 3, ..ONE };
        gate.adjust(&a, &f, three);
        let entered: Vec<_> = waiting
            .iter_mut()
            .map(oneshot::Receiver::try_recv)
            .collect();
        let entered: Vec<_> = entered.into_iter().flatten().collect();
        assert_eq!(entered.len(), 2, "three are in");
        gate.adjust(&a, &f, Limits::default());
        assert!(waiting[2].try_recv().is_ok() && waiting[3].try_recv().is_ok());
        assert_eq!(gate.waiting(), []);
    }

    #[test]
    fn a_full_queue_refuses_and_those_that_gave_up_make_room() {
        let gate = Gate::default();
        let (a, f) = (org("a"), function("f"));
        let pass = now(gate.enter(&a, &f, ONE));
        let mut waiting: Vec<_> = (0..WAITING_MAX)
            .map(|_| later(gate.enter(&a, &f, ONE)))
            .collect();
        let full = gate.enter(&a, &f, ONE);
        assert!(matches!(full, Entry::Full(WAITING_MAX)), "{full:?}");
        drop(waiting.remove(0));
        waiting.push(later(gate.enter(&a, &f, ONE)));
        // The first that still waits enters, and all of the others in turn.
        drop(pass);
        for mut entered in waiting {
            drop(entered.try_recv().unwrap());
        }
        assert_eq!(lock(&gate.0).waiting, 0);
        assert!(lock(&gate.0).orgs.is_empty());
    }

    #[test]
    fn an_organization_with_many_crowded_functions_leaves_room_for_others() {
        let gate = Gate::default();
        let (a, b) = (org("a"), org("b"));
        let mut held = Vec::new();
        let mut waiting = Vec::new();
        let mut full = 0;
        for n in 0..4 {
            let crowded = function(&format!("f{n}"));
            held.push(now(gate.enter(&a, &crowded, ONE)));
            for _ in 0..WAITING_MAX {
                match gate.enter(&a, &crowded, ONE) {
                    Entry::Later(entered) => waiting.push(entered),
                    Entry::Full(_) => full += 1,
                    Entry::Now(_) => panic!("one at a time"),
                }
            }
        }
        assert_eq!((waiting.len(), full), (WAITING_ORG_MAX, WAITING_ORG_MAX));
        held.push(now(gate.enter(&b, &function("f"), ONE)));
        waiting.push(later(gate.enter(&b, &function("f"), ONE)));
    }
}
