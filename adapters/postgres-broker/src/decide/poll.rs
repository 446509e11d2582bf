//! last_operation, of instances and of bindings.

use axum::http::StatusCode;
use serde_json::json;

use super::PlanIds;
use crate::answer::Answer;
use crate::record::{
    BindingStage, Instance, Operation, OperationKind, OperationState, Operations, Stage,
};

/// GET of last_operation.
#[derive(Clone, Debug)]
pub(crate) struct Poll {
    pub(crate) binding_id: Option<String>,
    pub(crate) ids: PlanIds,
    pub(crate) operation: Option<String>,
}

pub(crate) fn last_operation(
    instance: Option<&Instance>,
    ask: &Poll,
    progress: impl Fn(&str) -> Option<&'static str>,
) -> Result<Answer, Answer> {
    let instance = instance.ok_or_else(|| Answer::not_found("no such instance"))?;
    let (operations, gone) = match &ask.binding_id {
        None => (
            &instance.operations,
            matches!(instance.stage, Stage::Gone { .. }),
        ),
        Some(_) if instance.is_gone() => return Err(Answer::gone()),
        Some(id) => {
            let binding = instance.bindings.get(id);
            let binding = binding.ok_or_else(|| Answer::not_found("no such binding"))?;
            (
                &binding.operations,
                matches!(binding.stage, BindingStage::Gone { .. }),
            )
        }
    };
    let operation = find(operations, ask.operation.as_deref(), gone)?;
    if !gone && operation.kind == OperationKind::Update && ask.operation.is_some() {
        // A platform polls a change of plan under the plan before it, also once that has ended.
        let service_id = ask.ids.service_id.clone();
        let plan_id = None;
        PlanIds {
            service_id,
            plan_id,
        }
        .check(instance)?;
    } else if !gone {
        ask.ids.check(instance)?;
    }
    if gone && operation.kind.deletes() && operation.state == OperationState::Succeeded {
        return Err(Answer::gone());
    }
    Ok(report(operation, progress(&operation.id)))
}

fn find<'a>(
    operations: &'a Operations,
    id: Option<&str>,
    gone: bool,
) -> Result<&'a Operation, Answer> {
    match id.map(|id| operations.find(id)) {
        None => Ok(operations.last()),
        Some(Some(operation)) => Ok(operation),
        Some(None) if gone => Err(Answer::gone()),
        Some(None) => Err(Answer::bad_request("operation is not one of this resource")),
    }
}

fn report(operation: &Operation, progress: Option<&'static str>) -> Answer {
    match &operation.state {
        OperationState::InProgress => Answer::new(
            StatusCode::OK,
            json!({ "state": "in progress", "description": progress.unwrap_or("waiting") }),
        )
        .polled_again(),
        OperationState::Succeeded => Answer::new(
            StatusCode::OK,
            json!({ "state": "succeeded", "description": "done" }),
        ),
        OperationState::Failed { description } => {
            let mut body = json!({ "state": "failed", "description": description });
            add_usability(&mut body, operation.kind);
            Answer::new(StatusCode::OK, body)
        }
    }
}

/// Says what a failed update or deprovision left behind; other failures must not say it.
pub(super) fn add_usability(body: &mut serde_json::Value, kind: OperationKind) {
    match kind {
        OperationKind::Update => {
            body["instance_usable"] = json!(true);
            body["update_repeatable"] = json!(true);
        }
        OperationKind::Deprovision => body["instance_usable"] = json!(false),
        OperationKind::Provision | OperationKind::Bind | OperationKind::Unbind => {}
    }
}
