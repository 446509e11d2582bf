//! A request's body: JSON, bounded in size and time.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use engine_model::Code;
use http::header::{CONTENT_TYPE, EXPECT};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::timeout;

use crate::refusal::Refusal;

/// How long a client whose body is too large may go on sending. One that is cut off at once meets
/// a broken connection, and never reads why.
const FAREWELL: Duration = Duration::from_secs(1);

/// How much more than allowed such a client may send, in bodies of the largest size.
const FAREWELL_BODIES: usize = 4;

/// Longest quotation of a client's own mistake.
const MISTAKE_CHARS_MAX: usize = 300;

/// How a body is bounded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) bytes_max: usize,
    pub(crate) within: Duration,
}

/// Reads a body as JSON; `None` when there is no body at all.
pub(crate) async fn json(request: Request<Body>, bounds: Bounds) -> Result<Option<Value>, Refusal> {
    let (parts, body) = request.into_parts();
    if body.is_end_stream() {
        return Ok(None);
    }
    check_media_type(&parts.headers)?;
    let asks = parts.headers.contains_key(EXPECT);
    let bytes = read(body, bounds, asks).await?;
    if bytes.is_empty() {
        return Ok(None);
    }
    // What is not JSON at all is told by its place: the text around it may be a secret.
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        let place = format!("line {} column {}", error.line(), error.column());
        malformed(format!(
            "the body is not JSON: it cannot be read at {place}"
        ))
    })
}

/// Gives JSON a type.
pub(crate) fn typed<T: DeserializeOwned>(what: &str, value: Value) -> Result<T, Refusal> {
    serde_json::from_value(value)
        .map_err(|error| malformed(format!("the body is no {what}: {}", mistake(&error))))
}

fn malformed(message: String) -> Refusal {
    Refusal::new(Code::MalformedCommand, message)
}

/// What is wrong with a document, without the texts in it: one of them may be a secret.
fn mistake(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let quoted = text.find("string \"").zip(text.rfind("\", expected"));
    let text = match quoted {
        Some((from, to)) if from < to => format!("{}string{}", &text[..from], &text[to + 1..]),
        _ => text,
    };
    text.chars().take(MISTAKE_CHARS_MAX).collect()
}

fn check_media_type(headers: &HeaderMap) -> Result<(), Refusal> {
    let given = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let essence = given
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    let subtype = essence.strip_prefix("application/").unwrap_or_default();
    if subtype == "json" || subtype.ends_with("+json") {
        return Ok(());
    }
    let message = "the body's content type is not application/json";
    let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    Err(Refusal::with_status(
        status,
        Code::MalformedCommand,
        message,
    ))
}

async fn read(mut body: Body, bounds: Bounds, asks: bool) -> Result<Bytes, Refusal> {
    let too_large = || {
        Refusal::new(
            Code::TooLarge,
            format!("the body is larger than {} bytes", bounds.bytes_max),
        )
    };
    if body.size_hint().lower() > bounds.bytes_max as u64 {
        // Who asks first, by `Expect: 100-continue`, is told before anything is sent.
        if !asks {
            discard(body, bounds.bytes_max).await;
        }
        return Err(too_large());
    }
    match timeout(bounds.within, gather(&mut body, bounds.bytes_max)).await {
        Ok(Ok(Some(bytes))) => Ok(bytes),
        Ok(Ok(None)) => {
            discard(body, bounds.bytes_max).await;
            Err(too_large())
        }
        Ok(Err(_)) => Err(malformed("the body is incomplete".into())),
        Err(_) => {
            let message = format!(
                "the body did not come within {} s",
                bounds.within.as_secs_f32()
            );
            let status = StatusCode::REQUEST_TIMEOUT;
            Err(Refusal::with_status(
                status,
                Code::MalformedCommand,
                message,
            ))
        }
    }
}

/// `None` when there is more than `bytes_max`.
async fn gather(body: &mut Body, bytes_max: usize) -> Result<Option<Bytes>, axum::Error> {
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        if read.len() + data.len() > bytes_max {
            return Ok(None);
        }
        read.extend_from_slice(&data);
    }
    Ok(Some(read.freeze()))
}

async fn discard(mut body: Body, bytes_max: usize) {
    let mut left = bytes_max.saturating_mul(FAREWELL_BODIES);
    let all = async {
        while let Some(Ok(frame)) = body.frame().await {
            match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                Some(less) => left = less,
                None => return,
            }
        }
    };
    // Whether it ended, ran out or timed out, the client now gets its answer.
    let _ = timeout(FAREWELL, all).await;
}

#[cfg(test)]
mod tests {
    use engine_model::Command;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_mistake_is_told_without_the_texts_of_the_document() {
        let command = json!({ "Create": { "Secret": { "secrets": "canary \", expected" } } });
        let refusal = typed::<Command>("command", command).unwrap_err();
        assert!(!refusal.message.contains("canary"), "{}", refusal.message);
        assert!(
            refusal.message.contains("expected struct ClientSealed"),
            "{}",
            refusal.message
        );
    }

    #[test]
    fn an_unknown_variant_is_named() {
        let refusal = typed::<Command>("command", json!({ "Destroy": {} })).unwrap_err();
        assert!(refusal.message.contains("Destroy"), "{}", refusal.message);
    }
}
