//! Functions and their revisions.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use engine_model::{Command, Filter, Kind, Share};
use http::{Request, StatusCode};
use serde::Deserialize;

use crate::app::App;
use crate::ask::Fresh;
use crate::body::{self, typed};
use crate::caller::Caller;
use crate::document::{Shown, to_command};
use crate::filter::{Field, Params};
use crate::group::{Group, operate, required};
use crate::path::{At, name};
use crate::refusal::Refusal;
use crate::table::Place;

pub(super) static FUNCTIONS: Group = Group {
    kind: Kind::Function,
    all: "/v1/function",
    one: "/v1/function/{name}",
    created: Some(StatusCode::CREATED),
    updated: Some(StatusCode::OK),
    deleted: Some(StatusCode::OK),
    filters: &[
        Field {
            parameter: "state",
            field: "status",
        },
        Field {
            parameter: "image",
            field: "image",
        },
    ],
};

pub(super) fn places() -> Vec<Place> {
    vec![
        Place::at("/v1/function/{name}/revisions").get(revisions),
        Place::at("/v1/function/{name}/rollback").post(rollback),
        Place::at("/v1/function/{name}/route").post(route),
    ]
}

/// The revisions that are kept, the newest first.
async fn revisions(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(text): At<String>,
    params: Params,
) -> Result<Shown, Refusal> {
    params.only([])?;
    let filter = Filter::Revisions {
        function: name(text)?,
    };
    let fresh = Fresh {
        events: caller.at_least,
        ..Fresh::default()
    };
    let answer = app.query(&caller, filter, fresh).await?;
    Ok(Shown::all(answer))
}

/// The body of a request to go back.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Back {
    /// To which revision; none for the newest loaded one with another document.
    revision: Option<u32>,
}

/// Makes a new revision with the document of an earlier one.
async fn rollback(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(name): At<String>,
    request: Request<Body>,
) -> Response {
    let command = async {
        let body = body::json(request, app.bounds()).await?;
        let Back { revision } = body
            .map(|body| typed("rollback", body))
            .transpose()?
            .unwrap_or_default();
        Ok(Command::Rollback { revision })
    };
    operate_by(&app, caller, name, command.await).await
}

/// The body of a request to divide runs.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Traffic {
    /// Which revision takes how many runs of a hundred; nothing for the newest loaded one.
    shares: Vec<Share>,
}

/// Divides the runs of a function among its revisions.
async fn route(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(name): At<String>,
    request: Request<Body>,
) -> Response {
    let command = async {
        let Traffic { shares } = typed("route", required(request, app.bounds()).await?)?;
        Ok(Command::Route { shares })
    };
    operate_by(&app, caller, name, command.await).await
}

/// Has a function do what was read, if it could be.
async fn operate_by(
    app: &App,
    caller: Caller,
    name: String,
    command: Result<Command, Refusal>,
) -> Response {
    match command {
        Ok(command) => operate(app, &FUNCTIONS, caller, name, command).await,
        Err(refusal) => to_command(caller.command, Err::<Shown, _>(refusal)),
    }
}
