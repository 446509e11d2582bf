//! How an instance's row goes on by what happens.

use engine_model::broker::Aftermath;
use engine_model::{InstanceEvent, InstanceId, RequestId, Timestamp};

use super::update::{Stage, Update};
use super::{Ordered, Row};
use crate::view::life::Life;
use crate::view::operation::{Operation, Work};

/// What becomes of the row of an instance.
pub(super) fn evolve(row: Option<Row>, at: Timestamp, event: &InstanceEvent) -> Option<Row> {
    use InstanceEvent as E;
    if let E::Created { id, spec } = event {
        return Some(Row {
            id: *id,
            created: at,
            spec: spec.clone(),
            dashboard_url: None,
            ordered: None,
            life: Life::new(),
            update: None,
            updating: None,
        });
    }
    let row = with_dashboard(row?, event);
    match event {
        E::Created { .. } | E::Deprovisioned { .. } | E::Deleted | E::Abandoned { .. } => None,
        E::UpdateProposed { .. }
        | E::UpdateRequested { .. }
        | E::Updated { .. }
        | E::UpdateFailed { .. } => Some(updated(row, at, event)),
        E::Relabelled { spec } => {
            let mut row = row;
            row.spec.binding = spec.binding.clone();
            row.spec.tags = spec.tags.clone();
            Some(row)
        }
        E::OperationAccepted { request, .. }
        | E::OperationProgressed { request, .. }
        | E::OperationDelayed { request, .. }
            if of_update(&row, *request) =>
        {
            Some(update_goes_on(row, event))
        }
        E::DeleteRequested => Some(deleted(row, at)),
        E::ProvisionRequested { .. }
        | E::AdoptRequested { .. }
        | E::OperationAccepted { .. }
        | E::OperationProgressed { .. }
        | E::OperationDelayed { .. }
        | E::Provisioned { .. }
        | E::ProvisionFailed { .. }
        | E::DeprovisionRequested { .. }
        | E::DeprovisionFailed { .. }
        | E::OrphanRemoved { .. } => Some(lived(row, at, event)),
    }
}

fn with_dashboard(row: Row, event: &InstanceEvent) -> Row {
    let dashboard_url = match event {
        InstanceEvent::OperationAccepted { dashboard_url, .. }
        | InstanceEvent::Updated { dashboard_url, .. }
        | InstanceEvent::Provisioned { dashboard_url, .. } => dashboard_url.clone(),
        _ => None,
    };
    Row {
        dashboard_url: dashboard_url.or(row.dashboard_url),
        ..row
    }
}

fn of_update(row: &Row, request: RequestId) -> bool {
    row.update
        .as_ref()
        .is_some_and(|update| update.is_asked(request))
}

/// Something that concerns its life at the broker, and not an update.
fn lived(mut row: Row, at: Timestamp, event: &InstanceEvent) -> Row {
    use InstanceEvent as E;
    let existing = row.ordered.as_ref().is_some_and(|ordered| ordered.existing);
    let life = row.life;
    row.life = match event {
        E::ProvisionRequested { request, .. } => {
            row.ordered = ordered(row.id, event);
            life.requested(Work::Provision, *request, at)
        }
        E::AdoptRequested { request, .. } => {
            row.ordered = ordered(row.id, event);
            life.requested(Work::Adopt, *request, at)
        }
        E::OperationAccepted { next_at, .. } => life.accepted(*next_at),
        E::OperationProgressed {
            description,
            polls,
            next_at,
            ..
        } => life.operate(|op| op.underway(description.clone(), *next_at).polled(*polls)),
        E::OperationDelayed {
            reason, next_at, ..
        } => life.delayed(reason, *next_at),
        E::Provisioned { .. } => life.made(),
        E::ProvisionFailed { reason, .. } => life.failed(reason, existing),
        E::DeprovisionRequested { request, attempt } => {
            life.removal_requested(Work::Deprovision, *request, *attempt, at)
        }
        E::DeprovisionFailed {
            reason, next_at, ..
        } => life.removal_failed(reason, *next_at),
        E::OrphanRemoved { .. } => life.orphan_removed(),
        _ => life,
    };
    row
}

/// What a request to make it, or to take it on record, asks for.
fn ordered(id: InstanceId, event: &InstanceEvent) -> Option<Ordered> {
    match event.clone() {
        InstanceEvent::ProvisionRequested {
            instance,
            broker,
            broker_org,
            plan_id,
            bindable,
            maintenance_version,
            ..
        } => Some(Ordered {
            instance: instance.unwrap_or(id),
            broker,
            broker_org,
            plan_id,
            bindable,
            maintenance: maintenance_version,
            existing: false,
        }),
        InstanceEvent::AdoptRequested {
            instance,
            broker,
            broker_org,
            plan_id,
            bindable,
            ..
        } => Some(Ordered {
            instance,
            broker,
            broker_org,
            plan_id,
            bindable,
            maintenance: None,
            existing: true,
        }),
        _ => None,
    }
}

/// An update begins, or ends.
fn updated(mut row: Row, at: Timestamp, event: &InstanceEvent) -> Row {
    use InstanceEvent as E;
    match event {
        E::UpdateProposed {
            plan,
            parameters,
            secret_parameters,
            maintenance_version,
        } => {
            row.update = Some(Update {
                plan: plan.clone(),
                parameters: parameters.clone(),
                secrets: secret_parameters.clone(),
                maintenance: maintenance_version.clone(),
                stage: Stage::Proposed,
            });
        }
        E::UpdateRequested {
            request,
            plan_id,
            bindable,
            ..
        } => {
            let operation = Operation::asked(Work::Update, *request, at);
            row.updating = Some(operation.clone());
            row.update = row.update.map(|update| Update {
                stage: Stage::Asked {
                    operation,
                    plan_id: plan_id.clone(),
                    bindable: *bindable,
                },
                ..update
            });
        }
        E::Updated { .. } => {
            row.updating = row.updating.map(Operation::succeeded);
            return succeeded(row);
        }
        E::UpdateFailed {
            reason,
            instance_usable,
            update_repeatable,
            ..
        } => {
            row.updating = row.updating.map(|op| op.failed(reason, None));
            row.update = row.update.map(|update| Update {
                stage: Stage::Failed {
                    reason: reason.clone(),
                    aftermath: Aftermath {
                        instance_usable: *instance_usable,
                        update_repeatable: *update_repeatable,
                    },
                },
                ..update
            });
        }
        _ => {}
    }
    row
}

/// It is as proposed.
fn succeeded(mut row: Row) -> Row {
    let Some(update) = row.update.take() else {
        return row;
    };
    row.spec = update.apply(row.spec);
    if let Stage::Asked {
        plan_id, bindable, ..
    } = update.stage
        && let Some(ordered) = &mut row.ordered
    {
        if let Some(plan_id) = plan_id {
            ordered.plan_id = plan_id;
            ordered.bindable = bindable;
        }
        if update.maintenance.is_some() {
            ordered.maintenance = update.maintenance;
        }
    }
    row
}

/// The broker works on the update, or is asked again later.
fn update_goes_on(row: Row, event: &InstanceEvent) -> Row {
    use InstanceEvent as E;
    let change = |op: Operation| match event {
        E::OperationAccepted { next_at, .. } => op.underway(None, *next_at),
        E::OperationProgressed {
            description,
            polls,
            next_at,
            ..
        } => op.underway(description.clone(), *next_at).polled(*polls),
        E::OperationDelayed {
            reason, next_at, ..
        } => op.delayed(reason, *next_at),
        _ => op,
    };
    Row {
        update: row.update.map(|update| update.operate(change)),
        updating: row.updating.map(change),
        ..row
    }
}

/// Its end was asked for: of an update only what the broker may have in hand is still waited for.
fn deleted(row: Row, at: Timestamp) -> Row {
    let existing = row.ordered.as_ref().is_some_and(|ordered| ordered.existing);
    let in_hand = |update: &Update| update.operation().is_some_and(Operation::is_in_hand);
    Row {
        update: row.update.filter(in_hand),
        life: row.life.delete_requested(existing, at),
        ..row
    }
}
