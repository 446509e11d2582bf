//! Refusals, and how they are written.

use std::time::Duration;

use adapter_kit::{BlobError, ClientError};
use axum::Json;
use axum::response::{IntoResponse, Response};
use engine_model::{Code, Rejection};
use http::header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde_json::json;

/// Seconds after which what cannot be done now is worth another try.
const RETRY_AFTER_SECONDS: &str = "1";

/// Why a request is not done: a stable code, and the HTTP status that goes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) code: Code,
    pub(crate) message: String,
}

impl Refusal {
    /// A refusal with the status that belongs to `code`.
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        let status = StatusCode::from_u16(code.http()).expect("codes have http statuses");
        Self::with_status(status, code, message)
    }

    /// A refusal whose status says more than its code.
    pub(crate) fn with_status(status: StatusCode, code: Code, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
        }
    }

    /// No document has this name, in the words of the original.
    pub(crate) fn not_found(kind: impl std::fmt::Display, name: impl std::fmt::Display) -> Self {
        Self::new(Code::NotFound, format!("{kind} {name} not found"))
    }

    /// Nobody answered in time.
    pub(crate) fn timeout(within: Duration) -> Self {
        let message = format!("no answer within {} s", within.as_secs_f32());
        Self::with_status(StatusCode::GATEWAY_TIMEOUT, Code::Unavailable, message)
    }
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Self {
        Self::new(rejection.code, rejection.message)
    }
}

impl From<ClientError> for Refusal {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Rejected(rejection) => rejection.into(),
            ClientError::Timeout(within) => Self::timeout(within),
            ClientError::Unreachable(why) => {
                tracing::warn!(why, "engine unreachable");
                Self::new(Code::Unavailable, "the engine cannot be reached; try again")
            }
        }
    }
}

impl From<BlobError> for Refusal {
    fn from(error: BlobError) -> Self {
        tracing::warn!(%error, "blob not stored");
        Self::new(
            Code::Unavailable,
            "the store for large values does not answer; try again",
        )
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json!({
            "code": self.status.as_u16(),
            "message": self.message,
            "error": self.code,
        });
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        match self.status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS));
            }
            // The engine refuses the command: HTTP wants to hear of methods, and none would do.
            StatusCode::METHOD_NOT_ALLOWED => {
                headers.insert(ALLOW, HeaderValue::from_static(""));
            }
            _ => {}
        }
        response
    }
}
