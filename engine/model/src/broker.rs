//! What a service broker said, in the engine's words (Open Service Broker API 2.17).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Sealed, Timestamp};

/// A service offering, as the engine keeps it (section Service Offering Object).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Offering {
    /// The broker's id; compared only within this broker.
    pub id: String,
    /// The name that people use.
    pub name: String,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// Whether instances can be bound, unless the plan says otherwise.
    pub bindable: bool,
    /// Whether `GET` on an instance is offered.
    #[serde(default)]
    pub instances_retrievable: bool,
    /// Whether `GET` on a binding is offered.
    #[serde(default)]
    pub bindings_retrievable: bool,
    /// Whether a plan can be changed, unless the plan says otherwise.
    #[serde(default)]
    pub plan_updateable: bool,
    /// Labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Permissions that the service wants: `syslog_drain`, `route_forwarding`, `volume_mount`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<String>,
    /// Opaque.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub metadata: Value,
    /// The plans, in the catalog's order.
    pub plans: Vec<Plan>,
}

/// A service plan (section Service Plan Object).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// The broker's id; compared only within this broker.
    pub id: String,
    /// The name that people use.
    pub name: String,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// Whether it costs nothing.
    pub free: bool,
    /// Overrides the offering's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bindable: Option<bool>,
    /// Overrides the offering's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_updateable: Option<bool>,
    /// Whether a binding can be replaced by a newer one.
    #[serde(default)]
    pub binding_rotatable: bool,
    /// Seconds after which an operation that is still polled has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum_polling_duration: Option<u64>,
    /// `maintenance_info.version`, a semantic version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance_version: Option<String>,
    /// Opaque.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub metadata: Value,
    /// JSON schemas of the parameters.
    #[serde(default)]
    pub schemas: PlanSchemas,
}

impl Plan {
    /// Whether instances of this plan can be bound.
    #[must_use]
    pub fn is_bindable(&self, offering: &Offering) -> bool {
        self.bindable.unwrap_or(offering.bindable)
    }
}

/// JSON schemas of the parameters of provision, update and bind; null for any.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PlanSchemas {
    /// Of a provision request.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub create: Value,
    /// Of an update request.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub update: Value,
    /// Of a bind request.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub bind: Value,
}

/// What came of a request that changes something at the broker. Classified by what was sent and
/// what came back, never by the kind of exception.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Verdict<T> {
    /// 200 or 201: it is done.
    Done(T),
    /// 202: it is under way; poll, echoing `operation` unchanged.
    Accepted {
        /// The broker's word for the operation.
        operation: Option<String>,
        /// Where to manage the instance.
        dashboard_url: Option<String>,
        /// The broker's wish for the first poll, in milliseconds from now.
        retry_after_ms: Option<u64>,
    },
    /// 410 to a delete: it is not there, which is what was wanted.
    Gone,
    /// A 4xx: nothing has happened, and a repeat would not change that.
    Rejected {
        /// For a person, bounded.
        reason: String,
    },
    /// 422 ConcurrencyError or 429: nothing has happened, wait and repeat.
    Busy {
        /// For a person, bounded.
        reason: String,
        /// The broker's wish, in milliseconds from now.
        retry_after_ms: Option<u64>,
    },
    /// 422 AsyncRequired, or MaintenanceInfoConflict: nothing has happened, and a repeat, with the
    /// broker's newer catalog where that was stale, may be taken. Repeated a few times only.
    Again {
        /// For a person, bounded.
        reason: String,
        /// Whether the catalog is to be read before the repeat.
        stale_catalog: bool,
    },
    /// It is there, and what the broker gave for it cannot be trusted: it answered a repeat of a
    /// request whose first answer was lost. To be removed, and made anew under another id.
    Doubt {
        /// For a person, bounded.
        reason: String,
    },
    /// Nothing was sent: refused, no such host, 408. Repeat under the same id.
    NotSent {
        /// For a person, bounded.
        reason: String,
    },
    /// It may or may not have happened.
    Unknown {
        /// For a person, bounded.
        reason: String,
        /// Whether section Orphan Mitigation asks to delete what may have been created.
        orphan: bool,
    },
}

/// What a poll of `last_operation` said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Progress {
    /// It goes on.
    InProgress {
        /// The broker's words for people.
        description: Option<String>,
        /// The broker's wish for the next poll, in milliseconds from now.
        retry_after_ms: Option<u64>,
    },
    /// It succeeded.
    Succeeded,
    /// It failed.
    Failed {
        /// For a person, bounded.
        reason: String,
    },
    /// 410: what was being deleted is gone.
    Gone,
    /// 404: the broker does not know it.
    NotFound,
    /// No valid answer; ask again.
    NoAnswer {
        /// For a person, bounded.
        reason: String,
        /// The broker's wish, in milliseconds from now.
        retry_after_ms: Option<u64>,
    },
}

/// What a broker says of an instance whose update failed (section Service Broker Errors); both
/// are true when it says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Aftermath {
    /// Whether the instance can still be used.
    pub instance_usable: bool,
    /// Whether the same update may be asked for again.
    pub update_repeatable: bool,
}

impl Default for Aftermath {
    fn default() -> Self {
        Self {
            instance_usable: true,
            update_repeatable: true,
        }
    }
}

/// What `GET` says of an instance (section Fetching a Service Instance).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FetchedInstance {
    /// The broker's id of the class, when it says so.
    pub service_id: Option<String>,
    /// The broker's id of the plan, when it says so.
    pub plan_id: Option<String>,
    /// Where to manage the instance.
    pub dashboard_url: Option<String>,
    /// Its parameters; null when the broker withholds them.
    pub parameters: Value,
    /// `maintenance_info.version`.
    pub maintenance_version: Option<String>,
}

/// What a finished provision or update tells.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Provisioned {
    /// Where to manage the instance.
    pub dashboard_url: Option<String>,
}

/// What a finished bind tells: credentials, sealed before anyone else sees them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BoundCredentials {
    /// A JSON map of strings; a value that was no string is JSON text.
    pub credentials: Sealed,
    /// The hosts and ports that the credentials name: what a function must be able to reach.
    pub endpoints: Vec<Endpoint>,
    /// When they stop working (section Binding Metadata).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// When they should be replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew_before: Option<Timestamp>,
    /// What else came with them.
    #[serde(default, skip_serializing_if = "BoundExtras::is_empty")]
    pub extras: BoundExtras,
}

/// What a binding brings besides credentials: kept and shown, unused. Nothing here is a secret:
/// user names, passwords and queries are taken out of URLs, and mounts bear no configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BoundExtras {
    /// Where logs would be sent (section Log Drain).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub syslog_drain_url: Option<String>,
    /// Where requests would be proxied (section Route Services).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route_service_url: Option<String>,
    /// What would be mounted, as JSON text (section Volume Services).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volume_mounts: Vec<String>,
}

impl BoundExtras {
    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Endpoint {
    /// A name or an address.
    pub host: String,
    /// A TCP port.
    pub port: u16,
}
