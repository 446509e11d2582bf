//! A little platform in virtual time: it writes what is decided, reacts, performs, keeps timers.

use std::collections::{BTreeMap, VecDeque};

use engine_core::{Input, Overdue, World, alarm, check, decide, due, outstanding, react};
use engine_model::broker::{BoundCredentials, BoundExtras};
use engine_model::{
    Actor, Alarm, Cause, Command, CommandId, Commit, Due, Effect, EffectId, Event, InstanceEvent,
    Kind, Name, OrgName, Outcome, Recorded, Rejection, ResourceKey, Sealed, Seq, Status, Timestamp,
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

/// Credentials without anything beside them.
pub(crate) fn bound(text: &str) -> BoundCredentials {
    BoundCredentials {
        credentials: sealed(text),
        endpoints: Vec::new(),
        expires_at: None,
        renew_before: None,
        extras: BoundExtras::default(),
    }
}

/// An effect that waits to be performed.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    /// Of which commit it came, and as which effect; none when an alarm asked for it.
    id: Option<EffectId>,
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
    /// Outcomes that are on their way.
    pub(crate) answers: VecDeque<(ResourceKey, Outcome, Cause)>,
    pub(crate) timers: BTreeMap<(ResourceKey, &'static str), (Timestamp, Due)>,
    pub(crate) outside: Outside,
    /// The world of another node, which lags behind; and whether that node acts now.
    pub(crate) other: World,
    pub(crate) other_acts: bool,
    commands: u64,
}

impl Platform {
    pub(crate) fn new() -> Self {
        Self {
            world: World::default(),
            log: Vec::new(),
            now: START,
            tasks: VecDeque::new(),
            answers: VecDeque::new(),
            timers: BTreeMap::new(),
            outside: Outside::default(),
            other: World::default(),
            other_acts: false,
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
        let actor = Actor("user:alice".into());
        let (repeated, _) = self.settle(&key, input, Cause::Command(id), &actor)?;
        Ok(repeated.unwrap_or_else(|| self.world.last_seq(&key)))
    }

    /// The id of the first instance that was created.
    pub(crate) fn world_id(&self) -> uuid::Uuid {
        let found = self.log.iter().find_map(|recorded| {
            recorded.commit.events.iter().find_map(|event| match event {
                Event::ServiceInstance(InstanceEvent::Created { id, .. }) => Some(id.0),
                _ => None,
            })
        });
        found.expect("an instance was created")
    }

    /// The world as the node that acts knows it.
    pub(crate) fn view(&self) -> &World {
        if self.other_acts {
            &self.other
        } else {
            &self.world
        }
    }

    /// The other node reads all that there is.
    pub(crate) fn catch_up(&mut self) {
        for recorded in &self.log {
            self.other.apply(recorded).unwrap();
        }
    }

    /// The other node reads all that there is of one resource.
    fn read_up(&mut self, key: &ResourceKey) {
        for recorded in self.log.iter().filter(|one| one.commit.key == *key) {
            self.other.apply(recorded).unwrap();
        }
    }

    /// Decides and writes, and decides anew when another node was faster.
    fn settle(
        &mut self,
        key: &ResourceKey,
        input: Input<'_>,
        cause: Cause,
        actor: &Actor,
    ) -> Result<(Option<Seq>, usize), Rejection> {
        for _ in 0..STEPS_MAX {
            let decision = decide(self.view(), key, input, self.now)?;
            if let Some((last, _)) = decision.writes.last() {
                assert_eq!(last, key, "the resource that asked comes last");
            }
            let count = decision.writes.len();
            assert!(count == 0 || decision.repeated.is_none());
            if self.write(decision.writes, cause, actor) {
                return Ok((decision.repeated, count));
            }
        }
        panic!("{key}: the nodes clash for ever");
    }

    /// Writes as far as nobody else was faster.
    fn write(
        &mut self,
        writes: Vec<(ResourceKey, Vec<Event>)>,
        cause: Cause,
        actor: &Actor,
    ) -> bool {
        for (key, events) in writes {
            assert!(!events.is_empty());
            if self.view().last_seq(&key) != self.world.last_seq(&key) {
                self.read_up(&key);
                return false;
            }
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
            self.log.push(recorded.clone());
            self.react_to(&recorded);
        }
        true
    }

    pub(crate) fn react_to(&mut self, recorded: &Recorded) {
        if self.other_acts {
            self.read_up(&recorded.commit.key);
        }
        for (id, effect) in react(self.view(), recorded) {
            let cause = Cause::Effect {
                seq: id.seq,
                index: id.index,
            };
            self.tasks.push_back(Task {
                id: Some(id),
                key: recorded.commit.key.clone(),
                effect,
                cause,
            });
        }
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

    /// Hands in what came of an effect.
    pub(crate) fn learn(&mut self, key: &ResourceKey, outcome: &Outcome) -> usize {
        self.meet(key, Input::Outcome { outcome }, Cause::Alarm)
    }

    /// Lets a resource meet something that is never refused; tells how many commits came of it.
    pub(crate) fn meet(&mut self, key: &ResourceKey, input: Input<'_>, cause: Cause) -> usize {
        let settled = self.settle(key, input, cause, &Actor::engine());
        settled.expect("only commands are refused").1
    }

    /// Whether an effect is still wanted, as a reactor asks before it performs one.
    fn is_outstanding(&mut self, task: &Task) -> bool {
        let Some(id) = task.id else { return true };
        if self.other_acts {
            self.read_up(&task.key);
        }
        let recorded = &self.log[id.seq.0 as usize - 1];
        react(self.view(), recorded)
            .iter()
            .any(|(wanted, _)| *wanted == id)
    }

    /// Performs an effect, unless it is no longer wanted.
    pub(crate) fn react_with(&mut self, task: &Task) {
        if self.is_outstanding(task) {
            self.perform(task);
        }
    }

    /// Performs an effect, unless it is no longer wanted, and leaves its outcome on the way.
    pub(crate) fn begin(&mut self, task: &Task) {
        let word = matches!(
            task.effect,
            Effect::Proceed(_)
                | Effect::DeleteBinding(_)
                | Effect::Delete(_)
                | Effect::CreateBinding { .. }
                | Effect::RefreshCatalog(_)
                | Effect::AbandonBinding { .. }
                | Effect::Timer(_)
        );
        if word {
            return self.react_with(task);
        }
        if self.is_outstanding(task)
            && let Some(outcome) = self.outside.perform(&task.effect, self.now)
        {
            self.answers
                .push_back((task.key.clone(), outcome, task.cause));
        }
    }

    /// An outcome arrives.
    pub(crate) fn arrive(&mut self, nth: usize) {
        if let Some((key, outcome, cause)) = self.answers.remove(nth) {
            if self.other_acts {
                self.read_up(&key);
            }
            self.meet(&key, Input::Outcome { outcome: &outcome }, cause);
        }
    }

    /// Performs an effect, wanted or not.
    pub(crate) fn perform(&mut self, task: &Task) {
        if self.other_acts {
            // A node reacts to a commit once it has folded it.
            self.read_up(&task.key);
        }
        let input = match &task.effect {
            Effect::Proceed(key)
            | Effect::DeleteBinding(key)
            | Effect::Delete(key)
            | Effect::CreateBinding { key, .. }
            | Effect::RefreshCatalog(key)
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
        let effects = alarm(self.view(), due, self.now);
        if effects.is_empty() {
            self.meet(&due.key, Input::Due { alarm: due.alarm }, Cause::Alarm);
            return;
        }
        for effect in effects {
            let task = Task {
                id: None,
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
            self.arrive(0);
            let Some(task) = self.tasks.pop_front() else {
                if self.answers.is_empty() {
                    return;
                }
                continue;
            };
            self.react_with(&task);
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
        let found = due(self.view(), self.now);
        for overdue in &found {
            let key = overdue.key().clone();
            match overdue {
                Overdue::Alarm(due) => self.ring(due),
                Overdue::Nudge(_) => {
                    let effect = Effect::Proceed(key.clone());
                    self.meet(&key, Input::Nudge { effect: &effect }, Cause::Alarm);
                }
                Overdue::Reaction(_) => {
                    for effect in outstanding(self.view(), &key) {
                        self.perform(&Task {
                            id: None,
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
