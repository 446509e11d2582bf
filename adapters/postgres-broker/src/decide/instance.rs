//! Provision, update and deprovision.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{
    Context, PlanIds, Reply, Verdict, check_maintenance, check_parameters, is_dedicated, present,
    same_spec,
};
use crate::answer::Answer;
use crate::catalog::Plan;
use crate::record::{
    BindingStage, Home, Instance, OperationKind, OperationState, Operations, Spec, Stage,
};

/// What a create or a bind ends with that a delete overtook.
pub(super) const HALTED: &str = "halted: a delete was requested meanwhile";

/// PUT of an instance.
#[derive(Clone, Debug)]
pub(crate) struct Provision {
    pub(crate) instance_id: String,
    pub(crate) service_id: String,
    pub(crate) plan_id: String,
    pub(crate) organization: String,
    pub(crate) space: String,
    pub(crate) parameters: Map<String, Value>,
    pub(crate) maintenance_version: Option<String>,
    pub(crate) accepts_incomplete: bool,
}

/// PATCH of an instance.
#[derive(Clone, Debug)]
pub(crate) struct Update {
    pub(crate) service_id: String,
    pub(crate) plan_id: Option<String>,
    pub(crate) parameters: Option<Map<String, Value>>,
    pub(crate) maintenance_version: Option<String>,
    pub(crate) accepts_incomplete: bool,
}

/// DELETE of an instance.
#[derive(Clone, Debug)]
pub(crate) struct Deprovision {
    pub(crate) ids: PlanIds,
    pub(crate) accepts_incomplete: bool,
}

pub(crate) fn provision(
    ctx: Context<'_>,
    instance: Option<&Instance>,
    ask: Provision,
    free_port: Option<u16>,
) -> Result<Verdict, Answer> {
    let plan = ctx
        .catalog
        .plan(&ask.service_id, &ask.plan_id)
        .ok_or_else(|| Answer::bad_request("the catalog has no such service_id and plan_id"))?;
    check_parameters(plan.create.as_ref(), &ask.parameters)?;
    check_maintenance(
        ask.maintenance_version.as_ref(),
        plan.maintenance_version.as_ref(),
    )?;
    let spec = Spec {
        plan_id: ask.plan_id,
        backing: plan.backing.clone(),
        parameters: ask.parameters,
        maintenance_version: plan.maintenance_version.clone(),
    };
    let dedicated = plan.backing.is_dedicated();
    let reply = Reply::by(ask.accepts_incomplete);
    let must_wait = dedicated && reply == Reply::AtEnd;
    let Some(instance) = present(instance) else {
        if must_wait {
            return Err(Answer::async_required());
        }
        let home = match (dedicated, free_port) {
            (false, _) => Home::Shared,
            (true, Some(port)) => Home::Dedicated { port },
            (true, None) => return Err(Answer::broken("no port is free for another server")),
        };
        let record = Instance {
            id: ask.instance_id,
            service_id: ask.service_id,
            organization: ask.organization,
            space: ask.space,
            spec,
            home,
            stage: Stage::Creating,
            operations: Operations::begun(ctx.operation.clone(), OperationKind::Provision),
            bindings: BTreeMap::new(),
        };
        return Ok(Verdict::Begin {
            record: Box::new(record),
            operation: ctx.operation,
            reply,
        });
    };
    let same = instance.service_id == ask.service_id
        && instance.organization == ask.organization
        && instance.space == ask.space
        && same_spec(&instance.spec, &spec);
    if !same {
        return Err(Answer::conflict(
            "an instance of this id exists with other attributes",
        ));
    }
    match &instance.stage {
        Stage::Ready => Ok(Verdict::Answer(Answer::ok())),
        Stage::Creating | Stage::CreateFailed if must_wait => Err(Answer::async_required()),
        Stage::Creating => Ok(join(instance, reply)),
        Stage::CreateFailed => Ok(begin(
            ctx,
            Instance {
                stage: Stage::Creating,
                spec,
                ..instance.clone()
            },
            OperationKind::Provision,
            reply,
        )),
        Stage::Updating { .. } => Err(Answer::concurrency("the instance is being updated")),
        Stage::Deleting => Err(Answer::concurrency("the instance is being deleted")),
        Stage::DeleteFailed | Stage::Gone { .. } => Err(Answer::conflict(
            "an instance of this id is half deleted: delete it again",
        )),
    }
}

pub(crate) fn update(
    ctx: Context<'_>,
    instance: Option<&Instance>,
    ask: Update,
) -> Result<Verdict, Answer> {
    let instance = present(instance).ok_or_else(|| Answer::not_found("no such instance"))?;
    if ask.service_id != instance.service_id {
        return Err(Answer::bad_request(
            "service_id is not that of the instance",
        ));
    }
    let to = updated_spec(&ctx, instance, &ask)?;
    let reply = Reply::by(ask.accepts_incomplete);
    match &instance.stage {
        Stage::Ready if to == instance.spec => Ok(Verdict::Answer(Answer::ok())),
        Stage::Ready | Stage::Updating { .. }
            if is_dedicated(instance) && reply == Reply::AtEnd =>
        {
            Err(Answer::async_required())
        }
        Stage::Ready if has_busy_binding(instance) => Err(Answer::concurrency(
            "a binding of the instance is being changed",
        )),
        Stage::Ready => {
            let stage = Stage::Updating { to };
            let record = Instance {
                stage,
                ..instance.clone()
            };
            Ok(begin(ctx, record, OperationKind::Update, reply))
        }
        Stage::Updating { to: running } if *running == to => Ok(join(instance, reply)),
        Stage::Updating { .. } => Err(Answer::concurrency("the instance is being updated")),
        Stage::Creating => Err(Answer::concurrency("the instance is being created")),
        Stage::Deleting => Err(Answer::concurrency("the instance is being deleted")),
        Stage::CreateFailed | Stage::DeleteFailed | Stage::Gone { .. } => Err(
            Answer::unprocessable("InstanceUnusable", "the instance is not usable: delete it"),
        ),
    }
}

fn updated_spec(ctx: &Context<'_>, instance: &Instance, ask: &Update) -> Result<Spec, Answer> {
    let current = ctx
        .catalog
        .plan(&instance.service_id, &instance.spec.plan_id);
    let plan_id = ask.plan_id.as_ref().unwrap_or(&instance.spec.plan_id);
    let plan = ctx
        .catalog
        .plan(&instance.service_id, plan_id)
        .ok_or_else(|| Answer::bad_request("the offering has no such plan_id"))?;
    if *plan_id != instance.spec.plan_id {
        check_move(instance, current, plan)?;
    }
    let mut parameters = instance.spec.parameters.clone();
    if let Some(changed) = ask
        .parameters
        .as_ref()
        .filter(|changed| !changed.is_empty())
    {
        let Some(schema) = &plan.update else {
            return Err(Answer::unprocessable(
                "ParametersNotUpdateable",
                "the parameters of an instance of this plan cannot be changed",
            ));
        };
        check_parameters(Some(schema), changed)?;
        parameters.extend(changed.clone());
    }
    check_maintenance(
        ask.maintenance_version.as_ref(),
        plan.maintenance_version.as_ref(),
    )?;
    let upgraded = ask.maintenance_version.is_some() || *plan_id != instance.spec.plan_id;
    Ok(Spec {
        plan_id: plan_id.clone(),
        // A plan that the operator has changed meanwhile is not slipped in with new parameters.
        backing: if upgraded {
            plan.backing.clone()
        } else {
            instance.spec.backing.clone()
        },
        parameters,
        maintenance_version: if upgraded {
            plan.maintenance_version.clone()
        } else {
            instance.spec.maintenance_version.clone()
        },
    })
}

/// Whether an instance can be moved to a plan.
fn check_move(instance: &Instance, from: Option<&Plan>, to: &Plan) -> Result<(), Answer> {
    let refused = |why: String| Err(Answer::unprocessable("PlanChangeNotSupported", why));
    if !from.is_some_and(|plan| plan.updateable) {
        return refused("instances of its plan cannot be moved to another plan".to_owned());
    }
    if to.backing.is_dedicated() != is_dedicated(instance) {
        return refused(
            "an instance cannot be moved between a shared server and one of its own".to_owned(),
        );
    }
    // An extension that goes takes columns and indexes with it.
    let mut had = instance.spec.backing.extensions().iter();
    match had.find(|name| !to.backing.extensions().contains(name)) {
        Some(name) => refused(format!("the plan lacks the extension {name}")),
        None => Ok(()),
    }
}

pub(crate) fn deprovision(
    ctx: Context<'_>,
    instance: Option<&Instance>,
    ask: &Deprovision,
) -> Result<Verdict, Answer> {
    let instance = present(instance).ok_or_else(Answer::gone)?;
    ask.ids.check(instance)?;
    let reply = Reply::by(ask.accepts_incomplete);
    if is_dedicated(instance) && reply == Reply::AtEnd {
        return Err(Answer::async_required());
    }
    match &instance.stage {
        Stage::Deleting => return Ok(join(instance, reply)),
        Stage::Updating { .. } => {
            return Err(Answer::concurrency("the instance is being updated"));
        }
        Stage::Ready | Stage::DeleteFailed if has_busy_binding(instance) => {
            return Err(Answer::concurrency(
                "a binding of the instance is being changed",
            ));
        }
        Stage::Creating
        | Stage::Ready
        | Stage::CreateFailed
        | Stage::DeleteFailed
        | Stage::Gone { .. } => {}
    }
    let mut record = Instance {
        stage: Stage::Deleting,
        ..instance.clone()
    };
    record.operations.end(OperationState::Failed {
        description: HALTED.to_owned(),
    });
    Ok(begin(ctx, record, OperationKind::Deprovision, reply))
}

/// GET of an instance.
pub(crate) fn fetch(instance: Option<&Instance>, ids: &PlanIds) -> Result<Answer, Answer> {
    let instance = present(instance).ok_or_else(|| Answer::not_found("no such instance"))?;
    ids.check(instance)?;
    match &instance.stage {
        Stage::Ready | Stage::DeleteFailed => {}
        Stage::Updating { .. } => return Err(Answer::concurrency("the instance is being updated")),
        Stage::Deleting => return Err(Answer::concurrency("the instance is being deleted")),
        Stage::Creating | Stage::CreateFailed | Stage::Gone { .. } => {
            return Err(Answer::not_found("the instance is not provisioned"));
        }
    }
    let mut body = serde_json::json!({
        "service_id": instance.service_id,
        "plan_id": instance.spec.plan_id,
        "parameters": instance.spec.parameters,
    });
    if let Some(version) = &instance.spec.maintenance_version {
        body["maintenance_info"] = serde_json::json!({ "version": version });
    }
    Ok(Answer::new(axum::http::StatusCode::OK, body))
}

fn has_busy_binding(instance: &Instance) -> bool {
    instance.bindings.values().any(|binding| {
        matches!(
            binding.stage,
            BindingStage::Creating | BindingStage::Deleting
        )
    })
}

fn join(instance: &Instance, reply: Reply) -> Verdict {
    Verdict::Join {
        operation: instance.operations.last().id.clone(),
        reply,
    }
}

fn begin(ctx: Context<'_>, mut record: Instance, kind: OperationKind, reply: Reply) -> Verdict {
    record.operations.begin(ctx.operation.clone(), kind);
    Verdict::Begin {
        record: Box::new(record),
        operation: ctx.operation,
        reply,
    }
}
