//! The rules that a platform has to keep, as far as a single request shows them.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use serde_json::{Map, Value};

use super::{On, PASSWORD, USERNAME};

pub(super) fn authorized(headers: &HeaderMap) -> bool {
    let Some(sent) = text(headers, AUTHORIZATION.as_str()).and_then(|h| h.strip_prefix("Basic "))
    else {
        return false;
    };
    STANDARD
        .decode(sent)
        .is_ok_and(|sent| sent == format!("{USERNAME}:{PASSWORD}").as_bytes())
}

/// The minor version of the API that a request announces.
pub(super) fn minor(headers: &HeaderMap) -> Option<u16> {
    let version = text(headers, "x-broker-api-version")?;
    version.strip_prefix("2.")?.parse().ok()
}

/// What is wrong with a request, whatever state the broker is in.
pub(super) fn broken(
    on: On,
    headers: &HeaderMap,
    query: &HashMap<String, String>,
    body: &Value,
) -> Vec<String> {
    let mut broken = Vec::new();
    let mut note = |what: &str| broken.push(format!("{on:?}: {what}"));
    if !text(headers, "x-broker-api-version").is_some_and(|version| version.starts_with("2.")) {
        note("no API version");
    }
    if text(headers, "x-broker-api-request-identity").is_none_or(str::is_empty) {
        note("no request identity");
    }
    let originator = text(headers, "x-broker-api-originating-identity");
    if originator.is_some_and(|value| identity(value).is_none()) {
        note("an originating identity that cannot be read");
    }
    if matches!(on, On::Provision | On::Update | On::Bind) {
        if text(headers, CONTENT_TYPE.as_str()) != Some("application/json") {
            note("a body without its content type");
        }
        for field in required(on) {
            if body
                .get(*field)
                .and_then(Value::as_str)
                .is_none_or(str::is_empty)
            {
                note(&format!("no {field} in the body"));
            }
        }
        let platform = body.pointer("/context/platform").and_then(Value::as_str);
        if let (Some(header), Some(platform)) = (originator, platform)
            && header.split(' ').next() != Some(platform)
        {
            note("two names for the platform");
        }
    } else if on != On::Catalog {
        for field in ["service_id", "plan_id"] {
            if query.get(field).is_none_or(String::is_empty) {
                note(&format!("no {field} in the query"));
            }
        }
    }
    broken
}

fn required(on: On) -> &'static [&'static str] {
    match on {
        On::Provision => &["service_id", "plan_id", "organization_guid", "space_guid"],
        On::Bind => &["service_id", "plan_id"],
        On::Update => &["service_id"],
        _ => &[],
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn identity(header: &str) -> Option<Map<String, Value>> {
    let (platform, facts) = header.split_once(' ')?;
    if platform.is_empty() {
        return None;
    }
    serde_json::from_slice(&STANDARD.decode(facts).ok()?).ok()
}
