//! The state of a resource of any kind, and what it names.

use engine_model::{Event, Kind, Name, ResourceKey};

use crate::aggregate::api::Api;
use crate::aggregate::base_image::BaseImage;
use crate::aggregate::binding::Binding;
use crate::aggregate::broker::Broker;
use crate::aggregate::class::Class;
use crate::aggregate::function::Function;
use crate::aggregate::image::Image;
use crate::aggregate::instance::Instance;
use crate::aggregate::plain::{Application, Organization, ServiceAccount};
use crate::aggregate::schedule::Schedule;
use crate::aggregate::secret::Secret;
use crate::aggregate::{Illegal, Scene};

/// What is known of a resource that is there.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum State {
    BaseImage(Box<BaseImage>),
    Image(Box<Image>),
    Function(Box<Function>),
    Secret(Box<Secret>),
    Broker(Box<Broker>),
    Class(Box<Class>),
    Instance(Box<Instance>),
    Binding(Box<Binding>),
    Api(Box<Api>),
    Schedule(Box<Schedule>),
    Organization(Box<Organization>),
    ServiceAccount(Box<ServiceAccount>),
    Application(Box<Application>),
}

macro_rules! evolve {
    ($state:ident, $event:ident, $scene:ident, $($variant:ident: $kind:ident $(, $with:ident)?;)+) => {
        match ($event, $state) {
            $(
                (Event::$kind(event), None) => {
                    $variant::evolve(None, event $(, $with)?)
                        .map(|next| next.map(|next| State::$variant(Box::new(next))))
                }
                (Event::$kind(event), Some(State::$variant(mut held))) => {
                    match $variant::evolve(Some(*held), event $(, $with)?)? {
                        None => Ok(None),
                        Some(next) => {
                            held = Box::new(next);
                            Ok(Some(State::$variant(held)))
                        }
                    }
                }
            )+
            (_, Some(_)) => Err(()),
        }
    };
}

impl State {
    /// What becomes of a state by an event; `None` when the resource is gone.
    pub(crate) fn evolve(
        state: Option<Self>,
        event: &Event,
        scene: &mut Scene<'_>,
    ) -> Result<Option<Self>, Illegal> {
        evolve! { state, event, scene,
            BaseImage: BaseImage, scene;
            Image: Image, scene;
            Function: Function, scene;
            Secret: Secret, scene;
            Broker: ServiceBroker, scene;
            Class: ServiceClass;
            Instance: ServiceInstance, scene;
            Binding: ServiceBinding, scene;
            Api: API, scene;
            Schedule: Schedule, scene;
            Organization: Organization;
            ServiceAccount: ServiceAccount;
            Application: Application;
        }
    }

    /// Whether its end was asked for.
    pub(crate) fn is_going(&self) -> bool {
        match self {
            Self::Secret(state) => state.deleting,
            Self::Broker(state) => state.deleting,
            Self::Organization(state) => state.deleting,
            Self::Instance(state) => state.life.is_going(),
            Self::Binding(state) => state.life.is_going(),
            Self::BaseImage(_)
            | Self::Image(_)
            | Self::Function(_)
            | Self::Class(_)
            | Self::Api(_)
            | Self::Schedule(_)
            | Self::ServiceAccount(_)
            | Self::Application(_) => false,
        }
    }

    /// The resources that it names, whether they are there or not.
    pub(crate) fn names(&self, key: &ResourceKey) -> Vec<ResourceKey> {
        let of = |kind, name: &Name| key.neighbour(kind, name);
        let all = |kind, names: &[Name]| -> Vec<ResourceKey> {
            names.iter().map(|name| of(kind, name)).collect()
        };
        match self {
            Self::Image(state) => vec![of(Kind::BaseImage, &state.spec.base_image_name)],
            Self::Function(state) => {
                let mut named = vec![of(Kind::Image, &state.spec.image)];
                let routed = state.routed().map(|own| &*own.load.spec);
                let serving = state.serving.iter().map(|load| &*load.spec);
                for spec in std::iter::once(&*state.spec).chain(serving).chain(routed) {
                    named.extend(all(Kind::Secret, &spec.secrets));
                    for used in &spec.services {
                        named.push(of(Kind::ServiceInstance, &used.instance));
                        named.push(of(Kind::ServiceBinding, &used.binding_name(&key.name)));
                    }
                }
                named
            }
            Self::Class(state) => vec![of(Kind::ServiceBroker, &state.broker)],
            Self::Instance(state) => {
                let mut named = all(Kind::Secret, &state.wish.secrets);
                named.extend(all(Kind::Secret, &state.wish.binding.secrets));
                if let Ok(class) = Name::new(&*state.wish.class) {
                    named.push(of(Kind::ServiceClass, &class));
                }
                if let Some(attempt) = state.life.attempt() {
                    let broker = attempt.what.broker_key(&key.org);
                    if broker.org != key.org
                        && let Ok(class) = Name::new(&*state.wish.class)
                    {
                        named.push(broker.neighbour(Kind::ServiceClass, &class));
                    }
                    named.push(broker);
                }
                if let Some(update) = &state.update {
                    named.extend(all(Kind::Secret, &update.proposal.secrets));
                }
                named
            }
            Self::Api(state) => vec![of(Kind::Function, &state.spec.function)],
            Self::Schedule(state) => {
                let mut named = all(Kind::Secret, &state.spec.secrets);
                named.push(of(Kind::Function, &state.spec.function));
                named
            }
            Self::Binding(state) => {
                let mut named = all(Kind::Secret, &state.wish.secrets);
                named.push(state.owner_key(key));
                named.extend(
                    state
                        .function
                        .iter()
                        .map(|function| of(Kind::Function, function)),
                );
                named
            }
            Self::BaseImage(_)
            | Self::Secret(_)
            | Self::Broker(_)
            | Self::Organization(_)
            | Self::ServiceAccount(_)
            | Self::Application(_) => Vec::new(),
        }
    }
}
