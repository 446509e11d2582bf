//! The effects that a resource's state still waits for.

use engine_model::{
    Actor, BindingId, Effect, ImageBuild, InstanceId, Kind, Name, RequestId, ResourceKey, Sealed,
    ServiceCall, ServiceTarget,
};
use serde_json::Value;

use crate::aggregate::binding::Binding;
use crate::aggregate::broker::{Broker, Catalog};
use crate::aggregate::instance::{Instance, Ordered};
use crate::aggregate::{api, base_image, function, image};
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
        Some(State::Binding(state)) => binding(world, key, state, when),
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
            base_image::Stage::Prepared | base_image::Stage::Failed { .. } => None,
        },
        Some(State::Image(state)) if asked => match &state.stage {
            image::Stage::Building { language, .. } => Some(Effect::BuildImage(ImageBuild {
                build: state.build,
                language: language.clone(),
                manifest: state.spec.runtime_dependencies.manifest.clone(),
                packages: state.spec.system_dependencies.packages.clone(),
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
    }
}

/// How to reach the broker of an instance, and what every request about it says.
fn reach(
    world: &World,
    key: &ResourceKey,
    id: InstanceId,
    attempt: &Attempt<Ordered>,
    request: RequestId,
    actor: Actor,
) -> Option<(ServiceTarget, ServiceCall)> {
    let broker = key.neighbour(Kind::ServiceBroker, &attempt.what.broker);
    let target = target(&broker, world.broker(&broker)?);
    let call = ServiceCall {
        request,
        instance: id,
        name: key.name.clone(),
        org: key.org.clone(),
        service_id: attempt.what.service_id.to_string(),
        plan_id: attempt.what.plan_id.to_string(),
        actor,
    };
    Some((target, call))
}

fn instance(world: &World, key: &ResourceKey, state: &Instance, when: When) -> Vec<Effect> {
    let Some((attempt, op, removing)) = current(&state.life).filter(|(_, op, _)| when.wants(op))
    else {
        return Vec::new();
    };
    let with = |request| {
        let actor = world.actor(key);
        reach(world, key, state.id, attempt, request, actor)
    };
    let Some((target, call)) = with(op.request) else {
        return Vec::new();
    };
    if let Step::Polling { operation, .. } = &op.step {
        return vec![poll(target, call, operation)];
    }
    if !removing {
        return provision(world, key, state, target, call)
            .into_iter()
            .collect();
    }
    let mut effects = Vec::new();
    if let Some(creation) = decide::instance::unfinished(state)
        && let Step::Polling { operation, .. } = &creation.step
        && let Some((target, call)) = with(creation.request)
    {
        effects.push(poll(target, call, operation));
    }
    effects.push(Effect::Deprovision { target, call });
    effects
}

fn poll(target: ServiceTarget, call: ServiceCall, operation: &Option<Box<str>>) -> Effect {
    Effect::PollInstance {
        target,
        call,
        operation: operation.as_deref().map(str::to_owned),
    }
}

fn current<A, M>(life: &Life<A, M>) -> Option<(&Attempt<A>, &Operation, bool)> {
    match &life.stage {
        Stage::Creating { attempt, op } => Some((attempt, op, false)),
        Stage::Orphaned {
            attempt, removal, ..
        }
        | Stage::Removing {
            attempt, removal, ..
        } => Some((attempt, removal, true)),
        // Whether the request was sent is not known; its answer says what there is to remove.
        Stage::Deleting {
            past: Some((attempt, Past::Asked(op))),
        } => Some((attempt, op, false)),
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
    let schema = schema(world, key, state, &secret_parameters, Schema::Create);
    Some(Effect::Provision {
        target,
        call,
        parameters: state.wish.parameters.value(),
        secret_parameters,
        schema,
    })
}

enum Schema {
    Create,
    Bind,
}

/// The schema that is still to be checked: when there are secrets, which `decide` cannot see.
fn schema(
    world: &World,
    key: &ResourceKey,
    state: &Instance,
    secrets: &[Sealed],
    which: Schema,
) -> Value {
    if secrets.is_empty() {
        return Value::Null;
    }
    let class = Name::new(&*state.wish.class)
        .ok()
        .and_then(|name| world.class(&key.neighbour(Kind::ServiceClass, &name)));
    let plan = class.and_then(|class| class.plan(&state.wish.plan));
    plan.map_or(Value::Null, |plan| match which {
        Schema::Create => plan.schemas.create.clone(),
        Schema::Bind => plan.schemas.bind.clone(),
    })
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

fn binding(world: &World, key: &ResourceKey, state: &Binding, when: When) -> Option<Effect> {
    let (attempt, op, unbinding) = current(&state.life).filter(|(_, op, _)| when.wants(op))?;
    let instance = decide::binding::instance_of(world, key, state)?;
    let instance_key = key.sibling(Kind::ServiceInstance);
    let (target, call) = reach(
        world,
        key,
        instance.id,
        instance.life.attempt()?,
        op.request,
        world.actor(&instance_key),
    )?;
    let binding: BindingId = attempt.what;
    if let Step::Polling { operation, .. } = &op.step {
        return Some(Effect::PollBinding {
            target,
            call,
            binding,
            operation: operation.as_deref().map(str::to_owned),
            unbinding,
        });
    }
    if unbinding {
        return Some(Effect::Unbind {
            target,
            call,
            binding,
        });
    }
    let secret_parameters = sealed(world, key, &state.wish.secrets)?;
    let schema = schema(world, key, instance, &secret_parameters, Schema::Bind);
    Some(Effect::Bind {
        target,
        call,
        binding,
        parameters: state.wish.parameters.value(),
        secret_parameters,
        schema,
    })
}
