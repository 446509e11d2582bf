//! Every answer the gateway gives.

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_REQUEST_HEADERS, CONNECTION, CONTENT_TYPE,
    HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, UPGRADE, VARY, WWW_AUTHENTICATE,
};
use http::{Response, StatusCode, Version};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::body;
use crate::input;
use crate::invoker::{Failure, Invoked};
use crate::routes::Route;

/// An answer.
pub(crate) type Answer = Response<Full<Bytes>>;

/// Bears the run's id wherever there is a run to ask for.
const RUN_ID: HeaderName = HeaderName::from_static("x-dispatch-run-id");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const ANY: HeaderValue = HeaderValue::from_static("*");
/// Seconds after which something busy or not ready is worth another try.
const RETRY_SOON: HeaderValue = HeaderValue::from_static("1");
/// Characters of an input error that a client is told.
const MESSAGE_CHARS_MAX: usize = 1000;

/// No API claims the request.
pub(crate) fn no_api() -> Answer {
    json(
        StatusCode::NOT_FOUND,
        &json!({"message": "no API found with those values"}),
    )
}

/// HTTP/1.1 wants a host in every request.
pub(crate) fn no_host() -> Answer {
    refusal(StatusCode::BAD_REQUEST, "request has no host")
}

/// The API is only for HTTPS.
pub(crate) fn needs_https(version: Version) -> Answer {
    let told = json!({"message": "Please use HTTPS protocol"});
    let mut answer = json(StatusCode::UPGRADE_REQUIRED, &told);
    if version < Version::HTTP_2 {
        let headers = answer.headers_mut();
        headers.insert(UPGRADE, HeaderValue::from_static("TLS/1.2, HTTP/1.1"));
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
    answer
}

/// The API wants to know who calls, and nothing can tell it yet.
pub(crate) fn needs_authentication() -> Answer {
    let told = "this API is not public, and no authenticator is configured";
    let mut answer = refusal(StatusCode::UNAUTHORIZED, told);
    answer
        .headers_mut()
        .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Dispatch"));
    answer
}

/// Too many requests are under way.
pub(crate) fn crowded() -> Answer {
    let mut answer = refusal(StatusCode::SERVICE_UNAVAILABLE, "too many requests");
    answer.headers_mut().insert(RETRY_AFTER, RETRY_SOON);
    answer
}

/// The body could not be read.
pub(crate) fn bad_body(error: &body::Error) -> Answer {
    let status = match error {
        body::Error::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
        body::Error::Slow(_) => StatusCode::REQUEST_TIMEOUT,
        body::Error::Broken => StatusCode::BAD_REQUEST,
    };
    refusal(status, &error.to_string())
}

/// The body could not be understood.
pub(crate) fn bad_input(error: &input::Error) -> Answer {
    let status = match error {
        input::Error::NotJson | input::Error::NotAForm => StatusCode::BAD_REQUEST,
        input::Error::Unsupported(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
    };
    refusal(status, &error.to_string())
}

/// What the function said, or why it did not.
pub(crate) fn invoked(outcome: Invoked) -> Answer {
    match outcome {
        Invoked::Output(Value::Null) => empty(StatusCode::OK),
        Invoked::Output(output) => json(StatusCode::OK, &output),
        Invoked::Accepted { run_id } => {
            let answer = json(StatusCode::ACCEPTED, &json!({"runId": run_id}));
            with_run(answer, Some(&run_id))
        }
        Invoked::Failed {
            kind,
            message,
            run_id,
        } => failed(kind, &message, run_id.as_deref()),
    }
}

fn failed(kind: Failure, message: &str, run_id: Option<&str>) -> Answer {
    let (status, name, told) = match kind {
        Failure::InputError => (StatusCode::BAD_REQUEST, "InputError", ""),
        Failure::FunctionError => (
            StatusCode::BAD_GATEWAY,
            "FunctionError",
            "the function failed",
        ),
        Failure::SystemError => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "SystemError",
            "the function could not be run",
        ),
        Failure::NotFound => (
            StatusCode::NOT_FOUND,
            "NotFound",
            "there is no such function",
        ),
        Failure::NotReady => (
            StatusCode::SERVICE_UNAVAILABLE,
            "NotReady",
            "the function is not ready",
        ),
        Failure::Unavailable => (
            StatusCode::SERVICE_UNAVAILABLE,
            "Unavailable",
            "the function cannot be reached now",
        ),
        Failure::Busy => (
            StatusCode::TOO_MANY_REQUESTS,
            "Busy",
            "too many runs are waiting",
        ),
        Failure::TooLarge => (
            StatusCode::PAYLOAD_TOO_LARGE,
            "TooLarge",
            "the request is larger than a run takes",
        ),
        Failure::Timeout => (
            StatusCode::GATEWAY_TIMEOUT,
            "Timeout",
            "the function took too long",
        ),
        Failure::Cancelled => (
            StatusCode::BAD_GATEWAY,
            "Cancelled",
            "the run was cancelled",
        ),
    };
    // What a function or the platform says of its own fault may hold anything, a connection
    // string for example; it is in the run's record. Of bad input the caller must learn.
    let told = if kind == Failure::InputError {
        first_line(message)
    } else {
        told.to_owned()
    };
    let mut body = json!({"code": status.as_u16(), "message": told, "error": {"type": name}});
    if let Some(run_id) = run_id {
        body["runId"] = run_id.into();
    }
    let mut answer = with_run(json(status, &body), run_id);
    if matches!(
        status,
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
    ) {
        answer.headers_mut().insert(RETRY_AFTER, RETRY_SOON);
    }
    answer
}

/// The first line, where no stack trace has begun yet.
fn first_line(message: &str) -> String {
    let line = message.trim_start().lines().next().unwrap_or("").trim_end();
    let told: String = line
        .chars()
        .filter(|char| !char.is_control())
        .take(MESSAGE_CHARS_MAX)
        .collect();
    if told.is_empty() {
        "the function refused its input".to_owned()
    } else {
        told
    }
}

/// Answers a browser that asks whether a page of another origin may call the API.
pub(crate) fn preflight(route: &Route, asked: &HeaderMap) -> Answer {
    let mut answer = empty(StatusCode::NO_CONTENT);
    let methods = route.api.methods.join(", ");
    let methods = HeaderValue::try_from(methods)
        .ok()
        .filter(|methods| !methods.is_empty());
    // The star does not cover every header, so what was asked for is granted by name.
    let wanted = asked.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let headers = answer.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods.unwrap_or(ANY));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, wanted.unwrap_or(ANY));
    headers.insert(
        VARY,
        HeaderValue::from_static("access-control-request-headers"),
    );
    answer
}

/// Lets pages of any origin read the answer.
pub(crate) fn with_cors(mut answer: Answer) -> Answer {
    let headers = answer.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, ANY);
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, ANY);
    answer
}

fn with_run(mut answer: Answer, run_id: Option<&str>) -> Answer {
    if let Some(value) = run_id.and_then(|run_id| HeaderValue::from_str(run_id).ok()) {
        answer.headers_mut().insert(RUN_ID, value);
    }
    answer
}

fn refusal(status: StatusCode, message: &str) -> Answer {
    json(
        status,
        &json!({"message": message, "code": status.as_u16()}),
    )
}

fn json(status: StatusCode, body: &Value) -> Answer {
    let body = serde_json::to_vec(body).expect("a JSON value has only strings for keys");
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, JSON);
    answer
}

fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    answer
}
