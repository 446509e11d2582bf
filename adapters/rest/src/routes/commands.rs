//! The generic endpoints: any command, any run, any query, in the words of the engine. This is
//! what the command line speaks where it does not reach NATS.

use std::sync::Arc;
use std::time::Duration;

use adapter_kit::RunTicket;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use engine_model::{Answer, Code, Command, Filter, Kind, Name, Query, Reply, RunCommand, RunId};
use http::{Request, StatusCode};
use serde_json::json;

use crate::app::App;
use crate::body::typed;
use crate::caller::Caller;
use crate::document::to_command;
use crate::filter::Params;
use crate::group::required;
use crate::path::{At, name};
use crate::refusal::Refusal;
use crate::spill;
use crate::table::Place;

pub(super) fn places() -> Vec<Place> {
    vec![
        Place::at("/v1/commands/{kind}/{name}").post(submit),
        Place::at("/v1/commands/run/{function}/{id}").post(run),
        Place::at("/v1/query").post(query),
    ]
}

/// Reads the kind of a path.
pub(super) fn kind(token: &str) -> Result<Kind, Refusal> {
    Kind::from_token(token).ok_or_else(|| {
        let shown: String = token.chars().take(80).collect();
        let message = format!("there is no kind '{shown}'");
        Refusal::with_status(StatusCode::NOT_FOUND, Code::UnknownKind, message)
    })
}

async fn submit(
    State(app): State<Arc<App>>,
    caller: Caller,
    At((token, text)): At<(String, String)>,
    request: Request<Body>,
) -> Response {
    let replied = async {
        let (kind, name) = (kind(&token)?, name(text)?);
        if kind == Kind::Run {
            let message = "runs are started at /v1/commands/run/{function}/{id}";
            return Err(Refusal::new(Code::ReadOnly, message));
        }
        let body = required(request, app.source_bounds()).await?;
        let command: Command = typed("command", body)?;
        let command = spill::command(app.ports.blobs.as_ref(), command).await?;
        let reply: Reply = app.submit(&caller, kind, &name, command).await?;
        Ok(Json(reply))
    };
    to_command(caller.command, replied.await)
}

async fn run(
    State(app): State<Arc<App>>,
    caller: Caller,
    At((function, id)): At<(String, String)>,
    params: Params,
    request: Request<Body>,
) -> Result<Response, Refusal> {
    let wait = wait(&params.only(["wait"])?)?;
    let (function, id) = (name(function)?, run_id(&id)?);
    let command: RunCommand = typed("run command", required(request, app.bounds()).await?)?;
    let id = started_as(&command, id, &caller, &function)?;
    let command = spill::run(app.ports.blobs.as_ref(), command).await?;
    Ok(
        match app.run(&caller, id, &function, command, wait).await? {
            RunTicket::Accepted { run, seq } => (
                StatusCode::ACCEPTED,
                Json(json!({ "run": run, "seq": seq })),
            )
                .into_response(),
            RunTicket::Finished(mut reply) => {
                spill::fetch_result(app.ports.blobs.as_ref(), &mut reply.result).await;
                Json(reply).into_response()
            }
        },
    )
}

/// The id of the run that a command starts.
pub(super) fn started_as(
    command: &RunCommand,
    id: RunId,
    caller: &Caller,
    function: &Name,
) -> Result<RunId, Refusal> {
    if command.cancel {
        let message = "a run is cancelled with POST /v1/runs/{name}/cancel";
        return Err(Refusal::new(Code::InvalidField, message));
    }
    Ok(command.run_id(id, &caller.org, function)?)
}

/// How long to wait for a run, in seconds; 0 is not at all.
pub(super) fn wait(params: &Params) -> Result<Option<Duration>, Refusal> {
    let seconds = params
        .read::<u64>("wait", "a number of seconds")?
        .unwrap_or(0);
    Ok((seconds > 0).then(|| Duration::from_secs(seconds)))
}

/// Reads the id of a run.
pub(super) fn run_id(text: &str) -> Result<RunId, Refusal> {
    text.parse().map_err(|_| {
        let shown: String = text.chars().take(80).collect();
        Refusal::new(
            Code::InvalidName,
            format!("'{shown}' is no run's id, which is a UUID"),
        )
    })
}

async fn query(
    State(app): State<Arc<App>>,
    caller: Caller,
    request: Request<Body>,
) -> Result<Json<Answer>, Refusal> {
    let query: Query = typed("query", required(request, app.bounds()).await?)?;
    if query.org != caller.org {
        let message = format!(
            "the query is for the organization '{}', and the request for '{}'",
            query.org, caller.org
        );
        return Err(Refusal::new(Code::InvalidField, message));
    }
    if concerns_everyone(&query.filter) && !caller.everywhere {
        let message = "this concerns the whole installation; a token of one organization \
                       does not do";
        return Err(Refusal::new(Code::Forbidden, message));
    }
    app.answer(query).await.map(Json)
}

/// Whether a question goes beyond one organization.
fn concerns_everyone(filter: &Filter) -> bool {
    match filter {
        Filter::DeadLetters { .. } | Filter::Revive { .. } | Filter::Rebuild => true,
        Filter::One { .. }
        | Filter::All { .. }
        | Filter::History { .. }
        | Filter::Revisions { .. }
        | Filter::Run { .. }
        | Filter::Runs { .. }
        | Filter::Live { .. }
        | Filter::Orphans
        | Filter::Info => false,
    }
}
