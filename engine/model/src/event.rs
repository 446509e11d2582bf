//! What happened to a resource, in the past tense. An enum per kind, externally tagged, so that
//! an event reads `{"ServiceInstance":{"Provisioned":{…}}}`.

mod service;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use service::{BindingEvent, BrokerEvent, ClassEvent, InstanceEvent};

use crate::broker::Endpoint;
use crate::revision::{Because, Share};
use crate::schedule::ScheduleEvent;
use crate::spec::{
    ApiSpec, ApplicationSpec, BaseImageSpec, FunctionSpec, ImageSpec, OrganizationSpec, Root,
    ServiceAccountSpec, Tags,
};
use crate::{FunctionId, Kind, ResourceId, RevisionId, Sealed};

/// An event of any kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// Of a base image.
    BaseImage(BaseImageEvent),
    /// Of an image.
    Image(ImageEvent),
    /// Of a function.
    Function(FunctionEvent),
    /// Of a secret.
    Secret(SecretEvent),
    /// Of a broker.
    ServiceBroker(BrokerEvent),
    /// Of a service class and its plans.
    ServiceClass(ClassEvent),
    /// Of a service instance.
    ServiceInstance(InstanceEvent),
    /// Of a service binding.
    ServiceBinding(BindingEvent),
    /// Of an endpoint.
    API(ApiEvent),
    /// Of a schedule.
    Schedule(ScheduleEvent),
    /// Of an organization.
    Organization(OrganizationEvent),
    /// Of a service account.
    ServiceAccount(ServiceAccountEvent),
    /// Of an application.
    Application(ApplicationEvent),
}

impl Event {
    /// The kind of resource that it happened to.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::BaseImage(_) => Kind::BaseImage,
            Self::Image(_) => Kind::Image,
            Self::Function(_) => Kind::Function,
            Self::Secret(_) => Kind::Secret,
            Self::ServiceBroker(_) => Kind::ServiceBroker,
            Self::ServiceClass(_) => Kind::ServiceClass,
            Self::ServiceInstance(_) => Kind::ServiceInstance,
            Self::ServiceBinding(_) => Kind::ServiceBinding,
            Self::API(_) => Kind::API,
            Self::Schedule(_) => Kind::Schedule,
            Self::Organization(_) => Kind::Organization,
            Self::ServiceAccount(_) => Kind::ServiceAccount,
            Self::Application(_) => Kind::Application,
        }
    }

    /// The event's own name, such as `ProvisionRequested`.
    ///
    /// # Panics
    /// Never: an event always serializes to a map of one entry within a map of one entry.
    #[must_use]
    pub fn name(&self) -> String {
        let value = serde_json::to_value(self).expect("an event is plain data");
        let inner = value
            .as_object()
            .and_then(|kind| kind.values().next())
            .cloned();
        match inner {
            Some(Value::String(name)) => name,
            Some(Value::Object(map)) => map.keys().next().cloned().unwrap_or_default(),
            _ => String::new(),
        }
    }
}

/// Of a base image: created → prepared | failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum BaseImageEvent {
    /// It was asked for; a node is to prepare it.
    Created {
        /// Its id for ever.
        id: ResourceId,
        /// What was asked for.
        spec: BaseImageSpec,
    },
    /// It was asked to be otherwise; a node is to prepare it again.
    Updated {
        /// What is asked for now.
        spec: BaseImageSpec,
    },
    /// A node runs its interpreter in the sandbox.
    Prepared {
        /// Counts the preparations from 1.
        generation: u32,
        /// What the interpreter says of itself.
        version: String,
        /// The digest of the image that is its root; none when it is the node's own interpreter.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest: Option<String>,
    },
    /// No node can run it.
    PrepareFailed {
        /// Counts the preparations from 1.
        generation: u32,
        /// Why.
        reason: String,
    },
    /// It is gone.
    Deleted,
}

/// Of an image: created → (waits for its base image) → build requested → built | failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ImageEvent {
    /// It was asked for.
    Created {
        /// Its id for ever.
        id: ResourceId,
        /// What was asked for.
        spec: ImageSpec,
    },
    /// It was asked to be otherwise.
    Updated {
        /// What is asked for now.
        spec: ImageSpec,
    },
    /// Its base image is there: the layer is about to be built.
    BuildRequested {
        /// Counts the builds from 1.
        build: u32,
        /// The language of the base image.
        language: String,
        /// The root of the base image; none when it is the node's own interpreter.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        root: Option<Root>,
    },
    /// The layer is in the blob store.
    Built {
        /// Which build it was.
        build: u32,
        /// The layer's digest; none when there are no dependencies.
        layer: Option<String>,
        /// The layer's size in bytes.
        bytes: u64,
        /// Where in the blob store what the tools printed is, if they printed anything.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        log: Option<String>,
    },
    /// The layer could not be built.
    BuildFailed {
        /// Which build it was.
        build: u32,
        /// Why, with the tool's last lines.
        reason: String,
        /// Where in the blob store what the tools printed is, if they printed anything.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        log: Option<String>,
    },
    /// It is gone.
    Deleted,
}

/// Of a function: created → (waits for image, secrets, services) → load requested → loaded |
/// failed. Each change is a revision; the old one serves until the new one is loaded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum FunctionEvent {
    /// It was asked for.
    Created {
        /// Its id for ever.
        id: FunctionId,
        /// What was asked for.
        spec: FunctionSpec,
    },
    /// It was asked to be otherwise.
    Updated {
        /// What is asked for now.
        spec: FunctionSpec,
    },
    /// The document of an earlier revision was asked for again.
    RolledBack {
        /// The number of that revision.
        to: u32,
        /// Its document.
        spec: FunctionSpec,
    },
    /// Its runs were divided among revisions.
    Routed {
        /// How; nothing for the newest loaded revision, whichever that is.
        shares: Vec<Share>,
    },
    /// All that it names is there: the revision is about to be loaded in a worker.
    LoadRequested {
        /// The revision.
        revision: RevisionId,
        /// Counts the revisions from 1.
        number: u32,
        /// The language of its image.
        language: String,
        /// The layer of its image.
        layer: Option<String>,
        /// The root of its image; none when it is the node's own interpreter.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        root: Option<Root>,
        /// What its services listen on.
        endpoints: Vec<Endpoint>,
        /// Why there is another revision.
        #[serde(default)]
        because: Because,
    },
    /// A sandboxed worker has loaded the handler.
    Loaded {
        /// The revision.
        revision: RevisionId,
    },
    /// The handler cannot be loaded.
    LoadFailed {
        /// The revision.
        revision: RevisionId,
        /// Why: exactly one reason.
        reason: String,
    },
    /// It is gone.
    Deleted,
}

/// Of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SecretEvent {
    /// It was stored.
    Created {
        /// Its id for ever.
        id: ResourceId,
        /// The sealed map.
        sealed: Sealed,
        /// Labels.
        tags: Tags,
    },
    /// The whole map was replaced.
    Updated {
        /// The sealed map.
        sealed: Sealed,
        /// Labels.
        tags: Tags,
    },
    /// Someone asked to delete it together with the instances that use it, which go first.
    DeleteRequested,
    /// It is gone, and its data key is to be erased.
    Deleted,
}

/// Of an endpoint: created → (waits for its function) → served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ApiEvent {
    /// It was asked for.
    Created {
        /// Its id for ever.
        id: ResourceId,
        /// What was asked for.
        spec: ApiSpec,
    },
    /// It was asked to be otherwise.
    Updated {
        /// What is asked for now.
        spec: ApiSpec,
    },
    /// A gateway is about to serve it.
    ServeRequested {
        /// Counts the changes from 1.
        generation: u32,
    },
    /// A gateway serves it.
    Served {
        /// Which change it serves.
        generation: u32,
    },
    /// No gateway can serve it.
    ServeFailed {
        /// Which change.
        generation: u32,
        /// Why.
        reason: String,
    },
    /// It is gone.
    Deleted,
}

/// Of an organization.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum OrganizationEvent {
    /// It was founded.
    Created {
        /// Its id for ever.
        id: ResourceId,
        /// What was asked for.
        spec: OrganizationSpec,
    },
    /// Someone asked to delete it together with all that it owns, which goes first.
    DeleteRequested,
    /// It is gone.
    Deleted,
}

/// Of a service account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceAccountEvent {
    /// It may come in.
    Created {
        /// Its id for ever.
        id: ResourceId,
        /// What was asked for.
        spec: ServiceAccountSpec,
    },
    /// It has another token.
    Updated {
        /// What is asked for now.
        spec: ServiceAccountSpec,
    },
    /// It may come in no more.
    Deleted,
}

/// Of an application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ApplicationEvent {
    /// It was named.
    Created {
        /// Its id for ever.
        id: ResourceId,
        /// What was asked for.
        spec: ApplicationSpec,
    },
    /// Its labels changed.
    Updated {
        /// What is asked for now.
        spec: ApplicationSpec,
    },
    /// It is gone.
    Deleted,
}
