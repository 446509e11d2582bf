//! The effects that a resource's state still waits for.

use engine_model::broker::PlanSchemas;
use engine_model::{
    Actor, BindingId, Effect, ImageBuild, Kind, Name, RequestId, ResourceKey, Sealed, ServiceCall,
    ServiceTarget, UpdateCall,
};
use serde_json::Value;

use crate::aggregate::binding::{Binding, BindingLife, Which};
use crate::aggregate::broker::{Broker, Catalog};
use crate::aggregate::instance::{Instance, Ordered};
use crate::aggregate::{api, base_image, function, image, update};
use crate::decide;
use crate::life::{Attempt, Life, Past, Stage};
use crate::operation::{Operation, Step};
use crate::state::State;
use crate::world::World;

/// Which requests to a broker are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// Those whose answer is not known.
    Asked,
    /// Those that an alarm of this request asks for.
    Alarm(RequestId),
}

impl When {
    fn wants(self, op: &Operation) -> bool {
        match (self, &op.step) {
            (Self::Asked, Step::Asked) => true,
            (Self::Asked, _) => false,
            (Self::Alarm(request), Step::Delayed { .. } | Step::Polling { .. }) => {
                request == op.request
            }
            // A removal that failed needs a decision first.
            (Self::Alarm(_), Step::Asked | Step::Failed { .. }) => false,
        }
    }
}

/// What a state waits for that is not a matter of time.
pub(crate) fn of(world: &World, key: &ResourceKey, when: When) -> Vec<Effect> {
    let asked = when == When::Asked;
    let effect = match world.state(key) {
        Some(State::Instance(state)) => return instance(world, key, state, when),
        Some(State::Binding(state)) => return binding(world, key, state, when),
        Some(State::Broker(state)) if asked => match state.catalog {
            Catalog::Reading { .. } => Some(read_catalog(key, state)),
            Catalog::Read { .. } | Catalog::Failed { .. } => None,
        },
        Some(State::BaseImage(state)) if asked => match state.stage {
            base_image::Stage::Preparing { .. } => Some(Effect::PrepareBaseImage {
                generation: state.generation,
                language: state.spec.language.clone(),
                docker_url: state.spec.docker_url.clone(),
            }),
            base_image::Stage::Prepared { .. } | base_image::Stage::Failed { .. } => None,
        },
        Some(State::Image(state)) if asked => match &state.stage {
            image::Stage::Building { base, .. } => Some(Effect::BuildImage(ImageBuild {
                build: state.build,
                language: base.language.clone(),
                manifest: state.spec.runtime_dependencies.manifest.clone(),
                packages: state.spec.system_dependencies.packages.clone(),
                root: base.root.clone(),
            })),
            image::Stage::Waiting | image::Stage::Built { .. } | image::Stage::Failed { .. } => {
                None
            }
        },
        Some(State::Function(state)) if asked => match &state.stage {
            function::Stage::Loading { load, .. } => Some(Effect::LoadFunction((**load).clone())),
            function::Stage::Waiting | function::Stage::Loaded | function::Stage::Failed { .. } => {
                None
            }
        },
        Some(State::Api(state)) if asked => match state.stage {
            api::Stage::Requested { .. } => Some(Effect::ServeApi {
                generation: state.generation,
            }),
            api::Stage::Waiting | api::Stage::Served | api::Stage::Failed { .. } => None,
        },
        Some(_) | None => None,
    };
    effect.into_iter().collect()
}

pub(crate) fn read_catalog(key: &ResourceKey, broker: &Broker) -> Effect {
    Effect::ReadCatalog {
        target: target(key, broker),
        etag: broker.etag.clone(),
    }
}

fn target(key: &ResourceKey, broker: &Broker) -> ServiceTarget {
    ServiceTarget {
        broker: key.clone(),
        url: broker.url.clone(),
        credentials: broker.credentials.clone(),
        ca: broker.ca.clone(),
        api_version: broker.api_version.clone(),
        limits: broker.limits,
        paused_until: broker.circuit.as_ref().map(|circuit| circuit.until),
    }
}

/// How to reach the broker of an instance, and what every request about it says.
pub(crate) fn reach(
    world: &World,
    key: &ResourceKey,
    attempt: &Attempt<Ordered>,
    request: RequestId,
    actor: Actor,
) -> Option<(ServiceTarget, ServiceCall)> {
    let broker = attempt.what.broker_key(&key.org);
    let target = target(&broker, world.broker(&broker)?);
    let call = ServiceCall {
        request,
        instance: attempt.what.instance,
        name: key.name.clone(),
        org: key.org.clone(),
        service_id: attempt.what.service_id.to_string(),
        plan_id: attempt.what.plan_id.to_string(),
        actor,
        background: false,
    };
    Some((target, call))
}

fn instance(world: &World, key: &ResourceKey, state: &Instance, when: When) -> Vec<Effect> {
    let with =
        |attempt: &Attempt<Ordered>, request| reach(world, key, attempt, request, world.actor(key));
    if let Some(effect) = update(world, key, state, when) {
        return vec![effect];
    }
    let Some((attempt, op, doing)) = current(&state.life).filter(|(_, op, _)| when.wants(op))
    else {
        return Vec::new();
    };
    // What the removal waits for is asked for, not the removal (section Blocking Operations).
    let unfinished = state.life.unfinished().or(state.unfinished_update());
    if let Some(earlier) = unfinished
        && let Step::Polling { operation, .. } = &earlier.step
    {
        let reached = with(attempt, earlier.request);
        return reached
            .map(|(target, call)| poll(target, call, operation))
            .into_iter()
            .collect();
    }
    let Some((target, mut call)) = with(attempt, op.request) else {
        return Vec::new();
    };
    call.background = doing == Doing::CleanUp;
    if let Step::Polling { operation, .. } = &op.step {
        return vec![poll(target, call, operation)];
    }
    if doing == Doing::Make {
        let effect = if attempt.existing {
            Some(Effect::FetchInstance { target, call })
        } else {
            provision(world, key, state, target, call)
        };
        return effect.into_iter().collect();
    }
    vec![Effect::Deprovision { target, call }]
}

/// The request about an update, unless the instance is going.
fn update(world: &World, key: &ResourceKey, state: &Instance, when: When) -> Option<Effect> {
    let update = state.update.as_ref()?;
    let update::Stage::Asked { op, plan_id, .. } = &update.stage else {
        return None;
    };
    if !when.wants(op) || !state.life.is_made() {
        return None;
    }
    let made = state.life.attempt()?;
    let (target, call) = reach(world, key, made, op.request, world.actor(key))?;
    if let Step::Polling { operation, .. } = &op.step {
        return Some(poll(target, call, operation));
    }
    let proposal = &update.proposal;
    let secret_parameters = sealed(world, key, &proposal.secrets)?;
    let target_plan = plan_id.as_deref().unwrap_or(&made.what.plan_id);
    let schema = schema(
        world,
        key,
        state,
        target_plan,
        &secret_parameters,
        |schemas| schemas.update.clone(),
    );
    let update = UpdateCall {
        plan_id: plan_id.as_deref().map(str::to_owned),
        parameters: proposal.parameters.value(),
        secret_parameters,
        schema,
        maintenance_version: proposal.maintenance.as_deref().map(str::to_owned),
        previous_maintenance_version: made.what.maintenance.as_deref().map(str::to_owned),
    };
    Some(Effect::UpdateInstance {
        target,
        call,
        update,
    })
}

fn poll(target: ServiceTarget, call: ServiceCall, operation: &Option<Box<str>>) -> Effect {
    Effect::PollInstance {
        target,
        call,
        operation: operation.as_deref().map(str::to_owned),
    }
}

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    Make,
    Remove,
    /// Removing what a failed attempt may have left.
    CleanUp,
}

fn current<A, M>(life: &Life<A, M>) -> Option<(&Attempt<A>, &Operation, Doing)> {
    match &life.stage {
        Stage::Creating { attempt, op } => Some((attempt, op, Doing::Make)),
        Stage::Orphaned {
            attempt, removal, ..
        } => Some((attempt, removal, Doing::CleanUp)),
        Stage::Removing {
            attempt, removal, ..
        } => Some((attempt, removal, Doing::Remove)),
        // Whether the request was sent is not known; its answer says what there is to remove.
        Stage::Deleting {
            past: Some((attempt, Past::Asked(op))),
        } => Some((attempt, op, Doing::Make)),
        Stage::Waiting | Stage::Made { .. } | Stage::Failed { .. } | Stage::Deleting { .. } => None,
    }
}

fn provision(
    world: &World,
    key: &ResourceKey,
    state: &Instance,
    target: ServiceTarget,
    call: ServiceCall,
) -> Option<Effect> {
    let secret_parameters = sealed(world, key, &state.wish.secrets)?;
    let schema = schema(
        world,
        key,
        state,
        &call.plan_id,
        &secret_parameters,
        |schemas| schemas.create.clone(),
    );
    Some(Effect::Provision {
        parameters: state.wish.parameters.value(),
        secret_parameters,
        schema,
        maintenance_version: maintenance(world, key, state),
        target,
        call,
    })
}

/// The maintenance version to ask for: as it was ordered, or as the catalog has it now when the
/// broker said that this had become stale.
fn maintenance(world: &World, key: &ResourceKey, state: &Instance) -> Option<String> {
    let attempt = state.life.attempt()?;
    let delayed = matches!(&state.life.current()?.step, Step::Delayed { .. });
    let fresh = decide::update::class_of(world, key, state)
        .and_then(|class| class.plan_by_id(&attempt.what.plan_id))
        .and_then(|plan| plan.maintenance_version.clone());
    if delayed {
        fresh
    } else {
        attempt.what.maintenance.as_deref().map(str::to_owned)
    }
}

/// The schema that is still to be checked: when there are secrets, which `decide` cannot see.
fn schema(
    world: &World,
    key: &ResourceKey,
    state: &Instance,
    plan_id: &str,
    secrets: &[Sealed],
    which: impl Fn(&PlanSchemas) -> Value,
) -> Value {
    if secrets.is_empty() {
        return Value::Null;
    }
    decide::update::class_of(world, key, state)
        .and_then(|class| class.plan_by_id(plan_id))
        .map_or(Value::Null, |plan| which(&plan.schemas))
}

/// The secrets of these names; none when one of them is not there.
fn sealed(world: &World, key: &ResourceKey, names: &[Name]) -> Option<Vec<Sealed>> {
    names
        .iter()
        .map(|name| {
            Some(
                world
                    .secret(&key.neighbour(Kind::Secret, name))?
                    .sealed
                    .clone(),
            )
        })
        .collect()
}

fn binding(world: &World, key: &ResourceKey, state: &Binding, when: When) -> Vec<Effect> {
    let lives = state.lives();
    lives
        .filter_map(|(which, life)| binding_life(world, key, state, which, life, when))
        .collect()
}

fn binding_life(
    world: &World,
    key: &ResourceKey,
    state: &Binding,
    which: Which,
    life: &BindingLife,
    when: When,
) -> Option<Effect> {
    let (attempt, op, doing) = current(life).filter(|(_, op, _)| when.wants(op))?;
    let instance = decide::binding::instance_of(world, key, state)?;
    let owner = state.owner_key(key);
    let made = instance.life.attempt()?;
    let with = |request| reach(world, &owner, made, request, world.actor(&owner));
    let binding: BindingId = attempt.what;
    let poll = |request, operation: &Option<Box<str>>, unbinding| {
        let (target, call) = with(request)?;
        Some(Effect::PollBinding {
            target,
            call,
            binding,
            operation: operation.as_deref().map(str::to_owned),
            unbinding,
        })
    };
    if let Some(creation) = life.unfinished()
        && let Step::Polling { operation, .. } = &creation.step
    {
        return poll(creation.request, operation, false);
    }
    let unbinding = doing != Doing::Make;
    if let Step::Polling { operation, .. } = &op.step {
        return poll(op.request, operation, unbinding);
    }
    let (target, mut call) = with(op.request)?;
    call.background = doing == Doing::CleanUp;
    if unbinding {
        return Some(Effect::Unbind {
            target,
            call,
            binding,
        });
    }
    let predecessor = match which {
        Which::Next if decide::rotate::is_rotatable(world, key, state) => {
            state.life.attempt().map(|in_use| in_use.what)
        }
        Which::Next | Which::InUse | Which::Replaced(_) => None,
    };
    let secret_parameters = sealed(world, key, &state.wish.secrets)?;
    let schema = schema(
        world,
        &owner,
        instance,
        &call.plan_id,
        &secret_parameters,
        |schemas| schemas.bind.clone(),
    );
    let retrievable = decide::update::class_of(world, &owner, instance)
        .is_some_and(|class| class.offering.bindings_retrievable);
    Some(Effect::Bind {
        target,
        call,
        binding,
        predecessor,
        retrievable,
        repeat: false,
        parameters: state.wish.parameters.value(),
        secret_parameters,
        schema,
    })
}
