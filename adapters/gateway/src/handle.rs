//! From a request to its answer.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt as _;
use http::header::{
    ACCESS_CONTROL_REQUEST_METHOD, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue,
};
use http::request::Parts;
use http::{Method, Request, Version};
use hyper::body::Incoming;
use tokio::time::timeout;
use tracing::{debug, error, info};

use crate::answer::{self, Answer};
use crate::body;
use crate::connection::{Scheme, Shared};
use crate::context;
use crate::input;
use crate::invoker::{Failure, Invocation, Invoked};
use crate::routes::{Found, Route, Routes, bare_host};

/// `false` asks only for the run to be accepted.
const BLOCKING: HeaderName = HeaderName::from_static("x-dispatch-blocking");
/// The invoker's head start over the gateway's own patience: its answer names the run.
const GRACE: Duration = Duration::from_secs(1);

/// Answers one request.
pub(crate) async fn request(shared: &Shared, scheme: Scheme, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let routes = shared.routes.borrow().clone();
    let Some(host) = host(&head) else {
        return answer::no_host();
    };
    let wants = Wants::of(&head);
    let route = match find(&routes, &head, host, scheme, &wants) {
        Found::Serve(route) => route,
        Found::NeedsHttps => return answer::needs_https(head.version),
        Found::Nothing => {
            debug!(method = %head.method, path = head.uri.path(), host, "no api for request");
            return answer::no_api();
        }
    };
    let answer = match wants {
        Wants::Preflight(_) => answer::preflight(&route, &head.headers),
        Wants::Options if !route.takes_options() => answer::preflight(&route, &head.headers),
        _ if !route.public => answer::needs_authentication(),
        _ => call(shared, &route, scheme, head, body).await,
    };
    if route.api.cors {
        answer::with_cors(answer)
    } else {
        answer
    }
}

/// What the method asks for.
enum Wants {
    /// May a page of another origin send this method?
    Preflight(Method),
    /// An `OPTIONS` that is not such a question.
    Options,
    /// The function.
    Call,
}

impl Wants {
    fn of(head: &Parts) -> Self {
        if head.method != Method::OPTIONS {
            return Self::Call;
        }
        let asked = head.headers.get(ACCESS_CONTROL_REQUEST_METHOD);
        match asked.and_then(|method| Method::from_bytes(method.as_bytes()).ok()) {
            Some(method) => Self::Preflight(method),
            None => Self::Options,
        }
    }
}

impl Route {
    /// Whether `OPTIONS` is the function's to answer, not the gateway's.
    fn takes_options(&self) -> bool {
        if self.api.cors {
            self.names(&Method::OPTIONS)
        } else {
            self.takes(&Method::OPTIONS)
        }
    }
}

fn find(routes: &Routes, head: &Parts, host: &str, scheme: Scheme, wants: &Wants) -> Found {
    let host = bare_host(host);
    let secure = scheme == Scheme::Https;
    routes.find(head.uri.path(), &host, secure, |route| match wants {
        Wants::Preflight(method) => route.api.cors && route.takes(method),
        Wants::Options => route.api.cors || route.takes_options(),
        Wants::Call => route.takes(&head.method),
    })
}

/// The host a request is for; HTTP/2 names it in the target, and HTTP/1.0 need not.
fn host(head: &Parts) -> Option<&str> {
    let named = head
        .headers
        .get(HOST)
        .map(|host| host.to_str().unwrap_or(""));
    match head.uri.authority() {
        Some(authority) => Some(authority.host()),
        None if head.version == Version::HTTP_11 => named,
        None => Some(named.unwrap_or("")),
    }
}

/// Reads what is left of the request and calls the function.
async fn call(
    shared: &Shared,
    route: &Route,
    scheme: Scheme,
    head: Parts,
    body: Incoming,
) -> Answer {
    let Ok(_permit) = shared.requests.try_acquire() else {
        return answer::crowded();
    };
    let config = &shared.config;
    let body = if input::is_query(&head.method) {
        bytes::Bytes::new()
    } else {
        let asks = head.headers.contains_key(EXPECT);
        match body::read(body, config.body_bytes_max, config.body_timeout, asks).await {
            Ok(body) => body,
            Err(error) => return answer::bad_body(&error),
        }
    };
    let input = match input::of(&head, &body) {
        Ok(input) => input,
        Err(error) => return answer::bad_input(&error),
    };
    drop(body);
    let invocation = Invocation {
        org: route.api.org.clone(),
        function: route.api.function.clone(),
        api: route.api.name.clone(),
        input,
        http_context: context::of(&head, scheme),
        blocking: blocking(&head.headers),
        record: route.api.record,
        timeout: config.request_timeout,
    };
    answer::invoked(invoke(shared, route, invocation).await)
}

/// Calls the invoker, which may take its time but not forever, and may fail but not take the
/// connection's other requests with it.
async fn invoke(shared: &Shared, route: &Route, invocation: Invocation) -> Invoked {
    let patience = invocation.timeout.saturating_add(GRACE);
    let call = AssertUnwindSafe(shared.invoker.invoke(invocation)).catch_unwind();
    let silent = |kind| Invoked::Failed {
        kind,
        message: String::new(),
        run_id: None,
    };
    let outcome = match timeout(patience, call).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => {
            error!(
                org = route.api.org,
                api = route.api.name,
                "invoker panicked"
            );
            silent(Failure::SystemError)
        }
        Err(_) => silent(Failure::Timeout),
    };
    if let Invoked::Failed { kind, run_id, .. } = &outcome {
        let (org, api, function) = (&route.api.org, &route.api.name, &route.api.function);
        info!(org, api, function, run.id = ?run_id, ?kind, "function call failed");
    }
    outcome
}

fn blocking(headers: &HeaderMap<HeaderValue>) -> bool {
    !headers
        .get(BLOCKING)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"false"))
}
