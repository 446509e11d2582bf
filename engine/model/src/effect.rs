//! What is to be done outside, as nouns. An effect comes of a commit, under an id that a repeat
//! has again, and is performed by a node that has the role for it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::broker::Endpoint;
use crate::spec::{BindingSpec, BrokerLimits, FunctionSpec, Root, SystemPackage};
use crate::{
    Actor, BindingId, Due, InstanceId, KeyId, Name, OrgName, RequestId, ResourceKey, RevisionId,
    Sealed, Seq, Timestamp,
};

/// Names an effect: which commit asked for it, and which of that commit's effects it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EffectId {
    /// The commit's position.
    pub seq: Seq,
    /// From 0.
    pub index: u32,
}

impl fmt::Display for EffectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.seq, self.index)
    }
}

/// What a node does; each role performs the effects that belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Decides, and calls brokers.
    Engine,
    /// Builds images and runs functions.
    Worker,
    /// Serves endpoints.
    Gateway,
}

impl Role {
    /// The role as a word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Worker => "worker",
            Self::Gateway => "gateway",
        }
    }
}

/// A broker, and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceTarget {
    /// The broker.
    pub broker: ResourceKey,
    /// Where it is.
    pub url: String,
    /// How to authenticate: a sealed JSON document.
    pub credentials: Sealed,
    /// PEM certificates to trust; may be empty.
    pub ca: String,
    /// The API version that it answered to; none when that is not known yet.
    pub api_version: Option<String>,
    /// How hard it may be worked.
    pub limits: BrokerLimits,
    /// Its circuit is open: nothing is sent before this moment, and one request at a time after it,
    /// until one is answered.
    pub paused_until: Option<Timestamp>,
}

/// What every request about an instance says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceCall {
    /// The request's identity, the same for each repeat.
    pub request: RequestId,
    /// The instance at the broker.
    pub instance: InstanceId,
    /// Its name in Dispatch.
    pub name: Name,
    /// Whose it is.
    pub org: OrgName,
    /// The broker's id of the class.
    pub service_id: String,
    /// The broker's id of the plan.
    pub plan_id: String,
    /// On whose behalf.
    pub actor: Actor,
    /// Nobody waits for it: what a failed request may have left is being removed. Sent after all
    /// else, and without anyone's identity.
    pub background: bool,
}

/// What is to change of an instance; what is not named stays (section Updating a Service Instance).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UpdateCall {
    /// The broker's id of the plan to change to.
    pub plan_id: Option<String>,
    /// Parameters that were asked for in this update; null for none.
    pub parameters: Value,
    /// Secrets to merge into the parameters, later ones winning.
    pub secret_parameters: Vec<Sealed>,
    /// The schema of the merged parameters; null for any.
    pub schema: Value,
    /// The `maintenance_info.version` to change to.
    pub maintenance_version: Option<String>,
    /// The one that the instance has.
    pub previous_maintenance_version: Option<String>,
}

/// A layer of dependencies to be built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageBuild {
    /// Counts the builds of the image from 1.
    pub build: u32,
    /// The language pack.
    pub language: String,
    /// The language's own manifest; empty for none.
    pub manifest: String,
    /// Packages of the operating system.
    pub packages: Vec<SystemPackage>,
    /// The root to build it in; none for the node's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<Root>,
}

/// A revision of a function to be loaded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FunctionLoad {
    /// The revision.
    pub revision: RevisionId,
    /// The language pack.
    pub language: String,
    /// The digest of the image's layer.
    pub layer: Option<String>,
    /// The root of the image; none for the node's own interpreter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<Root>,
    /// The function's document, its source among it.
    pub spec: Arc<FunctionSpec>,
    /// What its services listen on.
    pub endpoints: Vec<Endpoint>,
}

/// What the resources of the platform are made of: all else of the same kinds may be removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Used {
    /// Digests of the manifests of roots.
    pub roots: BTreeSet<String>,
    /// Digests of dependency layers.
    pub layers: BTreeSet<String>,
}

/// A timer to be set. Setting it again replaces it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimerRequest {
    /// What is to be looked at.
    pub due: Due,
    /// When.
    pub at: Timestamp,
}

/// Something to be done outside a decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Effect {
    /// Another resource may go on: look at it.
    Proceed(ResourceKey),
    /// A binding is wanted for an instance.
    CreateBinding {
        /// The binding.
        key: ResourceKey,
        /// The instance.
        instance: InstanceId,
        /// The instance, by name.
        owner: Name,
        /// The function that it is for alone; none for the binding that every instance has.
        function: Option<Name>,
        /// How to bind.
        spec: BindingSpec,
    },
    /// The binding is to go, because its instance or its function is going.
    DeleteBinding(ResourceKey),
    /// The binding is to be ended on record, because its instance was.
    AbandonBinding {
        /// The binding.
        key: ResourceKey,
        /// Why.
        reason: String,
    },
    /// A resource goes, because what it uses is going.
    Delete(ResourceKey),
    /// A timer is to be set.
    Timer(TimerRequest),
    /// A data key is to be erased, so that what it sealed can never be read again.
    EraseKey(KeyId),
    /// A broker's catalog is stale: it is to be read soon.
    RefreshCatalog(ResourceKey),
    /// A broker's catalog is to be read.
    ReadCatalog {
        /// The broker.
        target: ServiceTarget,
        /// The version that is known.
        etag: Option<String>,
    },
    /// An instance is to be provisioned.
    Provision {
        /// The broker.
        target: ServiceTarget,
        /// What the request says.
        call: ServiceCall,
        /// Parameters; null for none.
        parameters: Value,
        /// Secrets to merge into the parameters, later ones winning.
        secret_parameters: Vec<Sealed>,
        /// The plan's schema of the merged parameters; null for any.
        schema: Value,
        /// The plan's `maintenance_info.version`.
        maintenance_version: Option<String>,
    },
    /// An instance that exists at the broker is to be looked at, in order to take it on record.
    FetchInstance {
        /// The broker.
        target: ServiceTarget,
        /// What the request says.
        call: ServiceCall,
    },
    /// An instance is to be updated.
    UpdateInstance {
        /// The broker.
        target: ServiceTarget,
        /// What the request says; its plan is the one before the update.
        call: ServiceCall,
        /// What is to change.
        update: UpdateCall,
    },
    /// A broker is to be asked how an operation on an instance is going.
    PollInstance {
        /// The broker.
        target: ServiceTarget,
        /// What the request says; `request` is the one that began the operation.
        call: ServiceCall,
        /// Echoed unchanged.
        operation: Option<String>,
    },
    /// An instance is to be deprovisioned.
    Deprovision {
        /// The broker.
        target: ServiceTarget,
        /// What the request says.
        call: ServiceCall,
    },
    /// An instance is to be bound.
    Bind {
        /// The broker.
        target: ServiceTarget,
        /// What the request says.
        call: ServiceCall,
        /// The binding at the broker.
        binding: BindingId,
        /// The binding that it takes the place of (section Binding Rotation).
        predecessor: Option<BindingId>,
        /// Whether the broker offers to look at bindings.
        retrievable: bool,
        /// Whether it may have been sent before: set by who performs it.
        repeat: bool,
        /// Parameters; null for none.
        parameters: Value,
        /// Secrets to merge into the parameters, later ones winning.
        secret_parameters: Vec<Sealed>,
        /// The plan's schema of the merged parameters; null for any.
        schema: Value,
    },
    /// A broker is to be asked how an operation on a binding is going; a finished bind is fetched.
    PollBinding {
        /// The broker.
        target: ServiceTarget,
        /// What the request says; `request` is the one that began the operation.
        call: ServiceCall,
        /// The binding at the broker.
        binding: BindingId,
        /// Echoed unchanged.
        operation: Option<String>,
        /// Whether the operation is an unbind.
        unbinding: bool,
    },
    /// A binding is to be unbound.
    Unbind {
        /// The broker.
        target: ServiceTarget,
        /// What the request says.
        call: ServiceCall,
        /// The binding at the broker.
        binding: BindingId,
    },
    /// An interpreter is to be made ready.
    PrepareBaseImage {
        /// Counts the preparations from 1.
        generation: u32,
        /// The language pack.
        language: String,
        /// Where the root comes from.
        docker_url: String,
    },
    /// A layer is to be built.
    BuildImage(ImageBuild),
    /// A revision is to be loaded.
    LoadFunction(FunctionLoad),
    /// A revision is no longer called: its workers may go.
    RetireRevision(RevisionId),
    /// An endpoint is to be served.
    ServeApi {
        /// Counts the changes from 1.
        generation: u32,
    },
}

impl Effect {
    /// The request to a broker that it is about, if it is about one of a resource.
    #[must_use]
    pub fn request(&self) -> Option<RequestId> {
        match self {
            Self::Provision { call, .. }
            | Self::FetchInstance { call, .. }
            | Self::UpdateInstance { call, .. }
            | Self::PollInstance { call, .. }
            | Self::Deprovision { call, .. }
            | Self::Bind { call, .. }
            | Self::PollBinding { call, .. }
            | Self::Unbind { call, .. } => Some(call.request),
            _ => None,
        }
    }

    /// The role that performs it.
    #[must_use]
    pub fn role(&self) -> Role {
        match self {
            Self::PrepareBaseImage { .. }
            | Self::BuildImage(_)
            | Self::LoadFunction(_)
            | Self::RetireRevision(_) => Role::Worker,
            Self::ServeApi { .. } => Role::Gateway,
            Self::Proceed(_)
            | Self::CreateBinding { .. }
            | Self::DeleteBinding(_)
            | Self::AbandonBinding { .. }
            | Self::Delete(_)
            | Self::Timer(_)
            | Self::EraseKey(_)
            | Self::RefreshCatalog(_)
            | Self::ReadCatalog { .. }
            | Self::Provision { .. }
            | Self::FetchInstance { .. }
            | Self::UpdateInstance { .. }
            | Self::PollInstance { .. }
            | Self::Deprovision { .. }
            | Self::Bind { .. }
            | Self::PollBinding { .. }
            | Self::Unbind { .. } => Role::Engine,
        }
    }
}
