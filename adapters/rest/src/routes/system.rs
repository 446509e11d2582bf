//! What concerns the server itself, and the history of resources.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use engine_model::Filter;
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};

use super::commands::kind;
use crate::app::App;
use crate::ask::Fresh;
use crate::caller::Caller;
use crate::document::Shown;
use crate::filter::Params;
use crate::openapi;
use crate::path::{At, name};
use crate::ports::Info;
use crate::refusal::Refusal;
use crate::table::Place;

/// The one path that needs no token.
pub(crate) const HEALTH: &str = "/healthz";

pub(super) fn places() -> Vec<Place> {
    vec![
        Place::at(HEALTH).get(health),
        Place::at("/metrics").get(metrics),
        Place::at("/v1/version").get(version),
        Place::at("/v1/openapi.json").get(openapi::document),
        Place::at("/v1/history/{kind}/{name}").get(history),
    ]
}

/// Says that the process lives, and nothing else: anyone may ask.
async fn health() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

async fn metrics(State(app): State<Arc<App>>) -> impl IntoResponse {
    let text = app.metrics.render(app.under_way());
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        text,
    )
}

async fn version(State(app): State<Arc<App>>) -> Json<Info> {
    Json(app.ports.info.clone())
}

async fn history(
    State(app): State<Arc<App>>,
    caller: Caller,
    At((token, text)): At<(String, String)>,
    params: Params,
) -> Result<Shown, Refusal> {
    params.only([])?;
    let filter = Filter::History {
        kind: kind(&token)?,
        name: name(text)?,
    };
    let fresh = Fresh {
        events: caller.at_least,
        ..Fresh::default()
    };
    let answer = app.query(&caller, filter, fresh).await?;
    Ok(Shown::all(answer))
}
