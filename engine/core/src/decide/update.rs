//! Updates of service instances: of the plan, of parameters, of the maintenance version. The record
//! says what the instance was until the broker has said that it is as proposed, and whatever comes
//! of an update, nothing is removed because of it.

use engine_model::broker::{Aftermath, Progress, Provisioned, Verdict};
use engine_model::spec::InstanceSpec;
use engine_model::{Code, InstanceEvent, Kind, Name, Rejection, RequestId, ResourceKey, Timestamp};
use serde_json::{Map, Value};

use super::instance::{bindings, go_on, limit_ms, no_plan, offered, or_empty, secrets_stored};
use super::{Ask, Decision};
use crate::aggregate::class::Class;
use crate::aggregate::instance::{self as aggregate, Instance};
use crate::aggregate::update::{Stage, Update};
use crate::aggregate::wish::Wish;
use crate::life::{self, AGAIN_MAX};
use crate::operation::{Operation, Step};
use crate::pace::{self, OPERATION_MS_MAX};
use crate::refuse;
use crate::schema;
use crate::world::World;

/// What is to change, as it was asked for.
#[derive(Debug, Default, PartialEq)]
struct Difference {
    plan: Option<String>,
    parameters: Value,
    secrets: Vec<Name>,
    maintenance: Option<String>,
}

impl Difference {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

pub(super) fn ask(ask: &Ask<'_>, spec: &InstanceSpec) -> Result<Decision, Rejection> {
    ask.must_be_there()?;
    let Some(instance) = ask.world.instance(ask.key) else {
        return Err(refuse::not_found(ask.key));
    };
    if !instance.life.is_made() {
        let why = "only what is provisioned can be updated; wait for that, or delete it and create \
                   it anew";
        return Err(refuse::not_ready(ask.key, why));
    }
    if *spec.service_class != *instance.wish.class {
        let why = format!(
            "the class of an instance cannot change from {}; create another instance",
            instance.wish.class
        );
        return Err(refuse::invalid("serviceClass", why));
    }
    let difference = difference(ask, instance, spec)?;
    let mut events = Vec::new();
    if Wish::of(spec).binding != instance.wish.binding || may_bear_other_labels(instance, spec) {
        events.push(InstanceEvent::Relabelled {
            spec: recorded(instance, spec),
        });
    }
    if !difference.is_none() {
        check(ask, instance, &difference)?;
        must_be_idle(ask, instance, &difference)?;
        events.push(InstanceEvent::UpdateProposed {
            plan: difference.plan,
            parameters: difference.parameters,
            secret_parameters: difference.secrets,
            maintenance_version: difference.maintenance,
        });
    }
    Ok(Decision::of(
        ask.key,
        go_on(ask.world, ask.key, instance, events, ask.now),
    ))
}

/// Labels are not held in memory, so that it is not known whether two sets of them differ.
fn may_bear_other_labels(instance: &Instance, spec: &InstanceSpec) -> bool {
    !spec.tags.is_empty() || instance.wish.labelled
}

/// The document with the plan and the parameters that the instance has.
fn recorded(instance: &Instance, spec: &InstanceSpec) -> InstanceSpec {
    InstanceSpec {
        service_plan: instance.wish.plan.to_string(),
        parameters: instance.parameters(),
        secret_parameters: instance.wish.secrets.to_vec(),
        maintenance_version: String::new(),
        ..spec.clone()
    }
}

/// Of the parameters, those that were given and are not what is on record: others may have been
/// changed elsewhere, and are not to be changed back (section Updating a Service Instance).
fn difference(
    ask: &Ask<'_>,
    instance: &Instance,
    spec: &InstanceSpec,
) -> Result<Difference, Rejection> {
    let parameters = match &spec.parameters {
        Value::Null => Value::Null,
        Value::Object(given) => {
            let known = or_empty(&instance.parameters());
            let changed: Map<String, Value> = given
                .iter()
                .filter(|(key, value)| known.get(*key) != Some(*value))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            if changed.is_empty() {
                Value::Null
            } else {
                Value::Object(changed)
            }
        }
        _ => return Err(refuse::invalid("parameters", "a JSON object, or nothing")),
    };
    let plan = Some(&spec.service_plan).filter(|plan| ***plan != *instance.wish.plan);
    let has = instance
        .life
        .attempt()
        .and_then(|made| made.what.maintenance.as_deref());
    let maintenance = Some(&spec.maintenance_version)
        .filter(|wanted| !wanted.is_empty() && has != Some(wanted.as_str()));
    for secret in &spec.secret_parameters {
        refuse::unless_going(ask.world, &ask.key.neighbour(Kind::Secret, secret))?;
    }
    Ok(Difference {
        plan: plan.cloned(),
        parameters,
        secrets: spec
            .secret_parameters
            .iter()
            .filter(|secret| !instance.wish.secrets.contains(secret))
            .cloned()
            .collect(),
        maintenance: maintenance.cloned(),
    })
}

fn check(ask: &Ask<'_>, instance: &Instance, wanted: &Difference) -> Result<(), Rejection> {
    let class = class_of(ask.world, ask.key, instance)
        .ok_or_else(|| refuse::not_ready(ask.key, "nothing is known of its class any more"))?;
    let plan_id = instance
        .life
        .attempt()
        .map_or("", |made| &*made.what.plan_id);
    let current = class.plan_by_id(plan_id);
    let target = match &wanted.plan {
        None => current,
        Some(name) => {
            offered(ask.world, ask.key, &instance.wish.class)
                .map_err(|reason| Rejection::new(Code::MissingReference, reason))?;
            let target = class
                .plan(name)
                .ok_or_else(|| no_plan(&instance.wish.class, name, class))?;
            let own = current.and_then(|plan| plan.plan_updateable);
            if !own.unwrap_or(class.offering.plan_updateable) {
                let why = format!(
                    "plan {} cannot be changed: its broker says that it is not updateable; create \
                     another instance, move over, and delete this one",
                    instance.wish.plan
                );
                return Err(refuse::invalid("servicePlan", why));
            }
            Some(target)
        }
    };
    if let Some(version) = &wanted.maintenance {
        let offers = target.and_then(|plan| plan.maintenance_version.as_deref());
        if offers != Some(version) {
            let why = match offers {
                Some(offers) => format!("the plan offers {offers}, not {version}"),
                None => "the plan has no maintenance versions".to_owned(),
            };
            return Err(refuse::invalid("maintenanceVersion", why));
        }
    }
    if let Some(target) = target
        && wanted.secrets.is_empty()
        && !wanted.parameters.is_null()
    {
        let whose = format!(
            "the schema of update parameters of plan {} of {}",
            target.name, instance.wish.class
        );
        let schema = &target.schemas.update;
        schema::check(schema, &wanted.parameters, "parameters", &whose)?;
    }
    Ok(())
}

/// The class of an instance, also when it is no longer offered.
pub(crate) fn class_of<'a>(
    world: &'a World,
    key: &ResourceKey,
    instance: &Instance,
) -> Option<&'a Class> {
    let name = Name::new(&*instance.wish.class).ok()?;
    let broker = instance.life.attempt()?.what.broker_key(&key.org);
    let class = world.class(&broker.neighbour(Kind::ServiceClass, &name))?;
    (class.broker == broker.name).then_some(class)
}

fn must_be_idle(ask: &Ask<'_>, instance: &Instance, wanted: &Difference) -> Result<(), Rejection> {
    let Some(update) = &instance.update else {
        return Ok(());
    };
    match &update.stage {
        Stage::Failed { reason, aftermath } => {
            if !aftermath.update_repeatable && is_same(update, wanted) {
                let why = format!(
                    "the broker said that this update must not be repeated ({reason}); ask for \
                     another one"
                );
                return Err(refuse::not_ready(ask.key, &why));
            }
            Ok(())
        }
        Stage::Proposed | Stage::Asked { .. } => Err(refuse::not_ready(
            ask.key,
            "an update is under way; wait until it has ended",
        )),
    }
}

fn is_same(update: &Update, wanted: &Difference) -> bool {
    let proposal = &update.proposal;
    proposal.plan.as_deref() == wanted.plan.as_deref()
        && proposal.parameters.value() == wanted.parameters
        && *proposal.secrets == *wanted.secrets
        && proposal.maintenance.as_deref() == wanted.maintenance.as_deref()
}

/// Asks the broker, once it has nothing else of the instance in hand.
pub(super) fn next(
    world: &World,
    key: &ResourceKey,
    instance: &Instance,
    now: Timestamp,
) -> Option<InstanceEvent> {
    let update = instance.update.as_ref()?;
    let idle = !bindings(world, key, instance).any(|(_, binding)| binding.is_in_hand());
    let ready = matches!(update.stage, Stage::Proposed)
        && instance.life.is_made()
        && idle
        && secrets_stored(world, key, &update.proposal.secrets).is_ok();
    ready.then(|| request(world, key, instance, update, now))?
}

fn request(
    world: &World,
    key: &ResourceKey,
    instance: &Instance,
    update: &Update,
    now: Timestamp,
) -> Option<InstanceEvent> {
    let class = class_of(world, key, instance)?;
    let made = instance.life.attempt()?;
    let plan = match &update.proposal.plan {
        Some(name) => Some(class.plan(name)?),
        None => None,
    };
    let attempt = instance.updates + 1;
    Some(InstanceEvent::UpdateRequested {
        request: RequestId::derived(format_args!("{}:update:{attempt}", instance.id)),
        attempt,
        plan_id: plan.map(|plan| plan.id.clone()),
        bindable: plan.map_or(made.what.bindable, |plan| plan.is_bindable(&class.offering)),
        deadline: now.plus_ms(plan.map_or(made.limit_ms, limit_ms)),
    })
}

/// Someone wants a failed update to be tried again.
pub(super) fn retry(ask: &Ask<'_>, instance: &Instance) -> Result<Decision, Rejection> {
    let refused = |why: &str| Err(refuse::not_ready(ask.key, why));
    let Some(update) = &instance.update else {
        return refused("nothing has failed");
    };
    let event = match &update.stage {
        Stage::Failed { aftermath, reason } if !aftermath.update_repeatable => {
            let why = format!(
                "the broker said that the update must not be repeated ({reason}); ask for another \
                 one"
            );
            return refused(&why);
        }
        Stage::Failed { .. } => {
            let next = request(ask.world, ask.key, instance, update, ask.now);
            next.ok_or_else(|| {
                refuse::not_ready(ask.key, "the plan that it is to have is no longer offered")
            })?
        }
        Stage::Asked { op, .. } => match &op.step {
            Step::Delayed { reason, delays, .. } => InstanceEvent::OperationDelayed {
                request: op.request,
                reason: reason.to_string(),
                delays: *delays,
                stale_catalog: false,
                next_at: ask.now,
            },
            Step::Asked | Step::Polling { .. } | Step::Failed { .. } => {
                return refused("the broker is working on it");
            }
        },
        Stage::Proposed => return refused("it waits for other requests about the instance"),
    };
    let events = go_on(ask.world, ask.key, instance, vec![event], ask.now);
    Ok(Decision::of(ask.key, events))
}

/// The update that waits for this answer.
pub(crate) fn awaited(instance: &Instance, request: RequestId) -> Option<(&Operation, i64)> {
    match &instance.update.as_ref()?.stage {
        Stage::Asked { op, limit_ms, .. } if op.request == request => Some((op, *limit_ms)),
        Stage::Proposed | Stage::Asked { .. } | Stage::Failed { .. } => None,
    }
}

/// The answer to a request to update.
pub(super) fn answered(
    instance: &Instance,
    request: RequestId,
    verdict: &Verdict<Provisioned>,
    aftermath: Aftermath,
    now: Timestamp,
) -> Vec<InstanceEvent> {
    let Some((op, limit_ms)) = awaited(instance, request) else {
        return Vec::new();
    };
    if let Verdict::Done(updated) = verdict {
        return vec![InstanceEvent::Updated {
            request,
            dashboard_url: updated.dashboard_url.clone(),
        }];
    }
    if matches!(op.step, Step::Polling { .. }) {
        return Vec::new();
    }
    let failed = |reason: &str| vec![failed(request, reason.to_owned(), aftermath)];
    match verdict {
        Verdict::Done(_) => Vec::new(),
        Verdict::Accepted {
            operation,
            dashboard_url,
            retry_after_ms,
        } => vec![InstanceEvent::OperationAccepted {
            request,
            operation: operation.clone(),
            dashboard_url: dashboard_url.clone(),
            next_at: pace::poll_at(now, op.since, now.plus_ms(limit_ms), *retry_after_ms),
        }],
        Verdict::Gone => failed("the broker answered 410 Gone to an update"),
        Verdict::Rejected { reason } | Verdict::Doubt { reason } => failed(reason),
        Verdict::Unknown { reason, .. } => failed(&format!(
            "{reason}; whether the broker has applied it is not known: look with `dispatch get \
             serviceinstance --live`"
        )),
        Verdict::Again { reason, .. } if op.delays() >= AGAIN_MAX => failed(reason),
        Verdict::Busy { reason, .. } | Verdict::NotSent { reason }
            if now.since_ms(op.since) >= OPERATION_MS_MAX =>
        {
            failed(&format!("given up after 7 days: {reason}"))
        }
        Verdict::Again {
            reason,
            stale_catalog,
        } => vec![delayed(op, reason, *stale_catalog, None, now)],
        Verdict::Busy {
            reason,
            retry_after_ms,
        } => vec![delayed(op, reason, false, *retry_after_ms, now)],
        Verdict::NotSent { reason } => vec![delayed(op, reason, false, None, now)],
    }
}

fn failed(request: RequestId, reason: String, aftermath: Aftermath) -> InstanceEvent {
    InstanceEvent::UpdateFailed {
        request,
        reason,
        instance_usable: aftermath.instance_usable,
        update_repeatable: aftermath.update_repeatable,
    }
}

fn delayed(
    op: &Operation,
    reason: &str,
    stale_catalog: bool,
    retry_after_ms: Option<u64>,
    now: Timestamp,
) -> InstanceEvent {
    let delays = op.delays().saturating_add(1);
    InstanceEvent::OperationDelayed {
        request: op.request,
        reason: reason.to_owned(),
        delays,
        stale_catalog,
        next_at: pace::again_at(now, pace::DELAYED, op.request, delays, retry_after_ms),
    }
}

/// What a poll said of the update.
pub(super) fn polled(
    instance: &Instance,
    request: RequestId,
    progress: &Progress,
    aftermath: Aftermath,
    now: Timestamp,
) -> Vec<InstanceEvent> {
    let Some((op, limit_ms)) = awaited(instance, request) else {
        return Vec::new();
    };
    let Step::Polling { accepted_at, .. } = &op.step else {
        return Vec::new();
    };
    let until = accepted_at.plus_ms(limit_ms);
    let removal = instance.unfinished_update().and(instance.life.current());
    let ended = match progress {
        Progress::Succeeded => InstanceEvent::Updated {
            request,
            dashboard_url: None,
        },
        Progress::Failed { reason } => failed(request, reason.clone(), aftermath),
        _ if now >= until => {
            let reason = format!("the broker was not done after {} s", limit_ms / 1000);
            failed(request, reason, Aftermath::default())
        }
        Progress::InProgress { .. }
        | Progress::Gone
        | Progress::NotFound
        | Progress::NoAnswer { .. } => {
            if let Some(removal) = removal {
                let reason = "the broker is still updating it";
                return vec![waiting(removal, op, limit_ms, reason, now)];
            }
            let told = life::progress(op, limit_ms, progress, now);
            let event =
                told.map(
                    |(description, polls, next_at)| InstanceEvent::OperationProgressed {
                        request,
                        description,
                        polls,
                        next_at,
                    },
                );
            return event.into_iter().collect();
        }
    };
    let mut events = vec![ended];
    if removal.is_some() {
        // What it waited for has ended.
        let change = life::remove(&instance.life, instance.id.0);
        events.push(aggregate::event(instance.id, change, None, now));
    }
    events
}

/// A removal that is refused while the broker still works on an update waits for that.
pub(super) fn waited_for(
    instance: &Instance,
    request: RequestId,
    verdict: &Verdict<()>,
    now: Timestamp,
) -> Option<InstanceEvent> {
    let Verdict::Busy { reason, .. } = verdict else {
        return None;
    };
    let Stage::Asked { op, limit_ms, .. } = &instance.update.as_ref()?.stage else {
        return None;
    };
    if !matches!(op.step, Step::Polling { .. }) {
        return None;
    }
    let removal = instance
        .life
        .current()
        .filter(|removal| removal.request == request)?;
    if !instance.life.is_going() || !matches!(removal.step, Step::Asked | Step::Delayed { .. }) {
        return None;
    }
    Some(waiting(removal, op, *limit_ms, reason, now))
}

/// The removal is looked at again as closely as the update would be polled.
fn waiting(
    removal: &Operation,
    op: &Operation,
    limit_ms: i64,
    reason: &str,
    now: Timestamp,
) -> InstanceEvent {
    let began = match &op.step {
        Step::Polling { accepted_at, .. } => *accepted_at,
        Step::Asked | Step::Delayed { .. } | Step::Failed { .. } => op.since,
    };
    InstanceEvent::OperationDelayed {
        request: removal.request,
        reason: reason.to_owned(),
        delays: removal.delays().saturating_add(1),
        stale_catalog: false,
        next_at: pace::poll_at(now, op.since, began.plus_ms(limit_ms), None),
    }
}
