//! What the gateway answers, with real functions behind it.

use harness::http::client;
use harness::process::Dispatch;
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

const HELLO: &str = "
def handle(context, payload):
    return {'hello': payload.get('name', 'nobody')}
";

const FAILS: &str = "
def handle(context, payload):
    raise RuntimeError('canary-in-an-exception')
";

/// A gateway with endpoints in front of functions.
struct Gate {
    dispatch: Dispatch,
    client: Client,
    runtime: Runtime,
}

impl Gate {
    fn open() -> Self {
        let dispatch = Dispatch::up();
        dispatch.function("hello", HELLO, &[]);
        dispatch.function("fails", FAILS, &[]);
        let runtime = Runtime::new().expect("a runtime can be made");
        Self {
            dispatch,
            client: client(),
            runtime,
        }
    }

    fn api(&self, name: &str, function: &str, flags: &[&str]) {
        let words = [&["create", "api", name, function, "--wait"], flags].concat();
        let _ = self.dispatch.cli(&words).ok();
    }

    fn url(&self, scheme: &str, path: &str) -> String {
        let port = &self.dispatch.config()[format!("api-{scheme}-port")];
        format!("{scheme}://127.0.0.1:{port}{path}")
    }

    fn ask(&self, method: Method, url: &str, headers: &[(&str, &str)], body: &str) -> Told {
        let mut request = self.client.request(method, url).body(body.to_owned());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.runtime.block_on(async {
            Told::read(request.send().await.expect("the gateway answers")).await
        })
    }

    fn post(&self, url: &str, headers: &[(&str, &str)], body: &Value) -> Told {
        let headers = [&[("content-type", "application/json")], headers].concat();
        self.ask(Method::POST, url, &headers, &body.to_string())
    }
}

/// An answer with a JSON body.
#[derive(Debug)]
struct Told {
    status: StatusCode,
    body: Value,
}

impl Told {
    async fn read(answer: Response) -> Self {
        let status = answer.status();
        let kind = answer.headers().get("content-type").cloned();
        let text = answer.text().await.expect("the answer has a body");
        assert!(
            kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json")),
            "{status} is not JSON: {text}"
        );
        let body = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{status}: {text}"));
        Self { status, body }
    }
}

#[test]
fn an_https_only_endpoint_answers_426_over_http_and_serves_over_https() {
    let gate = Gate::open();
    gate.api(
        "tls",
        "hello",
        &["--https-only", "--method", "POST", "--path", "/tls"],
    );
    gate.api("any", "hello", &["--method", "POST", "--path", "/any"]);
    let (input, hello) = (json!({"name": "Jon"}), json!({"hello": "Jon"}));

    let plain = gate.post(&gate.url("http", "/tls"), &[], &input);
    assert_eq!(plain.status, StatusCode::UPGRADE_REQUIRED, "{plain:?}");
    let runs = gate
        .dispatch
        .cli(&["get", "runs", "hello", "--json"])
        .json();
    assert_eq!(runs, json!([]), "a request that is refused runs nothing");

    for url in [
        gate.url("https", "/tls"),
        gate.url("http", "/any"),
        gate.url("https", "/any"),
    ] {
        let told = gate.post(&url, &[], &input);
        assert_eq!((told.status, &told.body), (StatusCode::OK, &hello), "{url}");
    }
}

#[test]
fn a_failed_function_is_a_5xx_with_json_that_does_not_tell_what_it_raised() {
    let gate = Gate::open();
    gate.api("fails", "fails", &["--method", "POST", "--path", "/fails"]);
    let told = gate.post(&gate.url("https", "/fails"), &[], &json!({}));
    assert_eq!(told.status, StatusCode::BAD_GATEWAY, "{told:?}");
    assert_eq!(told.body["error"]["type"], "FunctionError", "{told:?}");
    assert!(!told.body.to_string().contains("canary"), "{told:?}");

    let runs = gate
        .dispatch
        .cli(&["get", "runs", "fails", "--json"])
        .json();
    assert_eq!(runs.as_array().map(Vec::len), Some(1), "{runs}");
    assert_eq!(runs[0]["status"], "ERROR", "{runs}");
    assert!(
        runs[0]["error"].to_string().contains("canary"),
        "the record does tell: {runs}"
    );
}

#[test]
fn a_path_or_method_that_no_endpoint_claims_is_a_404_with_json() {
    let gate = Gate::open();
    gate.api("hello", "hello", &["--method", "POST", "--path", "/hello"]);
    let hello = gate.url("https", "/hello");
    assert_eq!(gate.post(&hello, &[], &json!({})).status, StatusCode::OK);
    for (method, url) in [
        (Method::POST, gate.url("https", "/elsewhere")),
        (Method::GET, hello.clone()),
        (Method::DELETE, hello.clone()),
    ] {
        let told = gate.ask(method.clone(), &url, &[], "");
        assert_eq!(
            told.status,
            StatusCode::NOT_FOUND,
            "{method} {url}: {told:?}"
        );
        assert!(told.body["message"].is_string(), "{method} {url}: {told:?}");
    }

    let _ = gate
        .dispatch
        .cli(&["delete", "api", "hello", "--wait"])
        .ok();
    harness::process::eventually("a deleted endpoint is not served", || {
        gate.post(&hello, &[], &json!({})).status == StatusCode::NOT_FOUND
    });
}

#[test]
fn a_request_that_does_not_block_is_a_202_and_its_run_is_among_the_runs() {
    let gate = Gate::open();
    gate.api("hello", "hello", &["--method", "POST", "--path", "/hello"]);
    let headers = [("x-dispatch-blocking", "false")];
    let told = gate.post(
        &gate.url("https", "/hello"),
        &headers,
        &json!({"name": "Arya"}),
    );
    assert_eq!(told.status, StatusCode::ACCEPTED, "{told:?}");
    let run = told.body["runId"].as_str().expect("it names the run");
    let ended = gate.dispatch.until_run("hello", run);
    assert_eq!(ended["output"], json!({"hello": "Arya"}), "{ended}");
    let runs = gate
        .dispatch
        .cli(&["get", "runs", "hello", "--json"])
        .json();
    assert_eq!(runs.as_array().map(Vec::len), Some(1), "{runs}");
    assert_eq!(runs[0]["name"], run, "{runs}");
}

#[test]
fn an_endpoint_without_records_answers_alike_and_leaves_no_run() {
    let gate = Gate::open();
    for (name, function) in [("hello", "hello"), ("fails", "fails")] {
        let path = format!("/{name}");
        let flags = ["--method", "POST", "--path", &path, "--no-record"];
        gate.api(name, function, &flags);
    }
    let told = gate.post(&gate.url("http", "/hello"), &[], &json!({"name": "Jon"}));
    assert_eq!(told.body, json!({"hello": "Jon"}), "{told:?}");
    let long = "x".repeat(200_000);
    let told = gate.post(&gate.url("http", "/hello"), &[], &json!({"name": long}));
    assert_eq!(told.body, json!({"hello": long}), "a large output as well");
    let told = gate.post(&gate.url("https", "/fails"), &[], &json!({}));
    assert_eq!(told.status, StatusCode::BAD_GATEWAY, "{told:?}");
    assert!(!told.body.to_string().contains("canary"), "{told:?}");
    for function in ["hello", "fails"] {
        let runs = gate
            .dispatch
            .cli(&["get", "runs", function, "--json"])
            .json();
        assert_eq!(runs, json!([]), "{function}");
    }
    let headers = [("x-dispatch-blocking", "false")];
    let told = gate.post(&gate.url("http", "/hello"), &headers, &json!({}));
    let run = told.body["runId"]
        .as_str()
        .expect("what nobody waits for is a run");
    let _ = gate.dispatch.until_run("hello", run);
}
