//! Service bindings: one per instance, of the same name.

use engine_model::spec::BindingSpec;
use engine_model::{
    BindingEvent, Commit, Event, InstanceId, Kind, Name, OrgName, ResourceId, Status, Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Error;
use crate::table::{Reader, Rows, View};
use crate::view::Instances;
use crate::view::life::Life;
use crate::view::operation::{Operation, OperationDocument, Work};
use crate::view::{json, reasons, waits};

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
    /// Its id in Dispatch.
    pub id: ResourceId,
    /// Always `ServiceBinding`.
    pub kind: Kind,
    /// The last operation at the broker.
    pub last_operation: Option<OperationDocument>,
    /// Its name.
    pub name: String,
    /// Parameters of the binding.
    pub parameters: Value,
    /// Why it is in error, or cannot go.
    pub reason: Option<Vec<String>>,
    /// Secrets whose keys are merged into the parameters.
    pub secret_parameters: Vec<Name>,
    /// The instance, by id, which names the secret with the credentials.
    pub service_instance: InstanceId,
    /// How far it has come.
    pub status: Status,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    id: ResourceId,
    pub(crate) instance: InstanceId,
    pub(crate) created: Timestamp,
    spec: BindingSpec,
    pub(crate) life: Life,
}

impl Row {
    /// Why it is not ready.
    pub(crate) fn reasons(
        &self,
        reader: &Reader<'_>,
        org: &OrgName,
        name: &str,
    ) -> Result<Vec<String>, Error> {
        match self.life.status() {
            Status::Initialized => waits::of_binding(reader, org, name, &self.spec),
            _ => {
                let mut reasons = self.life.reasons();
                if let Some(instance) = reader.get::<Instances>(org, name)? {
                    let secrets = &self.spec.secret_parameters;
                    reasons.extend(waits::underway(
                        reader, org, &self.life, &instance, secrets,
                    )?);
                }
                Ok(reasons)
            }
        }
    }
}

pub(crate) struct Bindings;

impl View for Bindings {
    const NAME: &'static str = "servicebinding";
    const VERSION: u32 = 1;
    type Row = Row;

    fn folds(kind: Kind) -> bool {
        kind == Kind::ServiceBinding
    }

    fn fold(rows: &mut Rows<Self>, commit: &Commit, event: &Event) -> Result<(), Error> {
        let Event::ServiceBinding(event) = event else {
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
        Ok(Some(json(&BindingDocument {
            bound: row.life.status() == Status::Ready,
            created_time: row.created.unix_seconds(),
            id: row.id,
            kind: Kind::ServiceBinding,
            last_operation: row.life.operation().map(Operation::document),
            name: name.to_owned(),
            reason: reasons(row.reasons(reader, org, name)?),
            service_instance: row.instance,
            status: row.life.status(),
            binding_secret: row.spec.binding_secret,
            parameters: row.spec.parameters,
            secret_parameters: row.spec.secret_parameters,
        })))
    }
}

fn evolve(row: Option<Row>, at: Timestamp, event: &BindingEvent) -> Option<Row> {
    use BindingEvent as E;
    if let E::Created {
        id, instance, spec, ..
    } = event
    {
        let (id, instance, spec) = (*id, *instance, spec.clone());
        return Some(Row {
            id,
            instance,
            created: at,
            spec,
            life: Life::new(),
        });
    }
    let Row {
        id,
        instance,
        created,
        spec,
        life,
    } = row?;
    let life = match event {
        E::RotateRequested { .. }
        | E::Rotated { .. }
        | E::RotateFailed { .. }
        | E::OrphanAbandoned { .. }
        | E::UnbindRequested {
            replaced: Some(_), ..
        }
        | E::Unbound {
            replaced: Some(_), ..
        } => life,
        E::Created { .. } | E::Unbound { .. } | E::Deleted | E::Abandoned { .. } => return None,
        E::BindRequested { .. } => life.requested(Work::Bind, at),
        E::OperationAccepted { next_at, .. } => life.operate(|op| op.underway(None, *next_at)),
        E::OperationProgressed {
            description,
            polls,
            next_at,
            ..
        } => life.operate(|op| op.underway(description.clone(), *next_at).polled(*polls)),
        E::OperationDelayed {
            reason, next_at, ..
        } => life.operate(|op| op.delayed(reason, *next_at)),
        E::Bound { .. } => life.made(),
        E::BindFailed { reason, .. } => life.failed(reason),
        E::DeleteRequested => life.delete_requested(),
        E::UnbindRequested { attempt, .. } => life.removal_requested(Work::Unbind, *attempt, at),
        E::UnbindFailed {
            reason, next_at, ..
        } => life.removal_failed(reason, *next_at),
        E::OrphanRemoved { .. } => life.orphan_removed(),
    };
    Some(Row {
        id,
        instance,
        created,
        spec,
        life,
    })
}
