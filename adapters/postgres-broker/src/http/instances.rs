//! Requests about instances.

use axum::extract::{Path, Request, State};
use axum::http::Uri;

use super::{Front, Query, body};
use crate::answer::Answer;
use crate::decide::instance::{Deprovision, Provision, Update};
use crate::decide::poll::Poll;
use crate::desk::Ask;

pub(super) async fn provision(
    State(front): State<Front>,
    Path(instance_id): Path<String>,
    request: Request,
) -> Result<Answer, Answer> {
    let query = Query::of(request.uri());
    let fields = body::read(request, front.limits.body_bytes_max).await?;
    let ask = Provision {
        instance_id: instance_id.clone(),
        service_id: fields.required("service_id")?,
        plan_id: fields.required("plan_id")?,
        organization: fields.required("organization_guid")?,
        space: fields.required("space_guid")?,
        parameters: fields.object("parameters")?.unwrap_or_default(),
        maintenance_version: fields.maintenance_version()?,
        accepts_incomplete: query.accepts_incomplete()?,
    };
    fields.object("context")?;
    front.ask(instance_id, Ask::Provision(ask)).await
}

pub(super) async fn update(
    State(front): State<Front>,
    Path(instance_id): Path<String>,
    request: Request,
) -> Result<Answer, Answer> {
    let query = Query::of(request.uri());
    let fields = body::read(request, front.limits.body_bytes_max).await?;
    let ask = Update {
        service_id: fields.required("service_id")?,
        plan_id: fields.optional("plan_id")?,
        parameters: fields.object("parameters")?,
        maintenance_version: fields.maintenance_version()?,
        accepts_incomplete: query.accepts_incomplete()?,
    };
    front.ask(instance_id, Ask::Update(ask)).await
}

pub(super) async fn deprovision(
    State(front): State<Front>,
    Path(instance_id): Path<String>,
    uri: Uri,
) -> Result<Answer, Answer> {
    let query = Query::of(&uri);
    let ids = query.required_ids()?;
    let accepts_incomplete = query.accepts_incomplete()?;
    front
        .ask(
            instance_id,
            Ask::Deprovision(Deprovision {
                ids,
                accepts_incomplete,
            }),
        )
        .await
}

pub(super) async fn fetch(
    State(front): State<Front>,
    Path(instance_id): Path<String>,
    uri: Uri,
) -> Result<Answer, Answer> {
    front
        .ask(
            instance_id,
            Ask::FetchInstance {
                ids: Query::of(&uri).ids(),
            },
        )
        .await
}

pub(super) async fn last_operation(
    State(front): State<Front>,
    Path(instance_id): Path<String>,
    uri: Uri,
) -> Result<Answer, Answer> {
    let query = Query::of(&uri);
    let operation = query.get("operation").map(str::to_owned);
    let ask = Poll {
        binding_id: None,
        ids: query.ids(),
        operation,
    };
    front.ask(instance_id, Ask::LastOperation(ask)).await
}
