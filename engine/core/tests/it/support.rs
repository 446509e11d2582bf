//! A little platform in virtual time: it writes what is decided, reacts, performs, keeps timers.

use std::collections::{BTreeMap, VecDeque};

use engine_core::{Decision, Input, Overdue, World, alarm, check, decide, due, outstanding, react};
use engine_model::{
    Actor, Alarm, Cause, Command, CommandId, Commit, Due, Effect, Event, Kind, Name, OrgName,
    Outcome, Recorded, Rejection, ResourceKey, Sealed, Seq, Status, Timestamp,
};

pub(crate) mod docs;
pub(crate) mod outside;

pub(crate) use docs::*;
pub(crate) use outside::Outside;

/// The moment at which every story begins.
pub(crate) const START: Timestamp = Timestamp(1_800_000_000_000);

/// More steps than any story needs.
const STEPS_MAX: usize = 200_000;

pub(crate) fn key(kind: Kind, name: &str) -> ResourceKey {
    ResourceKey::new(
        OrgName::new("acme").unwrap(),
        kind,
        Name::new(name).unwrap(),
    )
}

pub(crate) fn sealed(text: &str) -> Sealed {
    Sealed {
        key: engine_model::KeyId(format!("key-{text}")),
        nonce: String::new(),
        ciphertext: text.to_owned(),
    }
}

/// An effect that waits to be performed.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) key: ResourceKey,
    pub(crate) effect: Effect,
    pub(crate) cause: Cause,
}

/// The platform.
#[derive(Clone)]
pub(crate) struct Platform {
    pub(crate) world: World,
    pub(crate) log: Vec<Recorded>,
    pub(crate) now: Timestamp,
    pub(crate) tasks: VecDeque<Task>,
    pub(crate) timers: BTreeMap<(ResourceKey, &'static str), (Timestamp, Due)>,
    pub(crate) outside: Outside,
    commands: u64,
}

impl Platform {
    pub(crate) fn new() -> Self {
        Self {
            world: World::default(),
            log: Vec::new(),
            now: START,
            tasks: VecDeque::new(),
            timers: BTreeMap::new(),
            outside: Outside::default(),
            commands: 0,
        }
    }

    /// A platform with a broker whose catalog was read.
    pub(crate) fn with_broker() -> Self {
        let mut platform = Self::new();
        platform.must(key(Kind::ServiceBroker, "azure"), create(broker_spec()));
        platform.run();
        platform
    }

    pub(crate) fn next_id(&mut self) -> CommandId {
        self.commands += 1;
        CommandId::derived(format_args!("command {}", self.commands))
    }

    /// Sends a command.
    pub(crate) fn send(&mut self, key: ResourceKey, command: Command) -> Result<Seq, Rejection> {
        let id = self.next_id();
        self.send_as(id, key, command)
    }

    pub(crate) fn send_as(
        &mut self,
        id: CommandId,
        key: ResourceKey,
        command: Command,
    ) -> Result<Seq, Rejection> {
        let sealed = sealed(&id.to_string());
        let input = Input::Command {
            id,
            command: &command,
            sealed: Some(&sealed),
        };
        let decision = decide(&self.world, &key, input, self.now)?;
        if let Some(seq) = decision.repeated {
            assert!(decision.writes.is_empty());
            return Ok(seq);
        }
        if let Some((last, _)) = decision.writes.last() {
            assert_eq!(*last, key, "the resource that asked comes last");
        }
        self.write(decision, Cause::Command(id), &Actor("user:alice".into()));
        Ok(self.world.last_seq(&key))
    }

    /// Sends a command that must not be refused.
    pub(crate) fn must(&mut self, key: ResourceKey, command: Command) -> Seq {
        self.send(key.clone(), command)
            .unwrap_or_else(|refused| panic!("{key}: {refused}"))
    }

    /// Sends a command that must be refused.
    pub(crate) fn refused(&mut self, key: ResourceKey, command: Command) -> Rejection {
        self.send(key, command).expect_err("it must be refused")
    }

    fn write(&mut self, decision: Decision, cause: Cause, actor: &Actor) {
        for (key, events) in decision.writes {
            assert!(!events.is_empty());
            let seq = Seq(self.log.len() as u64 + 1);
            let recorded = Recorded {
                seq,
                commit: Commit {
                    id: Commit::id_for(&key, self.world.last_seq(&key), cause),
                    key,
                    events,
                    at: self.now,
                    actor: actor.clone(),
                    cause,
                    correlation: "story".into(),
                },
            };
            assert_eq!(self.world.apply(&recorded), Ok(true));
            assert_eq!(self.world.apply(&recorded), Ok(false));
            self.react_to(&recorded);
            self.log.push(recorded);
        }
    }

    pub(crate) fn react_to(&mut self, recorded: &Recorded) {
        for (id, effect) in react(&self.world, recorded) {
            let cause = Cause::Effect {
                seq: id.seq,
                index: id.index,
            };
            self.tasks.push_back(Task {
                key: recorded.commit.key.clone(),
                effect,
                cause,
            });
        }
    }

    /// Hands in what came of an effect.
    pub(crate) fn learn(&mut self, key: &ResourceKey, outcome: &Outcome) -> usize {
        self.meet(key, Input::Outcome { outcome }, Cause::Alarm)
    }

    /// Lets a resource meet something that is never refused; tells how many commits came of it.
    pub(crate) fn meet(&mut self, key: &ResourceKey, input: Input<'_>, cause: Cause) -> usize {
        let decision =
            decide(&self.world, key, input, self.now).expect("only commands are refused");
        let count = decision.writes.len();
        self.write(decision, cause, &Actor::engine());
        count
    }

    pub(crate) fn perform(&mut self, task: &Task) {
        let input = match &task.effect {
            Effect::Proceed(key)
            | Effect::DeleteBinding(key)
            | Effect::Delete(key)
            | Effect::CreateBinding { key, .. }
            | Effect::AbandonBinding { key, .. } => {
                let nudge = Input::Nudge {
                    effect: &task.effect,
                };
                self.meet(&key.clone(), nudge, task.cause);
                return;
            }
            Effect::Timer(timer) => {
                let due = timer.due.clone();
                self.timers
                    .insert((due.key.clone(), due.alarm.token()), (timer.at, due));
                return;
            }
            other => self.outside.perform(other, self.now),
        };
        if let Some(outcome) = input {
            self.meet(&task.key, Input::Outcome { outcome: &outcome }, task.cause);
        }
    }

    pub(crate) fn ring(&mut self, due: &Due) {
        let effects = alarm(&self.world, due, self.now);
        if effects.is_empty() {
            self.meet(&due.key, Input::Due { alarm: due.alarm }, Cause::Alarm);
            return;
        }
        for effect in effects {
            let task = Task {
                key: due.key.clone(),
                effect,
                cause: Cause::Alarm,
            };
            self.perform(&task);
        }
    }

    /// Performs all that waits, without letting time pass.
    pub(crate) fn drain(&mut self) {
        for _ in 0..STEPS_MAX {
            let Some(task) = self.tasks.pop_front() else {
                return;
            };
            self.perform(&task);
        }
        panic!("the effects never end");
    }

    /// Performs all that waits, and rings timers, until only the reading of catalogs is left or
    /// `until` is reached.
    pub(crate) fn run_until(&mut self, until: Timestamp) {
        for _ in 0..STEPS_MAX {
            self.drain();
            let next = self
                .timers
                .iter()
                .filter(|((_, token), _)| *token != "refresh")
                .min_by_key(|(_, (at, _))| *at)
                .map(|(name, (at, _))| (name.clone(), *at));
            let Some((name, at)) = next.filter(|(_, at)| *at <= until) else {
                return;
            };
            self.now = self.now.max(at);
            let (_, due) = self.timers.remove(&name).unwrap();
            self.ring(&due);
        }
        panic!("the timers never end");
    }

    pub(crate) fn run(&mut self) {
        self.run_until(Timestamp(i64::MAX));
    }

    pub(crate) fn pass(&mut self, ms: i64) {
        let until = self.now.plus_ms(ms);
        self.run_until(until);
        self.now = until;
    }

    /// What the sweep does; tells how much it found besides catalogs that are to be read again.
    pub(crate) fn sweep(&mut self) -> usize {
        let found = due(&self.world, self.now);
        for overdue in &found {
            let key = overdue.key().clone();
            match overdue {
                Overdue::Alarm(due) => self.ring(due),
                Overdue::Nudge(_) => {
                    let effect = Effect::Proceed(key.clone());
                    self.meet(&key, Input::Nudge { effect: &effect }, Cause::Alarm);
                }
                Overdue::Reaction(_) => {
                    for effect in outstanding(&self.world, &key) {
                        self.perform(&Task {
                            key: key.clone(),
                            effect,
                            cause: Cause::Alarm,
                        });
                    }
                }
            }
        }
        let refresh = |overdue: &&Overdue| matches!(overdue, Overdue::Alarm(due) if due.alarm == Alarm::RefreshCatalog);
        found.iter().filter(|overdue| !refresh(overdue)).count()
    }

    pub(crate) fn status(&self, kind: Kind, name: &str) -> (Status, Vec<String>) {
        self.world.status(&key(kind, name)).expect("it was there")
    }

    /// The names of all events of a resource.
    pub(crate) fn history(&self, kind: Kind, name: &str) -> Vec<String> {
        self.events(kind, name).iter().map(Event::name).collect()
    }

    pub(crate) fn events(&self, kind: Kind, name: &str) -> Vec<Event> {
        let key = key(kind, name);
        let own = self
            .log
            .iter()
            .filter(|recorded| recorded.commit.key == key);
        own.flat_map(|recorded| recorded.commit.events.clone())
            .collect()
    }

    /// All that must hold of every world, and that the log folds into this one.
    pub(crate) fn check(&self) {
        assert_eq!(check(&self.world), []);
        let mut again = World::default();
        for recorded in &self.log {
            assert_eq!(again.apply(recorded), Ok(true));
        }
        assert!(again == self.world, "a replay folds into another world");
    }
}
