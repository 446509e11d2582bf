//! A broker as the specification has it, at the level of HTTP: what it holds, what it is working
//! on, and which rules a platform broke towards it.

mod binding;
mod character;
mod instance;
mod request;

use std::collections::{BTreeMap, BTreeSet};

use engine_model::Timestamp;
use serde_json::{Value, json};

pub(super) use character::Character;
pub(super) use request::{Asked, What};

use super::rng::Rng;

/// What a broker answers, and when.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Value,
    pub(super) etag: Option<String>,
    /// Milliseconds that it thinks.
    pub(super) takes_ms: i64,
}

impl Answer {
    fn new(status: u16, body: Value) -> Self {
        Self {
            status,
            body,
            etag: None,
            takes_ms: 0,
        }
    }

    fn error(status: u16, code: &str, description: &str) -> Self {
        Self::new(status, json!({"error": code, "description": description}))
    }

    fn busy() -> Self {
        Self::error(422, "ConcurrencyError", "another operation is in progress")
    }
}

/// How far the work on something has come.
#[derive(Debug, Clone, PartialEq)]
enum Pace {
    Until(Timestamp),
    /// It goes on only when someone asks how it goes.
    Polls(u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Make,
    Change,
    Remove,
}

/// Work that goes on.
#[derive(Debug, Clone, PartialEq)]
struct Op {
    work: Work,
    name: String,
    pace: Pace,
    fails: bool,
    /// Answered when it is done, not with 202.
    waits: bool,
}

/// An instance or a binding, as far as they are alike.
#[derive(Debug, Clone)]
struct Thing {
    /// What it was made from, to tell a repeat from a conflict.
    body: Value,
    /// Whether it is whole; half of it is left when its making failed.
    whole: bool,
    op: Option<Op>,
    /// What became of operations that have ended.
    ended: BTreeMap<String, bool>,
    credentials: u64,
}

#[derive(Debug, Clone)]
struct Instance {
    own: Thing,
    bindings: BTreeMap<String, Thing>,
    ended_bindings: BTreeMap<String, bool>,
}

/// A broker.
#[derive(Debug)]
pub(super) struct Broker {
    pub(super) name: String,
    pub(super) character: Character,
    instances: BTreeMap<String, Instance>,
    ended: BTreeMap<String, bool>,
    /// Ids that were in use once.
    used: BTreeSet<String>,
    operations: u64,
    underway: BTreeMap<u64, Underway>,
    /// Which nodes have asked for a change.
    senders: BTreeMap<String, BTreeSet<usize>>,
    counted: BTreeMap<(String, i64), u32>,
    /// Rules that the platform broke.
    pub(super) offences: Vec<String>,
    pub(super) requests: u64,
    /// Bindings whose instance was deleted with them.
    pub(super) taken_along: Vec<String>,
}

/// A change that is not answered yet.
#[derive(Debug)]
struct Underway {
    node: usize,
    instance: String,
    change: String,
    until: Timestamp,
}

/// More requests about one instance than this within a minute are a loop, not a platform. An
/// operation is polled 91 times in its first minute and less often in each that follows.
const REQUESTS_PER_MINUTE_MAX: u32 = 240;

impl Broker {
    pub(super) fn new(name: &str, character: Character) -> Self {
        Self {
            name: name.to_owned(),
            character,
            instances: BTreeMap::new(),
            ended: BTreeMap::new(),
            used: BTreeSet::new(),
            operations: 0,
            underway: BTreeMap::new(),
            senders: BTreeMap::new(),
            counted: BTreeMap::new(),
            offences: Vec::new(),
            requests: 0,
            taken_along: Vec::new(),
        }
    }

    /// Takes a request in; `fails` says that work that begins now will come to nothing.
    pub(super) fn take(
        &mut self,
        asked: &Asked,
        now: Timestamp,
        fails: bool,
        rng: &mut Rng,
    ) -> Answer {
        self.requests += 1;
        if let Some(instance) = asked.instance() {
            self.settle(instance, now);
        }
        match &asked.what {
            What::Catalog => self.catalog(asked),
            What::Instance { .. } | What::InstancePoll { .. } => {
                self.instance(asked, now, fails, rng)
            }
            What::Binding { .. } | What::BindingPoll { .. } => self.binding(asked, now, fails, rng),
            What::Nonsense => {
                self.offences.push(format!("{} makes no sense", asked.line));
                Answer::error(404, "NotFound", "no such path")
            }
        }
    }

    /// A request was sent: it counts.
    pub(super) fn sent(&mut self, node: usize, asked: &Asked, now: Timestamp) {
        if let Some(change) = asked.change() {
            self.senders.entry(change).or_default().insert(node);
        }
        let Some(instance) = asked.instance() else {
            return;
        };
        let minute = now.0.div_euclid(60_000);
        let count = self
            .counted
            .entry((instance.to_owned(), minute))
            .or_default();
        *count += 1;
        if *count == REQUESTS_PER_MINUTE_MAX {
            let text = format!("{REQUESTS_PER_MINUTE_MAX} requests about {instance} in a minute");
            self.offences.push(text);
        }
    }

    /// A request that someone waits for has arrived: it must not meet another change of the same
    /// instance that the same node waits for. Of what a node asked for that has stopped, those
    /// that took over its work know nothing, and the broker refuses one of the two.
    pub(super) fn received(
        &mut self,
        (ticket, node): (u64, usize),
        asked: &Asked,
        answer: &Answer,
        now: Timestamp,
        patience_ms: i64,
    ) {
        let (Some(instance), Some(change)) = (asked.instance(), asked.change()) else {
            return;
        };
        self.underway.retain(|_, other| other.until > now);
        let other = self.underway.values().find(|other| {
            let here = other.instance == instance && other.change != change;
            let senders = self.senders.get(&other.change).map_or(0, BTreeSet::len);
            let alone = senders <= 1 && other.node == node;
            // The engine does not see yet that an update is being repeated; the broker refuses.
            let unseen = other.change.starts_with("PATCH");
            let told = answer.status == 422 && (!alone || unseen);
            here && meets(&other.change, &change) && !told
        });
        if let Some(other) = other {
            let text = format!("{change} while {} is unanswered", other.change);
            self.offences.push(text);
        }
        if answer.status == 422 {
            self.underway.retain(|_, other| other.instance != instance);
        }
        let underway = Underway {
            node,
            instance: instance.to_owned(),
            change,
            // Nobody waits longer.
            until: now.plus_ms(answer.takes_ms.min(patience_ms)),
        };
        self.underway.insert(ticket, underway);
    }

    /// Nobody waits for the answer to a request any more.
    pub(super) fn cut(&mut self, ticket: u64) {
        self.underway.remove(&ticket);
    }

    fn catalog(&self, asked: &Asked) -> Answer {
        let etag = "\"1\"".to_owned();
        if asked.etag.as_ref() == Some(&etag) {
            return Answer::new(304, Value::Null);
        }
        Answer {
            etag: Some(etag),
            ..Answer::new(200, self.character.catalog(&self.name))
        }
    }

    /// All that has ended by now has ended.
    fn settle(&mut self, id: &str, now: Timestamp) {
        let Some(instance) = self.instances.get_mut(id) else {
            return;
        };
        let done: Vec<String> = instance
            .bindings
            .iter()
            .filter(|(_, thing)| thing.is_due(now))
            .map(|(id, _)| id.clone())
            .collect();
        for binding in done {
            self.end_binding(id, &binding);
        }
        if self
            .instances
            .get(id)
            .is_some_and(|held| held.own.is_due(now))
        {
            self.end_instance(id);
        }
    }

    /// Everything ends that time alone brings to an end.
    pub(super) fn settle_all(&mut self, now: Timestamp) {
        let all: Vec<String> = self.instances.keys().cloned().collect();
        for id in all {
            self.settle(&id, now);
        }
    }

    fn op(&mut self, work: Work, now: Timestamp, fails: bool, rng: &mut Rng) -> Op {
        self.operations += 1;
        Op {
            work,
            name: format!("{}-op-{}", self.name, self.operations),
            pace: self.character.pace(now, rng),
            fails,
            waits: !self.character.asynchronous,
        }
    }

    /// The instances that it holds, whole or in part.
    pub(super) fn held(&self) -> BTreeSet<String> {
        self.instances.keys().cloned().collect()
    }

    /// The bindings that it holds, whole or in part, with their instances.
    pub(super) fn bound(&self) -> BTreeMap<String, String> {
        let of = |(id, instance): (&String, &Instance)| {
            let id = id.clone();
            let names: Vec<String> = instance.bindings.keys().cloned().collect();
            names.into_iter().map(move |name| (name, id.clone()))
        };
        self.instances.iter().flat_map(of).collect()
    }

    /// The password that a binding has.
    pub(super) fn password(&self, binding: &str) -> Option<String> {
        let known = self
            .instances
            .values()
            .find_map(|held| held.bindings.get(binding));
        known.map(|known| binding::password(known.credentials))
    }
}

/// Two changes of one instance must not be asked for at once; two bindings may.
fn meets(one: &str, other: &str) -> bool {
    !(one.contains("service_bindings") && other.contains("service_bindings"))
        || one.split_once(' ').map(|(_, path)| path) == other.split_once(' ').map(|(_, path)| path)
}

impl Thing {
    fn new(body: Value, op: Option<Op>, credentials: u64) -> Self {
        Self {
            body,
            whole: op.is_none(),
            op,
            ended: BTreeMap::new(),
            credentials,
        }
    }

    fn is_due(&self, now: Timestamp) -> bool {
        self.op
            .as_ref()
            .is_some_and(|op| matches!(op.pace, Pace::Until(at) if at <= now))
    }

    /// Someone asked how it goes; whether it is done now.
    fn asked(&mut self) -> bool {
        let Some(op) = &mut self.op else { return false };
        match &mut op.pace {
            Pace::Until(_) => false,
            Pace::Polls(0) => true,
            Pace::Polls(left) => {
                *left -= 1;
                false
            }
        }
    }

    /// Ends the work; whether the thing is still there.
    fn end(&mut self) -> bool {
        let Some(op) = self.op.take() else {
            return true;
        };
        self.ended.insert(op.name, !op.fails);
        match (op.work, op.fails) {
            (Work::Make, fails) => self.whole = !fails,
            (Work::Remove, false) => return false,
            (Work::Remove, true) | (Work::Change, _) => {}
        }
        true
    }
}

fn progress(state: &str) -> Answer {
    Answer::new(200, json!({"state": state, "description": "as it is"}))
}

fn result(succeeded: bool) -> Answer {
    progress(if succeeded { "succeeded" } else { "failed" })
}
