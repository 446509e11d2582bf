//! Polls between those that are kept on record. Whoever polled an operation polls it again, without
//! a word on the stream, until there is something new to be kept or the next kept poll is due.

use engine_model::broker::Progress;
use engine_model::{
    BindingOutcome, Effect, InstanceOutcome, Outcome, RequestId, ResourceKey, Timestamp,
};

use crate::decide::update::awaited;
use crate::life::{self, Life, Stage};
use crate::operation::{Operation, Step};
use crate::pending::{self, When};
use crate::state::State;
use crate::world::World;

/// Which operation of a resource is to be polled again, and when, after this came of a poll of it;
/// none when the next poll is kept, and an alarm is set for it.
#[must_use]
pub fn next_poll(
    world: &World,
    key: &ResourceKey,
    outcome: &Outcome,
    now: Timestamp,
) -> Option<(RequestId, Timestamp)> {
    let (request, progress) = match outcome {
        Outcome::Instance(InstanceOutcome::Polled {
            request, progress, ..
        }) => (*request, progress),
        Outcome::Binding(BindingOutcome::Polled { request, progress }) => (*request, progress),
        _ => return None,
    };
    let found = match world.state(key)? {
        State::Instance(state) => {
            let update = awaited(state, request);
            let at = update.and_then(|(op, limit_ms)| life::again(op, limit_ms, progress, now));
            at.or_else(|| of_life(&state.life, request, progress, now))
        }
        State::Binding(state) => {
            let mut lives = state.lives();
            lives.find_map(|(_, life)| of_life(life, request, progress, now))
        }
        _ => None,
    };
    found.map(|at| (request, at))
}

fn of_life<A, M>(
    life: &Life<A, M>,
    request: RequestId,
    progress: &Progress,
    now: Timestamp,
) -> Option<Timestamp> {
    let op = life.current().filter(|op| op.request == request)?;
    life::again(op, life.attempt()?.limit_ms, progress, now)
}

/// All operations that brokers have in hand and that are to be asked about before the next kept
/// poll, each with the moment, for a node that has just started: those that were polled by it
/// before are polled again within their usual pause, scattered over it.
#[must_use]
pub fn polls(world: &World, now: Timestamp) -> Vec<(ResourceKey, RequestId, Timestamp)> {
    let mut all = Vec::new();
    for (key, state) in world.states() {
        match state {
            State::Instance(state) => {
                let op = state.current();
                all.extend(
                    op.and_then(|op| Some(((**key).clone(), op.request, resumed(op, now)?))),
                );
            }
            State::Binding(state) => {
                let ops = state.lives().filter_map(|(_, life)| life.current());
                all.extend(
                    ops.filter_map(|op| Some(((**key).clone(), op.request, resumed(op, now)?))),
                );
            }
            _ => {}
        }
    }
    all
}

fn resumed(op: &Operation, now: Timestamp) -> Option<Timestamp> {
    let Step::Polling { next_at, .. } = &op.step else {
        return None;
    };
    let at = crate::pace::scattered_poll_at(now, op.since, op.request);
    (at < *next_at).then_some(at)
}

/// The poll of an operation, if the state still waits for it.
#[must_use]
pub fn poll(world: &World, key: &ResourceKey, request: RequestId) -> Vec<Effect> {
    let polling = |op: Option<&Operation>| {
        op.is_some_and(|op| op.request == request && matches!(op.step, Step::Polling { .. }))
    };
    let wanted = match world.state(key) {
        Some(State::Instance(state)) => polling(state.current()),
        Some(State::Binding(state)) => {
            let mut lives = state.lives();
            lives.any(|(_, life)| !matches!(life.stage, Stage::Waiting) && polling(life.current()))
        }
        _ => false,
    };
    if wanted {
        pending::of(world, key, When::Alarm(request))
    } else {
        Vec::new()
    }
}
