//! An update of an instance that has not succeeded: what it was stays on record beside it.

use engine_model::broker::Aftermath;
use engine_model::spec::InstanceSpec;
use engine_model::{Name, RequestId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::view::operation::Operation;

/// An update that has not succeeded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateDocument {
    /// Whether the instance can be used, as far as the broker says.
    pub instance_usable: bool,
    /// The maintenance version that it is to have; null when that does not change.
    pub maintenance_version: Option<String>,
    /// Names of the parameters that change.
    pub parameters: Vec<String>,
    /// Why it failed, or is delayed.
    pub reason: Option<String>,
    /// Secrets whose keys are merged into the parameters.
    pub secret_parameters: Vec<Name>,
    /// The plan that it is to have, by name; null when that does not change.
    pub service_plan: Option<String>,
    /// `proposed` before the broker is asked, `in progress`, or `failed`.
    pub state: String,
    /// Whether the broker takes the same update again.
    pub update_repeatable: bool,
}

/// An update that has not succeeded, as the view keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Update {
    pub(super) plan: Option<String>,
    pub(super) parameters: Value,
    pub(super) secrets: Vec<Name>,
    pub(super) maintenance: Option<String>,
    pub(super) stage: Stage,
}

/// How far it has come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Stage {
    /// It waits for other requests about the instance.
    Proposed,
    /// The broker was asked.
    Asked {
        operation: Operation,
        plan_id: Option<String>,
        bindable: bool,
    },
    /// It failed.
    Failed {
        reason: String,
        aftermath: Aftermath,
    },
}

impl Update {
    /// The request that is under way.
    pub(super) fn operation(&self) -> Option<&Operation> {
        match &self.stage {
            Stage::Asked { operation, .. } => Some(operation),
            Stage::Proposed | Stage::Failed { .. } => None,
        }
    }

    /// Whether this request is under way.
    pub(super) fn is_asked(&self, request: RequestId) -> bool {
        self.operation()
            .is_some_and(|operation| operation.is(request))
    }

    /// Whether the instance can be used.
    pub(super) fn is_usable(&self) -> bool {
        !matches!(&self.stage, Stage::Failed { aftermath, .. } if !aftermath.instance_usable)
    }

    /// The request that is under way goes on.
    pub(super) fn operate(self, change: impl FnOnce(Operation) -> Operation) -> Self {
        let stage = match self.stage {
            Stage::Asked {
                operation,
                plan_id,
                bindable,
            } => Stage::Asked {
                operation: change(operation),
                plan_id,
                bindable,
            },
            other @ (Stage::Proposed | Stage::Failed { .. }) => other,
        };
        Self { stage, ..self }
    }

    /// What the instance is once it has succeeded: parameters of the update win, key by key.
    pub(super) fn apply(&self, spec: InstanceSpec) -> InstanceSpec {
        let mut spec = spec;
        if let Some(plan) = &self.plan {
            spec.service_plan.clone_from(plan);
        }
        if let Value::Object(changed) = &self.parameters {
            let mut all = match spec.parameters.take() {
                Value::Object(all) => all,
                _ => Map::new(),
            };
            all.extend(changed.clone());
            spec.parameters = Value::Object(all);
        }
        for secret in &self.secrets {
            if !spec.secret_parameters.contains(secret) {
                spec.secret_parameters.push(secret.clone());
            }
        }
        spec
    }

    /// What people see.
    pub(super) fn document(self) -> UpdateDocument {
        let (state, reason, aftermath) = match self.stage {
            Stage::Proposed => ("proposed", None, Aftermath::default()),
            Stage::Asked { operation, .. } => {
                ("in progress", operation.remark(), Aftermath::default())
            }
            Stage::Failed { reason, aftermath } => ("failed", Some(reason), aftermath),
        };
        let parameters = self.parameters.as_object();
        UpdateDocument {
            instance_usable: aftermath.instance_usable,
            maintenance_version: self.maintenance,
            parameters: parameters
                .into_iter()
                .flat_map(|all| all.keys().cloned())
                .collect(),
            reason,
            secret_parameters: self.secrets,
            service_plan: self.plan,
            state: state.to_owned(),
            update_repeatable: aftermath.update_repeatable,
        }
    }
}
