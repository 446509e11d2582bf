//! Runs of functions.

use std::sync::Arc;

use adapter_kit::RunTicket;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use engine_model::{Answer, AsOf, Code, Filter, Name, RunCommand, RunId, Seq, Timestamp};
use http::{Request, StatusCode};
use serde_json::{Map, Value};

use super::commands::{run_id, started_as, wait};
use crate::app::App;
use crate::ask::Fresh;
use crate::body;
use crate::caller::Caller;
use crate::document::{Shown, to_command};
use crate::filter::{Field, Params, TAGS, Wanted};
use crate::path::{At, name};
use crate::refusal::Refusal;
use crate::spill;
use crate::table::Place;

/// The parameter that names a function.
const FUNCTION: &str = "functionName";

/// Filters of runs besides tags.
const FILTERS: &[Field] = &[
    Field {
        parameter: FUNCTION,
        field: FUNCTION,
    },
    Field {
        parameter: "state",
        field: "status",
    },
];

/// Runs shown when nobody says how many.
const LIMIT: u32 = 1000;

/// Fields of a run that the server fills, and that a document which was read back may carry.
const IGNORED: &[&str] = &[
    "name",
    "kind",
    "id",
    "functionName",
    "functionId",
    "faasId",
    "output",
    "outputBlob",
    "logs",
    "error",
    "executedTime",
    "finishedTime",
    "modifiedTime",
    "createdTime",
    "reason",
    "services",
    "status",
    "tags",
    "revision",
    "attempt",
    "attempts",
    "waitsUntil",
];

/// Names the run that repeated requests ask for.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

pub(super) fn places() -> Vec<Place> {
    vec![
        Place::at("/v1/runs").get(list).post(start),
        Place::at("/v1/runs/{name}").get(show).delete(cancel),
        Place::at("/v1/runs/{name}/cancel").post(cancel),
    ]
}

async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    params: Params,
) -> Result<Shown, Refusal> {
    let params = params.only([FUNCTION, "since", "limit", "state", TAGS])?;
    let wanted = Wanted::read(&params, FILTERS)?;
    let since = params.read::<i64>("since", "a number of seconds since 1970")?;
    let filter = Filter::Runs {
        function: params
            .get(FUNCTION)
            .map(|text| name(text.to_owned()))
            .transpose()?,
        since: since.map(|seconds| Timestamp(seconds.saturating_mul(1000))),
        limit: params.read("limit", "a number")?.unwrap_or(LIMIT),
    };
    let fresh = Fresh {
        runs: caller.at_least,
        ..Fresh::default()
    };
    let mut answer = app.query(&caller, filter, fresh).await?;
    answer.documents.retain(|document| wanted.takes(document));
    Ok(Shown::all(answer))
}

async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(text): At<String>,
    params: Params,
) -> Result<Shown, Refusal> {
    let wanted = Wanted::read(&params.only([FUNCTION, TAGS])?, FILTERS)?;
    let id = run_id(&text)?;
    let (document, as_of) = one(&app, &caller, id, caller.at_least).await?;
    if !wanted.takes(&document) {
        return Err(Refusal::not_found("run", id));
    }
    Ok(Shown::view(document, as_of))
}

async fn one(app: &App, caller: &Caller, id: RunId, seq: Seq) -> Result<(Value, AsOf), Refusal> {
    let fresh = Fresh {
        runs: seq,
        ..Fresh::default()
    };
    let Answer {
        as_of,
        mut documents,
    } = app.query(caller, Filter::Run { id }, fresh).await?;
    let mut document = documents
        .pop()
        .ok_or_else(|| Refusal::not_found("run", id))?;
    spill::fetch_document(app.ports.blobs.as_ref(), &mut document).await;
    Ok((document, as_of))
}

/// Asks for the end of a run, and shows its record then: with 202 while it is being killed.
async fn cancel(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(text): At<String>,
    params: Params,
) -> Result<Shown, Refusal> {
    params.only([])?;
    let id = run_id(&text)?;
    let (document, _) = one(&app, &caller, id, caller.at_least).await?;
    let function = document["functionName"].as_str().unwrap_or_default();
    let seq = app.cancel(&caller, id, &name(function.to_owned())?).await?;
    let (document, _) = one(&app, &caller, id, seq).await?;
    let status = match document["status"].as_str() {
        Some("CANCELLED") => StatusCode::OK,
        _ => StatusCode::ACCEPTED,
    };
    Ok(Shown::written(status, seq, Some(document)))
}

/// A run bears the id of its command, so that a repeat under the same id is the same run.
async fn start(
    State(app): State<Arc<App>>,
    caller: Caller,
    params: Params,
    request: Request<Body>,
) -> Response {
    let id = caller.command;
    let started = begin(&app, &caller, RunId(id.0), params, request);
    to_command(id, started.await)
}

async fn begin(
    app: &App,
    caller: &Caller,
    id: RunId,
    params: Params,
    request: Request<Body>,
) -> Result<Shown, Refusal> {
    let params = params.only([FUNCTION, "wait"])?;
    let key = request.headers().get(IDEMPOTENCY_KEY);
    let unreadable = |_| {
        let message = format!("the header {IDEMPOTENCY_KEY} is not plain text");
        Refusal::new(Code::InvalidField, message)
    };
    let key = key.map(|key| key.to_str().map(str::to_owned).map_err(unreadable));
    let key = key.transpose()?;
    let body = body::json(request, app.bounds()).await?;
    let Some(Value::Object(fields)) = body else {
        return Err(Refusal::new(Code::MalformedCommand, "Invalid Payload"));
    };
    let (function, mut command) = read(&params, fields)?;
    if let Some(key) = key {
        command.idempotency_key = Some(key);
    }
    let id = started_as(&command, id, caller, &function)?;
    let wait = command
        .blocking
        .then_some(wait(&params)?.unwrap_or(app.config.wait_max));
    let command = spill::run(app.ports.blobs.as_ref(), command).await?;
    if wait.is_none() && command.idempotency_key.is_some() {
        // Nobody would hear that the key was used for something else.
        same_input(app, caller, id, &command).await?;
    }
    let (status, seq) = match app.run(caller, id, &function, command, wait).await? {
        RunTicket::Accepted { seq, .. } => (StatusCode::ACCEPTED, seq),
        RunTicket::Finished(reply) => (StatusCode::OK, reply.seq),
    };
    let (document, _) = one(app, caller, id, seq).await?;
    let location = Some(format!("/v1/runs/{id}"));
    Ok(Shown {
        location,
        ..Shown::written(status, seq, Some(document))
    })
}

/// Refuses another input than that of the run that the key named before, if there is one.
async fn same_input(
    app: &App,
    caller: &Caller,
    id: RunId,
    command: &RunCommand,
) -> Result<(), Refusal> {
    let filter = Filter::Run { id };
    let found = app.query(caller, filter, Fresh::default()).await;
    let Some(first) = found.ok().and_then(|mut answer| answer.documents.pop()) else {
        return Ok(());
    };
    let blob = first["inputBlob"].as_str();
    if first["input"] == command.input && blob == command.input_blob.as_deref() {
        return Ok(());
    }
    let message = format!("the idempotency key was used for run {id}, with another input");
    Err(Refusal::new(Code::IdempotencyConflict, message))
}

/// The function and what it is given: its name is a parameter, or a field of the document.
fn read(params: &Params, mut fields: Map<String, Value>) -> Result<(Name, RunCommand), Refusal> {
    let named = match fields.remove(FUNCTION) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    };
    let Some(function) = params.get(FUNCTION).map(str::to_owned).or(named) else {
        let message = "Bad Request: No function specified";
        return Err(Refusal::new(Code::MalformedCommand, message));
    };
    if fields.get("event").is_some_and(|event| !event.is_null()) {
        let message = "the field 'event' is filled by subscriptions and cannot be given";
        return Err(Refusal::new(Code::InvalidField, message));
    }
    fields.remove("event");
    for field in IGNORED {
        fields.remove(*field);
    }
    fields.retain(|field, value| field == "input" || !value.is_null());
    Ok((name(function)?, body::typed("run", Value::Object(fields))?))
}
