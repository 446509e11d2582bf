//! The command line over REST alone, and the REST API as any HTTP client sees it.

use harness::http;
use harness::process::{Answered, Dispatch};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// Says hello, and shows whether it was given its secret.
const HELLO: &str = "
def handle(context, payload):
    return {'hello': payload['name'], 'secret': context['secrets'].get('password')}
";

/// Raises an error.
const FAIL: &str = "
def handle(context, payload):
    raise RuntimeError('never')
";

/// A command over REST alone.
fn rest(dispatch: &Dispatch, args: &[&str]) -> Answered {
    dispatch.cli(&[&["--nats", "none"], args].concat())
}

fn names(documents: &Value) -> Vec<&str> {
    let documents = documents.as_array().expect("it is a list");
    documents
        .iter()
        .map(|document| document["name"].as_str().expect("it has a name"))
        .collect()
}

#[test]
fn the_command_line_works_over_rest_alone() {
    let dispatch = Dispatch::up();
    let secret = dispatch.file("secret.json", r#"{"password":"open sesame"}"#);
    let hello = dispatch.file("hello.py", HELLO);
    let fail = dispatch.file("fail.py", FAIL);
    for words in [
        &["create", "application", "shop"][..],
        &["create", "secret", "sesame", &secret, "-a", "shop"],
        &[
            "create",
            "base-image",
            "python3-base",
            "host",
            "--language",
            "python3",
        ],
        &["create", "image", "python3", "python3-base", "--wait"],
        &[
            "create", "function", "python3", "hello", &hello, "--secret", "sesame", "--wait",
        ],
        &["create", "function", "python3", "fail", &fail, "--wait"],
    ] {
        let _ = rest(&dispatch, words).ok();
    }
    documents_are_shown_in_each_form(&dispatch);
    runs_are_waited_for(&dispatch);
    refusals_end_with_1(&dispatch);

    for words in [
        &["delete", "function", "hello", "--wait"][..],
        &["delete", "function", "fail", "--wait"],
        &["delete", "secret", "sesame", "--wait"],
        &["delete", "application", "shop"],
    ] {
        let _ = rest(&dispatch, words).ok();
    }
    assert_eq!(
        rest(&dispatch, &["get", "functions", "--json"]).json(),
        json!([])
    );
    let history = rest(&dispatch, &["history", "function", "hello", "--json"]).json();
    let last = history
        .as_array()
        .and_then(|events| events.last())
        .expect("it has a history");
    assert_eq!(last["actor"], "account:default-svc", "{last}");
}

fn documents_are_shown_in_each_form(dispatch: &Dispatch) {
    for kind in [
        "applications",
        "secrets",
        "baseimages",
        "images",
        "functions",
        "apis",
    ] {
        assert_eq!(
            rest(dispatch, &["get", kind, "--json"]).json(),
            dispatch.all(kind),
            "over NATS it is the same"
        );
    }
    let listed = rest(dispatch, &["get", "secrets", "--json"]).json();
    assert_eq!(names(&listed), ["sesame"]);
    assert!(!listed.to_string().contains("open sesame"), "{listed}");
    let table = rest(dispatch, &["get", "functions"]).ok();
    let rows: Vec<&str> = table.lines().collect();
    assert_eq!(rows.len(), 4, "two rows below two of the head: {table}");
    for row in &rows[2..] {
        assert!(row.contains("READY"), "{table}");
    }
    let yaml = rest(dispatch, &["get", "function", "hello", "-o", "yaml"]).ok();
    for line in ["name: hello", "image: python3", "status: READY"] {
        assert!(yaml.lines().any(|found| found == line), "{line}: {yaml}");
    }
}

fn runs_are_waited_for(dispatch: &Dispatch) {
    let input = ["--input", r#"{"name":"Jon"}"#];
    let done = rest(
        dispatch,
        &[&["exec", "hello", "--wait"], &input[..]].concat(),
    );
    assert_eq!(done.code, 0, "{}", done.err);
    assert_eq!(
        done.json()["output"],
        json!({ "hello": "Jon", "secret": "open sesame" })
    );
    let failed = rest(dispatch, &["exec", "fail", "--wait"]);
    assert_eq!(failed.code, 3, "{} {}", failed.out, failed.err);
    assert_eq!(
        failed.json()["error"]["type"],
        "FunctionError",
        "{}",
        failed.out
    );
    let begun = rest(
        dispatch,
        &[&["exec", "hello", "--json"], &input[..]].concat(),
    );
    assert_eq!(begun.code, 0, "{}", begun.err);
    let run = begun.json()["name"]
        .as_str()
        .expect("it is named")
        .to_owned();
    let ended = dispatch.until_run("hello", &run);
    assert_eq!(
        rest(dispatch, &["get", "runs", "hello", &run, "--json"]).json(),
        ended
    );
    let last = rest(dispatch, &["get", "runs", "hello", "--last", "--json"]).json();
    assert_eq!(last["name"], run, "{last}");
}

fn refusals_end_with_1(dispatch: &Dispatch) {
    for (words, code) in [
        (&["get", "function", "absent"][..], "not-found"),
        (&["delete", "function", "absent"], "not-found"),
        (&["exec", "absent", "--wait"], "not-found"),
        (&["create", "application", "shop"], "already-exists"),
        (
            &["create", "serviceinstance", "x", "absent", "small"],
            "missing-reference",
        ),
        (&["retry", "serviceclass", "absent"], "read-only"),
    ] {
        let answered = rest(dispatch, words);
        assert_eq!(
            answered.code, 1,
            "{words:?}: {} {}",
            answered.out, answered.err
        );
        assert!(
            answered.err.contains(&format!("[{code}]")),
            "{words:?}: {}",
            answered.err
        );
        assert!(
            answered.err.contains(&format!("docs/errors/{code}.md")),
            "{}",
            answered.err
        );
        assert_eq!(answered.out, "", "{words:?}");
        let over_nats = dispatch.cli(words);
        assert_eq!(
            (over_nats.code, over_nats.err),
            (1, answered.err),
            "over NATS it is the same"
        );
    }
}

#[test]
fn who_is_not_known_or_not_heard_is_told_so_by_the_exit_code() {
    let dispatch = Dispatch::up();
    for words in [
        &["get", "functions"][..],
        &["create", "application", "x"],
        &["delete", "application", "x"],
        &["exec", "x", "--wait"],
    ] {
        let answered = rest(&dispatch, &[&["--token", "wrong"], words].concat());
        assert_eq!(answered.code, 1, "{words:?}: {}", answered.err);
        assert!(
            answered.err.contains("[unauthenticated]"),
            "{words:?}: {}",
            answered.err
        );
        assert!(
            !answered.err.contains("wrong"),
            "the token is not shown: {}",
            answered.err
        );
    }
    for words in [
        &["--host", "127.0.0.1", "--port", "1", "get", "functions"][..],
        &[
            "--host",
            "127.0.0.1",
            "--port",
            "1",
            "create",
            "application",
            "x",
        ],
        &["--nats", "nats://127.0.0.1:1", "get", "functions"],
    ] {
        let answered = dispatch.cli(words);
        assert_eq!(
            answered.code, 5,
            "{words:?}: {} {}",
            answered.out, answered.err
        );
        assert!(
            answered.err.contains("reach"),
            "{words:?}: {}",
            answered.err
        );
    }
    assert_eq!(
        dispatch.all("applications"),
        json!([]),
        "nothing came of it"
    );
}

/// The server's API, and who asks it.
struct Api {
    base: String,
    token: String,
    runtime: Runtime,
}

impl Api {
    fn of(dispatch: &Dispatch) -> Self {
        let config = dispatch.config();
        let token = config["token"].as_str().expect("it is a text").to_owned();
        let base = format!("https://127.0.0.1:{}", config["port"]);
        let runtime = Runtime::new().expect("a runtime can be made");
        Self {
            base,
            token,
            runtime,
        }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        http::client().request(method, format!("{}{path}", self.base))
    }

    fn send(&self, request: RequestBuilder) -> (StatusCode, Value) {
        self.runtime.block_on(async {
            let response = request.send().await.expect("the server answers");
            let status = response.status();
            let bytes = response.bytes().await.expect("the answer is whole");
            (status, serde_json::from_slice(&bytes).unwrap_or_default())
        })
    }

    fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> (StatusCode, Value) {
        let mut request = self.request(method, path).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request
                .header("Content-Type", "application/json")
                .body(body.to_string());
        }
        self.send(request)
    }

    fn get(&self, path: &str) -> (StatusCode, Value) {
        self.ask(Method::GET, path, None)
    }

    fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        self.ask(Method::POST, path, Some(body))
    }
}

#[test]
fn the_v1_api_is_served() {
    let dispatch = Dispatch::up();
    let api = Api::of(&dispatch);
    nobody_comes_in_without_a_token(&api);
    secrets_go_in_and_never_come_out(&dispatch, &api);

    let base = json!({ "name": "python3-base", "dockerUrl": "host", "language": "python3" });
    assert_eq!(api.post("/v1/baseimage", &base).0, StatusCode::CREATED);
    let image = json!({ "name": "python3", "baseImageName": "python3-base" });
    assert_eq!(api.post("/v1/image", &image).0, StatusCode::CREATED);
    dispatch.function("hello", HELLO, &["--secret", "sesame"]);
    let (status, functions) = api.get("/v1/function");
    assert_eq!((status, names(&functions)), (StatusCode::OK, vec!["hello"]));
    let (status, function) = api.get("/v1/function/hello");
    assert_eq!((status, &function), (StatusCode::OK, &functions[0]));
    assert_eq!(
        function,
        dispatch.get("function", "hello"),
        "the command line shows the same"
    );
    let run = json!({ "input": { "name": "Jon" }, "blocking": true });
    let (status, run) = api.post("/v1/runs?functionName=hello", &run);
    assert_eq!(status, StatusCode::OK, "{run}");
    assert_eq!(run["output"]["hello"], "Jon", "{run}");
    let (status, runs) = api.get("/v1/runs?functionName=hello");
    assert_eq!(
        (status, &runs[0]["name"]),
        (StatusCode::OK, &run["name"]),
        "{runs}"
    );
    what_cannot_be_done_is_refused(&api);
    assert_eq!(
        api.ask(Method::DELETE, "/v1/function/hello", None).0,
        StatusCode::OK
    );
    assert_eq!(api.get("/v1/function").1, json!([]));
}

fn nobody_comes_in_without_a_token(api: &Api) {
    for path in [
        "/v1/function",
        "/v1/secret",
        "/v1/version",
        "/v1/openapi.json",
        "/v1/query",
    ] {
        for request in [
            api.request(Method::GET, path),
            api.request(Method::GET, path).bearer_auth("wrong"),
            api.request(Method::GET, path).header("Cookie", "anything"),
            api.request(Method::GET, path)
                .basic_auth("client", Some(&api.token)),
        ] {
            let (status, body) = api.send(request);
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{path}: {body}");
            assert_eq!(body["error"], "unauthenticated", "{path}: {body}");
        }
    }
    assert_eq!(
        api.send(api.request(Method::GET, "/healthz")).0,
        StatusCode::OK
    );
}

fn secrets_go_in_and_never_come_out(dispatch: &Dispatch, api: &Api) {
    let canary = "canary-7b0f3f";
    let secret = json!({ "name": "sesame", "secrets": { "password": canary } });
    // The slash at the end is how the original's client spelt it.
    let (status, made) = api.post("/v1/secret/", &secret);
    assert_eq!(status, StatusCode::CREATED, "{made}");
    assert_eq!(made["name"], "sesame", "{made}");
    let (_, shown) = api.get("/v1/secret/sesame");
    let (_, listed) = api.get("/v1/secret");
    for answer in [&made, &shown, &listed] {
        assert!(!answer.to_string().contains(canary), "{answer}");
    }
    assert_eq!(names(&listed), ["sesame"]);
    assert_eq!(dispatch.get("secret", "sesame")["id"], shown["id"]);
}

fn what_cannot_be_done_is_refused(api: &Api) {
    for (method, path, body, status, error) in [
        (Method::GET, "/v1/function/absent", None, 404, "not-found"),
        (
            Method::POST,
            "/v1/secret",
            Some(json!({ "name": "sesame", "secrets": {} })),
            409,
            "already-exists",
        ),
        (
            Method::POST,
            "/v1/secret",
            Some(json!({ "name": "-x", "secrets": {} })),
            422,
            "invalid-name",
        ),
        (
            Method::POST,
            "/v1/application",
            Some(json!({ "name": "x", "colour": "red" })),
            422,
            "invalid-field",
        ),
        (Method::DELETE, "/v1/secret/absent", None, 404, "not-found"),
        (
            Method::POST,
            "/v1/commands/gizmo/x",
            Some(json!("Retry")),
            404,
            "unknown-kind",
        ),
        (
            Method::POST,
            "/v1/commands/image/x",
            Some(json!("Jump")),
            400,
            "malformed-command",
        ),
    ] {
        let (found, answer) = api.ask(method.clone(), path, body.as_ref());
        assert_eq!(answer["error"], error, "{method} {path}: {found} {answer}");
        assert_eq!(found.as_u16(), status, "{method} {path}: {answer}");
        assert_eq!(answer["code"], status, "{method} {path}: {answer}");
        assert!(answer["message"].is_string(), "{method} {path}: {answer}");
    }
    assert_eq!(
        api.ask(Method::PATCH, "/v1/function/hello", None).0,
        StatusCode::METHOD_NOT_ALLOWED
    );
    let garbage = api
        .request(Method::POST, "/v1/secret")
        .bearer_auth(&api.token);
    let garbage = garbage
        .header("Content-Type", "application/json")
        .body("no JSON");
    assert_eq!(api.send(garbage).0, StatusCode::BAD_REQUEST);
}
