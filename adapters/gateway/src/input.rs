//! What a function gets as its payload, made of a request.
//!
//! | request | payload |
//! |---|---|
//! | GET, HEAD, OPTIONS | the query as a map, whatever the body |
//! | JSON | the parsed body |
//! | form, url-encoded or multipart | the fields as a map |
//! | no content type, no body | `{}` |
//! | no content type | the body as a string, in Base64 unless it is UTF-8 |
//! | any other content type | none: 415 |
//!
//! In a map, a name that comes once has a string and one that comes again a list of strings. A
//! field of a multipart form is a string by the same rule as a body, files included. The query
//! plays no part but for the methods of the first row.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, Method};
use serde_json::{Map, Value};
use url::form_urlencoded;

use crate::media::Media;
use crate::multipart;

/// Why there is no payload.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("request body is not json")]
    NotJson,
    #[error("request body is not a form")]
    NotAForm,
    #[error("request body type is not supported: {0}")]
    Unsupported(String),
}

/// Whether a method's payload is its query.
pub(crate) fn is_query(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Makes the payload of a request.
pub(crate) fn of(head: &Parts, body: &[u8]) -> Result<Value, Error> {
    if is_query(&head.method) {
        return Ok(fields(form_urlencoded::parse(
            head.uri.query().unwrap_or("").as_bytes(),
        )));
    }
    let Some(kind) = head
        .headers
        .get(CONTENT_TYPE)
        .filter(|value| !value.is_empty())
    else {
        return Ok(if body.is_empty() {
            Value::Object(Map::new())
        } else {
            text(body).into()
        });
    };
    let media = Media::parse(kind.to_str().unwrap_or(""));
    match media.essence.as_str() {
        _ if media.is_json() => serde_json::from_slice(body).map_err(|_| Error::NotJson),
        "application/x-www-form-urlencoded" => Ok(fields(form_urlencoded::parse(body))),
        "multipart/form-data" => {
            let boundary = media.param("boundary").unwrap_or("");
            let parts = multipart::parse(body, boundary).ok_or(Error::NotAForm)?;
            Ok(fields(
                parts
                    .into_iter()
                    .map(|part| (part.name, text(part.content))),
            ))
        }
        _ => Err(Error::Unsupported(shown(kind))),
    }
}

fn fields(pairs: impl Iterator<Item = (impl Into<String>, impl Into<String>)>) -> Value {
    let mut map: Map<String, Value> = Map::new();
    for (name, value) in pairs {
        let value = Value::String(value.into());
        match map.entry(name) {
            serde_json::map::Entry::Vacant(entry) => {
                entry.insert(value);
            }
            serde_json::map::Entry::Occupied(mut entry) => match entry.get_mut() {
                Value::Array(list) => list.push(value),
                first => *first = Value::Array(vec![first.take(), value]),
            },
        }
    }
    Value::Object(map)
}

fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => BASE64_STANDARD.encode(bytes),
    }
}

/// A content type as the error repeats it: not longer than any real one.
fn shown(kind: &HeaderValue) -> String {
    String::from_utf8_lossy(kind.as_bytes())
        .chars()
        .take(100)
        .collect()
}
