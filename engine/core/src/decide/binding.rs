//! Service bindings: made by the engine for each instance of a bindable plan, and gone before it.

use engine_model::spec::BindingSpec;
use engine_model::{
    BindingEvent, BindingId, BindingOutcome, Command, Event, InstanceId, Kind, Rejection,
    RequestId, ResourceId, ResourceKey, Timestamp,
};

use super::instance::secrets_stored;
use super::{Ask, Decision};
use crate::aggregate::binding::{self, Binding};
use crate::aggregate::instance::Instance;
use crate::life::{self, Attempt, Change, Retry, Stage};
use crate::refuse;
use crate::world::World;

type BindingChange = Change<BindingId, Box<engine_model::broker::BoundCredentials>>;

pub(crate) fn ask(ask: &Ask<'_>) -> Result<Decision, Rejection> {
    match ask.command {
        Command::Retry => retry(ask),
        Command::Create(_)
        | Command::Update(_)
        | Command::Delete(_)
        | Command::Refresh
        | Command::Abandon { .. } => Err(refuse::read_only(
            ask.key,
            "bindings come and go with their service instance; change that one",
        )),
    }
}

/// The instance that a binding belongs to, if it is still there.
pub(crate) fn instance_of<'a>(
    world: &'a World,
    key: &ResourceKey,
    binding: &Binding,
) -> Option<&'a Instance> {
    world
        .instance(&key.sibling(Kind::ServiceInstance))
        .filter(|instance| instance.id == binding.instance)
}

/// Whether an instance is to have a binding.
pub(crate) fn is_wanted(instance: &Instance) -> bool {
    let bindable = |attempt: &Attempt<crate::aggregate::instance::Ordered>| attempt.what.bindable;
    match &instance.life.stage {
        Stage::Creating { attempt, .. } | Stage::Made { attempt, .. } => bindable(attempt),
        Stage::Waiting
        | Stage::Failed { .. }
        | Stage::Orphaned { .. }
        | Stage::Deleting { .. }
        | Stage::Removing { .. } => false,
    }
}

pub(crate) fn create(
    world: &World,
    key: &ResourceKey,
    instance: InstanceId,
    spec: &BindingSpec,
    now: Timestamp,
) -> Decision {
    let owner = world
        .instance(&key.sibling(Kind::ServiceInstance))
        .filter(|owner| owner.id == instance && is_wanted(owner));
    let Some(owner) = owner.filter(|_| world.binding(key).is_none()) else {
        return Decision::nothing();
    };
    let mut events = vec![Event::ServiceBinding(BindingEvent::Created {
        id: ResourceId::derived(format_args!("{instance}:binding")),
        instance,
        spec: spec.clone(),
    })];
    if owner.life.is_made() && secrets_stored(world, key, &spec.secret_parameters).is_ok() {
        let request = Change::Requested(attempt(owner, 1));
        events.push(Event::ServiceBinding(binding::event(request, now)));
    }
    Decision::of(key, events)
}

fn attempt(instance: &Instance, number: u32) -> Attempt<BindingId> {
    let id = instance.id;
    let limit_ms = instance
        .life
        .attempt()
        .map_or(crate::pace::OPERATION_MS_MAX, |attempt| attempt.limit_ms);
    Attempt {
        request: RequestId::derived(format_args!("{id}:bind:{number}")),
        number,
        limit_ms,
        what: BindingId::derived(format_args!("{id}:binding:{number}")),
    }
}

/// Translates what happens, and goes on at once as far as nothing is waited for.
fn happen(binding: &Binding, mut changes: Vec<BindingChange>, now: Timestamp) -> Vec<Event> {
    if changes.is_empty() {
        return Vec::new();
    }
    let mut life = Some(binding.life.clone());
    let mut happened = Vec::new();
    while let Some(current) = life.take()
        && !changes.is_empty()
    {
        life = Some(current);
        for change in std::mem::take(&mut changes) {
            let Some(current) = life.take() else { break };
            let next = current.evolve(change.clone(), now);
            life = next.expect("what is decided fits the state that it was decided on");
            happened.push(Event::ServiceBinding(binding::event(change, now)));
        }
        if let Some(life) = &life {
            changes = life::next(life, binding.id.0, true, now);
        }
    }
    happened
}

/// Whether what is wanted of the broker can still be said: with its instance's record the means to
/// name it are gone.
fn orphaned_on_record(binding: &Binding) -> BindingChange {
    let reason = format!(
        "service instance {} is gone, and its bindings with it",
        binding.instance
    );
    Change::Abandoned { reason }
}

pub(crate) fn next(world: &World, key: &ResourceKey, now: Timestamp) -> Vec<Event> {
    let Some(binding) = world.binding(key) else {
        return Vec::new();
    };
    let life = &binding.life;
    let owner = key.sibling(Kind::ServiceInstance);
    if !world.is_known(&owner) {
        return Vec::new();
    }
    let Some(instance) = instance_of(world, key, binding) else {
        let changes = match life.attempt() {
            Some(_) => vec![orphaned_on_record(binding)],
            None if life.is_going() => vec![Change::Deleted],
            None => vec![Change::DeleteRequested],
        };
        return happen(binding, changes, now);
    };
    if instance.life.is_going() && !life.is_going() {
        return happen(binding, life::delete(life), now);
    }
    let changes = match &life.stage {
        Stage::Waiting => {
            let secrets = &binding.wish.secrets;
            let free = instance.life.is_made() && secrets_stored(world, key, secrets).is_ok();
            let bindable = instance
                .life
                .attempt()
                .is_some_and(|made| made.what.bindable);
            if free && bindable {
                vec![Change::Requested(attempt(instance, life.attempts + 1))]
            } else {
                Vec::new()
            }
        }
        Stage::Creating { .. }
        | Stage::Made { .. }
        | Stage::Failed { .. }
        | Stage::Orphaned { .. }
        | Stage::Deleting { .. }
        | Stage::Removing { .. } => life::next(life, binding.id.0, true, now),
    };
    happen(binding, changes, now)
}

fn retry(ask: &Ask<'_>) -> Result<Decision, Rejection> {
    let Some(binding) = ask.world.binding(ask.key) else {
        return Err(refuse::not_found(ask.key));
    };
    let changes = match life::retry(&binding.life, binding.id.0, ask.now) {
        Retry::Changes(changes) => changes,
        Retry::Refused(why) => return Err(refuse::not_ready(ask.key, why)),
        Retry::Request => {
            let instance = instance_of(ask.world, ask.key, binding)
                .filter(|instance| instance.life.is_made())
                .ok_or_else(|| refuse::not_ready(ask.key, "its service instance is not there"))?;
            secrets_stored(ask.world, ask.key, &binding.wish.secrets)
                .map_err(|missing| refuse::not_ready(ask.key, &missing))?;
            vec![Change::Requested(attempt(
                instance,
                binding.life.attempts + 1,
            ))]
        }
    };
    Ok(Decision::of(ask.key, happen(binding, changes, ask.now)))
}

/// The instance was ended on record, and so is its binding.
pub(crate) fn abandon(world: &World, key: &ResourceKey, reason: &str) -> Decision {
    let Some(binding) = world.binding(key) else {
        return Decision::nothing();
    };
    if instance_of(world, key, binding).is_some() {
        return Decision::nothing();
    }
    let event = BindingEvent::Abandoned {
        reason: reason.to_owned(),
    };
    Decision::of(key, vec![Event::ServiceBinding(event)])
}

pub(crate) fn learn(
    world: &World,
    key: &ResourceKey,
    outcome: &BindingOutcome,
    now: Timestamp,
) -> Decision {
    let Some(binding) = world.binding(key) else {
        return Decision::nothing();
    };
    let life = &binding.life;
    let changes = match outcome {
        BindingOutcome::BindAnswered { request, verdict } => {
            let made = |bound: &engine_model::broker::BoundCredentials| Box::new(bound.clone());
            life::answered(life, binding.id.0, *request, verdict, made, now)
        }
        // A bind that is done is told by its credentials, not by the poll alone.
        BindingOutcome::Polled { request, progress } => {
            life::polled(life, *request, progress, || None, now)
        }
        BindingOutcome::UnbindAnswered { request, verdict } => {
            life::removal_answered(life, *request, verdict, now)
        }
    };
    Decision::of(key, happen(binding, changes, now))
}
