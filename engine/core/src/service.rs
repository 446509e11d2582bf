//! What a service instance offers to functions.

use engine_model::broker::BoundCredentials;
use engine_model::spec::{BindingChoice, ServiceUse};
use engine_model::{Kind, ResourceKey, Status};

use crate::status;
use crate::world::World;

/// What a service instance offers.
pub(crate) enum Service<'a> {
    /// Its credentials.
    Bound(&'a BoundCredentials),
    /// It is there, and its plan has no bindings.
    Unbindable,
    /// Nothing yet: its binding's status, and why.
    NotReady(Status, String),
}

/// What `function` gets of a service now.
pub(crate) fn service<'a>(
    world: &'a World,
    function: &ResourceKey,
    used: &ServiceUse,
) -> Service<'a> {
    let instance = function.neighbour(Kind::ServiceInstance, &used.instance);
    if used.binding == BindingChoice::Shared {
        return shared(world, &instance);
    }
    let key = function.neighbour(Kind::ServiceBinding, &used.binding_name(&function.name));
    let owner = world.instance(&instance);
    if owner.is_some_and(|owner| {
        owner.life.is_made()
            && owner
                .life
                .attempt()
                .is_some_and(|attempt| !attempt.what.bindable)
    }) {
        return Service::Unbindable;
    }
    let name = &key.name;
    let binding = world
        .binding(&key)
        .filter(|binding| owner.is_some_and(|owner| owner.id == binding.instance));
    match binding {
        Some(binding) => match binding.bound() {
            Some(bound) => Service::Bound(bound),
            None => {
                let (status, reason) = status::binding(world, &key, binding);
                let why = first(&reason);
                let text = format!("service binding {name} is {}{why}", status.as_str());
                Service::NotReady(status, text)
            }
        },
        None => match shared(world, &instance) {
            Service::NotReady(status, reason) => Service::NotReady(status, reason),
            Service::Bound(_) | Service::Unbindable => {
                let text = format!(
                    "service instance {} has no service binding {name} yet",
                    used.instance
                );
                Service::NotReady(Status::Initialized, text)
            }
        },
    }
}

/// What the instance `key` offers by the binding that it has anyway.
pub(crate) fn shared<'a>(world: &'a World, key: &ResourceKey) -> Service<'a> {
    let name = &key.name;
    let Some(instance) = world.instance(key) else {
        let reason = format!("service instance {name} does not exist yet");
        return Service::NotReady(Status::Initialized, reason);
    };
    let binding = world.binding(&key.sibling(Kind::ServiceBinding));
    if instance.life.is_made() {
        if instance
            .life
            .attempt()
            .is_some_and(|attempt| !attempt.what.bindable)
        {
            return Service::Unbindable;
        }
        let own = binding.filter(|binding| binding.instance == instance.id);
        if let Some(bound) = own.and_then(|binding| binding.bound()) {
            return Service::Bound(bound);
        }
    }
    let (status, reason) = status::instance(world, key, instance);
    let why = first(&reason);
    Service::NotReady(
        status,
        format!("service instance {name} is {}{why}", status.as_str()),
    )
}

fn first(reason: &[String]) -> String {
    reason
        .first()
        .map_or_else(String::new, |first| format!(": {first}"))
}
