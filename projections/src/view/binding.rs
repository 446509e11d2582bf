//! Service bindings: one for each instance of a bindable plan, of the same name; those of single
//! functions; and those that people asked for.

mod fold;
mod status;

use engine_model::broker::{BoundCredentials, BoundExtras};
use engine_model::spec::{BindingSpec, Tags};
use engine_model::{
    BindingId, Commit, Event, InstanceId, Kind, Name, OrgName, ResourceId, Status, Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Error;
use crate::table::{Reader, Rows, View};
use crate::tag::{self, Tag};
use crate::view::life::Life;
use crate::view::operation::{Operation, OperationDocument};
use crate::view::{json, reasons};

/// The credentials to use an instance; they themselves are not shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BindingDocument {
    /// The name that the original passed to its catalog.
    pub binding_secret: String,
    /// Whether the credentials are there.
    pub bound: bool,
    /// When it was wanted.
    pub created_time: i64,
    /// When its credentials stop working; null when they do not.
    pub expires_at: Option<i64>,
    /// The function that it is for alone; null when others may use it.
    pub function: Option<Name>,
    /// Its id in Dispatch.
    pub id: ResourceId,
    /// The instance, by name.
    pub instance: String,
    /// Always `ServiceBinding`.
    pub kind: Kind,
    /// The last operation at the broker.
    pub last_operation: Option<OperationDocument>,
    /// Its name.
    pub name: String,
    /// Parameters of the binding.
    pub parameters: Value,
    /// Why it is in error, or cannot go, and what else is to be said of it.
    pub reason: Option<Vec<String>>,
    /// When its credentials should be replaced; null when the broker did not say.
    pub renew_before: Option<i64>,
    /// What is beside the credentials in use; null when they were never replaced.
    pub rotation: Option<RotationDocument>,
    /// Where requests would be proxied (kept and shown, unused).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route_service_url: Option<String>,
    /// Secrets whose keys are merged into the parameters.
    pub secret_parameters: Vec<Name>,
    /// The instance, by id, which names the secret with the credentials of its own binding.
    pub service_instance: InstanceId,
    /// How far it has come.
    pub status: Status,
    /// Where logs would be sent (kept and shown, unused).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syslog_drain_url: Option<String>,
    /// Labels.
    pub tags: Vec<Tag>,
    /// What would be mounted, as JSON text (kept and shown, unused).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volume_mounts: Vec<String>,
}

/// What is beside the credentials in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RotationDocument {
    /// How often new credentials could not be had since they last were.
    pub failures: u32,
    /// When the last ones came in the place of others; null when none did.
    pub last: Option<i64>,
    /// When a rotation that failed is tried again.
    pub next_at: Option<i64>,
    /// Why the last one failed.
    pub reason: Option<String>,
    /// Replaced credentials that are still at the broker.
    pub replaced: Vec<ReplacedDocument>,
    /// `in progress`, `failed` or `succeeded`.
    pub state: String,
}

/// Credentials that were replaced, and are not gone yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplacedDocument {
    /// The binding at the broker.
    pub binding_id: BindingId,
    /// When no run uses them any more, so that they are unbound.
    pub drained_at: i64,
    /// The request to unbind them; null before.
    pub last_operation: Option<OperationDocument>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    id: ResourceId,
    pub(crate) instance: InstanceId,
    /// The instance by name, when it is not the binding's own.
    owner: Option<Name>,
    function: Option<Name>,
    tags: Tags,
    pub(crate) created: Timestamp,
    /// When it last changed: the moment that its reasons are told for.
    changed: Timestamp,
    spec: BindingSpec,
    in_use: Lived,
    turnover: Option<Turnover>,
}

/// One binding at the broker.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Lived {
    /// Its id there, once it was asked for.
    binding: Option<BindingId>,
    life: Life,
    given: Given,
}

/// What came with the credentials.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Given {
    expires_at: Option<Timestamp>,
    renew_before: Option<Timestamp>,
    extras: BoundExtras,
}

impl Given {
    fn of(bound: &BoundCredentials) -> Self {
        Self {
            expires_at: bound.expires_at,
            renew_before: bound.renew_before,
            extras: bound.extras.clone(),
        }
    }
}

/// Bindings beside the one in use.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Turnover {
    next: Option<Lived>,
    replaced: Vec<Replaced>,
    failed: Option<RotationFailed>,
    /// When new credentials last came.
    last: Option<Timestamp>,
    /// The last request for new ones.
    operation: Option<Operation>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Replaced {
    lived: Lived,
    drained_at: Timestamp,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct RotationFailed {
    reason: String,
    failures: u32,
    next_at: Timestamp,
}

impl Row {
    /// The name of its instance, for a binding of this name.
    pub(crate) fn owner<'a>(&'a self, name: &'a str) -> &'a str {
        self.owner.as_ref().map_or(name, Name::as_str)
    }

    /// Whether functions may use its credentials.
    pub(crate) fn is_bound(&self) -> bool {
        self.in_use.life.is_made()
    }

    /// The last operation about it.
    pub(crate) fn last_operation(&self) -> Option<&Operation> {
        let rotation = self
            .turnover
            .as_ref()
            .and_then(|turnover| turnover.operation.as_ref());
        let both = [rotation, self.in_use.life.operation()];
        both.into_iter().flatten().max_by_key(|op| op.since())
    }
}

impl Turnover {
    fn document(&self) -> RotationDocument {
        let failed = self.failed.as_ref();
        let state = match (&self.next, failed) {
            (Some(_), _) => "in progress",
            (None, Some(_)) => "failed",
            (None, None) => "succeeded",
        };
        let replaced = self.replaced.iter().filter_map(|replaced| {
            Some(ReplacedDocument {
                binding_id: replaced.lived.binding?,
                drained_at: replaced.drained_at.unix_seconds(),
                last_operation: replaced
                    .lived
                    .life
                    .operation()
                    .filter(|_| replaced.lived.life.is_underway())
                    .map(Operation::document),
            })
        });
        RotationDocument {
            failures: failed.map_or(0, |failed| failed.failures),
            last: self.last.map(Timestamp::unix_seconds),
            next_at: failed.map(|failed| failed.next_at.unix_seconds()),
            reason: failed.map(|failed| failed.reason.clone()),
            replaced: replaced.collect(),
            state: state.to_owned(),
        }
    }
}

pub(crate) struct Bindings;

impl View for Bindings {
    const NAME: &'static str = "servicebinding";
    const VERSION: u32 = 2;
    type Row = Row;

    fn folds(kind: Kind) -> bool {
        kind == Kind::ServiceBinding
    }

    fn fold(rows: &mut Rows<Self>, commit: &Commit, event: &Event) -> Result<(), Error> {
        let Event::ServiceBinding(event) = event else {
            return Ok(());
        };
        rows.evolve_key(&commit.key, |row| fold::evolve(row, commit.at, event))
    }

    fn document(
        reader: &Reader<'_>,
        org: &OrgName,
        name: &str,
        row: Row,
    ) -> Result<Option<Value>, Error> {
        let (status, reason) = row.status(reader, org, name)?;
        let last_operation = row.last_operation().map(Operation::document);
        let instance = row.owner(name).to_owned();
        let bound = row.is_bound();
        let given = row.in_use.given;
        Ok(Some(json(&BindingDocument {
            bound,
            created_time: row.created.unix_seconds(),
            expires_at: given.expires_at.map(Timestamp::unix_seconds),
            function: row.function,
            id: row.id,
            instance,
            kind: Kind::ServiceBinding,
            last_operation,
            name: name.to_owned(),
            reason: reasons(reason),
            renew_before: given.renew_before.map(Timestamp::unix_seconds),
            rotation: row.turnover.as_ref().map(Turnover::document),
            route_service_url: given.extras.route_service_url,
            service_instance: row.instance,
            status,
            syslog_drain_url: given.extras.syslog_drain_url,
            tags: tag::list(&row.tags),
            volume_mounts: given.extras.volume_mounts,
            binding_secret: row.spec.binding_secret,
            parameters: row.spec.parameters,
            secret_parameters: row.spec.secret_parameters,
        })))
    }
}
