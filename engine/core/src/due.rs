//! Time: what an alarm asks for, and the sweep that finds what lost alarms, lost words and lost
//! reactions have left undone.

use engine_model::{Alarm, Due, Effect, Kind, ResourceKey, Timestamp};

use crate::aggregate::broker::Catalog;
use crate::aggregate::{api, base_image, function, image, schedule};
use crate::decide::{self, proceed};
use crate::operation::Step;
use crate::pending::{self, When};
use crate::state::State;
use crate::world::{World, changed_at};

/// How far the clocks of the nodes and the server may be apart, in milliseconds: an alarm that
/// comes earlier than this is one that was replaced since.
const CLOCKS_MS: i64 = 1_000;

/// How late an alarm may be, in milliseconds, before the sweep acts in its place.
const LATE_MS: i64 = 3_000;

/// How long a word between resources may take, in milliseconds.
const WORD_MS: i64 = 2_000;

/// How long the answer of a broker may take, in milliseconds: longer than any request.
const REQUEST_MS: i64 = 120_000;

/// How long preparing, building, loading or serving may take, in milliseconds, before it is asked
/// for once more. Doing it twice is harmless.
const WORK_MS: i64 = 600_000;

/// Something that should have happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Overdue {
    /// This alarm should have come.
    Alarm(Due),
    /// This resource could go on, and nobody told it.
    Nudge(ResourceKey),
    /// What this resource waits for is not being done: see [`crate::outstanding`].
    Reaction(ResourceKey),
}

/// What an alarm asks for; nothing when it is stale, or when a decision is to be made first.
#[must_use]
pub fn alarm(world: &World, due: &Due, now: Timestamp) -> Vec<Effect> {
    let key = &due.key;
    match alarm_of(world, key) {
        Some((wanted, at)) if wanted == due.alarm && at <= now.plus_ms(CLOCKS_MS) => {}
        Some(_) | None => return Vec::new(),
    }
    match due.alarm {
        Alarm::RefreshCatalog => {
            let broker = world.broker(key).filter(|broker| !broker.deleting);
            broker
                .map(|broker| pending::read_catalog(key, broker))
                .into_iter()
                .collect()
        }
        // Runs are no part of the world, nor is which of them were asked for.
        Alarm::Wake | Alarm::Occur => Vec::new(),
        Alarm::Renew => {
            if proceed(world, key, now).writes.is_empty() {
                Vec::new()
            } else {
                vec![Effect::Proceed(key.clone())]
            }
        }
        Alarm::Poll { request } | Alarm::Retry { request } => {
            let effects = pending::of(world, key, When::Alarm(request));
            if effects.is_empty() && !proceed(world, key, now).writes.is_empty() {
                return vec![Effect::Proceed(key.clone())];
            }
            effects
        }
    }
}

/// The alarm that is set for a resource.
pub(crate) fn alarm_of(world: &World, key: &ResourceKey) -> Option<(Alarm, Timestamp)> {
    match world.state(key)? {
        State::Instance(state) => state.current()?.alarm(),
        State::Binding(state) => {
            let ops = state
                .lives()
                .filter_map(|(_, life)| life.current()?.alarm());
            // While the broker has one in hand nothing can be done about the others, and their
            // alarm, which may be past, must not hide the one that gets on with it.
            let renewal = decide::rotate::alarm(state).filter(|_| !state.is_in_hand());
            let renewal = renewal.map(|at| (Alarm::Renew, at));
            ops.chain(renewal).min_by_key(|(_, at)| *at)
        }
        State::Schedule(state) => {
            let (_, through) = state.active()?;
            Some((Alarm::Occur, state.rhythm()?.next(through)?))
        }
        State::Broker(state) if !state.deleting => Some((Alarm::RefreshCatalog, state.next_at()?)),
        _ => None,
    }
}

/// Looks at the whole state for what is overdue.
#[must_use]
pub fn due(world: &World, now: Timestamp) -> Vec<Overdue> {
    let mut all: Vec<Overdue> = world
        .states()
        .filter_map(|(key, state)| overdue(world, key, state, now))
        .collect();
    all.sort_by(|a, b| a.key().cmp(b.key()));
    all
}

impl Overdue {
    /// The resource.
    #[must_use]
    pub fn key(&self) -> &ResourceKey {
        match self {
            Self::Alarm(due) => &due.key,
            Self::Nudge(key) | Self::Reaction(key) => key,
        }
    }
}

/// What of a resource is overdue, and can be done: a request to a broker that is not registered
/// any more waits until it is again.
fn overdue(world: &World, key: &ResourceKey, state: &State, now: Timestamp) -> Option<Overdue> {
    if is_settled(world, key, state) {
        return None;
    }
    let can_proceed = || !proceed(world, key, now).writes.is_empty();
    if let Some((wanted, at)) = alarm_of(world, key) {
        if at.plus_ms(LATE_MS) > now {
            return None;
        }
        let due = Due::new(key.clone(), wanted);
        let effects = alarm(world, &due, now);
        // Another node may be at it: a request that changes something is not sent beside itself.
        if effects.iter().any(changes_something) && at.plus_ms(REQUEST_MS) > now {
            return None;
        }
        let helps = can_proceed() || !effects.is_empty();
        return helps.then_some(Overdue::Alarm(due));
    }
    if changed_at(world, key).plus_ms(WORD_MS) > now {
        return None;
    }
    if can_proceed() {
        return Some(Overdue::Nudge(key.clone()));
    }
    let since = asked_since(state).map(|(since, ms)| since.plus_ms(ms));
    let lost = since.is_some_and(|by| by <= now) || lacks_word(world, key, state);
    let helps = lost && !crate::outstanding(world, key).is_empty();
    helps.then(|| Overdue::Reaction(key.clone()))
}

/// Whether an effect is a request that changes something at a broker.
fn changes_something(effect: &Effect) -> bool {
    matches!(
        effect,
        Effect::Provision { .. }
            | Effect::UpdateInstance { .. }
            | Effect::Deprovision { .. }
            | Effect::Bind { .. }
            | Effect::Unbind { .. }
    )
}

/// A quick look that passes over most of a large world: what is there and bound needs nothing.
fn is_settled(world: &World, key: &ResourceKey, state: &State) -> bool {
    match state {
        State::Instance(instance) => {
            let bindable = instance
                .life
                .attempt()
                .is_some_and(|made| made.what.bindable);
            let bound = || world.binding(&key.sibling(Kind::ServiceBinding)).is_some();
            instance.life.is_made() && instance.update.is_none() && (!bindable || bound())
        }
        State::Binding(binding) => {
            let owner = world.instance_key(binding.instance);
            let there = owner.and_then(|owner| world.instance(owner));
            binding.life.is_made()
                && binding.function.is_none()
                && binding.turnover.is_none()
                && decide::rotate::renewal(binding).is_none()
                && there.is_some_and(|owner| owner.life.is_made())
        }
        State::Secret(secret) => !secret.deleting,
        // Nodes look after what is due themselves: see `schedules`.
        State::Schedule(schedule) => schedule.stage != schedule::Stage::Waiting,
        State::ServiceAccount(_) | State::Application(_) => true,
        State::BaseImage(_)
        | State::Image(_)
        | State::Function(_)
        | State::Broker(_)
        | State::Class(_)
        | State::Api(_)
        | State::Organization(_) => false,
    }
}

/// Since when an outcome is waited for, and how long that may take.
fn asked_since(state: &State) -> Option<(Timestamp, i64)> {
    match state {
        State::Instance(state) => {
            let update = state.update.as_ref().and_then(|update| update.op());
            let update = update.filter(|op| matches!(op.step, Step::Asked));
            let since = state.life.asked_since().or(update.map(|op| op.since));
            Some((since?, REQUEST_MS))
        }
        State::Binding(state) => {
            let since = state
                .lives()
                .filter_map(|(_, life)| life.asked_since())
                .min();
            Some((since?, REQUEST_MS))
        }
        State::Broker(state) => match state.catalog {
            Catalog::Reading { since } => Some((since, REQUEST_MS)),
            Catalog::Read { .. } | Catalog::Failed { .. } => None,
        },
        State::BaseImage(state) => match state.stage {
            base_image::Stage::Preparing { since } => Some((since, WORK_MS)),
            base_image::Stage::Prepared { .. } | base_image::Stage::Failed { .. } => None,
        },
        State::Image(state) => match state.stage {
            image::Stage::Building { since, .. } => Some((since, WORK_MS)),
            image::Stage::Waiting | image::Stage::Built { .. } | image::Stage::Failed { .. } => {
                None
            }
        },
        State::Function(state) => match state.stage {
            function::Stage::Loading { since, .. } => Some((since, WORK_MS)),
            function::Stage::Waiting | function::Stage::Loaded | function::Stage::Failed { .. } => {
                None
            }
        },
        State::Api(state) => match state.stage {
            api::Stage::Requested { since } => Some((since, WORK_MS)),
            api::Stage::Waiting | api::Stage::Served | api::Stage::Failed { .. } => None,
        },
        State::Secret(_)
        | State::Class(_)
        | State::Schedule(_)
        | State::Organization(_)
        | State::ServiceAccount(_)
        | State::Application(_) => None,
    }
}

/// Whether a word of this resource to another must have been lost.
fn lacks_word(world: &World, key: &ResourceKey, state: &State) -> bool {
    match state {
        State::Instance(instance) => {
            decide::binding::is_wanted(instance)
                && world.binding(&key.sibling(Kind::ServiceBinding)).is_none()
        }
        State::Secret(_) | State::Broker(_) | State::Organization(_) => state.is_going(),
        State::Function(function) => decide::function::own_bindings(world, key, function)
            .next()
            .is_some(),
        _ => false,
    }
}
