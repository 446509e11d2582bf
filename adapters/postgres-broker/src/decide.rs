//! Decisions, pure: a request and a record in, a verdict out. No clock, no randomness, no IO.
//!
//! A refusal is an answer that leaves the record as it was.

pub(crate) mod binding;
pub(crate) mod instance;
pub(crate) mod outcome;
pub(crate) mod poll;

use serde_json::{Map, Value};

use crate::answer::Answer;
use crate::catalog::Catalog;
use crate::record::{Home, Instance, Spec};

/// What the shell brings to a decision.
pub(crate) struct Context<'a> {
    pub(crate) catalog: &'a Catalog,
    /// The id of the operation, if one begins.
    pub(crate) operation: String,
    /// Seconds of Unix time.
    pub(crate) now: i64,
}

/// What a request comes to.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    /// Nothing is to be done.
    Answer(Answer),
    /// Store the record, then do what its stage says.
    Begin {
        record: Box<Instance>,
        operation: String,
        reply: Reply,
    },
    /// What is asked for is already under way.
    Join { operation: String, reply: Reply },
}

/// When the platform is answered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Reply {
    /// Now, with 202.
    AtOnce,
    /// When the operation has ended.
    AtEnd,
}

impl Reply {
    fn by(accepts_incomplete: bool) -> Self {
        if accepts_incomplete {
            Self::AtOnce
        } else {
            Self::AtEnd
        }
    }
}

/// The ids of offering and plan that a request names.
#[derive(Clone, Debug, Default)]
pub(crate) struct PlanIds {
    pub(crate) service_id: Option<String>,
    pub(crate) plan_id: Option<String>,
}

impl PlanIds {
    /// Refuses ids that are sent and not the instance's.
    fn check(&self, instance: &Instance) -> Result<(), Answer> {
        let plan_fits = |plan: &String| match &instance.stage {
            crate::record::Stage::Updating { to } => {
                *plan == to.plan_id || *plan == instance.spec.plan_id
            }
            _ => *plan == instance.spec.plan_id,
        };
        if self
            .service_id
            .as_ref()
            .is_some_and(|id| *id != instance.service_id)
        {
            return Err(Answer::bad_request(
                "service_id is not that of the instance",
            ));
        }
        if self.plan_id.as_ref().is_some_and(|id| !plan_fits(id)) {
            return Err(Answer::bad_request("plan_id is not that of the instance"));
        }
        Ok(())
    }
}

/// The instance, if it is there and not gone.
fn present(instance: Option<&Instance>) -> Option<&Instance> {
    instance.filter(|instance| !instance.is_gone())
}

fn is_dedicated(instance: &Instance) -> bool {
    matches!(instance.home, Home::Dedicated { .. })
}

fn check_parameters(
    schema: Option<&jsonschema::Validator>,
    parameters: &Map<String, Value>,
) -> Result<(), Answer> {
    match crate::catalog::violations(schema, parameters) {
        None => Ok(()),
        Some(problems) => Err(Answer::refused(
            axum::http::StatusCode::BAD_REQUEST,
            "ParametersInvalid",
            format!("the parameters do not fit the plan's schema: {problems}"),
        )),
    }
}

fn check_maintenance(asked: Option<&String>, plan: Option<&String>) -> Result<(), Answer> {
    if asked.is_none() || asked == plan {
        return Ok(());
    }
    Err(Answer::unprocessable(
        "MaintenanceInfoConflict",
        "maintenance_info.version is not that of the catalog: fetch the catalog again",
    ))
}

fn same_spec(one: &Spec, other: &Spec) -> bool {
    one.plan_id == other.plan_id && one.parameters == other.parameters
}

#[cfg(test)]
mod tests;
