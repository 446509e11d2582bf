//! Requests about bindings.

use axum::extract::{Path, Request, State};
use axum::http::Uri;

use super::{Front, Query, body, check_id};
use crate::answer::Answer;
use crate::decide::PlanIds;
use crate::decide::binding::{Bind, Unbind};
use crate::decide::poll::Poll;
use crate::desk::Ask;

pub(super) async fn bind(
    State(front): State<Front>,
    Path((instance_id, binding_id)): Path<(String, String)>,
    request: Request,
) -> Result<Answer, Answer> {
    check_id(&binding_id, "binding_id")?;
    let query = Query::of(request.uri());
    let fields = body::read(request, front.limits.body_bytes_max).await?;
    let predecessor = fields.optional("predecessor_binding_id")?;
    let ids = if predecessor.is_some() {
        // A rotation need not repeat what its predecessor was made with.
        PlanIds {
            service_id: fields.optional("service_id")?,
            plan_id: fields.optional("plan_id")?,
        }
    } else {
        PlanIds {
            service_id: Some(fields.required("service_id")?),
            plan_id: Some(fields.required("plan_id")?),
        }
    };
    let ask = Bind {
        binding_id,
        ids,
        parameters: fields.object("parameters")?,
        bind_resource: fields.object("bind_resource")?,
        predecessor,
        accepts_incomplete: query.accepts_incomplete()?,
    };
    front.ask(instance_id, Ask::Bind(ask)).await
}

pub(super) async fn unbind(
    State(front): State<Front>,
    Path((instance_id, binding_id)): Path<(String, String)>,
    uri: Uri,
) -> Result<Answer, Answer> {
    check_id(&binding_id, "binding_id")?;
    let query = Query::of(&uri);
    let ids = query.required_ids()?;
    let accepts_incomplete = query.accepts_incomplete()?;
    front
        .ask(
            instance_id,
            Ask::Unbind(Unbind {
                binding_id,
                ids,
                accepts_incomplete,
            }),
        )
        .await
}

pub(super) async fn fetch(
    State(front): State<Front>,
    Path((instance_id, binding_id)): Path<(String, String)>,
    uri: Uri,
) -> Result<Answer, Answer> {
    check_id(&binding_id, "binding_id")?;
    let ids = Query::of(&uri).ids();
    front
        .ask(instance_id, Ask::FetchBinding { binding_id, ids })
        .await
}

pub(super) async fn last_operation(
    State(front): State<Front>,
    Path((instance_id, binding_id)): Path<(String, String)>,
    uri: Uri,
) -> Result<Answer, Answer> {
    check_id(&binding_id, "binding_id")?;
    let query = Query::of(&uri);
    let operation = query.get("operation").map(str::to_owned);
    let ask = Poll {
        binding_id: Some(binding_id),
        ids: query.ids(),
        operation,
    };
    front.ask(instance_id, Ask::LastOperation(ask)).await
}
