//! The rules that a single request shows.

use adapter_osb::fake::On;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::{Headers, Target, header, text};

/// What is wrong with a request, whatever came before it.
pub(super) fn broken(target: &Target, headers: &Headers, body: &Value) -> Vec<String> {
    let mut broken = Vec::new();
    let mut note = |what: &str| broken.push(what.to_owned());
    let told = |name| header(headers, name).unwrap_or_default();
    if !told("x-broker-api-version").starts_with("2.") {
        note("no API version");
    }
    if told("x-broker-api-request-identity").is_empty() {
        note("no request identity");
    }
    if told("authorization").is_empty() {
        note("no credentials");
    }
    let originator = told("x-broker-api-originating-identity");
    if !originator.is_empty() && identity(originator).is_none() {
        note("an originating identity that cannot be read");
    }
    match target.on {
        On::Provision | On::Update | On::Bind => {
            if originator.is_empty() {
                note("no originating identity");
            }
            if told("content-type") != "application/json" {
                note("a body without its content type");
            }
            for field in required(target.on) {
                if text(body, field).is_empty() {
                    note(&format!("no {field} in the body"));
                }
            }
            let platform = body.pointer("/context/platform").and_then(Value::as_str);
            if platform.is_some() && originator.split(' ').next() != platform {
                note("two names for the platform");
            }
        }
        On::Catalog => {}
        _ => {
            for field in ["service_id", "plan_id"] {
                if target.query(field).is_none_or(str::is_empty) {
                    note(&format!("no {field} in the query"));
                }
            }
        }
    }
    broken
}

fn required(on: On) -> &'static [&'static str] {
    match on {
        On::Provision => &["service_id", "plan_id", "organization_guid", "space_guid"],
        On::Bind => &["service_id", "plan_id"],
        _ => &["service_id"],
    }
}

fn identity(header: &str) -> Option<Map<String, Value>> {
    let (platform, facts) = header.split_once(' ')?;
    if platform.is_empty() {
        return None;
    }
    serde_json::from_slice(&STANDARD.decode(facts).ok()?).ok()
}
