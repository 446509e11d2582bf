//! What all requests share, and the way that they go.

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse as _, Response};
use engine_model::Code;
use http::header::ALLOW;
use http::{Method, StatusCode};
use tokio::sync::Semaphore;

use crate::body::Bounds;
use crate::config::Config;
use crate::guard;
use crate::metrics::Metrics;
use crate::ports::Ports;
use crate::refusal::Refusal;
use crate::routes;

/// What all requests share.
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) ports: Ports,
    pub(crate) metrics: Metrics,
    pub(crate) requests: Semaphore,
}

impl App {
    pub(crate) fn new(config: Config, ports: Ports) -> Self {
        let requests = Semaphore::new(config.requests_max);
        Self {
            config,
            ports,
            metrics: Metrics::default(),
            requests,
        }
    }

    /// Requests that are being handled now.
    pub(crate) fn under_way(&self) -> usize {
        self.config
            .requests_max
            .saturating_sub(self.requests.available_permits())
    }

    /// The bounds of an ordinary body.
    pub(crate) fn bounds(&self) -> Bounds {
        Bounds {
            bytes_max: self.config.body_bytes_max,
            within: self.config.body_timeout,
        }
    }

    /// The bounds of a body that may carry a function's source.
    pub(crate) fn source_bounds(&self) -> Bounds {
        Bounds {
            bytes_max: self.config.source_body_bytes_max(),
            ..self.bounds()
        }
    }
}

/// The table behind the guard.
pub(crate) fn router(app: Arc<App>) -> Router {
    let mut router = Router::new();
    for place in routes::table() {
        router = router.route(place.path, place.router);
    }
    router
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(app.clone(), guard::pass))
        .with_state(app)
}

async fn unknown_path() -> Response {
    Refusal::new(Code::NotFound, "resource does not exist").into_response()
}

async fn wrong_method(method: Method) -> Response {
    let message = format!("the method {method} is not allowed here; see the header Allow");
    let status = StatusCode::METHOD_NOT_ALLOWED;
    let mut response = Refusal::with_status(status, Code::ReadOnly, message).into_response();
    // The router knows them, and says so unless someone else did.
    response.headers_mut().remove(ALLOW);
    response
}
