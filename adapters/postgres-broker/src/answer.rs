//! What a request is answered with: a status and a JSON object.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// How long a platform shall wait before it polls again. Whole seconds are all that the protocol
/// knows, and every operation here takes about one.
const RETRY_AFTER_SECONDS: u32 = 1;

/// An answer to a platform.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Value,
    pub(crate) retry_after: Option<u32>,
}

impl Answer {
    pub(crate) fn new(status: StatusCode, body: Value) -> Self {
        Self {
            status,
            body,
            retry_after: None,
        }
    }

    pub(crate) fn ok() -> Self {
        Self::new(StatusCode::OK, json!({}))
    }

    /// 202 with the operation to poll.
    pub(crate) fn accepted(operation: &str) -> Self {
        Self {
            retry_after: Some(RETRY_AFTER_SECONDS),
            ..Self::new(StatusCode::ACCEPTED, json!({ "operation": operation }))
        }
    }

    /// 410: what was to be deleted is not there.
    pub(crate) fn gone() -> Self {
        Self::new(StatusCode::GONE, json!({}))
    }

    pub(crate) fn refused(status: StatusCode, error: &str, description: impl Into<String>) -> Self {
        Self::new(
            status,
            json!({ "error": error, "description": description.into() }),
        )
    }

    pub(crate) fn bad_request(description: impl Into<String>) -> Self {
        Self::refused(StatusCode::BAD_REQUEST, "BadRequest", description)
    }

    pub(crate) fn conflict(description: impl Into<String>) -> Self {
        Self::refused(StatusCode::CONFLICT, "Conflict", description)
    }

    pub(crate) fn not_found(description: impl Into<String>) -> Self {
        Self::refused(StatusCode::NOT_FOUND, "NotFound", description)
    }

    /// 422 with an error word of the specification or of our own.
    pub(crate) fn unprocessable(error: &str, description: impl Into<String>) -> Self {
        Self::refused(StatusCode::UNPROCESSABLE_ENTITY, error, description)
    }

    pub(crate) fn async_required() -> Self {
        Self::unprocessable(
            "AsyncRequired",
            "this plan is handled asynchronously: repeat with accepts_incomplete=true",
        )
    }

    pub(crate) fn concurrency(what: &str) -> Self {
        Self::unprocessable(
            "ConcurrencyError",
            format!("{what}: wait until that has ended"),
        )
    }

    pub(crate) fn broken(description: impl Into<String>) -> Self {
        Self::refused(
            StatusCode::INTERNAL_SERVER_ERROR,
            "OperationFailed",
            description,
        )
    }

    pub(crate) fn polled_again(mut self) -> Self {
        self.retry_after = Some(RETRY_AFTER_SECONDS);
        self
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = (self.status, axum::Json(self.body)).into_response();
        if let Some(seconds) = self.retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
