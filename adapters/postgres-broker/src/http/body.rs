//! Reading request bodies: bounded in size and time, a JSON object, fields by name.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Map, Value};

use crate::answer::Answer;

/// How long a platform may take to send a body.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of a body that is too large is still read and dropped: a connection that is closed while
/// the client sends loses the answer. Enough for any honest mistake.
const DISCARDED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The JSON object that a request carries.
pub(super) async fn read(request: Request<Body>, bytes_max: usize) -> Result<Fields, Answer> {
    if let Some(kind) = request.headers().get(header::CONTENT_TYPE) {
        let kind = kind.to_str().unwrap_or_default();
        let essence = kind.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            return Err(Answer::bad_request(
                "the Content-Type must be application/json",
            ));
        }
    }
    let body = match tokio::time::timeout(READ_TIMEOUT, collect(request, bytes_max)).await {
        Ok(read) => read?,
        Err(_) => {
            let text = "the body did not come in time";
            return Err(Answer::refused(
                StatusCode::REQUEST_TIMEOUT,
                "TooSlow",
                text,
            ));
        }
    };
    match serde_json::from_slice(&body) {
        Ok(Value::Object(fields)) => Ok(Fields(fields)),
        Ok(_) => Err(Answer::bad_request("the body must be a JSON object")),
        // Where it is wrong, without what is there: that may be secret.
        Err(error) => Err(Answer::bad_request(format!(
            "the body is not JSON: line {}, column {}",
            error.line(),
            error.column()
        ))),
    }
}

async fn collect(request: Request<Body>, bytes_max: usize) -> Result<Vec<u8>, Answer> {
    let mut body = request.into_body();
    let (mut kept, mut length) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Answer::bad_request("the body broke off"))?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        length += data.len();
        if length <= bytes_max {
            kept.extend_from_slice(data);
        } else if length > bytes_max + DISCARDED_BYTES_MAX {
            break;
        }
    }
    if length > bytes_max {
        let text = format!("the body is larger than {bytes_max} bytes");
        return Err(Answer::refused(
            StatusCode::PAYLOAD_TOO_LARGE,
            "TooLarge",
            text,
        ));
    }
    Ok(kept)
}

/// The fields of a body. Unknown ones are ignored; `null` counts as absent.
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// A text that must be there and not empty.
    pub(super) fn required(&self, name: &str) -> Result<String, Answer> {
        let text = self.optional(name)?;
        text.ok_or_else(|| Answer::bad_request(format!("{name} is missing")))
    }

    /// A text that is not empty if it is there.
    pub(super) fn optional(&self, name: &str) -> Result<Option<String>, Answer> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) if !text.is_empty() => Ok(Some(text.clone())),
            Some(_) => Err(Answer::bad_request(format!(
                "{name} must be a text, not empty"
            ))),
        }
    }

    /// An object, if it is there.
    pub(super) fn object(&self, name: &str) -> Result<Option<Map<String, Value>>, Answer> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(object.clone())),
            Some(_) => Err(Answer::bad_request(format!("{name} must be a JSON object"))),
        }
    }

    /// `maintenance_info.version`, the only part of it that counts.
    pub(super) fn maintenance_version(&self) -> Result<Option<String>, Answer> {
        match self.object("maintenance_info")? {
            None => Ok(None),
            Some(info) => Self(info).required("version").map(Some),
        }
    }
}
