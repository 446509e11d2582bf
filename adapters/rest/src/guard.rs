//! What every request passes: it gets an id and a place, shows its token, is counted and logged.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{MatchedPath, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use engine_model::Code;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use tokio::time::timeout;
use tracing::{Instrument as _, debug, info_span, warn};
use uuid::Uuid;

use crate::app::App;
use crate::ports::Identity;
use crate::refusal::Refusal;
use crate::routes::HEALTH;

/// Names the request in the log and in its answer.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest request id that is taken over from a client.
const REQUEST_ID_BYTES_MAX: usize = 64;

/// The route of requests for what does not exist.
const NOWHERE: &str = "none";

/// Lets a request pass, or answers in its place.
pub(crate) async fn pass(
    State(app): State<Arc<App>>,
    mut request: Request<Body>,
    next: Next,
) -> Response {
    let began = Instant::now();
    let id = request_id(request.headers());
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let route = matched.as_ref().map_or(NOWHERE, MatchedPath::as_str);
    let method = request.method().clone();
    let span = info_span!("request", request.id = ?id, http.method = %method, http.route = route);
    let answered = async {
        let place = app.requests.try_acquire();
        match admit(&app, route, place.is_ok(), &mut request).await {
            Ok(()) => next.run(request).await,
            Err(refusal) => refusal.into_response(),
        }
    };
    let mut response = answered.instrument(span.clone()).await;
    response.headers_mut().insert(REQUEST_ID, id);
    let (status, took) = (response.status(), began.elapsed());
    app.metrics.count(&method, route, status, took);
    span.in_scope(|| {
        let (status, ms) = (status.as_u16(), took.as_millis());
        if response.status().is_server_error() {
            warn!(http.status = status, ms, "request failed");
        } else {
            debug!(http.status = status, ms, "request answered");
        }
    });
    response
}

async fn admit(
    app: &App,
    route: &str,
    has_place: bool,
    request: &mut Request<Body>,
) -> Result<(), Refusal> {
    // Who asks whether the process lives is answered even when the house is full.
    if route == HEALTH {
        return Ok(());
    }
    if !has_place {
        return Err(Refusal::new(
            Code::Busy,
            "too many requests are under way; try again",
        ));
    }
    let identity = authenticate(app, request.headers()).await?;
    request.extensions_mut().insert(identity);
    Ok(())
}

async fn authenticate(app: &App, headers: &HeaderMap) -> Result<Identity, Refusal> {
    let unauthenticated = || {
        let message = "Unauthorized, please make sure you are logged in or provide a valid token";
        Refusal::new(Code::Unauthenticated, message)
    };
    let token = bearer(headers).ok_or_else(unauthenticated)?;
    let within = app.config.answer_within;
    timeout(within, app.ports.authenticator.authenticate(token))
        .await
        .map_err(|_| Refusal::timeout(within))?
        .ok_or_else(unauthenticated)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// The client's own id where it is a plain word, so that its log and ours can be read together.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let given = headers.get(REQUEST_ID).filter(|id| {
        let bytes = id.as_bytes();
        (1..=REQUEST_ID_BYTES_MAX).contains(&bytes.len()) && bytes.iter().all(plain)
    });
    given.cloned().unwrap_or_else(|| {
        HeaderValue::from_str(&Uuid::now_v7().to_string()).expect("a uuid is a header value")
    })
}
