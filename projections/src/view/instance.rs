//! Service instances, each with its binding.

mod fold;
mod status;
mod update;

use engine_model::spec::{BindingSpec, InstanceSpec};
use engine_model::{Commit, Event, InstanceId, Kind, Name, OrgName, Status, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::table::{Reader, Rows, View};
use crate::tag::Tag;
use crate::view::binding::{self, Bindings};
use crate::view::class;
use crate::view::life::Life;
use crate::view::operation::{Operation, OperationDocument};
use crate::view::{json, reasons};
use crate::{Error, tag};

pub use update::UpdateDocument;

use update::Update;

/// An instance of a service class in one of its plans.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceDocument {
    /// Whether it was there before, and was only taken on record.
    pub adopted: bool,
    /// How it is bound, and how far that has come.
    pub binding: EmbeddedBinding,
    /// Whether its credentials are there.
    pub bound: bool,
    /// The broker that was asked for it; null before.
    pub broker: Option<String>,
    /// Its id at the broker, when that is another than its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker_instance_id: Option<InstanceId>,
    /// The organization of the broker, when it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker_organization: Option<String>,
    /// When it was asked for.
    pub created_time: i64,
    /// Where to manage it.
    pub dashboard_url: Option<String>,
    /// Its id, which also names the secret with its credentials.
    pub id: InstanceId,
    /// Always `ServiceInstance`.
    pub kind: Kind,
    /// The last operation at the broker.
    pub last_operation: Option<OperationDocument>,
    /// The `maintenance_info.version` that it has, where its plan has any.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub maintenance_version: String,
    /// Its name.
    pub name: String,
    /// Parameters as they are on record.
    pub parameters: Value,
    /// Whether it exists at the broker.
    pub provisioned: bool,
    /// Why it is not ready, and what else is to be said of it.
    pub reason: Option<Vec<String>>,
    /// Secrets whose keys are merged into the parameters.
    pub secret_parameters: Vec<Name>,
    /// The class, by name.
    pub service_class: String,
    /// The plan, by name; the old one until an update has succeeded.
    pub service_plan: String,
    /// `READY` when it is provisioned and, if its plan is bindable, bound.
    pub status: Status,
    /// Labels.
    pub tags: Vec<Tag>,
    /// An update that has not succeeded; null when there is none.
    pub update: Option<UpdateDocument>,
    /// The maintenance version that its plan offers by now; null when it has it.
    pub upgrade_available: Option<String>,
}

/// The binding of an instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EmbeddedBinding {
    /// The name that the original passed to its catalog.
    pub binding_secret: String,
    /// When it was wanted; null before.
    pub created_time: Option<i64>,
    /// The last operation at the broker.
    pub last_operation: Option<OperationDocument>,
    /// Parameters of the binding.
    pub parameters: Value,
    /// Why it is in error, or cannot go.
    pub reason: Option<Vec<String>>,
    /// Secrets whose keys are merged into the parameters.
    pub secret_parameters: Vec<Name>,
    /// How far it has come; null when there is none.
    pub status: Option<Status>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) id: InstanceId,
    created: Timestamp,
    pub(crate) spec: InstanceSpec,
    dashboard_url: Option<String>,
    ordered: Option<Ordered>,
    life: Life,
    update: Option<Update>,
    /// The last update, also when it is over.
    updating: Option<Operation>,
}

/// What the broker was asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Ordered {
    /// The instance at the broker.
    instance: InstanceId,
    broker: Name,
    /// The broker's organization, when it is another one.
    broker_org: Option<OrgName>,
    plan_id: String,
    bindable: bool,
    maintenance: Option<String>,
    /// Whether it was there before.
    existing: bool,
}

impl Row {
    /// The broker that was asked for it, and its organization, for an instance of `org`.
    pub(crate) fn broker<'a>(&'a self, org: &'a OrgName) -> Option<(&'a OrgName, &'a Name)> {
        let ordered = self.ordered.as_ref()?;
        Some((ordered.broker_org.as_ref().unwrap_or(org), &ordered.broker))
    }

    /// Whether a broker of this organization, which is another one than its own, was asked for it.
    pub(crate) fn is_asked_of(&self, other: &OrgName) -> bool {
        let ordered = self.ordered.as_ref();
        ordered.is_some_and(|ordered| ordered.broker_org.as_ref() == Some(other))
    }

    /// The broker's id of its plan.
    pub(crate) fn plan_id(&self) -> Option<&str> {
        self.ordered
            .as_ref()
            .map(|ordered| ordered.plan_id.as_str())
    }

    /// Whether it is at the broker, and is to stay.
    pub(crate) fn is_made(&self) -> bool {
        self.life.is_made()
    }

    /// Whether it can be used, as far as the broker says.
    pub(crate) fn is_usable(&self) -> bool {
        self.is_made() && self.update.as_ref().is_none_or(Update::is_usable)
    }

    /// Whether it is provisioned and has no bindings.
    pub(crate) fn is_unbindable(&self) -> bool {
        let bindable = |ordered: &Ordered| ordered.bindable;
        self.is_made() && !self.ordered.as_ref().is_some_and(bindable)
    }

    /// Its binding. That of an earlier instance of the same name may not be gone yet.
    pub(crate) fn own_binding(
        &self,
        reader: &Reader<'_>,
        org: &OrgName,
        name: &str,
    ) -> Result<Option<binding::Row>, Error> {
        Ok(reader
            .get::<Bindings>(org, name)?
            .filter(|binding| binding.instance == self.id))
    }

    /// The last operation about it.
    fn last_operation(&self) -> Option<&Operation> {
        let both = [self.updating.as_ref(), self.life.operation()];
        both.into_iter().flatten().max_by_key(|op| op.since())
    }

    /// The maintenance version that its plan offers and that it does not have.
    fn upgrade(&self, reader: &Reader<'_>, org: &OrgName) -> Result<Option<String>, Error> {
        let Some(ordered) = self.ordered.as_ref().filter(|_| self.is_made()) else {
            return Ok(None);
        };
        let class = class::of_instance(reader, org, self)?;
        let plan = class
            .as_ref()
            .and_then(|class| class.plan_by_id(&ordered.plan_id));
        let offered = plan.and_then(|plan| plan.maintenance_version.clone());
        Ok(offered.filter(|version| ordered.maintenance.as_ref() != Some(version)))
    }
}

pub(crate) struct Instances;

impl View for Instances {
    const NAME: &'static str = "serviceinstance";
    const VERSION: u32 = 2;
    type Row = Row;

    fn folds(kind: Kind) -> bool {
        kind == Kind::ServiceInstance
    }

    fn fold(rows: &mut Rows<Self>, commit: &Commit, event: &Event) -> Result<(), Error> {
        let Event::ServiceInstance(event) = event else {
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
        let binding = row.own_binding(reader, org, name)?;
        let bound = binding.as_ref().is_some_and(binding::Row::is_bound);
        let shown = binding
            .as_ref()
            .map(|binding| binding.status(reader, org, name))
            .transpose()?;
        let upgrade_available = row.upgrade(reader, org)?;
        let last_operation = row.last_operation().map(Operation::document);
        let ordered = row.ordered;
        let at_broker = ordered.as_ref().map(|ordered| ordered.instance);
        let of_ordered = |field: fn(&Ordered) -> Option<String>| ordered.as_ref().and_then(field);
        Ok(Some(json(&InstanceDocument {
            adopted: ordered.as_ref().is_some_and(|ordered| ordered.existing),
            reason: reasons(reason),
            bound,
            binding: embedded(row.spec.binding, binding.as_ref(), shown),
            broker: of_ordered(|ordered| Some(ordered.broker.to_string())),
            broker_instance_id: at_broker.filter(|id| *id != row.id),
            broker_organization: of_ordered(|ordered| {
                ordered.broker_org.as_ref().map(OrgName::to_string)
            }),
            created_time: row.created.unix_seconds(),
            dashboard_url: row.dashboard_url,
            id: row.id,
            kind: Kind::ServiceInstance,
            last_operation,
            maintenance_version: of_ordered(|ordered| ordered.maintenance.clone())
                .unwrap_or_default(),
            name: name.to_owned(),
            parameters: row.spec.parameters,
            provisioned: row.life.is_there(),
            secret_parameters: row.spec.secret_parameters,
            service_class: row.spec.service_class,
            service_plan: row.spec.service_plan,
            status,
            tags: tag::list(&row.spec.tags),
            update: row.update.map(Update::document),
            upgrade_available,
        })))
    }
}

fn embedded(
    spec: BindingSpec,
    binding: Option<&binding::Row>,
    shown: Option<(Status, Vec<String>)>,
) -> EmbeddedBinding {
    let (status, why) = shown.map_or((None, Vec::new()), |(status, why)| (Some(status), why));
    EmbeddedBinding {
        binding_secret: spec.binding_secret,
        parameters: spec.parameters,
        secret_parameters: spec.secret_parameters,
        created_time: binding.map(|binding| binding.created.unix_seconds()),
        status,
        reason: reasons(why),
        last_operation: binding
            .and_then(binding::Row::last_operation)
            .map(Operation::document),
    }
}
