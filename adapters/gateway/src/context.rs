//! What a function finds as `httpContext`.
//!
//! All headers under their names in lower case, but for those that bear a caller's credentials,
//! and what the request line says: `args` (the raw query), `method`, `request`, `request-uri`,
//! `scheme`, `server-protocol`, `upstream-uri`, `uri`. These win over headers of the same name, so
//! that a caller cannot pretend, say, to have come over HTTPS.

use http::header::HOST;
use http::request::Parts;
use http::{HeaderMap, Version};
use serde_json::{Map, Value};

use crate::connection::Scheme;

/// Headers a function must not see: they prove who the caller is, and whoever holds them can
/// pretend to be the caller. `x-dispatch-org` was the original gateway's to set.
const WITHHELD: [&str; 5] = [
    "authorization",
    "cookie",
    "proxy-authorization",
    "x-api-key",
    "x-dispatch-org",
];

/// Describes a request.
pub(crate) fn of(head: &Parts, scheme: Scheme) -> Map<String, Value> {
    let mut context = headers(&head.headers);
    if let Some(authority) = head.uri.authority()
        && !head.headers.contains_key(HOST)
    {
        context.insert(HOST.as_str().into(), authority.as_str().into());
    }
    let uri = head.uri.path();
    let request_uri = head
        .uri
        .path_and_query()
        .map_or(uri, http::uri::PathAndQuery::as_str);
    let protocol = protocol(head.version);
    let request = format!("{} {request_uri} {protocol}", head.method);
    for (name, value) in [
        ("args", head.uri.query().unwrap_or("")),
        ("method", head.method.as_str()),
        ("request", &request),
        ("request-uri", request_uri),
        ("scheme", scheme.as_str()),
        ("server-protocol", protocol),
        ("upstream-uri", uri),
        ("uri", uri),
    ] {
        context.insert(name.into(), value.into());
    }
    context
}

fn headers(headers: &HeaderMap) -> Map<String, Value> {
    let mut map = Map::new();
    for name in headers
        .keys()
        .filter(|name| !WITHHELD.contains(&name.as_str()))
    {
        let mut value = String::new();
        for (place, line) in headers.get_all(name).iter().enumerate() {
            if place > 0 {
                value.push_str(", ");
            }
            value.push_str(&String::from_utf8_lossy(line.as_bytes()));
        }
        map.insert(name.as_str().into(), value.into());
    }
    map
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}
