//! Service instances, each with its binding.

use engine_model::spec::{BindingSpec, InstanceSpec};
use engine_model::{
    Commit, Event, InstanceEvent, InstanceId, Kind, Name, OrgName, Status, Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::table::{Reader, Rows, View};
use crate::tag::Tag;
use crate::view::binding::{self, Bindings};
use crate::view::life::Life;
use crate::view::operation::{Operation, OperationDocument, Work};
use crate::view::{json, reasons, waits};
use crate::{Error, tag};

/// An instance of a service class in one of its plans.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceDocument {
    /// How it is bound, and how far that has come.
    pub binding: EmbeddedBinding,
    /// Whether its credentials are there.
    pub bound: bool,
    /// When it was asked for.
    pub created_time: i64,
    /// Where to manage it.
    pub dashboard_url: Option<String>,
    /// Its id at the broker, which also names the secret with its credentials.
    pub id: InstanceId,
    /// Always `ServiceInstance`.
    pub kind: Kind,
    /// The last operation at the broker.
    pub last_operation: Option<OperationDocument>,
    /// Its name.
    pub name: String,
    /// Parameters of the provisioning.
    pub parameters: Value,
    /// Whether it exists at the broker.
    pub provisioned: bool,
    /// Why it is not ready.
    pub reason: Option<Vec<String>>,
    /// Secrets whose keys are merged into the parameters.
    pub secret_parameters: Vec<Name>,
    /// The class, by name.
    pub service_class: String,
    /// The plan, by name.
    pub service_plan: String,
    /// `READY` when it is provisioned and, if its plan is bindable, bound.
    pub status: Status,
    /// Labels.
    pub tags: Vec<Tag>,
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
    /// Whether it will be bound; known when the broker is asked.
    bindable: bool,
    /// The broker that was asked.
    broker: Option<String>,
    life: Life,
}

impl Row {
    /// What people see of it, and why it is not ready.
    pub(crate) fn status(
        &self,
        reader: &Reader<'_>,
        org: &OrgName,
        name: &str,
    ) -> Result<(Status, Vec<String>), Error> {
        match self.life.status() {
            Status::Initialized => Ok((
                Status::Initialized,
                waits::of_instance(reader, org, &self.spec)?,
            )),
            Status::Ready if self.bindable => {
                let binding = self.own_binding(reader, org, name)?;
                let Some(binding) = binding else {
                    return Ok(while_bound(None));
                };
                let why = binding.reasons(reader, org, name)?;
                Ok(while_bound(Some((binding.life.status(), why))))
            }
            status => {
                let mut reasons = self.life.reasons();
                let secrets = &self.spec.secret_parameters;
                reasons.extend(waits::underway(reader, org, &self.life, self, secrets)?);
                Ok((status, reasons))
            }
        }
    }

    /// The broker that was asked for it.
    pub(crate) fn broker(&self) -> Option<&str> {
        self.broker.as_deref()
    }

    /// Whether it can be bound now.
    pub(crate) fn is_provisioned(&self) -> bool {
        self.life.status() == Status::Ready
    }

    /// Whether it is provisioned and has no bindings.
    pub(crate) fn is_unbindable(&self) -> bool {
        self.life.status() == Status::Ready && !self.bindable
    }

    /// Its binding. That of an earlier instance of the same name may not be gone yet.
    fn own_binding(
        &self,
        reader: &Reader<'_>,
        org: &OrgName,
        name: &str,
    ) -> Result<Option<binding::Row>, Error> {
        Ok(reader
            .get::<Bindings>(org, name)?
            .filter(|binding| binding.instance == self.id))
    }
}

/// The status of a provisioned instance whose binding is such, and why.
fn while_bound(binding: Option<(Status, Vec<String>)>) -> (Status, Vec<String>) {
    match binding {
        Some((Status::Ready, _)) => (Status::Ready, Vec::new()),
        Some((Status::Error, reasons)) => (
            Status::Error,
            reasons
                .iter()
                .map(|why| format!("binding: {why}"))
                .collect(),
        ),
        Some((_, reasons)) => {
            let why = reasons
                .first()
                .map_or_else(String::new, |first| format!(": {first}"));
            (Status::Creating, vec![format!("it is being bound{why}")])
        }
        None => (Status::Creating, vec!["it is being bound".into()]),
    }
}

pub(crate) struct Instances;

impl View for Instances {
    const NAME: &'static str = "serviceinstance";
    const VERSION: u32 = 1;
    type Row = Row;

    fn folds(kind: Kind) -> bool {
        kind == Kind::ServiceInstance
    }

    fn fold(rows: &mut Rows<Self>, commit: &Commit, event: &Event) -> Result<(), Error> {
        let Event::ServiceInstance(event) = event else {
            return Ok(());
        };
        rows.evolve_key(&commit.key, |row| evolve(row, commit.at, event))
    }

    fn document(
        reader: &Reader<'_>,
        org: &OrgName,
        name: &str,
        row: Row,
    ) -> Result<Option<Value>, Error> {
        let (status, reason) = row.status(reader, org, name)?;
        let binding = row.own_binding(reader, org, name)?;
        let why = match &binding {
            Some(binding) => binding.reasons(reader, org, name)?,
            None => Vec::new(),
        };
        let is_bound = |binding: &binding::Row| binding.life.status() == Status::Ready;
        Ok(Some(json(&InstanceDocument {
            reason: reasons(reason),
            bound: binding.as_ref().is_some_and(is_bound),
            binding: embedded(row.spec.binding, binding, why),
            created_time: row.created.unix_seconds(),
            dashboard_url: row.dashboard_url,
            id: row.id,
            kind: Kind::ServiceInstance,
            last_operation: row.life.operation().map(Operation::document),
            name: name.to_owned(),
            parameters: row.spec.parameters,
            provisioned: row.life.is_there(),
            secret_parameters: row.spec.secret_parameters,
            service_class: row.spec.service_class,
            service_plan: row.spec.service_plan,
            status,
            tags: tag::list(&row.spec.tags),
        })))
    }
}

fn embedded(spec: BindingSpec, binding: Option<binding::Row>, why: Vec<String>) -> EmbeddedBinding {
    let binding = binding.as_ref();
    EmbeddedBinding {
        binding_secret: spec.binding_secret,
        parameters: spec.parameters,
        secret_parameters: spec.secret_parameters,
        created_time: binding.map(|binding| binding.created.unix_seconds()),
        status: binding.map(|binding| binding.life.status()),
        reason: reasons(why),
        last_operation: binding
            .and_then(|row| row.life.operation())
            .map(Operation::document),
    }
}

fn evolve(row: Option<Row>, at: Timestamp, event: &InstanceEvent) -> Option<Row> {
    use InstanceEvent as E;
    if let E::Created { id, spec } = event {
        return Some(Row {
            id: *id,
            created: at,
            spec: spec.clone(),
            dashboard_url: None,
            bindable: false,
            broker: None,
            life: Life::new(),
        });
    }
    let mut row = row?;
    let life = row.life;
    row.life = match event {
        E::Created { .. } | E::Deprovisioned { .. } | E::Deleted | E::Abandoned { .. } => {
            return None;
        }
        E::ProvisionRequested {
            bindable, broker, ..
        } => {
            row.bindable = *bindable;
            row.broker = Some(broker.to_string());
            life.requested(Work::Provision, at)
        }
        E::OperationAccepted {
            dashboard_url,
            next_at,
            ..
        } => {
            row.dashboard_url = dashboard_url.clone().or(row.dashboard_url);
            life.operate(|op| op.underway(None, *next_at))
        }
        E::OperationProgressed {
            description,
            polls,
            next_at,
            ..
        } => life.operate(|op| op.underway(description.clone(), *next_at).polled(*polls)),
        E::OperationDelayed {
            reason, next_at, ..
        } => life.operate(|op| op.delayed(reason, *next_at)),
        E::Provisioned { dashboard_url, .. } => {
            row.dashboard_url = dashboard_url.clone().or(row.dashboard_url);
            life.made()
        }
        E::ProvisionFailed { reason, .. } => life.failed(reason),
        E::DeleteRequested => life.delete_requested(),
        E::DeprovisionRequested { attempt, .. } => {
            life.removal_requested(Work::Deprovision, *attempt, at)
        }
        E::DeprovisionFailed {
            reason, next_at, ..
        } => life.removal_failed(reason, *next_at),
        E::OrphanRemoved { .. } => life.orphan_removed(),
        E::AdoptRequested {
            bindable, broker, ..
        } => {
            row.bindable = *bindable;
            row.broker = Some(broker.to_string());
            life.requested(Work::Provision, at)
        }
        E::UpdateProposed { .. }
        | E::UpdateRequested { .. }
        | E::Updated { .. }
        | E::UpdateFailed { .. }
        | E::Relabelled { .. } => life,
    };
    Some(row)
}
