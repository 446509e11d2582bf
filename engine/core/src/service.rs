//! What a service instance offers to functions.

use engine_model::broker::BoundCredentials;
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

/// What the instance `key` offers to functions now.
pub(crate) fn service<'a>(world: &'a World, key: &ResourceKey) -> Service<'a> {
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
    let why = reason
        .first()
        .map_or_else(String::new, |first| format!(": {first}"));
    Service::NotReady(
        status,
        format!("service instance {name} is {}{why}", status.as_str()),
    )
}
