//! Service instances.

use engine_model::broker::{FetchedInstance, Plan, Verdict};
use engine_model::spec::{InstanceSpec, Spec};
use engine_model::{
    Code, Command, Event, InstanceEvent, InstanceId, InstanceOutcome, Kind, Name, Rejection,
    RequestId, ResourceKey, Timestamp,
};
use serde_json::Value;

use super::delete::{self, Writes};
use super::{Ask, Decision, update};
use crate::aggregate::Scene;
use crate::aggregate::binding::Binding;
use crate::aggregate::class::Class;
use crate::aggregate::instance::{self, Instance, Ordered, There};
use crate::aggregate::wish::Wish;
use crate::life::{self, Attempt, Change, Left, Retry, Stage};
use crate::pace::OPERATION_MS_MAX;
use crate::refuse;
use crate::schema;
use crate::state::State;
use crate::world::{Key, World};

pub(crate) fn ask(ask: &Ask<'_>) -> Result<Decision, Rejection> {
    match ask.command {
        Command::Create(Spec::ServiceInstance(spec)) => create(ask, spec),
        Command::Update(Spec::ServiceInstance(spec)) => update::ask(ask, spec),
        Command::Adopt { spec, instance } => adopt(ask, spec, *instance),
        Command::Delete(deletion) => delete(ask.world, ask.key, deletion.cascade, ask.now),
        Command::Retry => retry(ask),
        Command::Abandon { reason } => abandon(ask, reason),
        Command::Create(_)
        | Command::Update(_)
        | Command::Refresh
        | Command::Rotate
        | Command::Rollback { .. }
        | Command::Route { .. } => Err(ask.unknown()),
    }
}

fn create(ask: &Ask<'_>, spec: &InstanceSpec) -> Result<Decision, Rejection> {
    ask.must_be_free()?;
    check(ask, spec)?;
    let id = InstanceId::from(ask.new_id());
    let mut events = vec![InstanceEvent::Created {
        id,
        spec: spec.clone(),
    }];
    if let Ok(ordered) = ordered(ask.world, ask.key, &Wish::of(spec)) {
        let request = Change::Requested(attempt(id, 1, ordered));
        events.push(instance::event(id, request, None, ask.now));
    }
    Ok(Decision::of(ask.key, wrapped(events)))
}

/// Takes an instance on record that exists at the broker: looked at first, where the broker lets
/// itself be asked. Whatever comes of that, nothing is removed there.
fn adopt(ask: &Ask<'_>, spec: &InstanceSpec, at_broker: InstanceId) -> Result<Decision, Rejection> {
    ask.must_be_free()?;
    check(ask, spec)?;
    let missing = |reason: String| Rejection::new(Code::MissingReference, reason);
    let (mut what, limit_ms) = ordered(ask.world, ask.key, &Wish::of(spec)).map_err(missing)?;
    if let Some(other) = on_record(ask.world, at_broker) {
        let text = format!("{other} is that instance of the broker already");
        return Err(Rejection::new(Code::AlreadyExists, text));
    }
    what.instance = at_broker;
    what.maintenance = None;
    let id = InstanceId::from(ask.new_id());
    let request = RequestId::derived(format_args!("{id}:adopt:1"));
    let asked = Change::Requested(Attempt {
        request,
        number: 1,
        limit_ms,
        existing: true,
        what,
    });
    let mut events = vec![
        InstanceEvent::Created {
            id,
            spec: spec.clone(),
        },
        instance::event(id, asked, None, ask.now),
    ];
    let retrievable = offered(ask.world, ask.key, &spec.service_class)
        .is_ok_and(|(_, class)| class.offering.instances_retrievable);
    if !retrievable {
        events.push(InstanceEvent::Provisioned {
            request,
            dashboard_url: None,
        });
    }
    Ok(Decision::of(ask.key, wrapped(events)))
}

/// Which resource stands for this instance of a broker.
fn on_record(world: &World, at_broker: InstanceId) -> Option<ResourceKey> {
    let mut states = world.states();
    let found = states.find(|(_, state)| match state {
        State::Instance(instance) => instance.at_broker() == Some(at_broker),
        _ => false,
    });
    found.map(|(key, _)| (**key).clone())
}

pub(super) fn wrapped(events: Vec<InstanceEvent>) -> Vec<Event> {
    events.into_iter().map(Event::ServiceInstance).collect()
}

fn check(ask: &Ask<'_>, spec: &InstanceSpec) -> Result<(), Rejection> {
    let (_, class) = offered(ask.world, ask.key, &spec.service_class)
        .map_err(|reason| Rejection::new(Code::MissingReference, reason))?;
    if let Some(binding) = ask.world.binding(&ask.key.sibling(Kind::ServiceBinding)) {
        let text = format!(
            "a service binding of that name belongs to instance {} of another name; the binding \
             of a service instance bears its name",
            binding.instance
        );
        return Err(Rejection::new(Code::AlreadyExists, text));
    }
    let plan = class
        .plan(&spec.service_plan)
        .ok_or_else(|| no_plan(&spec.service_class, &spec.service_plan, class))?;
    for (field, value) in [
        ("parameters", &spec.parameters),
        ("binding.parameters", &spec.binding.parameters),
    ] {
        if !matches!(value, Value::Null | Value::Object(_)) {
            return Err(refuse::invalid(field, "a JSON object, or nothing"));
        }
    }
    let secrets = spec
        .secret_parameters
        .iter()
        .chain(&spec.binding.secret_parameters);
    for secret in secrets {
        refuse::unless_going(ask.world, &ask.key.neighbour(Kind::Secret, secret))?;
    }
    // With secret parameters only the adapter sees the whole, and checks it before it is sent.
    let whose = |of: &str| {
        format!(
            "the schema of {of} of plan {} of {}",
            spec.service_plan, spec.service_class
        )
    };
    if spec.secret_parameters.is_empty() {
        let value = or_empty(&spec.parameters);
        schema::check(
            &plan.schemas.create,
            &value,
            "parameters",
            &whose("parameters"),
        )?;
    }
    if plan.is_bindable(&class.offering) && spec.binding.secret_parameters.is_empty() {
        let value = or_empty(&spec.binding.parameters);
        let whose = whose("binding parameters");
        schema::check(&plan.schemas.bind, &value, "binding.parameters", &whose)?;
    }
    Ok(())
}

/// No parameters are an object without members.
pub(super) fn or_empty(parameters: &Value) -> Value {
    if parameters.is_null() {
        Value::Object(serde_json::Map::new())
    } else {
        parameters.clone()
    }
}

pub(super) fn no_plan(service_class: &str, service_plan: &str, class: &Class) -> Rejection {
    let plans: Vec<&str> = class
        .offering
        .plans
        .iter()
        .map(|plan| plan.name.as_str())
        .collect();
    let text = format!(
        "service class {} has no plan {}; it has: {}",
        shown(service_class),
        shown(service_plan),
        plans.join(", ")
    );
    Rejection::new(Code::MissingReference, text)
}

fn shown(name: &str) -> String {
    name.chars().take(80).collect()
}

/// The class of an instance, if it is offered.
pub(crate) fn offered<'a>(
    world: &'a World,
    key: &ResourceKey,
    service_class: &str,
) -> Result<(ResourceKey, &'a Class), String> {
    let shown = shown(service_class);
    let absent = || {
        format!(
            "service class {shown} does not exist; `dispatch get serviceclasses` lists those that \
             do, and a new broker's appear when its catalog has been read"
        )
    };
    let name = Name::new(service_class).map_err(|_| absent())?;
    let (class_key, class) = world.usable_class(key, &name).ok_or_else(absent)?;
    let broker = &class.broker;
    if !class.offered {
        return Err(format!(
            "service class {shown} is no longer offered by broker {broker}"
        ));
    }
    match world.broker(&class_key.neighbour(Kind::ServiceBroker, broker)) {
        Some(state) if !state.deleting => Ok((class_key, class)),
        Some(_) | None => Err(format!(
            "broker {broker} of service class {shown} is being deleted"
        )),
    }
}

/// What the broker would be asked for now, with the time that it may take, or what is missing.
pub(crate) fn ordered(
    world: &World,
    key: &ResourceKey,
    wish: &Wish,
) -> Result<(Ordered, i64), String> {
    let (class_key, class) = offered(world, key, &wish.class)?;
    let plan = class
        .plan(&wish.plan)
        .ok_or_else(|| no_plan(&wish.class, &wish.plan, class).message)?;
    secrets_stored(world, key, &wish.secrets)?;
    let ordered = Ordered {
        // The attempt decides.
        instance: InstanceId(uuid::Uuid::nil()),
        broker: class.broker.clone(),
        broker_org: Some(class_key.org)
            .filter(|org| *org != key.org)
            .map(Box::new),
        service_id: class.offering.id.as_str().into(),
        plan_id: plan.id.as_str().into(),
        bindable: plan.is_bindable(&class.offering),
        maintenance: plan.maintenance_version.as_deref().map(Box::from),
    };
    Ok((ordered, limit_ms(plan)))
}

/// How long an operation on an instance of this plan may take, in milliseconds.
pub(super) fn limit_ms(plan: &Plan) -> i64 {
    let own = plan
        .maximum_polling_duration
        .and_then(|s| i64::try_from(s).ok())
        .filter(|s| *s > 0);
    own.map_or(OPERATION_MS_MAX, |s| {
        s.saturating_mul(1000).min(OPERATION_MS_MAX)
    })
}

/// Whether all of these secrets are there.
pub(crate) fn secrets_stored(
    world: &World,
    key: &ResourceKey,
    secrets: &[Name],
) -> Result<(), String> {
    match secrets
        .iter()
        .find(|secret| world.secret(&key.neighbour(Kind::Secret, secret)).is_none())
    {
        Some(missing) => Err(format!("secret {missing} does not exist yet")),
        None => Ok(()),
    }
}

fn attempt(id: InstanceId, number: u32, (what, limit_ms): (Ordered, i64)) -> Attempt<Ordered> {
    // Ids are not used again at a broker, which may not cope (section Provisioning).
    let instance = match number {
        1 => id,
        _ => InstanceId::derived(format_args!("{id}:instance:{number}")),
    };
    let what = Ordered { instance, ..what };
    Attempt {
        existing: false,
        request: RequestId::derived(format_args!("{id}:provision:{number}")),
        number,
        limit_ms,
        what,
    }
}

/// Translates what happens, and goes on at once as far as nothing is waited for.
fn happen(
    world: &World,
    key: &ResourceKey,
    instance: &Instance,
    changes: Vec<Change<Ordered, There>>,
    dashboard: Option<&str>,
    now: Timestamp,
) -> Vec<Event> {
    let dashboard = dashboard.or(instance.dashboard_url.as_deref());
    let tell = |change| instance::event(instance.id, change, dashboard.map(str::to_owned), now);
    go_on(
        world,
        key,
        instance,
        changes.into_iter().map(tell).collect(),
        now,
    )
}

/// What happens, and all that follows from it at once.
pub(super) fn go_on(
    world: &World,
    key: &ResourceKey,
    instance: &Instance,
    mut events: Vec<InstanceEvent>,
    now: Timestamp,
) -> Vec<Event> {
    let mut state = Some(instance.clone());
    let mut happened = Vec::new();
    while !events.is_empty() {
        for event in std::mem::take(&mut events) {
            let mut scene = Scene {
                at: now,
                leftovers: &mut Vec::new(),
            };
            let Some(current) = state.take() else { break };
            state = Instance::evolve(Some(current), &event, &mut scene)
                .expect("what is decided fits the state that it was decided on");
            happened.push(event);
        }
        if let Some(state) = &state {
            events = onward(world, key, state, now);
        }
    }
    wrapped(happened)
}

/// What follows from its own state.
fn onward(
    world: &World,
    key: &ResourceKey,
    state: &Instance,
    now: Timestamp,
) -> Vec<InstanceEvent> {
    let tell = |change| {
        let dashboard = state.dashboard_url.as_deref().map(str::to_owned);
        instance::event(state.id, change, dashboard, now)
    };
    if let Some(request) = update::next(world, key, state, now) {
        return vec![request];
    }
    life::next(&state.life, state.id.0, unbound(world, key, state), now)
        .into_iter()
        .map(tell)
        .collect()
}

/// Whether no binding has to go before the instance.
fn unbound(world: &World, key: &ResourceKey, instance: &Instance) -> bool {
    bindings(world, key, instance).next().is_none()
}

/// The bindings of an instance.
pub(crate) fn bindings<'a>(
    world: &'a World,
    key: &ResourceKey,
    instance: &Instance,
) -> impl Iterator<Item = (&'a Key, &'a Binding)> {
    let id = instance.id;
    world
        .users(key)
        .filter(|user| user.kind == Kind::ServiceBinding)
        .filter_map(|user| Some((user, world.binding(user)?)))
        .filter(move |(_, binding)| binding.instance == id)
}

pub(crate) fn next(world: &World, key: &ResourceKey, now: Timestamp) -> Vec<Event> {
    let Some(instance) = world.instance(key) else {
        return Vec::new();
    };
    let changes = match &instance.life.stage {
        Stage::Waiting => match ordered(world, key, &instance.wish) {
            Ok(ordered) => {
                let number = instance.life.attempts + 1;
                vec![Change::Requested(attempt(instance.id, number, ordered))]
            }
            Err(_) => Vec::new(),
        },
        Stage::Creating { .. }
        | Stage::Made { .. }
        | Stage::Failed { .. }
        | Stage::Orphaned { .. }
        | Stage::Deleting { .. }
        | Stage::Removing { .. } => {
            let events = onward(world, key, instance, now);
            return go_on(world, key, instance, events, now);
        }
    };
    happen(world, key, instance, changes, None, now)
}

/// Someone wants the instance gone, with or without those that use it.
pub(crate) fn delete(
    world: &World,
    key: &ResourceKey,
    cascade: bool,
    now: Timestamp,
) -> Result<Decision, Rejection> {
    let Some(instance) = world.instance(key) else {
        return Err(refuse::not_found(key));
    };
    if instance.life.is_going() {
        return Ok(Decision::nothing());
    }
    let users = delete::users(world, key);
    if !cascade && !users.is_empty() {
        return Err(refuse::in_use(key, &users));
    }
    let changes = life::delete(&instance.life);
    let mut writes = Writes::default();
    writes.users_of(world, key);
    writes.add(key, happen(world, key, instance, changes, None, now));
    Ok(writes.decision())
}

fn retry(ask: &Ask<'_>) -> Result<Decision, Rejection> {
    let Some(instance) = ask.world.instance(ask.key) else {
        return Err(refuse::not_found(ask.key));
    };
    if instance.life.is_made() && instance.update.is_some() {
        return update::retry(ask, instance);
    }
    let changes = match life::retry(&instance.life, instance.id.0, ask.now) {
        Retry::Changes(changes) => changes,
        Retry::Request => vec![again(ask, instance)?],
        Retry::Refused(why) if instance.life.is_made() => {
            let binding = ask.key.sibling(Kind::ServiceBinding);
            let failed = ask.world.binding(&binding).is_some_and(|binding| {
                matches!(
                    binding.life.stage,
                    Stage::Failed { .. } | Stage::Orphaned { .. }
                )
            });
            let why = if failed {
                "it is provisioned, only its binding failed; retry the service binding of that name"
            } else {
                why
            };
            return Err(refuse::not_ready(ask.key, why));
        }
        Retry::Refused(why) => return Err(refuse::not_ready(ask.key, why)),
    };
    let events = happen(ask.world, ask.key, instance, changes, None, ask.now);
    Ok(Decision::of(ask.key, events))
}

/// The next attempt to make it, or to take it on record.
fn again(ask: &Ask<'_>, instance: &Instance) -> Result<Change<Ordered, There>, Rejection> {
    let ordered = ordered(ask.world, ask.key, &instance.wish)
        .map_err(|missing| refuse::not_ready(ask.key, &missing))?;
    let number = instance.life.attempts + 1;
    let mut next = attempt(instance.id, number, ordered);
    if let Some(last) = instance.life.attempt().filter(|last| last.existing) {
        next.request = RequestId::derived(format_args!("{}:adopt:{number}", instance.id));
        next.existing = true;
        next.what.instance = last.what.instance;
        next.what.maintenance = None;
    }
    // Nothing was deleted under that id, and if something is there after all, it is found again.
    if let Stage::Failed {
        attempt: last,
        left: Left::Unlikely,
        ..
    } = &instance.life.stage
    {
        next.what.instance = last.what.instance;
    }
    Ok(Change::Requested(next))
}

fn abandon(ask: &Ask<'_>, reason: &str) -> Result<Decision, Rejection> {
    if ask.world.instance(ask.key).is_none() {
        return Err(refuse::not_found(ask.key));
    }
    if reason.trim().is_empty() {
        return Err(refuse::invalid("reason", "say why; it stays on record"));
    }
    let event = InstanceEvent::Abandoned {
        reason: reason.to_owned(),
    };
    Ok(Decision::of(ask.key, wrapped(vec![event])))
}

pub(crate) fn learn(
    world: &World,
    key: &ResourceKey,
    outcome: &InstanceOutcome,
    now: Timestamp,
) -> Decision {
    let Some(instance) = world.instance(key) else {
        return Decision::nothing();
    };
    let (life, id) = (&instance.life, instance.id.0);
    let mut dashboard = None;
    let changes = match outcome {
        InstanceOutcome::ProvisionAnswered { request, verdict } => {
            if let Verdict::Done(made) = verdict {
                dashboard = made.dashboard_url.as_deref();
            }
            life::answered(life, id, *request, verdict, |_| (), now)
        }
        InstanceOutcome::Fetched { request, verdict } => {
            if let Verdict::Done(found) = verdict {
                dashboard = found.dashboard_url.as_deref();
            }
            adopted(instance, *request, verdict, now)
        }
        InstanceOutcome::UpdateAnswered {
            request,
            verdict,
            aftermath,
        } => {
            let events = update::answered(instance, *request, verdict, *aftermath, now);
            return Decision::of(key, go_on(world, key, instance, events, now));
        }
        InstanceOutcome::Polled {
            request,
            progress,
            aftermath,
        } => {
            let events = update::polled(instance, *request, progress, *aftermath, now);
            if !events.is_empty() {
                return Decision::of(key, go_on(world, key, instance, events, now));
            }
            life::polled(life, id, *request, progress, || Some(()), now)
        }
        InstanceOutcome::DeprovisionAnswered { request, verdict } => {
            match update::waited_for(instance, *request, verdict, now) {
                Some(event) => {
                    let events = go_on(world, key, instance, vec![event], now);
                    return Decision::of(key, events);
                }
                None => life::removal_answered(life, *request, verdict, now),
            }
        }
    };
    Decision::of(key, happen(world, key, instance, changes, dashboard, now))
}

/// What the broker said of an instance that is to be taken on record.
fn adopted(
    instance: &Instance,
    request: RequestId,
    verdict: &Verdict<FetchedInstance>,
    now: Timestamp,
) -> Vec<Change<Ordered, There>> {
    let Stage::Creating { attempt, op } = &instance.life.stage else {
        return Vec::new();
    };
    if op.request != request {
        return Vec::new();
    }
    let differs = |said: &Option<String>, ours: &str| {
        said.as_deref()
            .is_some_and(|said| !said.is_empty() && said != ours)
    };
    let rejected = match verdict {
        Verdict::Done(found) if differs(&found.service_id, &attempt.what.service_id) => {
            Some("the broker says that it is an instance of another class")
        }
        Verdict::Done(found) if differs(&found.plan_id, &attempt.what.plan_id) => {
            Some("the broker says that it is an instance of another plan")
        }
        Verdict::Gone => Some("the broker has no instance of that id, or it is not finished"),
        _ => None,
    };
    let verdict = match rejected {
        Some(reason) => &Verdict::Rejected {
            reason: reason.to_owned(),
        },
        None => verdict,
    };
    life::answered(&instance.life, instance.id.0, request, verdict, |_| (), now)
}
