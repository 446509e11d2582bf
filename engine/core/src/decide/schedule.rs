//! Schedules: due again and again from when all that they name is there.

use engine_model::spec::{ScheduleSpec, Spec};
use engine_model::{
    Code, Command, Event, Kind, Rejection, ResourceKey, ScheduleEvent, ScheduleOutcome,
};

use super::function::stored;
use super::{Ask, Decision, delete};
use crate::aggregate::schedule::Stage;
use crate::refuse;
use crate::rhythm::Rhythm;
use crate::world::World;

/// Largest input, in bytes: it goes with each run.
const INPUT_BYTES_MAX: usize = 64 * 1024;

pub(crate) fn ask(ask: &Ask<'_>) -> Result<Decision, Rejection> {
    let events = match ask.command {
        Command::Create(Spec::Schedule(spec)) => {
            ask.must_be_free()?;
            check(ask, spec)?;
            let created = ScheduleEvent::Created {
                id: ask.new_id(),
                spec: spec.clone(),
            };
            begun_with(ask, created, spec)
        }
        Command::Update(Spec::Schedule(spec)) => {
            ask.must_be_there()?;
            check(ask, spec)?;
            let updated = ScheduleEvent::Updated { spec: spec.clone() };
            let waits = ask
                .world
                .schedule(ask.key)
                .is_none_or(|state| state.stage == Stage::Waiting || !state.spec.names_as(spec));
            if waits {
                begun_with(ask, updated, spec)
            } else {
                vec![Event::Schedule(updated)]
            }
        }
        Command::Delete(deletion) => return delete::ask(ask.world, ask.key, deletion.cascade),
        Command::Create(_)
        | Command::Update(_)
        | Command::Refresh
        | Command::Retry
        | Command::Abandon { .. }
        | Command::Rotate
        | Command::Adopt { .. }
        | Command::Rollback { .. }
        | Command::Route { .. } => return Err(ask.unknown()),
    };
    Ok(Decision::of(ask.key, events))
}

fn begun_with(ask: &Ask<'_>, first: ScheduleEvent, spec: &ScheduleSpec) -> Vec<Event> {
    let mut events = vec![Event::Schedule(first)];
    if missing(ask.world, ask.key, spec).is_empty() {
        events.push(Event::Schedule(ScheduleEvent::Begun));
    }
    events
}

fn check(ask: &Ask<'_>, spec: &ScheduleSpec) -> Result<(), Rejection> {
    Rhythm::read(spec, ask.now)?;
    if spec.input.to_string().len() > INPUT_BYTES_MAX {
        let text = "input: it goes with each run and is 64 KB at most; keep what is larger where \
                    the function can read it";
        return Err(Rejection::new(Code::TooLarge, text));
    }
    for name in &spec.secrets {
        refuse::unless_going(ask.world, &ask.key.neighbour(Kind::Secret, name))?;
    }
    Ok(())
}

/// What a schedule waits for.
pub(crate) fn missing(world: &World, key: &ResourceKey, spec: &ScheduleSpec) -> Vec<String> {
    let name = &spec.function;
    let function = match world.function(&key.neighbour(Kind::Function, name)) {
        None => Some(format!("function {name} does not exist yet")),
        Some(function) if function.serving.is_none() => {
            Some(format!("function {name} is not ready yet"))
        }
        Some(_) => None,
    };
    let secrets = spec.secrets.iter();
    let secrets = secrets.filter_map(|secret| stored(world, key, secret).err());
    function.into_iter().chain(secrets).collect()
}

pub(crate) fn next(world: &World, key: &ResourceKey) -> Vec<Event> {
    match world.schedule(key) {
        Some(state)
            if state.stage == Stage::Waiting && missing(world, key, &state.spec).is_empty() =>
        {
            vec![Event::Schedule(ScheduleEvent::Begun)]
        }
        Some(_) | None => Vec::new(),
    }
}

/// Only what goes beyond what is on record is recorded, and only of the schedule that it was.
pub(crate) fn learn(world: &World, key: &ResourceKey, outcome: &ScheduleOutcome) -> Decision {
    let active = world
        .schedule(key)
        .and_then(|state| Some((state.id, state.active()?)));
    let Some((own, (_, known))) = active else {
        return Decision::nothing();
    };
    let event = match *outcome {
        ScheduleOutcome::Passed { id, through } if id == own && through > known => {
            ScheduleEvent::Passed { through }
        }
        ScheduleOutcome::Missed {
            id,
            first,
            last,
            count,
        } if id == own && first > known && last >= first => {
            ScheduleEvent::Missed { first, last, count }
        }
        ScheduleOutcome::Passed { .. } | ScheduleOutcome::Missed { .. } => {
            return Decision::nothing();
        }
    };
    Decision::of(key, vec![Event::Schedule(event)])
}
