//! Bind and unbind.

use axum::http::StatusCode;
use serde_json::{Map, Value, json};

use super::instance::HALTED;
use super::{Context, PlanIds, Reply, Verdict, check_parameters, present};
use crate::answer::Answer;
use crate::config::Secret;
use crate::record::{
    Binding, BindingStage, Instance, OperationKind, OperationState, Operations, Stage, Validity,
};

/// Bindings that an instance may have. A thousand roles make no server slow, and a record of them
/// is still written in a millisecond.
const BINDINGS_MAX: usize = 1_000;

/// PUT of a binding.
#[derive(Clone, Debug)]
pub(crate) struct Bind {
    pub(crate) binding_id: String,
    pub(crate) ids: PlanIds,
    pub(crate) parameters: Option<Map<String, Value>>,
    pub(crate) bind_resource: Option<Map<String, Value>>,
    pub(crate) predecessor: Option<String>,
    pub(crate) accepts_incomplete: bool,
}

/// DELETE of a binding.
#[derive(Clone, Debug)]
pub(crate) struct Unbind {
    pub(crate) binding_id: String,
    pub(crate) ids: PlanIds,
    pub(crate) accepts_incomplete: bool,
}

/// How one connects to an instance, apart from who one is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
}

pub(crate) fn bind(
    ctx: Context<'_>,
    instance: Option<&Instance>,
    ask: Bind,
    password: Secret,
    address: Option<&Address>,
) -> Result<Verdict, Answer> {
    let instance = present(instance).ok_or_else(|| Answer::not_found("no such instance"))?;
    ask.ids.check(instance)?;
    let plan = ctx
        .catalog
        .plan(&instance.service_id, &instance.spec.plan_id);
    // A platform that cannot fetch the credentials later must get them now.
    let reply =
        Reply::by(ask.accepts_incomplete && plan.is_some_and(|plan| plan.bindings_retrievable));
    let existing = instance.bindings.get(&ask.binding_id);
    let existing = existing.filter(|binding| !matches!(binding.stage, BindingStage::Gone { .. }));
    if !existing.is_none_or(|binding| is_repeat(&ask, binding)) {
        return Err(Answer::conflict(
            "a binding of this id exists with other attributes",
        ));
    }
    match existing.map(|binding| binding.stage) {
        Some(BindingStage::Ready) => {
            let binding = existing.expect("it has a stage");
            return Ok(Verdict::Answer(granted(
                StatusCode::OK,
                instance,
                binding,
                address,
            )));
        }
        Some(BindingStage::Creating) => {
            let operation = existing
                .expect("it has a stage")
                .operations
                .last()
                .id
                .clone();
            return Ok(Verdict::Join { operation, reply });
        }
        Some(BindingStage::Deleting) => {
            return Err(Answer::concurrency("the binding is being deleted"));
        }
        Some(BindingStage::DeleteFailed) => {
            return Err(Answer::conflict(
                "a binding of this id is half deleted: delete it again",
            ));
        }
        Some(BindingStage::CreateFailed | BindingStage::Gone { .. }) | None => {}
    }
    check_instance_is_ready(instance)?;
    let plan = plan.ok_or_else(|| {
        Answer::unprocessable(
            "PlanWithdrawn",
            "the plan has left the catalog: no new bindings",
        )
    })?;
    if !plan.bindable {
        return Err(Answer::bad_request(
            "instances of this plan cannot be bound",
        ));
    }
    let predecessor = match &ask.predecessor {
        None => None,
        Some(id) => Some(predecessor(instance, id, plan.rotatable, ctx.now)?),
    };
    // What a rotation does not say is as it was.
    let inherited = |given: Option<Map<String, Value>>, of: fn(&Binding) -> &Map<String, Value>| {
        given.unwrap_or_else(|| predecessor.map(of).cloned().unwrap_or_default())
    };
    let parameters = inherited(ask.parameters, |binding| &binding.parameters);
    let bind_resource = inherited(ask.bind_resource, |binding| &binding.bind_resource);
    check_parameters(plan.bind.as_ref(), &parameters)?;
    if instance.bindings.len() >= BINDINGS_MAX {
        return Err(Answer::unprocessable(
            "TooManyBindings",
            "the instance has 1000 bindings",
        ));
    }
    let mut record = instance.clone();
    let mut binding = existing.cloned().unwrap_or_else(|| Binding {
        id: ask.binding_id.clone(),
        parameters,
        bind_resource,
        predecessor: ask.predecessor,
        validity: None,
        password,
        stage: BindingStage::Creating,
        operations: Operations::begun(ctx.operation.clone(), OperationKind::Bind),
    });
    binding.validity = plan
        .credential_lifetime
        .map(|seconds| Validity::starting(ctx.now, seconds));
    if existing.is_some() {
        binding.stage = BindingStage::Creating;
        binding
            .operations
            .begin(ctx.operation.clone(), OperationKind::Bind);
    }
    record.bindings.insert(ask.binding_id, binding);
    Ok(Verdict::Begin {
        record: Box::new(record),
        operation: ctx.operation,
        reply,
    })
}

/// Whether a request asks again for a binding that is there. A rotation may leave out what its
/// predecessor was made with.
fn is_repeat(ask: &Bind, binding: &Binding) -> bool {
    let same = |asked: &Option<Map<String, Value>>, kept: &Map<String, Value>| match asked {
        Some(asked) => asked == kept,
        None => kept.is_empty() || ask.predecessor.is_some(),
    };
    ask.predecessor == binding.predecessor
        && same(&ask.parameters, &binding.parameters)
        && same(&ask.bind_resource, &binding.bind_resource)
}

fn check_instance_is_ready(instance: &Instance) -> Result<(), Answer> {
    match &instance.stage {
        Stage::Ready => Ok(()),
        Stage::Creating => Err(Answer::concurrency("the instance is being created")),
        Stage::Updating { .. } => Err(Answer::concurrency("the instance is being updated")),
        Stage::Deleting => Err(Answer::concurrency("the instance is being deleted")),
        Stage::CreateFailed | Stage::DeleteFailed | Stage::Gone { .. } => Err(
            Answer::unprocessable("InstanceUnusable", "the instance is not usable: delete it"),
        ),
    }
}

/// The binding that is to be replaced: it must be alive.
fn predecessor<'a>(
    instance: &'a Instance,
    id: &str,
    rotatable: bool,
    now: i64,
) -> Result<&'a Binding, Answer> {
    if !rotatable {
        return Err(Answer::bad_request(
            "bindings of this plan cannot be rotated",
        ));
    }
    match instance.bindings.get(id) {
        Some(binding) if binding.stage == BindingStage::Ready && !binding.is_expired(now) => {
            Ok(binding)
        }
        _ => Err(Answer::bad_request(
            "predecessor_binding_id is not that of a live binding of the instance, not expired",
        )),
    }
}

pub(crate) fn unbind(
    ctx: Context<'_>,
    instance: Option<&Instance>,
    ask: &Unbind,
) -> Result<Verdict, Answer> {
    let instance = present(instance).ok_or_else(Answer::gone)?;
    let binding = instance
        .bindings
        .get(&ask.binding_id)
        .ok_or_else(Answer::gone)?;
    let reply = Reply::by(ask.accepts_incomplete);
    match binding.stage {
        BindingStage::Gone { .. } => return Err(Answer::gone()),
        BindingStage::Creating
        | BindingStage::Ready
        | BindingStage::CreateFailed
        | BindingStage::Deleting
        | BindingStage::DeleteFailed => ask.ids.check(instance)?,
    }
    if binding.stage == BindingStage::Deleting {
        let operation = binding.operations.last().id.clone();
        return Ok(Verdict::Join { operation, reply });
    }
    match &instance.stage {
        Stage::Updating { .. } => return Err(Answer::concurrency("the instance is being updated")),
        Stage::Deleting => return Err(Answer::concurrency("the instance is being deleted")),
        Stage::Creating => return Err(Answer::concurrency("the instance is being created")),
        Stage::Ready | Stage::CreateFailed | Stage::DeleteFailed | Stage::Gone { .. } => {}
    }
    let mut record = instance.clone();
    let binding = record
        .bindings
        .get_mut(&ask.binding_id)
        .expect("it was found above");
    binding.stage = BindingStage::Deleting;
    binding.operations.end(OperationState::Failed {
        description: HALTED.to_owned(),
    });
    binding
        .operations
        .begin(ctx.operation.clone(), OperationKind::Unbind);
    Ok(Verdict::Begin {
        record: Box::new(record),
        operation: ctx.operation,
        reply,
    })
}

/// GET of a binding.
pub(crate) fn fetch(
    instance: Option<&Instance>,
    binding_id: &str,
    ids: &PlanIds,
    address: Option<&Address>,
) -> Result<Answer, Answer> {
    let absent = || Answer::not_found("no such binding");
    let instance = present(instance).ok_or_else(absent)?;
    ids.check(instance)?;
    let binding = instance.bindings.get(binding_id).ok_or_else(absent)?;
    if binding.stage != BindingStage::Ready {
        return Err(Answer::not_found("the binding is not complete"));
    }
    let mut answer = granted(StatusCode::OK, instance, binding, address);
    if answer.status == StatusCode::OK {
        answer.body["parameters"] = Value::Object(binding.parameters.clone());
    }
    Ok(answer)
}

/// The credentials of a binding. All values are texts, so that a platform can hand them on as
/// they are.
pub(crate) fn granted(
    status: StatusCode,
    instance: &Instance,
    binding: &Binding,
    address: Option<&Address>,
) -> Answer {
    let Some(Address { host, port }) = address else {
        return Answer::broken("the server of this instance is no longer configured");
    };
    let names = crate::names::Names::of(&instance.id);
    let (database, username) = (&names.database, names.login(&binding.id));
    let password = &binding.password.0;
    let in_uri = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.clone()
    };
    let mut answer = Answer::new(
        status,
        json!({
            "credentials": {
                "host": host,
                "port": port.to_string(),
                "database": database,
                "username": username,
                "password": password,
                "uri": format!(
                    "postgres://{username}:{password}@{in_uri}:{port}/{database}?sslmode=require"
                ),
                "sslRequired": "true",
                "tags": r#"["postgresql"]"#,
            },
            "endpoints": [{ "host": host, "ports": [port.to_string()], "protocol": "tcp" }],
        }),
    );
    if let Some(validity) = binding.validity {
        answer.body["metadata"] = json!({
            "expires_at": timestamp(validity.expires_at),
            "renew_before": timestamp(validity.renew_before),
        });
    }
    answer
}

/// A moment as the specification wants it written.
fn timestamp(seconds: i64) -> String {
    chrono::DateTime::from_timestamp(seconds, 0)
        .unwrap_or(chrono::DateTime::<chrono::Utc>::MAX_UTC)
        .format("%Y-%m-%dT%H:%M:%S.0Z")
        .to_string()
}
