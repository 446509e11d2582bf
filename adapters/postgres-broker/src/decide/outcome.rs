//! What becomes of a record when its operation has ended, and what those who waited are told.

use axum::http::StatusCode;
use serde_json::Map;

use super::binding::{Address, granted};
use crate::answer::Answer;
use crate::config::Secret;
use crate::record::{BindingStage, Instance, Operation, OperationKind, OperationState, Stage};

/// Tombstones of bindings that an instance keeps.
const GONE_BINDINGS_MAX: usize = 100;

/// The record after the operation of an instance, or of one of its bindings, has ended.
pub(crate) fn ended(
    mut record: Instance,
    binding_id: Option<&str>,
    result: Result<(), String>,
    now: i64,
) -> Instance {
    let state = match &result {
        Ok(()) => OperationState::Succeeded,
        Err(description) => OperationState::Failed {
            description: description.clone(),
        },
    };
    if let Some(id) = binding_id {
        if let Some(binding) = record.bindings.get_mut(id) {
            binding.operations.end(state);
            binding.stage = match (binding.stage, &result) {
                (BindingStage::Creating, Ok(())) => BindingStage::Ready,
                (BindingStage::Creating, Err(_)) => BindingStage::CreateFailed,
                (BindingStage::Deleting, Ok(())) => BindingStage::Gone { since: now },
                (BindingStage::Deleting, Err(_)) => BindingStage::DeleteFailed,
                (at_rest, _) => at_rest,
            };
            if matches!(binding.stage, BindingStage::Gone { .. }) {
                binding.password = Secret(String::new());
                binding.parameters = Map::new();
                binding.bind_resource = Map::new();
            }
        }
        forget_old_bindings(&mut record);
        return record;
    }
    record.operations.end(state);
    let (stage, spec) = match (record.stage, result) {
        (Stage::Creating, Ok(())) => (Stage::Ready, record.spec),
        (Stage::Creating, Err(_)) => (Stage::CreateFailed, record.spec),
        (Stage::Updating { to }, Ok(())) => (Stage::Ready, to),
        (Stage::Updating { .. }, Err(_)) => (Stage::Ready, record.spec),
        (Stage::Deleting, Ok(())) => (Stage::Gone { since: now }, record.spec),
        (Stage::Deleting, Err(_)) => (Stage::DeleteFailed, record.spec),
        (at_rest, _) => (at_rest, record.spec),
    };
    record.stage = stage;
    record.spec = spec;
    if record.is_gone() {
        record.bindings.clear();
        record.spec.parameters = Map::new();
    }
    record
}

fn forget_old_bindings(record: &mut Instance) {
    let mut gone: Vec<(i64, String)> = record
        .bindings
        .values()
        .filter_map(|binding| match binding.stage {
            BindingStage::Gone { since } => Some((since, binding.id.clone())),
            _ => None,
        })
        .collect();
    gone.sort();
    for (_, id) in gone
        .iter()
        .take(gone.len().saturating_sub(GONE_BINDINGS_MAX))
    {
        record.bindings.remove(id);
    }
}

/// What those are told who waited for an operation.
pub(crate) fn answer(
    record: &Instance,
    binding_id: Option<&str>,
    operation: &str,
    address: Option<&Address>,
) -> Answer {
    let binding = binding_id.and_then(|id| record.bindings.get(id));
    let operations = binding.map_or(&record.operations, |binding| &binding.operations);
    let Some(Operation { kind, state, .. }) = operations.find(operation) else {
        return Answer::broken("the operation was lost");
    };
    match state {
        OperationState::InProgress => Answer::broken("the operation has not ended"),
        OperationState::Failed { description } => {
            let mut answer = Answer::broken(description);
            super::poll::add_usability(&mut answer.body, *kind);
            answer
        }
        OperationState::Succeeded => match (kind, binding) {
            (OperationKind::Provision, _) => {
                Answer::new(StatusCode::CREATED, serde_json::json!({}))
            }
            (OperationKind::Bind, Some(binding)) => {
                granted(StatusCode::CREATED, record, binding, address)
            }
            _ => Answer::ok(),
        },
    }
}
