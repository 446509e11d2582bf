//! Sending one request and reading what comes back.

use std::sync::Once;
use std::time::Duration;

use bytes::Bytes;
use chrono::Utc;
use http::header::{AUTHORIZATION, CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method};
use serde::Serialize;

use super::transport::{Carrier, outbound};
use super::{BODY_BYTES_MAX, Client, Error};
use crate::call::Call;
use crate::endpoint::Endpoint;
use crate::path::Path;
use crate::reply::{Body, Headers, Reply, What};
use crate::retry_after;

const API_VERSION: HeaderName = HeaderName::from_static("x-broker-api-version");
const REQUEST_IDENTITY: HeaderName = HeaderName::from_static("x-broker-api-request-identity");
const ORIGINATING_IDENTITY: HeaderName =
    HeaderName::from_static("x-broker-api-originating-identity");

/// How long an idle connection is kept: less than the five seconds after which common HTTP
/// servers close theirs, because a request that meets the close may or may not have arrived.
const IDLE: Duration = Duration::from_secs(4);

/// The longest that connecting may take. It is kept well below a request's deadline, because a
/// request that never connected was certainly not received.
const CONNECT: Duration = Duration::from_secs(10);

/// The HTTP client for an endpoint: no redirects, no cookies, no proxy, no repeats of its own.
pub(super) fn http(endpoint: &Endpoint) -> Result<reqwest::Client, Error> {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // An error says that the process has chosen a provider before, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("dispatch/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .no_proxy()
        .timeout(endpoint.timeout)
        .connect_timeout(CONNECT.min(endpoint.timeout / 2))
        .pool_idle_timeout(IDLE)
        .tcp_nodelay(true);
    if let Some(pem) = &endpoint.ca_pem {
        let bundle =
            reqwest::Certificate::from_pem_bundle(pem.as_bytes()).map_err(|_| Error::Ca)?;
        if bundle.is_empty() {
            return Err(Error::Ca);
        }
        builder = builder.tls_certs_only(bundle);
    } else if endpoint.url.scheme() == "http" {
        // A machine without any trusted certificate can still talk to a broker in the clear.
        builder = builder.tls_certs_only([]);
    }
    if let Some(pem) = &endpoint.client_identity_pem {
        let identity =
            reqwest::Identity::from_pem(pem.reveal().as_bytes()).map_err(|_| Error::Identity)?;
        builder = builder.identity(identity);
    }
    builder.build().map_err(|e| Error::Tls(chain(&e)))
}

/// A request that is not yet on its way.
pub(super) struct Outgoing {
    method: Method,
    path: Path,
    body: Option<Vec<u8>>,
    etag: Option<HeaderValue>,
    bytes_max: usize,
}

impl Outgoing {
    pub(super) fn new(method: Method, path: Path) -> Self {
        Self {
            method,
            path,
            body: None,
            etag: None,
            bytes_max: BODY_BYTES_MAX,
        }
    }

    pub(super) fn body(mut self, body: &impl Serialize) -> Self {
        self.body = Some(serde_json::to_vec(body).expect("a request's types have a JSON form"));
        self
    }

    /// Asks for what is newer than `etag`. One that no header can carry is as good as none.
    pub(super) fn unless(mut self, etag: Option<&str>) -> Self {
        self.etag = etag.and_then(|etag| HeaderValue::from_str(etag).ok());
        self
    }

    pub(super) fn bytes_max(mut self, bytes: usize) -> Self {
        self.bytes_max = bytes;
        self
    }
}

impl Client {
    /// Sends a request and says what came of it, never more and never less.
    pub(super) async fn send(&self, call: &Call, outgoing: Outgoing) -> Reply {
        let bytes_max = outgoing.bytes_max;
        let method = outgoing.method.clone();
        let request = self.request(call, outgoing);
        let what = match &self.broker.carrier {
            Carrier::Http(http) => execute(http, request, bytes_max).await,
            Carrier::Other(transport) => transport.exchange(outbound(&request)).await,
        };
        tracing::debug!(
            broker = %self.broker.base,
            request.id = %call.request_id,
            %method,
            outcome = ?what,
            "broker asked"
        );
        let reply = Reply {
            what,
            hide: self.broker.hide.and(&call.hide),
        };
        if let Some(watch) = &self.watch {
            watch.seen(&reply);
        }
        reply
    }

    fn request(&self, call: &Call, outgoing: Outgoing) -> reqwest::Request {
        let url = outgoing.path.under(&self.broker.base);
        let mut request = reqwest::Request::new(outgoing.method, url);
        let headers = request.headers_mut();
        headers.insert(API_VERSION, self.version.clone());
        headers.insert(REQUEST_IDENTITY, ascii(call.request_id.to_string()));
        if let Some(originator) = &call.originator {
            headers.insert(ORIGINATING_IDENTITY, ascii(originator.header()));
        }
        if let Some(authorization) = &self.broker.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        if let Some(etag) = outgoing.etag {
            headers.insert(IF_NONE_MATCH, etag);
        }
        if let Some(body) = outgoing.body {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            *request.body_mut() = Some(body.into());
        }
        request
    }
}

async fn execute(http: &reqwest::Client, request: reqwest::Request, bytes_max: usize) -> What {
    match http.execute(request).await {
        Ok(response) => answered(response, bytes_max).await,
        Err(error) if error.is_connect() || error.is_builder() => What::NotSent(chain(&error)),
        Err(error) if error.is_timeout() => What::TimedOut,
        Err(error) => What::Lost(chain(&error)),
    }
}

fn ascii(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("a UUID and base64 are header values")
}

async fn answered(response: reqwest::Response, bytes_max: usize) -> What {
    let status = response.status().as_u16();
    let headers = headers(response.headers());
    let body = body(response, bytes_max).await;
    What::Answered {
        status,
        headers,
        body,
    }
}

fn headers(headers: &HeaderMap) -> Headers {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    Headers {
        retry_after: text(RETRY_AFTER).and_then(|value| retry_after::parse(value, Utc::now())),
        etag: text(ETAG).map(str::to_owned),
    }
}

async fn body(mut response: reqwest::Response, bytes_max: usize) -> Body {
    let mut read = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if read.len() + chunk.len() > bytes_max => return Body::TooLarge,
            Ok(Some(chunk)) => read.extend_from_slice(&chunk),
            Ok(None) => return Body::Whole(Bytes::from(read)),
            Err(error) if error.is_timeout() => return Body::Cut("no end in time".to_owned()),
            Err(error) => return Body::Cut(chain(&error)),
        }
    }
}

/// An error and what it came from, without the URL: it would only repeat what is known.
fn chain(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&error.to_string());
        source = error.source();
    }
    if text.is_empty() {
        "the request could not be made".to_owned()
    } else {
        text
    }
}
