//! Service instances.

use engine_model::spec::{InstanceSpec, Spec};
use engine_model::{
    Code, Command, Event, InstanceEvent, InstanceId, InstanceOutcome, Kind, Name, Rejection,
    RequestId, ResourceKey, Timestamp,
};
use serde_json::Value;

use super::delete::{self, Writes};
use super::{Ask, Decision};
use crate::aggregate::class::Class;
use crate::aggregate::instance::{self, Instance, Ordered, There};
use crate::aggregate::wish::Wish;
use crate::life::{self, Attempt, Change, Retry, Stage};
use crate::operation::Step;
use crate::pace::OPERATION_MS_MAX;
use crate::refuse;
use crate::schema;
use crate::world::World;

pub(crate) fn ask(ask: &Ask<'_>) -> Result<Decision, Rejection> {
    match ask.command {
        Command::Create(Spec::ServiceInstance(spec)) => create(ask, spec),
        Command::Update(_) => {
            ask.must_be_there()?;
            let instead = "an instance's class, plan and parameters cannot be changed; create \
                           another one, move over, and delete this one";
            Err(refuse::read_only(ask.key, instead))
        }
        Command::Delete(deletion) => delete(ask.world, ask.key, deletion.cascade, ask.now),
        Command::Retry => retry(ask),
        Command::Abandon { reason } => abandon(ask, reason),
        Command::Create(_) | Command::Refresh => Err(ask.unknown()),
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
        events.push(instance::event(request, None, ask.now));
    }
    Ok(Decision::of(ask.key, wrapped(events)))
}

fn wrapped(events: Vec<InstanceEvent>) -> Vec<Event> {
    events.into_iter().map(Event::ServiceInstance).collect()
}

fn check(ask: &Ask<'_>, spec: &InstanceSpec) -> Result<(), Rejection> {
    let class = offered(ask.world, ask.key, &spec.service_class)
        .map_err(|reason| Rejection::new(Code::MissingReference, reason))?;
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
fn or_empty(parameters: &Value) -> Value {
    if parameters.is_null() {
        Value::Object(serde_json::Map::new())
    } else {
        parameters.clone()
    }
}

fn no_plan(service_class: &str, service_plan: &str, class: &Class) -> Rejection {
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
fn offered<'a>(
    world: &'a World,
    key: &ResourceKey,
    service_class: &str,
) -> Result<&'a Class, String> {
    let shown = shown(service_class);
    let absent = || {
        format!(
            "service class {shown} does not exist; `dispatch get serviceclasses` lists those that \
             do, and a new broker's appear when its catalog has been read"
        )
    };
    let name = Name::new(service_class).map_err(|_| absent())?;
    let class = world
        .class(&key.neighbour(Kind::ServiceClass, &name))
        .ok_or_else(absent)?;
    let broker = &class.broker;
    if !class.offered {
        return Err(format!(
            "service class {shown} is no longer offered by broker {broker}"
        ));
    }
    match world.broker(&key.neighbour(Kind::ServiceBroker, broker)) {
        Some(state) if !state.deleting => Ok(class),
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
    let class = offered(world, key, &wish.class)?;
    let plan = class
        .plan(&wish.plan)
        .ok_or_else(|| no_plan(&wish.class, &wish.plan, class).message)?;
    secrets_stored(world, key, &wish.secrets)?;
    let ordered = Ordered {
        broker: class.broker.clone(),
        service_id: class.offering.id.as_str().into(),
        plan_id: plan.id.as_str().into(),
        bindable: plan.is_bindable(&class.offering),
    };
    let own = plan
        .maximum_polling_duration
        .and_then(|s| i64::try_from(s).ok())
        .filter(|s| *s > 0);
    let limit_ms = own.map_or(OPERATION_MS_MAX, |s| {
        s.saturating_mul(1000).min(OPERATION_MS_MAX)
    });
    Ok((ordered, limit_ms))
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
    Attempt {
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
    if changes.is_empty() {
        return Vec::new();
    }
    let mut life = Some(instance.life.clone());
    let mut happened = Vec::new();
    let mut changes = changes;
    while let Some(current) = life.take()
        && !changes.is_empty()
    {
        life = Some(current);
        for change in std::mem::take(&mut changes) {
            let Some(current) = life.take() else { break };
            let next = current.evolve(change.clone(), now);
            life = next.expect("what is decided fits the state that it was decided on");
            happened.push(change);
        }
        if let Some(life) = &life {
            changes = life::next(life, instance.id.0, unbound(world, key), now);
        }
    }
    let dashboard = dashboard.or(instance.dashboard_url.as_deref());
    let events = happened
        .into_iter()
        .map(|change| instance::event(change, dashboard.map(str::to_owned), now));
    wrapped(events.collect())
}

/// Whether no binding has to go before the instance.
fn unbound(world: &World, key: &ResourceKey) -> bool {
    world.binding(&key.sibling(Kind::ServiceBinding)).is_none()
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
            life::next(&instance.life, instance.id.0, unbound(world, key), now)
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
    let changes = match life::retry(&instance.life, instance.id.0, ask.now) {
        Retry::Changes(changes) => changes,
        Retry::Request => {
            let ordered = ordered(ask.world, ask.key, &instance.wish)
                .map_err(|missing| refuse::not_ready(ask.key, &missing))?;
            let number = instance.life.attempts + 1;
            vec![Change::Requested(attempt(instance.id, number, ordered))]
        }
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
            if let engine_model::broker::Verdict::Done(made) = verdict {
                dashboard = made.dashboard_url.as_deref();
            }
            life::answered(life, id, *request, verdict, |_| (), now)
        }
        InstanceOutcome::Polled { request, progress } => {
            life::polled(life, *request, progress, || Some(()), now)
        }
        InstanceOutcome::DeprovisionAnswered { request, verdict } => {
            life::removal_answered(life, *request, verdict, now)
        }
    };
    Decision::of(key, happen(world, key, instance, changes, dashboard, now))
}

/// Whether a creation is still under way at the broker while its removal is being tried: some
/// brokers get on with it only when they are asked how it goes.
pub(crate) fn unfinished(instance: &Instance) -> Option<&crate::operation::Operation> {
    match &instance.life.stage {
        Stage::Removing {
            past: life::Past::Underway(op),
            removal,
            ..
        } if matches!(removal.step, Step::Delayed { .. }) => Some(op),
        _ => None,
    }
}
