//! What nodes and views ask of schedules.
//!
//! Each occurrence has one run, whose id is derived from the schedule and the moment. So it can be
//! asked for by any node, any number of times; and whether it was, the log of runs tells. On record
//! is only a moment up to which nobody needs to look any more.

use engine_model::spec::Overlap;
use engine_model::{
    Actor, Kind, Name, ResourceId, ResourceKey, RunCommand, RunId, RunWake, ScheduleOutcome, Seq,
    Timestamp,
};

use crate::aggregate::schedule::Schedule;
use crate::state::State;
use crate::world::World;

/// How late a run may be, in milliseconds, and be made up for with all the others that are as late.
/// It is longer than it takes the other nodes to notice that one is gone; beyond it, only the
/// latest is run.
pub const LATE_MS_MAX: i64 = 15_000;

/// How long it goes without a word on record, in milliseconds. The log of runs has to go back
/// further than this.
const UNRECORDED_MS_MAX: i64 = 3_600_000;

/// How many missed occurrences are counted.
const COUNTED_MAX: u32 = 1_000;

/// A moment at which a schedule is due, and its one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occurrence {
    /// The moment.
    pub at: Timestamp,
    /// The run.
    pub run: RunId,
    /// The function that is run.
    pub function: Name,
}

/// What a schedule has due.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// The schedule's id.
    pub id: ResourceId,
    /// Those that it is too late for; to be recorded before the others are run.
    pub missed: Option<ScheduleOutcome>,
    /// What is to be run, in this order.
    pub due: Vec<Occurrence>,
    /// Whether it is later than is made up for, so that who looks had better make sure that it does
    /// not only lag behind.
    pub late: bool,
    /// What is run.
    pub command: RunCommand,
    /// Whether an occurrence is left out while the one before is still going.
    pub overlap: Overlap,
    /// When it is due next.
    pub next: Option<Timestamp>,
}

/// What a schedule has due at `now`, when all up to `through` has its run, besides what the record
/// says; nothing when it is not to be run now.
#[must_use]
pub fn turn(world: &World, key: &ResourceKey, through: Timestamp, now: Timestamp) -> Option<Turn> {
    let state = world.schedule(key)?;
    let (_, recorded) = state.active()?;
    let rhythm = state.rhythm()?;
    let from = through.max(recorded);
    let mut turn = Turn {
        id: state.id,
        missed: None,
        due: Vec::new(),
        late: false,
        command: RunCommand {
            input: state.spec.input.clone(),
            secrets: state.spec.secrets.clone(),
            ..RunCommand::default()
        },
        overlap: state.spec.overlap,
        next: rhythm.next(from.max(now)),
    };
    let occurrence = |at| occurrence(state, key, at);
    let Some(first) = rhythm.next(from).filter(|first| *first <= now) else {
        return Some(turn);
    };
    if first.plus_ms(LATE_MS_MAX) >= now {
        let mut at = Some(first);
        while let Some(due) = at.filter(|at| *at <= now) {
            turn.due.push(occurrence(due));
            at = rhythm.next(due);
        }
        return Some(turn);
    }
    turn.late = true;
    let last = rhythm.last(now).unwrap_or(first).max(first);
    if let Some(before) = rhythm.last(last.plus_ms(-1)).filter(|_| last > first) {
        turn.missed = Some(ScheduleOutcome::Missed {
            id: state.id,
            first,
            last: before,
            count: rhythm.count(first, before, COUNTED_MAX),
        });
    }
    turn.due.push(occurrence(last));
    Some(turn)
}

/// The word to be put on record when all up to `through` has its run, if it is time for one.
#[must_use]
pub fn passed(world: &World, key: &ResourceKey, through: Timestamp) -> Option<ScheduleOutcome> {
    let state = world.schedule(key)?;
    let (_, recorded) = state.active()?;
    let id = state.id;
    let long = through.since_ms(recorded) >= UNRECORDED_MS_MAX;
    long.then_some(ScheduleOutcome::Passed { id, through })
}

/// The latest occurrence up to a moment that is not known by the record to have its run.
#[must_use]
pub fn latest(world: &World, key: &ResourceKey, until: Timestamp) -> Option<Occurrence> {
    let state = world.schedule(key)?;
    let (_, recorded) = state.active()?;
    let last = state.last(until).filter(|last| *last > recorded)?;
    Some(occurrence(state, key, last))
}

/// The id of a schedule that is due now and then, and up to where the record says that all has its
/// run.
#[must_use]
pub fn recorded(world: &World, key: &ResourceKey) -> Option<(ResourceId, Timestamp)> {
    let state = world.schedule(key)?;
    let (_, recorded) = state.active()?;
    Some((state.id, recorded))
}

/// The latest occurrence before a moment, also of what the schedule was before.
#[must_use]
pub fn before(world: &World, key: &ResourceKey, moment: Timestamp) -> Option<Occurrence> {
    let state = world.schedule(key)?;
    if let Some(last) = state.last(moment.plus_ms(-1)) {
        return Some(occurrence(state, key, last));
    }
    let earlier = state.earlier.as_ref().filter(|own| own.at < moment)?;
    Some(Occurrence {
        function: earlier.function.clone(),
        ..occurrence(state, key, earlier.at)
    })
}

/// When it is due next; nothing when it is paused or waits.
#[must_use]
pub fn next_due(world: &World, key: &ResourceKey, now: Timestamp) -> Option<Timestamp> {
    let state = world.schedule(key)?;
    let (since, _) = state.active()?;
    state.rhythm()?.next(now.max(since))
}

/// The schedules that are due now and then, in order.
#[must_use]
pub fn schedules(world: &World) -> Vec<(ResourceKey, ResourceId)> {
    let active = |(key, state): (&crate::world::Key, &State)| match state {
        State::Schedule(state) if state.active().is_some() => Some(((**key).clone(), state.id)),
        _ => None,
    };
    let mut keys: Vec<_> = world.states().filter_map(active).collect();
    keys.sort();
    keys
}

fn occurrence(state: &Schedule, key: &ResourceKey, at: Timestamp) -> Occurrence {
    Occurrence {
        at,
        run: RunId::of_schedule(&key.org, state.id, at),
        function: state.spec.function.clone(),
    }
}

/// The request for the run of an occurrence, once the event at `after` says that it waits.
#[must_use]
pub fn request(key: &ResourceKey, due: &Occurrence, command: &RunCommand, after: Seq) -> RunWake {
    debug_assert_eq!(key.kind, Kind::Schedule);
    RunWake {
        id: due.run,
        org: key.org.clone(),
        function: due.function.clone(),
        command: command.clone(),
        actor: Actor(format!("schedule:{}", key.name)),
        reply_to: None,
        after,
    }
}
