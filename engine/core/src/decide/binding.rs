//! Service bindings: one that the engine makes for each instance of a bindable plan, those of single
//! functions, and those that someone asked for. All are gone before their instance.

use engine_model::broker::BoundCredentials;
use engine_model::spec::{BindingSpec, ServiceBindingSpec, Spec};
use engine_model::{
    BindingEvent, BindingId, BindingOutcome, Code, Command, Event, InstanceId, Kind, Name,
    Rejection, RequestId, ResourceId, ResourceKey, Timestamp,
};

use super::delete::{self, Writes, is_wished};
use super::instance::{bindings, or_empty, secrets_stored};
use super::{Ask, Decision, rotate, update};
use crate::aggregate::Scene;
use crate::aggregate::binding::{self, Binding, BindingChange, Telling, Which};
use crate::aggregate::instance::Instance;
use crate::life::{self, Attempt, Change, Left, Retry, Stage};
use crate::refuse;
use crate::schema;
use crate::world::World;

/// How often a binding is asked for in all, before a person is asked instead.
const ATTEMPTS_MAX: u32 = 10;

pub(crate) fn ask(ask: &Ask<'_>) -> Result<Decision, Rejection> {
    match ask.command {
        Command::Create(Spec::ServiceBinding(spec)) => wish(ask, spec),
        Command::Delete(_) | Command::Update(_) if ask.world.binding(ask.key).is_none() => {
            Err(refuse::not_found(ask.key))
        }
        Command::Retry => retry(ask),
        Command::Rotate => rotate::ask(ask),
        Command::Delete(deletion) => {
            let Some(binding) = ask.world.binding(ask.key) else {
                return Err(refuse::not_found(ask.key));
            };
            if !is_wished(binding) {
                return Err(comes_and_goes(ask, binding));
            }
            delete(ask.world, ask.key, deletion.cascade, ask.now)
        }
        Command::Abandon { reason } => give_up(ask, reason),
        Command::Update(_) => Err(refuse::read_only(
            ask.key,
            "a binding cannot be changed; create another one, or rotate its credentials",
        )),
        Command::Create(_)
        | Command::Refresh
        | Command::Adopt { .. }
        | Command::Rollback { .. }
        | Command::Route { .. } => Err(ask.unknown()),
    }
}

fn comes_and_goes(ask: &Ask<'_>, binding: &Binding) -> Rejection {
    let with = match &binding.function {
        Some(function) => format!("it comes and goes with function {function}; change that one"),
        None => "it comes and goes with its service instance; change that one".to_owned(),
    };
    refuse::read_only(ask.key, &with)
}

/// Someone wants one more binding of an instance.
fn wish(ask: &Ask<'_>, spec: &ServiceBindingSpec) -> Result<Decision, Rejection> {
    ask.must_be_free()?;
    let key = ask
        .key
        .neighbour(Kind::ServiceInstance, &spec.service_instance);
    let Some(instance) = ask.world.instance(&key) else {
        let text = format!("service instance {} does not exist", spec.service_instance);
        return Err(Rejection::new(Code::MissingReference, text));
    };
    if instance.life.is_going() {
        return Err(refuse::being_deleted(&key));
    }
    if ask
        .world
        .instance(&ask.key.sibling(Kind::ServiceInstance))
        .is_some()
    {
        let text = "a service instance bears this name, and its own binding does too";
        return Err(Rejection::new(Code::AlreadyExists, text));
    }
    if instance
        .life
        .attempt()
        .is_some_and(|attempt| !attempt.what.bindable)
    {
        let why = format!("the plan of {} cannot be bound", spec.service_instance);
        return Err(refuse::invalid("serviceInstance", why));
    }
    check_parameters(ask, &key, instance, spec)?;
    let created = BindingEvent::Created {
        id: ask.new_id(),
        instance: instance.id,
        owner: Some(spec.service_instance.clone()),
        function: None,
        tags: spec.tags.clone(),
        spec: BindingSpec {
            parameters: spec.parameters.clone(),
            secret_parameters: spec.secret_parameters.clone(),
            binding_secret: String::new(),
        },
    };
    Ok(Decision::of(
        ask.key,
        begin(ask.world, ask.key, created, ask.now),
    ))
}

fn check_parameters(
    ask: &Ask<'_>,
    key: &ResourceKey,
    instance: &Instance,
    spec: &ServiceBindingSpec,
) -> Result<(), Rejection> {
    use serde_json::Value;
    if !matches!(spec.parameters, Value::Null | Value::Object(_)) {
        return Err(refuse::invalid("parameters", "a JSON object, or nothing"));
    }
    for secret in &spec.secret_parameters {
        refuse::unless_going(ask.world, &ask.key.neighbour(Kind::Secret, secret))?;
    }
    let plan_id = instance
        .life
        .attempt()
        .map(|attempt| &*attempt.what.plan_id);
    let class = update::class_of(ask.world, key, instance);
    if let Some(plan) = class
        .zip(plan_id)
        .and_then(|(class, id)| class.plan_by_id(id))
        && spec.secret_parameters.is_empty()
    {
        let whose = format!("the schema of binding parameters of plan {}", plan.name);
        let value = or_empty(&spec.parameters);
        schema::check(&plan.schemas.bind, &value, "parameters", &whose)?;
    }
    Ok(())
}

/// The events of a new binding, which asks the broker at once if it can.
fn begin(world: &World, key: &ResourceKey, created: BindingEvent, now: Timestamp) -> Vec<Event> {
    let mut scene = Scene {
        at: now,
        leftovers: &mut Vec::new(),
    };
    let state = Binding::evolve(None, &created, &mut scene)
        .ok()
        .flatten()
        .expect("a binding begins with being created");
    let mut events = vec![Event::ServiceBinding(created)];
    let follows = onward(world, key, &state, now);
    events.extend(go_on(world, key, &state, follows, now));
    events
}

/// The instance that a binding belongs to, if it is still there.
pub(crate) fn instance_of<'a>(
    world: &'a World,
    key: &ResourceKey,
    binding: &Binding,
) -> Option<&'a Instance> {
    world
        .instance(&binding.owner_key(key))
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

/// Whether a function is to have a binding of its own under this key.
pub(crate) fn is_wanted_by(world: &World, key: &ResourceKey, function: &Name) -> bool {
    let owner = world.function(&key.neighbour(Kind::Function, function));
    owner.is_some_and(|owner| {
        owner
            .uses()
            .any(|used| used.binding_name(function) == key.name)
    })
}

/// The binding that every instance has, or the one of a function alone.
pub(crate) struct Wanted<'a> {
    pub(crate) instance: InstanceId,
    pub(crate) owner: &'a Name,
    pub(crate) function: Option<&'a Name>,
    pub(crate) spec: &'a BindingSpec,
}

pub(crate) fn create(
    world: &World,
    key: &ResourceKey,
    wanted: &Wanted<'_>,
    now: Timestamp,
) -> Decision {
    let instance = wanted.instance;
    let owner = world
        .instance(&key.neighbour(Kind::ServiceInstance, wanted.owner))
        .filter(|owner| owner.id == instance && is_wanted(owner));
    let by_function = wanted
        .function
        .is_none_or(|function| is_wanted_by(world, key, function));
    if owner.is_none() || !by_function || world.binding(key).is_some() {
        return Decision::nothing();
    }
    // One that was there before, and is gone, had another id: ids are not used again.
    let before = world.last_seq(key);
    let id = match wanted.function {
        None => ResourceId::derived(format_args!("{instance}:binding")),
        Some(function) => ResourceId::derived(format_args!("{instance}:{function}:{before}")),
    };
    let created = BindingEvent::Created {
        id,
        instance,
        owner: Some(wanted.owner.clone()).filter(|owner| *owner != key.name),
        function: wanted.function.cloned(),
        tags: engine_model::spec::Tags::new(),
        spec: wanted.spec.clone(),
    };
    Decision::of(key, begin(world, key, created, now))
}

/// The next attempt to bind.
pub(super) fn attempt(instance: &Instance, binding: &Binding, number: u32) -> Attempt<BindingId> {
    // The first binding of an instance is known by the instance; all others by themselves.
    let of: uuid::Uuid = match &binding.owner {
        None => binding.instance.0,
        Some(_) => binding.id.0,
    };
    let limit_ms = instance
        .life
        .attempt()
        .map_or(crate::pace::OPERATION_MS_MAX, |attempt| attempt.limit_ms);
    Attempt {
        request: RequestId::derived(format_args!("{of}:bind:{number}")),
        number,
        limit_ms,
        existing: false,
        what: BindingId::derived(format_args!("{of}:binding:{number}")),
    }
}

/// Translates what happens to one of its lives.
pub(super) fn told(
    world: &World,
    key: &ResourceKey,
    binding: &Binding,
    which: Which,
    change: BindingChange,
    now: Timestamp,
) -> BindingEvent {
    let turnover = binding.turnover.as_ref();
    let failures = turnover
        .and_then(|turnover| turnover.failed.as_ref())
        .map_or(0, |failed| failed.failures);
    let asked = match &change {
        Change::Requested(attempt) => Some(attempt),
        _ => binding.life_of(which).and_then(life::Life::attempt),
    };
    let in_use = binding.life.attempt().map(|attempt| attempt.what);
    let scatter = RequestId::derived(format_args!("{}:rotation", binding.id));
    let telling = Telling {
        which,
        binding: asked.map_or(BindingId(uuid::Uuid::nil()), |attempt| attempt.what),
        predecessor: in_use.filter(|_| rotate::is_rotatable(world, key, binding)),
        drained_at: rotate::drained_at(world, key, binding, now),
        failures,
        again_at: crate::pace::again_at(
            now,
            crate::pace::ROTATION,
            scatter,
            failures.saturating_add(1),
            None,
        ),
        now,
    };
    binding::event(change, telling)
}

/// What happens, and all that follows from it at once.
pub(super) fn go_on(
    world: &World,
    key: &ResourceKey,
    binding: &Binding,
    mut events: Vec<BindingEvent>,
    now: Timestamp,
) -> Vec<Event> {
    let mut state = Some(binding.clone());
    let mut happened = Vec::new();
    while !events.is_empty() {
        for event in std::mem::take(&mut events) {
            let mut scene = Scene {
                at: now,
                leftovers: &mut Vec::new(),
            };
            let Some(current) = state.take() else { break };
            state = Binding::evolve(Some(current), &event, &mut scene)
                .expect("what is decided fits the state that it was decided on");
            happened.push(Event::ServiceBinding(event));
        }
        if let Some(state) = &state {
            events = onward(world, key, state, now);
        }
    }
    happened
}

/// What follows from its state and that of its instance.
fn onward(
    world: &World,
    key: &ResourceKey,
    binding: &Binding,
    now: Timestamp,
) -> Vec<BindingEvent> {
    let life = &binding.life;
    let owner = binding.owner_key(key);
    if !world.is_known(&owner) {
        return Vec::new();
    }
    let Some(instance) = instance_of(world, key, binding) else {
        return vec![match life.attempt() {
            Some(_) => orphaned_on_record(binding),
            None if life.is_going() => BindingEvent::Deleted,
            None => BindingEvent::DeleteRequested,
        }];
    };
    if !life.is_going() && is_to_go(world, key, binding, instance) {
        return vec![BindingEvent::DeleteRequested];
    }
    let in_use = |change| told(world, key, binding, Which::InUse, change, now);
    if matches!(life.stage, Stage::Waiting) {
        let number = life.attempts + 1;
        let asked = may_bind(world, key, binding, &owner, instance)
            .then(|| in_use(Change::Requested(attempt(instance, binding, number))));
        return asked.into_iter().collect();
    }
    // Its credentials could not be trusted, and what bore them is gone.
    if let Stage::Failed {
        left: Left::Nothing,
        again: true,
        ..
    } = life.stage
        && life.attempts < ATTEMPTS_MAX
    {
        let number = life.attempts + 1;
        let asked = may_bind(world, key, binding, &owner, instance)
            .then(|| in_use(Change::Requested(attempt(instance, binding, number))));
        return asked.into_iter().collect();
    }
    let beside = rotate::next(world, key, binding, instance, now);
    if !beside.is_empty() {
        return beside;
    }
    life::next(life, binding.id.0, binding.is_alone(), now)
        .into_iter()
        .map(in_use)
        .collect()
}

/// Whether its instance or its function no longer wants it.
fn is_to_go(world: &World, key: &ResourceKey, binding: &Binding, instance: &Instance) -> bool {
    let left = |function: &Name| {
        world.is_known(&key.neighbour(Kind::Function, function))
            && !is_wanted_by(world, key, function)
    };
    instance.life.is_going() || binding.function.as_deref().is_some_and(left)
}

/// Whether the broker may be asked now: one request about an instance at a time.
fn may_bind(
    world: &World,
    key: &ResourceKey,
    binding: &Binding,
    owner: &ResourceKey,
    instance: &Instance,
) -> bool {
    let bindable = instance
        .life
        .attempt()
        .is_some_and(|made| made.what.bindable);
    instance.is_usable()
        && bindable
        && secrets_stored(world, key, &binding.wish.secrets).is_ok()
        && is_idle(world, owner, instance)
}

/// Whether the broker has nothing of an instance in hand.
pub(super) fn is_idle(world: &World, owner: &ResourceKey, instance: &Instance) -> bool {
    let busy = bindings(world, owner, instance).any(|(_, other)| other.is_in_hand());
    !busy && !instance.is_in_hand()
}

/// What is wanted of the broker cannot be said any more: with its instance's record the means to
/// name it are gone.
fn orphaned_on_record(binding: &Binding) -> BindingEvent {
    let reason = format!(
        "service instance {} is gone, and its bindings with it",
        binding.instance
    );
    BindingEvent::Abandoned { reason }
}

pub(crate) fn next(world: &World, key: &ResourceKey, now: Timestamp) -> Vec<Event> {
    let Some(binding) = world.binding(key) else {
        return Vec::new();
    };
    let events = onward(world, key, binding, now);
    go_on(world, key, binding, events, now)
}

/// Someone wants a binding gone that someone wanted, with or without the functions that use it.
pub(crate) fn delete(
    world: &World,
    key: &ResourceKey,
    cascade: bool,
    now: Timestamp,
) -> Result<Decision, Rejection> {
    let Some(binding) = world.binding(key) else {
        return Err(refuse::not_found(key));
    };
    if binding.life.is_going() || !is_wished(binding) {
        return Ok(Decision::nothing());
    }
    let users = delete::users(world, key);
    if !cascade && !users.is_empty() {
        return Err(refuse::in_use(key, &users));
    }
    let mut writes = Writes::default();
    writes.users_of(world, key);
    let events = vec![BindingEvent::DeleteRequested];
    writes.add(key, go_on(world, key, binding, events, now));
    Ok(writes.decision())
}

fn retry(ask: &Ask<'_>) -> Result<Decision, Rejection> {
    let Some(binding) = ask.world.binding(ask.key) else {
        return Err(refuse::not_found(ask.key));
    };
    if binding.life.is_made() && !binding.is_alone() {
        return rotate::retry(ask, binding);
    }
    let told = |change| told(ask.world, ask.key, binding, Which::InUse, change, ask.now);
    let events = match life::retry(&binding.life, binding.id.0, ask.now) {
        Retry::Changes(changes) => changes.into_iter().map(told).collect(),
        Retry::Refused(why) => return Err(refuse::not_ready(ask.key, why)),
        Retry::Request => {
            let instance = instance_of(ask.world, ask.key, binding)
                .filter(|instance| instance.is_usable())
                .ok_or_else(|| refuse::not_ready(ask.key, "its service instance is not there"))?;
            secrets_stored(ask.world, ask.key, &binding.wish.secrets)
                .map_err(|missing| refuse::not_ready(ask.key, &missing))?;
            let number = binding.life.attempts + 1;
            vec![told(Change::Requested(attempt(instance, binding, number)))]
        }
    };
    let events = go_on(ask.world, ask.key, binding, events, ask.now);
    Ok(Decision::of(ask.key, events))
}

/// Someone ends a binding on record, or the removal of what it may have left.
fn give_up(ask: &Ask<'_>, reason: &str) -> Result<Decision, Rejection> {
    let Some(binding) = ask.world.binding(ask.key) else {
        return Err(refuse::not_found(ask.key));
    };
    if reason.trim().is_empty() {
        return Err(refuse::invalid("reason", "say why; it stays on record"));
    }
    let reason = reason.to_owned();
    let event = match &binding.life.stage {
        _ if is_wished(binding) => BindingEvent::Abandoned { reason },
        Stage::Orphaned { .. } => BindingEvent::OrphanAbandoned { reason },
        _ => return Err(comes_and_goes(ask, binding)),
    };
    Ok(Decision::of(ask.key, vec![Event::ServiceBinding(event)]))
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
    let (BindingOutcome::BindAnswered { request, .. }
    | BindingOutcome::Polled { request, .. }
    | BindingOutcome::UnbindAnswered { request, .. }) = outcome;
    let Some(which) = binding.which(*request) else {
        return Decision::nothing();
    };
    let Some(life) = binding.life_of(which) else {
        return Decision::nothing();
    };
    let id = rotate::removals_of(binding, which);
    let changes = match outcome {
        BindingOutcome::BindAnswered { request, verdict } => {
            let made = |bound: &BoundCredentials| Box::new(bound.clone());
            life::answered(life, id, *request, verdict, made, now)
        }
        // A bind that is done is told by its credentials, not by the poll alone.
        BindingOutcome::Polled { request, progress } => {
            life::polled(life, id, *request, progress, || None, now)
        }
        BindingOutcome::UnbindAnswered { request, verdict } => {
            life::removal_answered(life, *request, verdict, now)
        }
    };
    let events = changes
        .into_iter()
        .map(|change| told(world, key, binding, which, change, now))
        .collect();
    Decision::of(key, go_on(world, key, binding, events, now))
}
