//! The folded state of all resources, with the index of who names whom.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use engine_model::spec::Scope;
use engine_model::{
    Actor, Cause, CommandId, Event, InstanceId, Kind, Name, OrgName, Recorded, ResourceKey, Seq,
    Timestamp,
};

use crate::aggregate::Scene;
use crate::aggregate::api::Api;
use crate::aggregate::base_image::BaseImage;
use crate::aggregate::binding::Binding;
use crate::aggregate::broker::Broker;
use crate::aggregate::class::Class;
use crate::aggregate::function::Function;
use crate::aggregate::image::Image;
use crate::aggregate::instance::Instance;
use crate::aggregate::schedule::Schedule;
use crate::aggregate::secret::Secret;
use crate::state::State;
use crate::world::entry::Entry;
use crate::world::users::Users;

pub(crate) mod entry;
mod users;

/// A key, held once and shared by all who mention it.
pub(crate) type Key = Arc<ResourceKey>;

/// Why an event cannot follow what was folded before it: the stored log is broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("event {event} at {seq} cannot follow the state of {key}")]
pub struct IllegalEvent {
    /// The resource.
    pub key: ResourceKey,
    /// The commit's position.
    pub seq: Seq,
    /// The event's name.
    pub event: String,
}

/// The folded state of all resources.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct World {
    entries: HashMap<Key, Entry>,
    users: Users,
    instances: HashMap<InstanceId, Key>,
    /// How many resources are there per organization, classes excepted, which go with brokers.
    members: HashMap<OrgName, usize>,
    /// Brokers whose classes every organization may use.
    shared: BTreeSet<Key>,
    position: Seq,
}

impl World {
    /// Folds a commit. `false` when its resource has applied that position before, or a later one.
    ///
    /// # Errors
    /// `IllegalEvent` when it cannot follow what is folded; then nothing has changed.
    pub fn apply(&mut self, recorded: &Recorded) -> Result<bool, IllegalEvent> {
        let (seq, commit) = (recorded.seq, &recorded.commit);
        let known = self.entries.get_key_value(&commit.key);
        if known.is_some_and(|(_, entry)| entry.seq >= seq) {
            self.position = self.position.max(seq);
            return Ok(false);
        }
        let key: Key = known.map_or_else(|| Arc::new(commit.key.clone()), |(key, _)| key.clone());
        let before = self
            .entries
            .get(&key)
            .and_then(|entry| entry.state.as_ref());
        let was = before.is_some();
        let renames = commit.events.iter().any(changes_names);
        let named_before = match before {
            Some(state) if renames => state.names(&key),
            _ => Vec::new(),
        };
        let mut leftovers = Vec::new();
        let mut state = before.cloned();
        for event in &commit.events {
            let mut scene = Scene {
                at: commit.at,
                leftovers: &mut leftovers,
            };
            let fits = event.kind() == key.kind;
            state = fits
                .then(|| State::evolve(state.take(), event, &mut scene))
                .and_then(Result::ok)
                .ok_or_else(|| IllegalEvent {
                    key: (*key).clone(),
                    seq,
                    event: event.name(),
                })?;
        }
        if renames {
            let named = state
                .as_ref()
                .map_or_else(Vec::new, |state| state.names(&key));
            let shared = |named: &ResourceKey| {
                let known = self.entries.get_key_value(named);
                known.map_or_else(|| Arc::new(named.clone()), |(key, _)| key.clone())
            };
            self.users
                .change(&key, (&named_before, &named), shared, &mut leftovers);
        }
        self.count(&key, was, state.as_ref());
        let entry = self.entries.entry(key).or_default();
        entry.state = state;
        entry.note(seq, commit, leftovers);
        self.position = self.position.max(seq);
        Ok(true)
    }

    fn count(&mut self, key: &Key, was: bool, state: Option<&State>) {
        if key.kind == Kind::ServiceBroker {
            let all = |state: &State| matches!(state, State::Broker(broker) if broker.scope == Scope::All);
            if state.is_some_and(all) {
                self.shared.insert(key.clone());
            } else {
                self.shared.remove(key);
            }
        }
        if was == state.is_some() {
            return;
        }
        if key.kind != Kind::ServiceClass {
            let members = self.members.entry(key.org.clone()).or_default();
            *members = if was {
                members.saturating_sub(1)
            } else {
                *members + 1
            };
        }
        match state {
            Some(State::Instance(instance)) => {
                self.instances.insert(instance.id, key.clone());
            }
            None if key.kind == Kind::ServiceInstance => {
                // The state is gone, but the entry still holds it until `apply` replaces it.
                if let Some(State::Instance(gone)) =
                    self.entries.get(key).and_then(|entry| entry.state.as_ref())
                {
                    self.instances.remove(&gone.id);
                }
            }
            _ => {}
        }
    }

    /// The last position of a resource, also of one that is gone; zero when it never was.
    #[must_use]
    pub fn last_seq(&self, key: &ResourceKey) -> Seq {
        self.entries.get(key).map_or(Seq(0), |entry| entry.seq)
    }

    /// The highest position that was applied.
    #[must_use]
    pub fn position(&self) -> Seq {
        self.position
    }

    /// How many resources there are; those that are gone do not count.
    #[must_use]
    pub fn resources(&self) -> usize {
        self.states().count()
    }

    /// The id of an instance at its broker, once it was asked for.
    #[must_use]
    pub fn instance_at_broker(&self, key: &ResourceKey) -> Option<InstanceId> {
        self.instance(key)?.at_broker()
    }

    /// Where a command of this resource was decided, if it is one of its recent commands or
    /// created it.
    pub(crate) fn decided(&self, key: &ResourceKey, command: CommandId) -> Option<Seq> {
        self.entries.get(key)?.decided(command)
    }

    /// The class of this name that an organization may use: its own, or else one of a broker that
    /// serves all organizations. One that is offered goes before one that is not.
    pub(crate) fn usable_class(
        &self,
        from: &ResourceKey,
        name: &Name,
    ) -> Option<(ResourceKey, &Class)> {
        let own = from.neighbour(Kind::ServiceClass, name);
        let found = |key: ResourceKey| self.class(&key).map(|class| (key, class));
        let own = found(own);
        if own.as_ref().is_some_and(|(_, class)| class.offered) {
            return own;
        }
        let of_others = self.shared.iter().filter(|broker| broker.org != from.org);
        let shared = of_others
            .filter_map(|broker| {
                let (key, class) = found(broker.neighbour(Kind::ServiceClass, name))?;
                (class.broker == broker.name).then_some((key, class))
            })
            .find(|(_, class)| class.offered);
        shared.or(own)
    }

    /// Whether anything was heard of a resource. A node may hear of what it did itself before it
    /// hears of what others did earlier, so that what is not known need not be gone.
    pub(crate) fn is_known(&self, key: &ResourceKey) -> bool {
        self.entries.contains_key(key)
    }

    /// Whether a resource was there and is no more.
    pub(crate) fn is_gone(&self, key: &ResourceKey) -> bool {
        self.is_known(key) && self.state(key).is_none()
    }

    pub(crate) fn entry(&self, key: &ResourceKey) -> Option<&Entry> {
        self.entries.get(key)
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (&Key, &Entry)> {
        self.entries.iter()
    }

    /// The resources that are there.
    pub(crate) fn states(&self) -> impl Iterator<Item = (&Key, &State)> {
        self.entries
            .iter()
            .filter_map(|(key, entry)| Some((key, entry.state.as_ref()?)))
    }

    pub(crate) fn state(&self, key: &ResourceKey) -> Option<&State> {
        self.entries.get(key)?.state.as_ref()
    }

    /// Those that name `key` and are there, in order.
    pub(crate) fn users(&self, key: &ResourceKey) -> impl Iterator<Item = &Key> {
        self.users.of(key)
    }

    pub(crate) fn check_users(&self) -> Option<String> {
        let fresh = Users::of_all(self.states());
        (fresh != self.users).then(|| "the index of users differs from the states".to_owned())
    }

    pub(crate) fn members(&self, org: &OrgName) -> usize {
        self.members.get(org).copied().unwrap_or(0)
    }

    pub(crate) fn instance_key(&self, id: InstanceId) -> Option<&Key> {
        self.instances.get(&id)
    }

    /// Whose command last changed the resource.
    pub(crate) fn actor(&self, key: &ResourceKey) -> Actor {
        let entry = self.entries.get(key);
        entry.map_or_else(Actor::engine, |entry| Actor(entry.actor.to_string()))
    }
}

macro_rules! getters {
    ($($get:ident: $variant:ident($kind:expr);)+) => {
        impl World {
            $(pub(crate) fn $get(&self, key: &ResourceKey) -> Option<&$variant> {
                match self.state(key)? {
                    State::$variant(state) => Some(state),
                    _ => None,
                }
            })+
        }
    };
}

getters! {
    base_image: BaseImage(Kind::BaseImage);
    image: Image(Kind::Image);
    function: Function(Kind::Function);
    secret: Secret(Kind::Secret);
    broker: Broker(Kind::ServiceBroker);
    class: Class(Kind::ServiceClass);
    instance: Instance(Kind::ServiceInstance);
    binding: Binding(Kind::ServiceBinding);
    api: Api(Kind::API);
    schedule: Schedule(Kind::Schedule);
}

/// Whether an event can change what its resource names, or whether it is there.
fn changes_names(event: &Event) -> bool {
    use engine_model::{
        ApiEvent, BindingEvent, BrokerEvent, ClassEvent, FunctionEvent, ImageEvent,
    };
    use engine_model::{InstanceEvent, ScheduleEvent, SecretEvent};
    match event {
        Event::Image(event) => matches!(
            event,
            ImageEvent::Created { .. } | ImageEvent::Updated { .. } | ImageEvent::Deleted
        ),
        Event::Function(event) => matches!(
            event,
            FunctionEvent::Created { .. }
                | FunctionEvent::Updated { .. }
                | FunctionEvent::Loaded { .. }
                | FunctionEvent::RolledBack { .. }
                | FunctionEvent::Routed { .. }
                | FunctionEvent::Deleted
        ),
        Event::API(event) => matches!(
            event,
            ApiEvent::Created { .. } | ApiEvent::Updated { .. } | ApiEvent::Deleted
        ),
        Event::Schedule(event) => matches!(
            event,
            ScheduleEvent::Created { .. } | ScheduleEvent::Updated { .. } | ScheduleEvent::Deleted
        ),
        Event::ServiceClass(event) => matches!(event, ClassEvent::Offered { .. }),
        Event::ServiceBinding(event) => matches!(
            event,
            BindingEvent::Created { .. }
                | BindingEvent::Unbound { .. }
                | BindingEvent::Deleted
                | BindingEvent::Abandoned { .. }
        ),
        Event::ServiceInstance(event) => matches!(
            event,
            InstanceEvent::Created { .. }
                | InstanceEvent::ProvisionRequested { .. }
                | InstanceEvent::AdoptRequested { .. }
                | InstanceEvent::UpdateProposed { .. }
                | InstanceEvent::Updated { .. }
                | InstanceEvent::Relabelled { .. }
                | InstanceEvent::DeleteRequested
                | InstanceEvent::Deprovisioned { .. }
                | InstanceEvent::Deleted
                | InstanceEvent::Abandoned { .. }
        ),
        Event::ServiceBroker(event) => matches!(event, BrokerEvent::Deleted),
        Event::Secret(event) => matches!(event, SecretEvent::Deleted),
        Event::BaseImage(_)
        | Event::Organization(_)
        | Event::ServiceAccount(_)
        | Event::Application(_) => false,
    }
}

/// A commit's author, when it was someone's command.
pub(crate) fn author(cause: Cause, actor: &Actor) -> Option<Cow<'_, str>> {
    matches!(cause, Cause::Command(_)).then(|| Cow::Borrowed(actor.0.as_str()))
}

/// The moment of a resource's last commit.
pub(crate) fn changed_at(world: &World, key: &ResourceKey) -> Timestamp {
    world.entry(key).map_or(Timestamp(0), |entry| entry.at)
}

/// A name that is an instance's id, as the secret with its credentials is named.
pub(crate) fn as_instance(name: &Name) -> Option<InstanceId> {
    name.as_str().parse().ok()
}
