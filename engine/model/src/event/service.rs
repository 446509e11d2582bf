//! Events of brokers, classes, instances and bindings.

use serde::{Deserialize, Serialize};

use crate::broker::{BoundCredentials, Offering};
use serde_json::Value;

use crate::spec::{BindingSpec, BrokerLimits, InstanceSpec, Scope, Tags};
use crate::{BindingId, InstanceId, Name, OrgName, RequestId, ResourceId, Sealed, Timestamp};

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
        /// Who may use its classes.
        #[serde(default)]
        scope: Scope,
        /// How hard it may be worked.
        #[serde(default, skip_serializing_if = "BrokerLimits::is_default")]
        limits: BrokerLimits,
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
        /// Who may use its classes.
        #[serde(default)]
        scope: Scope,
        /// How hard it may be worked.
        #[serde(default, skip_serializing_if = "BrokerLimits::is_default")]
        limits: BrokerLimits,
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
        /// The API version that the broker answered to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        api_version: Option<String>,
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
    /// Requests to it failed, one after the other: nothing is sent to it for a while.
    CircuitOpened {
        /// What came of the last one.
        reason: String,
        /// How many in a row.
        failures: u32,
        /// Counts the openings since it last answered, from 1.
        opened: u32,
        /// When it is tried again.
        until: Timestamp,
    },
    /// It answers again.
    CircuitClosed,
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
        /// Its id at the broker in this attempt; its own id when it is not given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        instance: Option<InstanceId>,
        /// The broker, by name.
        broker: Name,
        /// The organization of the broker, when it is another one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        broker_org: Option<OrgName>,
        /// The broker's id of the class.
        service_id: String,
        /// The broker's id of the plan.
        plan_id: String,
        /// Whether it will be bound.
        bindable: bool,
        /// The plan's `maintenance_info.version`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        maintenance_version: Option<String>,
        /// When it has failed if it is not done.
        deadline: Timestamp,
    },
    /// It exists at the broker and is to be taken on record: the broker is about to be asked for
    /// it, if it answers such questions.
    AdoptRequested {
        /// The request.
        request: RequestId,
        /// Counts the requests from 1.
        attempt: u32,
        /// Its id at the broker.
        instance: InstanceId,
        /// The broker, by name.
        broker: Name,
        /// The organization of the broker, when it is another one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        broker_org: Option<OrgName>,
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
        /// Whether the broker's catalog is to be read first.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        stale_catalog: bool,
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
    /// Someone asked to change it. What it is stays on record until that has succeeded.
    UpdateProposed {
        /// The plan to change to, by name.
        plan: Option<String>,
        /// Parameters of this update; null for none.
        #[serde(default, skip_serializing_if = "Value::is_null")]
        parameters: Value,
        /// Secrets to merge into the parameters when they are sent.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        secret_parameters: Vec<Name>,
        /// The `maintenance_info.version` to change to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        maintenance_version: Option<String>,
    },
    /// The broker is about to be asked to update it.
    UpdateRequested {
        /// The request.
        request: RequestId,
        /// Counts the requests from 1, over all updates.
        attempt: u32,
        /// The broker's id of the plan to change to.
        plan_id: Option<String>,
        /// Whether it can be bound in that plan.
        bindable: bool,
        /// When it has failed if it is not done.
        deadline: Timestamp,
    },
    /// It is as proposed.
    Updated {
        /// The request.
        request: RequestId,
        /// Where to manage it.
        dashboard_url: Option<String>,
    },
    /// It could not be updated, and is what it was as far as the broker says.
    UpdateFailed {
        /// The request.
        request: RequestId,
        /// Why.
        reason: String,
        /// Whether it can still be used.
        instance_usable: bool,
        /// Whether the same update may be asked for again.
        update_repeatable: bool,
    },
    /// Labels and the manner of later bindings were changed, of which the broker knows nothing.
    Relabelled {
        /// The document as it is now, with plan and parameters as they were.
        spec: InstanceSpec,
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

/// Of a service binding: one per instance, made by the engine; others for a function alone, or by
/// someone's wish.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum BindingEvent {
    /// It is wanted; it waits for its instance.
    Created {
        /// Its id in Dispatch.
        id: ResourceId,
        /// The instance that it binds.
        instance: InstanceId,
        /// The instance by name, when it is not the binding's own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        owner: Option<Name>,
        /// The function that it is for alone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        function: Option<Name>,
        /// Labels.
        #[serde(default, skip_serializing_if = "Tags::is_empty")]
        tags: Tags,
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
        /// Whether it is bound anew once that is removed, without being asked.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        again: bool,
    },
    /// The broker is about to be asked for new credentials; those that are there are still used.
    RotateRequested {
        /// The request.
        request: RequestId,
        /// The new binding at the broker.
        binding: BindingId,
        /// The one that it replaces, if the plan can rotate; otherwise it is a binding like any.
        predecessor: Option<BindingId>,
        /// Counts the attempts from 1, with those to bind.
        attempt: u32,
        /// When it has failed if it is not done.
        deadline: Timestamp,
    },
    /// New credentials are there; the old ones are unbound once nobody uses them.
    Rotated {
        /// The request that made them.
        request: RequestId,
        /// What the broker gave.
        bound: BoundCredentials,
        /// When the last run that was given the old ones has ended.
        drained_at: Timestamp,
    },
    /// New credentials could not be had; those that are there stay.
    RotateFailed {
        /// The request.
        request: RequestId,
        /// Why.
        reason: String,
        /// Whether something may exist at the broker all the same.
        orphan: bool,
        /// Counts the failures since the last success.
        failures: u32,
        /// When it is tried again.
        next_at: Timestamp,
    },
    /// It is to go, because someone asked for it, or its instance or its function is going.
    DeleteRequested,
    /// The broker is about to be asked to unbind.
    UnbindRequested {
        /// The request.
        request: RequestId,
        /// What is unbound, when that is not the binding in use: one that was replaced, or one
        /// that a failed rotation may have left.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replaced: Option<BindingId>,
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
        /// What was unbound, when that is not the binding in use.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replaced: Option<BindingId>,
    },
    /// What may have been left at the broker was given up on record; the failed binding remains.
    OrphanAbandoned {
        /// Why.
        reason: String,
    },
    /// It is gone; nothing is at the broker.
    Deleted,
    /// It was ended on record together with its instance, without a call to the broker.
    Abandoned {
        /// Why.
        reason: String,
    },
}
