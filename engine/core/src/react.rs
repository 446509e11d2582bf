//! What a commit asks for, and the state still waits for. A commit that is looked at late, or
//! twice, asks for what is outstanding and nothing else.

use std::collections::BTreeSet;
use std::mem;

use engine_model::{
    ApiEvent, BaseImageEvent, BindingEvent, BrokerEvent, ClassEvent, Due, Effect, EffectId, Event,
    FunctionEvent, ImageEvent, InstanceEvent, Kind, Name, OrganizationEvent, Recorded, ResourceKey,
    ScheduleEvent, SecretEvent, TimerRequest,
};

use crate::aggregate::Leftover;
use crate::decide::{self, delete, proceed};
use crate::pending::{self, When};
use crate::state::State;
use crate::world::World;

/// Index of the effect that a commit is about.
const OWN: u32 = 0;
/// Index of the timer that it sets.
const TIMER: u32 = 8;
/// Index of the word to a binding.
const BINDING: u32 = 9;
/// Index of the word to a broker.
const BROKER: u32 = 10;
/// Index of the first of what it leaves to be done.
const LEFTOVERS: u32 = 0x100;
/// Words to other resources are numbered by whom they are for, above this: who is spoken to may
/// change, but whoever is has the same index each time.
const WORDS: u32 = 0x8000_0000;

/// The effects of a commit that are still outstanding. An effect has the same id whenever it is
/// asked for.
#[must_use]
pub fn react(world: &World, recorded: &Recorded) -> Vec<(EffectId, Effect)> {
    let mut wanted = Wanted::default();
    let key = &recorded.commit.key;
    if world.last_seq(key) == recorded.seq {
        wanted.own(world, key);
    }
    for event in &recorded.commit.events {
        wanted.of_binding(world, key, event);
        wanted.of_broker(world, key, event);
    }
    wanted.leftovers(world, recorded);
    let moves = recorded.commit.events.iter().any(moves_others);
    if moves {
        wanted.words(world, recorded);
    }
    if recorded.commit.events.iter().any(cascades) {
        wanted.deletions(world, key);
    }
    let id = |index| EffectId {
        seq: recorded.seq,
        index,
    };
    wanted
        .0
        .into_iter()
        .map(|(index, effect)| (id(index), effect))
        .collect()
}

/// What a resource's state waits for now, for one whose last commit was lost on its reactor: words
/// to others that must have been lost, or else what it waits for itself.
#[must_use]
pub fn outstanding(world: &World, key: &ResourceKey) -> Vec<Effect> {
    let mut wanted = Wanted::default();
    wanted.create_binding(world, key);
    wanted.create_own_bindings(world, key);
    wanted.deletions(world, key);
    if wanted.0.is_empty() {
        wanted.own(world, key);
    }
    wanted.0.into_iter().map(|(_, effect)| effect).collect()
}

/// Whether a resource still waits for the answer of a request to its broker, as far as its state is
/// known here. What is no request to a broker is left to whoever performs it.
#[must_use]
pub fn is_wanted(world: &World, key: &ResourceKey, effect: &Effect) -> bool {
    let Some(request) = effect.request() else {
        return true;
    };
    let same = |own: &Effect| {
        mem::discriminant(own) == mem::discriminant(effect) && own.request() == Some(request)
    };
    [When::Asked, When::Alarm(request)]
        .into_iter()
        .any(|when| pending::of(world, key, when).iter().any(same))
}

#[derive(Default)]
struct Wanted(Vec<(u32, Effect)>);

impl Wanted {
    /// What the state waits for, and the timer for when it is to be looked at again.
    fn own(&mut self, world: &World, key: &ResourceKey) {
        let effects = pending::of(world, key, When::Asked);
        self.0.extend((OWN..).zip(effects));
        if let Some((alarm, at)) = crate::due::alarm_of(world, key) {
            let due = Due::new(key.clone(), alarm);
            self.0
                .push((TIMER, Effect::Timer(TimerRequest { due, at })));
        }
    }

    /// Words between an instance and its binding.
    fn of_binding(&mut self, world: &World, key: &ResourceKey, event: &Event) {
        let Event::ServiceInstance(event) = event else {
            if let Event::Function(_) | Event::ServiceBinding(_) = event {
                self.own_bindings_of(world, key);
            }
            return;
        };
        let binding = key.sibling(Kind::ServiceBinding);
        match event {
            InstanceEvent::ProvisionRequested { .. } | InstanceEvent::AdoptRequested { .. } => {
                self.create_binding(world, key);
                self.own_bindings_of(world, key);
            }
            InstanceEvent::DeleteRequested => {
                let stays = world
                    .binding(&binding)
                    .is_some_and(|own| !own.life.is_going());
                if stays && world.instance(key).is_some_and(|own| own.life.is_going()) {
                    self.0.push((BINDING, Effect::DeleteBinding(binding)));
                }
            }
            InstanceEvent::Abandoned { reason } => {
                let named = world
                    .users(key)
                    .filter(|user| user.kind == Kind::ServiceBinding);
                for binding in named {
                    let left = world.binding(binding).is_some_and(|own| {
                        decide::binding::instance_of(world, binding, own).is_none()
                    });
                    if left {
                        let index = word_index(binding);
                        let effect = Effect::AbandonBinding {
                            key: (**binding).clone(),
                            reason: reason.clone(),
                        };
                        self.0.push((index, effect));
                    }
                }
            }
            InstanceEvent::Created { .. }
            | InstanceEvent::OperationAccepted { .. }
            | InstanceEvent::OperationProgressed { .. }
            | InstanceEvent::OperationDelayed { .. }
            | InstanceEvent::Provisioned { .. }
            | InstanceEvent::ProvisionFailed { .. }
            | InstanceEvent::UpdateProposed { .. }
            | InstanceEvent::UpdateRequested { .. }
            | InstanceEvent::Updated { .. }
            | InstanceEvent::UpdateFailed { .. }
            | InstanceEvent::Relabelled { .. }
            | InstanceEvent::DeprovisionRequested { .. }
            | InstanceEvent::DeprovisionFailed { .. }
            | InstanceEvent::OrphanRemoved { .. }
            | InstanceEvent::Deprovisioned { .. }
            | InstanceEvent::Deleted => {}
        }
    }

    /// Word to a broker whose catalog was found stale.
    fn of_broker(&mut self, world: &World, key: &ResourceKey, event: &Event) {
        let stale = matches!(
            event,
            Event::ServiceInstance(InstanceEvent::OperationDelayed {
                stale_catalog: true,
                ..
            })
        );
        let attempt = world.instance(key).and_then(|own| own.life.attempt());
        if let Some(attempt) = attempt.filter(|_| stale) {
            let broker = attempt.what.broker_key(&key.org);
            self.0.push((BROKER, Effect::RefreshCatalog(broker)));
        }
    }

    /// Bindings of single functions that are lacking: of this function, of those that use this
    /// instance, or of the function that this binding was for.
    fn own_bindings_of(&mut self, world: &World, key: &ResourceKey) {
        match key.kind {
            Kind::Function => self.create_own_bindings(world, key),
            Kind::ServiceInstance | Kind::ServiceBinding => {
                let functions: Vec<_> = world
                    .users(key)
                    .filter(|user| user.kind == Kind::Function)
                    .cloned()
                    .collect();
                for function in functions {
                    self.create_own_bindings(world, &function);
                }
            }
            _ => {}
        }
    }

    fn create_own_bindings(&mut self, world: &World, key: &ResourceKey) {
        let Some(function) = world.function(key) else {
            return;
        };
        for (binding, instance, owner) in decide::function::own_bindings(world, key, function) {
            let index = word_index(&binding);
            let effect = Effect::CreateBinding {
                key: binding,
                instance: instance.id,
                owner: owner.clone(),
                function: Some(key.name.clone()),
                spec: instance.wish.binding.spec(),
            };
            self.0.push((index, effect));
        }
    }

    fn create_binding(&mut self, world: &World, key: &ResourceKey) {
        let binding = key.sibling(Kind::ServiceBinding);
        if let Some(instance) = world.instance(key)
            && decide::binding::is_wanted(instance)
            && world.binding(&binding).is_none()
        {
            let effect = Effect::CreateBinding {
                key: binding,
                instance: instance.id,
                owner: key.name.clone(),
                function: None,
                spec: instance.wish.binding.spec(),
            };
            self.0.push((BINDING, effect));
        }
    }

    fn leftovers(&mut self, world: &World, recorded: &Recorded) {
        let Some(entry) = world.entry(&recorded.commit.key) else {
            return;
        };
        let function = world.function(&recorded.commit.key);
        for (index, leftover) in (LEFTOVERS..).zip(entry.leftovers(recorded.seq)) {
            match leftover {
                // Runs were routed to it again meanwhile.
                Leftover::Revision(revision)
                    if function.is_some_and(|own| own.is_active(*revision)) => {}
                Leftover::Key(key) => self.0.push((index, Effect::EraseKey(key.clone()))),
                Leftover::Revision(revision) => {
                    self.0.push((index, Effect::RetireRevision(*revision)));
                }
                // Those are spoken to, when there is something to say.
                Leftover::Released(_) => {}
            }
        }
    }

    /// Words to all that may go on now because of this commit.
    fn words(&mut self, world: &World, recorded: &Recorded) {
        let key = &recorded.commit.key;
        let mut others: BTreeSet<ResourceKey> =
            world.users(key).map(|user| (**user).clone()).collect();
        others.insert(key.clone());
        if let Some(entry) = world.entry(key) {
            others.extend(entry.leftovers(recorded.seq).filter_map(|left| match left {
                Leftover::Released(other) => Some((**other).clone()),
                Leftover::Key(_) | Leftover::Revision(_) => None,
            }));
        }
        others.extend(delete::organization_of(world, key));
        match key.kind {
            Kind::ServiceInstance => {
                others.insert(key.sibling(Kind::ServiceBinding));
            }
            Kind::ServiceBinding => {
                let own = key.sibling(Kind::ServiceInstance);
                let owner = world.binding(key).map(|binding| binding.owner_key(key));
                for instance in BTreeSet::from([own.clone(), owner.unwrap_or(own)]) {
                    self.of_bound(world, &instance, &mut others);
                    others.insert(instance);
                }
            }
            _ => {}
        }
        for other in others {
            let decision = proceed(world, &other, recorded.commit.at);
            if !decision.writes.is_empty() {
                let index = word_index(&other);
                self.0.push((index, Effect::Proceed(other)));
            }
        }
    }

    /// Those that use the instance, by its name or by the name of its credentials, and the binding
    /// of another instance that took the name meanwhile.
    fn of_bound(&mut self, world: &World, instance: &ResourceKey, to: &mut BTreeSet<ResourceKey>) {
        to.extend(world.users(instance).map(|user| (**user).clone()));
        if let Some(state) = world.instance(instance)
            && let Ok(secret) = Name::new(state.id.to_string())
        {
            let secret = instance.neighbour(Kind::Secret, &secret);
            to.extend(world.users(&secret).map(|user| (**user).clone()));
        }
        self.create_binding(world, instance);
    }

    /// Words to the instances that go before what uses them goes, or to all that an organization
    /// owns.
    fn deletions(&mut self, world: &World, key: &ResourceKey) {
        if !world.state(key).is_some_and(State::is_going) {
            return;
        }
        let users = match key.kind {
            Kind::Organization => delete::members(world, key),
            Kind::Secret | Kind::ServiceBroker => delete::users(world, key),
            _ => Vec::new(),
        };
        for user in users {
            if world.state(&user).is_some_and(|state| !state.is_going()) {
                let index = word_index(&user);
                self.0.push((index, Effect::Delete((*user).clone())));
            }
        }
    }
}

/// FNV-1a of the key's text, as an index above all others.
fn word_index(key: &ResourceKey) -> u32 {
    let mut hash: u32 = 0x811c_9dc5;
    for byte in key.to_string().bytes() {
        hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    WORDS | hash
}

/// Whether an event may let this or another resource go on.
fn moves_others(event: &Event) -> bool {
    match event {
        Event::BaseImage(event) => !matches!(event, BaseImageEvent::PrepareFailed { .. }),
        Event::Image(event) => !matches!(event, ImageEvent::BuildRequested { .. }),
        Event::Function(event) => !matches!(event, FunctionEvent::LoadRequested { .. }),
        Event::API(event) => !matches!(event, ApiEvent::ServeRequested { .. }),
        Event::Schedule(event) => !matches!(
            event,
            ScheduleEvent::Begun | ScheduleEvent::Passed { .. } | ScheduleEvent::Missed { .. }
        ),
        Event::ServiceBroker(event) => {
            matches!(event, BrokerEvent::DeleteRequested | BrokerEvent::Deleted)
        }
        Event::ServiceClass(event) => !matches!(event, ClassEvent::Withdrawn),
        Event::ServiceInstance(event) => !matches!(
            event,
            InstanceEvent::OperationAccepted { .. }
                | InstanceEvent::OperationProgressed { .. }
                | InstanceEvent::OperationDelayed { .. }
                | InstanceEvent::UpdateProposed { .. }
                | InstanceEvent::UpdateRequested { .. }
                | InstanceEvent::DeprovisionFailed { .. }
        ),
        Event::ServiceBinding(event) => !matches!(
            event,
            BindingEvent::OperationAccepted { .. }
                | BindingEvent::OperationProgressed { .. }
                | BindingEvent::OperationDelayed { .. }
                | BindingEvent::UnbindFailed { .. }
        ),
        Event::Secret(_)
        | Event::Organization(_)
        | Event::ServiceAccount(_)
        | Event::Application(_) => true,
    }
}

/// Whether an event asks for the end of those that use the resource.
fn cascades(event: &Event) -> bool {
    matches!(
        event,
        Event::Secret(SecretEvent::DeleteRequested)
            | Event::ServiceBroker(BrokerEvent::DeleteRequested)
            | Event::Organization(OrganizationEvent::DeleteRequested)
    )
}
