//! Deleting. What others use is not deleted, unless they are to go as well. Functions, endpoints
//! and images go at once, in the same decision; instances take their time, and what they use waits
//! for them.

use std::collections::BTreeSet;

use engine_model::{
    ApiEvent, ApplicationEvent, BaseImageEvent, BrokerEvent, ClassEvent, Event, FunctionEvent,
    ImageEvent, Kind, Name, OrganizationEvent, Rejection, ResourceKey, ScheduleEvent, SecretEvent,
    ServiceAccountEvent, Timestamp,
};

use super::Decision;
use crate::aggregate::binding::Binding;
use crate::refuse;
use crate::state::State;
use crate::world::{Key, World};

/// The organization that a resource belongs to, unless it is that one.
pub(crate) fn organization_of(world: &World, key: &ResourceKey) -> Option<ResourceKey> {
    let name = Name::new(key.org.as_str()).ok()?;
    let org = key.neighbour(Kind::Organization, &name);
    (org != *key && world.state(&org).is_some()).then_some(org)
}

/// Those that use `key` and are not on their way out, in order.
pub(crate) fn users(world: &World, key: &ResourceKey) -> Vec<Key> {
    let staying = |user: &&Key| world.state(user).is_some_and(|state| !state.is_going());
    using(world, key).iter().filter(staying).cloned().collect()
}

/// Whether a binding is someone's own wish. All others go with their instance or function, and
/// keep nobody from deleting anything.
pub(crate) fn is_wished(binding: &Binding) -> bool {
    binding.owner.is_some() && binding.function.is_none()
}

/// Those that use `key`, in order.
fn using(world: &World, key: &ResourceKey) -> BTreeSet<Key> {
    let mut users: BTreeSet<Key> = match key.kind {
        Kind::ServiceBroker => instances_of(world, key).collect(),
        Kind::Organization => return BTreeSet::new(),
        _ => world.users(key).cloned().collect(),
    };
    if key.kind == Kind::ServiceInstance
        && let Some(instance) = world.instance(key)
        && let Ok(secret) = Name::new(instance.id.to_string())
    {
        // Its credentials are also a secret, by its id.
        users.extend(world.users(&key.neighbour(Kind::Secret, &secret)).cloned());
    }
    users.retain(|user| {
        user.kind != Kind::ServiceBinding || world.binding(user).is_some_and(is_wished)
    });
    users
}

fn instances_of<'a>(world: &'a World, broker: &ResourceKey) -> impl Iterator<Item = Key> + 'a {
    let named: Vec<Key> = world.users(broker).cloned().collect();
    named.into_iter().flat_map(move |user| match user.kind {
        Kind::ServiceClass => {
            let own = world.class(&user).is_some_and(|class| class.offered);
            let waiting = |key: &&Key| {
                world
                    .instance(key)
                    .is_some_and(|instance| instance.life.attempt().is_none())
            };
            let users = world
                .users(&user)
                .filter(waiting)
                .cloned()
                .collect::<Vec<_>>();
            if own { users } else { Vec::new() }
        }
        Kind::ServiceInstance => vec![user],
        _ => Vec::new(),
    })
}

/// A wish to delete a resource that needs nothing of the outer world for it.
pub(crate) fn ask(world: &World, key: &ResourceKey, cascade: bool) -> Result<Decision, Rejection> {
    let Some(state) = world.state(key) else {
        return Err(refuse::not_found(key));
    };
    if state.is_going() {
        return Ok(Decision::nothing());
    }
    let users = users(world, key);
    if !cascade && !users.is_empty() {
        return Err(refuse::in_use(key, &users));
    }
    if key.kind == Kind::Organization {
        return organization(world, key, cascade);
    }
    let mut writes = Writes::default();
    writes.users_of(world, key);
    writes.own(world, key);
    Ok(writes.decision())
}

fn organization(world: &World, key: &ResourceKey, cascade: bool) -> Result<Decision, Rejection> {
    if alone(world, key) {
        return Ok(Decision::of(key, vec![gone(Kind::Organization)]));
    }
    if cascade {
        let event = Event::Organization(OrganizationEvent::DeleteRequested);
        return Ok(Decision::of(key, vec![event]));
    }
    Err(refuse::in_use(key, &members(world, key)))
}

/// All that belongs to an organization, without the classes, which go with their brokers.
pub(crate) fn members(world: &World, org: &ResourceKey) -> Vec<Key> {
    let belongs = |key: &&Key| {
        key.org.as_str() == org.name.as_str()
            && ***key != *org
            && !matches!(key.kind, Kind::ServiceClass | Kind::ServiceBinding)
    };
    let mut members: Vec<Key> = world
        .states()
        .map(|(key, _)| key)
        .filter(belongs)
        .cloned()
        .collect();
    members.sort();
    members
}

fn alone(world: &World, org: &ResourceKey) -> bool {
    let Ok(owner) = engine_model::OrgName::new(org.name.as_str()) else {
        return true;
    };
    world.members(&owner) <= usize::from(owner == org.org)
}

/// A word that a resource goes because what it uses goes.
pub(crate) fn along(world: &World, key: &ResourceKey, now: Timestamp) -> Decision {
    let decision = match key.kind {
        Kind::ServiceInstance => super::instance::delete(world, key, true, now),
        Kind::ServiceBinding => super::binding::delete(world, key, true, now),
        Kind::ServiceClass | Kind::Run => Ok(Decision::nothing()),
        _ => ask(world, key, true),
    };
    // A refusal means that it is gone already.
    decision.unwrap_or_default()
}

/// What goes on once the last instance that used something that is going is gone.
pub(crate) fn next(world: &World, key: &ResourceKey) -> Decision {
    let going = world.state(key).is_some_and(State::is_going);
    let free = match key.kind {
        Kind::Organization => alone(world, key),
        _ => !waits(world, key),
    };
    if !(going && free) {
        return Decision::nothing();
    }
    let mut writes = Writes::default();
    writes.own(world, key);
    writes.decision()
}

/// Whether instances go before it.
fn waits(world: &World, key: &ResourceKey) -> bool {
    using(world, key).iter().any(|user| takes_time(user.kind))
}

/// Whether the end of a resource of this kind takes a broker.
fn takes_time(kind: Kind) -> bool {
    matches!(kind, Kind::ServiceInstance | Kind::ServiceBinding)
}

/// Commits of one decision, each resource once, users before what they use.
#[derive(Default)]
pub(crate) struct Writes {
    writes: Vec<(ResourceKey, Vec<Event>)>,
    seen: BTreeSet<ResourceKey>,
}

impl Writes {
    /// Ends all that uses `key` and can end at once.
    pub(crate) fn users_of(&mut self, world: &World, key: &ResourceKey) {
        for user in users(world, key) {
            if !takes_time(user.kind) && self.seen.insert((*user).clone()) {
                self.users_of(world, &user);
                self.own(world, &user);
            }
        }
    }

    /// Ends `key` itself, or begins to when instances go before it.
    fn own(&mut self, world: &World, key: &ResourceKey) {
        let waits = waits(world, key);
        let event = match key.kind {
            Kind::Secret if waits => Event::Secret(SecretEvent::DeleteRequested),
            Kind::ServiceBroker if waits => Event::ServiceBroker(BrokerEvent::DeleteRequested),
            kind => gone(kind),
        };
        if key.kind == Kind::ServiceBroker && !waits {
            self.withdraw_classes(world, key);
        }
        self.writes.push((key.clone(), vec![event]));
    }

    fn withdraw_classes(&mut self, world: &World, broker: &ResourceKey) {
        for class in world
            .users(broker)
            .filter(|user| user.kind == Kind::ServiceClass)
        {
            if world.class(class).is_some_and(|class| class.offered) {
                let event = Event::ServiceClass(ClassEvent::Withdrawn);
                self.writes.push(((**class).clone(), vec![event]));
            }
        }
    }

    /// Adds a commit at the end.
    pub(crate) fn add(&mut self, key: &ResourceKey, events: Vec<Event>) {
        self.writes.push((key.clone(), events));
    }

    pub(crate) fn decision(self) -> Decision {
        Decision {
            writes: self.writes,
            repeated: None,
        }
    }
}

/// The event that ends a resource at once.
fn gone(kind: Kind) -> Event {
    match kind {
        Kind::BaseImage => Event::BaseImage(BaseImageEvent::Deleted),
        Kind::Image => Event::Image(ImageEvent::Deleted),
        Kind::Function => Event::Function(FunctionEvent::Deleted),
        Kind::Secret => Event::Secret(SecretEvent::Deleted),
        Kind::ServiceBroker => Event::ServiceBroker(BrokerEvent::Deleted),
        Kind::API => Event::API(ApiEvent::Deleted),
        Kind::Schedule => Event::Schedule(ScheduleEvent::Deleted),
        Kind::Organization => Event::Organization(OrganizationEvent::Deleted),
        Kind::ServiceAccount => Event::ServiceAccount(ServiceAccountEvent::Deleted),
        Kind::Application => Event::Application(ApplicationEvent::Deleted),
        Kind::ServiceClass | Kind::ServiceInstance | Kind::ServiceBinding | Kind::Run => {
            unreachable!("a {kind} does not end by itself")
        }
    }
}
