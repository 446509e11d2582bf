//! Events of brokers, classes, instances and bindings.

use serde::{Deserialize, Serialize};

use crate::broker::{BoundCredentials, Offering};
use crate::spec::{BindingSpec, InstanceSpec, Tags};
use crate::{BindingId, InstanceId, Name, RequestId, ResourceId, Sealed, Timestamp};

/// Of a broker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum BrokerEvent {
    /// It was registered; its catalog is to be read.
    Registered {
        /// Its id for ever.
        id: ResourceId,
        /// Where it is.
        url: String,
        /// How to authenticate.
        credentials: Sealed,
        /// PEM certificates to trust; may be empty.
        ca: String,
        /// Labels.
        tags: Tags,
    },
    /// It moved, or has other credentials.
    Updated {
        /// Where it is.
        url: String,
        /// How to authenticate.
        credentials: Sealed,
        /// PEM certificates to trust; may be empty.
        ca: String,
        /// Labels.
        tags: Tags,
    },
    /// Someone asked to read the catalog now.
    RefreshRequested,
    /// The catalog was read; the classes that changed bear events of their own.
    CatalogRead {
        /// The broker's word for this version of the catalog.
        etag: Option<String>,
        /// Names of the classes that it offers.
        classes: Vec<String>,
        /// Entries that could not be taken, each with the reason.
        refused: Vec<String>,
        /// When it is read next.
        next_at: Timestamp,
    },
    /// The catalog could not be read; what is known stays.
    CatalogFailed {
        /// Why.
        reason: String,
        /// Counts the failures since the last success.
        failures: u32,
        /// When it is tried next.
        next_at: Timestamp,
    },
    /// Someone asked to delete it together with its instances, which go first.
    DeleteRequested,
    /// It is gone.
    Deleted,
}

/// Of a service class and its plans.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ClassEvent {
    /// The catalog has it, and had not.
    Offered {
        /// Its id in Dispatch.
        id: ResourceId,
        /// The broker, by name.
        broker: Name,
        /// What is offered.
        offering: Offering,
    },
    /// The catalog has it otherwise.
    Changed {
        /// What is offered now.
        offering: Offering,
        /// One line per difference.
        diff: Vec<String>,
    },
    /// The catalog has it no more; those who use it keep it.
    Withdrawn,
}

/// Of a service instance. A request event is the intent: it is committed before the first byte
/// leaves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum InstanceEvent {
    /// It was asked for.
    Created {
        /// Its id at the broker, for ever.
        id: InstanceId,
        /// What was asked for.
        spec: InstanceSpec,
    },
    /// The broker is about to be asked to provision it.
    ProvisionRequested {
        /// The request.
        request: RequestId,
        /// Counts the requests from 1.
        attempt: u32,
        /// The broker, by name.
        broker: Name,
        /// The broker's id of the class.
        service_id: String,
        /// The broker's id of the plan.
        plan_id: String,
        /// Whether it will be bound.
        bindable: bool,
        /// When it has failed if it is not done.
        deadline: Timestamp,
    },
    /// The broker works on the operation (202).
    OperationAccepted {
        /// The request that began it.
        request: RequestId,
        /// Echoed with every poll, unchanged.
        operation: Option<String>,
        /// Where to manage the instance.
        dashboard_url: Option<String>,
        /// When to ask how it goes.
        next_at: Timestamp,
    },
    /// The broker still works on it.
    OperationProgressed {
        /// The request that began it.
        request: RequestId,
        /// The broker's words, or what was wrong with its answer.
        description: Option<String>,
        /// Counts the polls from 1.
        polls: u32,
        /// When to ask again.
        next_at: Timestamp,
    },
    /// The request did not reach the broker, or the broker is busy: it is repeated, unchanged.
    OperationDelayed {
        /// The request.
        request: RequestId,
        /// Why.
        reason: String,
        /// Counts the delays from 1.
        delays: u32,
        /// When it is repeated.
        next_at: Timestamp,
    },
    /// It exists at the broker.
    Provisioned {
        /// The request that made it.
        request: RequestId,
        /// Where to manage it.
        dashboard_url: Option<String>,
    },
    /// It could not be made.
    ProvisionFailed {
        /// The request.
        request: RequestId,
        /// Why.
        reason: String,
        /// Whether something may exist at the broker all the same.
        orphan: bool,
    },
    /// Someone asked to delete it; it is unbound first.
    DeleteRequested,
    /// The broker is about to be asked to deprovision it.
    DeprovisionRequested {
        /// The request.
        request: RequestId,
        /// Counts the requests from 1.
        attempt: u32,
    },
    /// It could not be taken away yet; it is tried again.
    DeprovisionFailed {
        /// The request.
        request: RequestId,
        /// Why.
        reason: String,
        /// When it is tried again.
        next_at: Timestamp,
    },
    /// What may have been left at the broker is gone; the failed instance remains on record.
    OrphanRemoved {
        /// The request.
        request: RequestId,
    },
    /// It is gone at the broker.
    Deprovisioned {
        /// The request.
        request: RequestId,
    },
    /// It is gone; nothing is at the broker.
    Deleted,
    /// Someone ended it on record, without a call to the broker.
    Abandoned {
        /// Why.
        reason: String,
    },
}

/// Of a service binding: one per instance, made by the engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum BindingEvent {
    /// It is wanted; it waits for its instance.
    Created {
        /// Its id in Dispatch.
        id: ResourceId,
        /// The instance that it binds, which bears the same name.
        instance: InstanceId,
        /// How.
        spec: BindingSpec,
    },
    /// The broker is about to be asked to bind.
    BindRequested {
        /// The request.
        request: RequestId,
        /// The binding at the broker; a new one for each attempt.
        binding: BindingId,
        /// Counts the attempts from 1.
        attempt: u32,
        /// When it has failed if it is not done.
        deadline: Timestamp,
    },
    /// The broker works on the operation (202).
    OperationAccepted {
        /// The request that began it.
        request: RequestId,
        /// Echoed with every poll, unchanged.
        operation: Option<String>,
        /// When to ask how it goes.
        next_at: Timestamp,
    },
    /// The broker still works on it.
    OperationProgressed {
        /// The request that began it.
        request: RequestId,
        /// The broker's words, or what was wrong with its answer.
        description: Option<String>,
        /// Counts the polls from 1.
        polls: u32,
        /// When to ask again.
        next_at: Timestamp,
    },
    /// The request did not reach the broker, or the broker is busy: it is repeated, unchanged.
    OperationDelayed {
        /// The request.
        request: RequestId,
        /// Why.
        reason: String,
        /// Counts the delays from 1.
        delays: u32,
        /// When it is repeated.
        next_at: Timestamp,
    },
    /// Credentials are there.
    Bound {
        /// The request that made it.
        request: RequestId,
        /// What the broker gave.
        bound: BoundCredentials,
    },
    /// It could not be bound.
    BindFailed {
        /// The request.
        request: RequestId,
        /// Why.
        reason: String,
        /// Whether something may exist at the broker all the same.
        orphan: bool,
    },
    /// Its instance is being deleted: it is to go first.
    DeleteRequested,
    /// The broker is about to be asked to unbind.
    UnbindRequested {
        /// The request.
        request: RequestId,
        /// Counts the requests from 1.
        attempt: u32,
    },
    /// It could not be unbound yet; it is tried again.
    UnbindFailed {
        /// The request.
        request: RequestId,
        /// Why.
        reason: String,
        /// When it is tried again.
        next_at: Timestamp,
    },
    /// What may have been left at the broker is gone; the failed binding remains on record.
    OrphanRemoved {
        /// The request.
        request: RequestId,
    },
    /// It is gone at the broker, and its data key is to be erased.
    Unbound {
        /// The request.
        request: RequestId,
    },
    /// It is gone; nothing is at the broker.
    Deleted,
    /// It was ended on record together with its instance, without a call to the broker.
    Abandoned {
        /// Why.
        reason: String,
    },
}
