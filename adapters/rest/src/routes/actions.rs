//! What is done with brokers, service instances and bindings besides making, changing and taking
//! them away.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use engine_model::spec::Spec;
use engine_model::{Code, Command, Filter, InstanceId, Kind};
use http::{Request, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::service::{BINDINGS, BROKERS, INSTANCES};
use crate::app::App;
use crate::ask::Fresh;
use crate::body::typed;
use crate::caller::Caller;
use crate::document::{self, Shown, to_command};
use crate::filter::Params;
use crate::group::{Group, operate, required};
use crate::path::{At, name};
use crate::refusal::Refusal;
use crate::table::Place;

pub(super) fn places() -> Vec<Place> {
    vec![
        Place::at("/v1/servicebroker/{name}/refresh").post(refresh),
        Place::at("/v1/servicebroker/{name}/retry").post(retry_broker),
        Place::at("/v1/serviceinstance/{name}").patch(change),
        Place::at("/v1/serviceinstance/{name}/live").get(live),
        Place::at("/v1/serviceinstance/{name}/adopt").post(adopt),
        Place::at("/v1/serviceinstance/{name}/retry").post(retry_instance),
        Place::at("/v1/serviceinstance/{name}/abandon").post(abandon_instance),
        Place::at("/v1/servicebinding/{name}/rotate").post(rotate),
        Place::at("/v1/servicebinding/{name}/retry").post(retry_binding),
        Place::at("/v1/servicebinding/{name}/abandon").post(abandon_binding),
        Place::at("/v1/orphans").get(orphans),
    ]
}

/// Has a broker's catalog read now.
async fn refresh(State(app): State<Arc<App>>, caller: Caller, At(name): At<String>) -> Response {
    operate(&app, &BROKERS, caller, name, Command::Refresh).await
}

async fn retry_broker(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(name): At<String>,
) -> Response {
    operate(&app, &BROKERS, caller, name, Command::Retry).await
}

async fn retry_instance(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(name): At<String>,
) -> Response {
    operate(&app, &INSTANCES, caller, name, Command::Retry).await
}

async fn retry_binding(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(name): At<String>,
) -> Response {
    operate(&app, &BINDINGS, caller, name, Command::Retry).await
}

/// Has the credentials of a binding replaced.
async fn rotate(State(app): State<Arc<App>>, caller: Caller, At(name): At<String>) -> Response {
    operate(&app, &BINDINGS, caller, name, Command::Rotate).await
}

async fn abandon_instance(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(name): At<String>,
    request: Request<Body>,
) -> Response {
    abandon(&app, &INSTANCES, caller, name, request).await
}

async fn abandon_binding(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(name): At<String>,
    request: Request<Body>,
) -> Response {
    abandon(&app, &BINDINGS, caller, name, request).await
}

/// The body of a request to abandon.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Why {
    /// Why; kept on record.
    reason: String,
}

/// Ends a resource on record, without a call to its broker.
async fn abandon(
    app: &App,
    group: &Group,
    caller: Caller,
    text: String,
    request: Request<Body>,
) -> Response {
    let done = async {
        let name = name(text)?;
        let Why { reason } = typed("abandonment", required(request, app.bounds()).await?)?;
        let command = Command::Abandon { reason };
        let seq = app.decided(&caller, group.kind, &name, command).await?;
        Ok(Shown::written(StatusCode::NO_CONTENT, seq, None))
    };
    to_command(caller.command, done.await)
}

/// Takes on record what exists at a broker: the body is a ServiceInstance document with the
/// instance's id there as `instanceId`.
async fn adopt(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(text): At<String>,
    request: Request<Body>,
) -> Response {
    let done = async {
        let name = name(text)?;
        let mut body = required(request, app.bounds()).await?;
        let id = body
            .as_object_mut()
            .and_then(|fields| fields.remove("instanceId"));
        let id = id.as_ref().and_then(Value::as_str);
        let instance: InstanceId = id.and_then(|id| id.parse().ok()).ok_or_else(|| {
            let message = "'instanceId' is the instance's id at its broker, a UUID";
            Refusal::new(Code::InvalidField, message)
        })?;
        let kind = Kind::ServiceInstance;
        let (name, spec) = document::read(&app, kind, body, Some(&name)).await?;
        let Spec::ServiceInstance(spec) = spec else {
            return Err(Refusal::new(Code::WrongKind, "it is no service instance"));
        };
        let command = Command::Adopt { spec, instance };
        let seq = app.decided(&caller, kind, &name, command).await?;
        let (document, _) = app.one(&caller, kind, &name, seq).await?;
        Ok(Shown::written(StatusCode::CREATED, seq, Some(document)))
    };
    to_command(caller.command, done.await)
}

/// Fields of an instance that can be changed; others are refused.
const CHANGEABLE: &[&str] = &[
    "servicePlan",
    "parameters",
    "secretParameters",
    "maintenanceVersion",
    "binding",
    "tags",
];

/// Changes an instance: what the body does not name stays.
async fn change(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(text): At<String>,
    request: Request<Body>,
) -> Response {
    let done = async {
        let name = name(text)?;
        let body: Map<String, Value> = typed("change", required(request, app.bounds()).await?)?;
        if let Some(strange) = body.keys().find(|key| !CHANGEABLE.contains(&key.as_str())) {
            let shown: String = strange.chars().take(80).collect();
            let all = CHANGEABLE.join(", ");
            let message = format!("'{shown}' cannot be changed; there are: {all}");
            return Err(Refusal::new(Code::InvalidField, message));
        }
        let kind = Kind::ServiceInstance;
        let (mut known, _) = app.one(&caller, kind, &name, caller.at_least).await?;
        // Only what is asked for is to be seen as a change.
        for field in ["parameters", "secretParameters", "maintenanceVersion"] {
            known.as_object_mut().map(|fields| fields.remove(field));
        }
        for (field, value) in body {
            known[field] = value;
        }
        let (name, spec) = document::read(&app, kind, known, Some(&name)).await?;
        let command = Command::Update(spec);
        let seq = app.decided(&caller, kind, &name, command).await?;
        let (document, _) = app.one(&caller, kind, &name, seq).await?;
        Ok(Shown::written(StatusCode::OK, seq, Some(document)))
    };
    to_command(caller.command, done.await)
}

/// How an instance is at its broker now; nothing is recorded.
async fn live(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(text): At<String>,
    params: Params,
) -> Result<Shown, Refusal> {
    params.only([])?;
    let filter = Filter::Live { name: name(text)? };
    let mut answer = app.query(&caller, filter, Fresh::default()).await?;
    let document = answer.documents.pop().unwrap_or(Value::Null);
    Ok(Shown::view(document, answer.as_of))
}

/// What may have been left at brokers and is being removed.
async fn orphans(
    State(app): State<Arc<App>>,
    caller: Caller,
    params: Params,
) -> Result<Shown, Refusal> {
    params.only([])?;
    let answer = app
        .query(&caller, Filter::Orphans, Fresh::default())
        .await?;
    Ok(Shown::all(answer))
}
