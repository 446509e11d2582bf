//! Who may ask, and in which version of the protocol.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::counts::{self, Counts};
use crate::answer::Answer;
use crate::config::Secret;

const VERSION: HeaderName = HeaderName::from_static("x-broker-api-version");
const REQUEST_IDENTITY: HeaderName = HeaderName::from_static("x-broker-api-request-identity");
/// The oldest minor version of 2 that is served. Later ones only add to it.
const MINOR_MIN: u32 = 13;

/// The credentials of platforms, as a keyed digest: comparing digests tells nothing about how much
/// of a guess was right.
pub(crate) struct Access {
    pub(super) counts: Arc<Counts>,
    key: [u8; 32],
    expected: [u8; 32],
}

impl Access {
    pub(crate) fn new(username: &str, password: &Secret) -> Self {
        let key = rand::random();
        let pair = format!("{username}:{}", password.0);
        Self {
            counts: Arc::default(),
            key,
            expected: digest(&key, pair.as_bytes()),
        }
    }

    fn admits(&self, header: Option<&HeaderValue>) -> bool {
        let given = header
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"))
            .and_then(|(_, encoded)| STANDARD.decode(encoded.trim()).ok())
            .unwrap_or_default();
        let given = digest(&self.key, &given);
        let difference = given
            .iter()
            .zip(&self.expected)
            .fold(0, |all, (a, b)| all | (a ^ b));
        difference == 0
    }
}

fn digest(key: &[u8; 32], text: &[u8]) -> [u8; 32] {
    Sha256::new()
        .chain_update(key)
        .chain_update(text)
        .finalize()
        .into()
}

/// Lets a request pass that has the right credentials and a version that is served.
pub(super) async fn check(
    State(access): State<Arc<Access>>,
    request: Request,
    next: Next,
) -> Response {
    let identity = request.headers().get(&REQUEST_IDENTITY).cloned();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let operation = counts::operation(&method, &path);
    let begun = Instant::now();
    let mut response = match refusal(&access, &request) {
        Some(answer) if answer.status == StatusCode::UNAUTHORIZED => {
            let challenge = HeaderValue::from_static("Basic realm=\"postgres broker\"");
            ([(header::WWW_AUTHENTICATE, challenge)], answer).into_response()
        }
        Some(answer) => answer.into_response(),
        None => next.run(request).await,
    };
    let status = response.status().as_u16();
    let request_id = identity.as_ref().and_then(|value| value.to_str().ok());
    let took = begun.elapsed();
    access.counts.add(operation, status, took);
    let took_ms = took.as_millis();
    tracing::info!(
        operation,
        path,
        status,
        request_id,
        took_ms,
        "request answered"
    );
    if let Some(identity) = identity {
        response.headers_mut().insert(REQUEST_IDENTITY, identity);
    }
    response
}

fn refusal(access: &Access, request: &Request) -> Option<Answer> {
    if !access.admits(request.headers().get(header::AUTHORIZATION)) {
        let text = "user name and password are wrong or missing";
        return Some(Answer::refused(
            StatusCode::UNAUTHORIZED,
            "Unauthorized",
            text,
        ));
    }
    if !request.uri().path().starts_with("/v2/") {
        return None;
    }
    let Some(version) = request.headers().get(&VERSION) else {
        return Some(Answer::bad_request(
            "the header X-Broker-API-Version is missing",
        ));
    };
    let parsed = version.to_str().ok().and_then(|text| {
        let (major, minor) = text.trim().split_once('.')?;
        Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
    });
    match parsed {
        None => Some(Answer::bad_request(
            "X-Broker-API-Version must be MAJOR.MINOR",
        )),
        Some((2, minor)) if minor >= MINOR_MIN => None,
        Some(_) => Some(Answer::refused(
            StatusCode::PRECONDITION_FAILED,
            "UnsupportedVersion",
            format!("the broker speaks X-Broker-API-Version 2.{MINOR_MIN} to 2.17"),
        )),
    }
}
