//! From the function's outcome to the response.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{api, client, header, start, start_with, told};

#[tokio::test]
async fn an_output_is_the_body_as_compact_json() {
    let running = start(vec![api("output", "/o")]).await;
    let client = client().build().unwrap();
    for (output, body, kind) in [
        (
            "[ {\"num\": 1} ]",
            "[{\"num\":1}]",
            Some("application/json"),
        ),
        ("\"\"", "\"\"", Some("application/json")),
        ("false", "false", Some("application/json")),
        ("0", "0", Some("application/json")),
        ("{}", "{}", Some("application/json")),
        ("null", "", None),
    ] {
        let request = client
            .post(running.http("/o"))
            .header("content-type", "application/json");
        let response = request.body(output).send().await.unwrap();
        assert_eq!(response.status().as_u16(), 200, "{output}");
        assert_eq!(header(&response, "content-type"), kind, "{output}");
        assert_eq!(response.text().await.unwrap(), body, "{output}");
    }
}

#[tokio::test]
async fn a_failure_is_never_a_success_and_tells_no_secrets() {
    let functions = [
        ("InputError", 400, "bad num: password=hunter2"),
        ("FunctionError", 502, "the function failed"),
        ("SystemError", 500, "the function could not be run"),
        ("NotReady", 503, "the function is not ready"),
        ("Unavailable", 503, "the function cannot be reached now"),
        ("Busy", 429, "too many runs are waiting"),
        ("Timeout", 504, "the function took too long"),
        ("Cancelled", 502, "the run was cancelled"),
    ];
    let apis = functions
        .map(|(name, ..)| api(name, &format!("/{name}")))
        .to_vec();
    let running = start(apis).await;
    let client = client().build().unwrap();
    for (name, code, message) in functions {
        let response = client
            .get(running.http(&format!("/{name}")))
            .send()
            .await
            .unwrap();
        assert_eq!(
            header(&response, "content-type"),
            Some("application/json"),
            "{name}"
        );
        assert_eq!(
            header(&response, "x-dispatch-run-id"),
            Some("run-7"),
            "{name}"
        );
        assert_eq!(
            header(&response, "retry-after").is_some(),
            matches!(code, 429 | 503),
            "{name}"
        );
        let expected = json!({
            "code": code, "message": message, "error": {"type": name}, "runId": "run-7",
        });
        assert_eq!(told(response).await, (code, expected), "{name}");
    }
}

#[tokio::test]
async fn an_absent_function_and_a_panic_are_failures_without_a_run() {
    let running = start(vec![api("NotFound", "/absent"), api("panic", "/panic")]).await;
    let client = client().build().unwrap();
    for (path, code, kind, message) in [
        ("/absent", 404, "NotFound", "there is no such function"),
        (
            "/panic",
            500,
            "SystemError",
            "the function could not be run",
        ),
    ] {
        let response = client.get(running.http(path)).send().await.unwrap();
        assert_eq!(header(&response, "x-dispatch-run-id"), None);
        let expected = json!({"code": code, "message": message, "error": {"type": kind}});
        assert_eq!(told(response).await, (code, expected), "{path}");
    }
}

#[tokio::test]
async fn a_call_that_does_not_block_is_answered_with_its_run() {
    let running = start(vec![api("output", "/o")]).await;
    let client = client().build().unwrap();
    for (blocking, status, body) in [
        ("false", 202, json!({"runId": "run-8"})),
        ("False", 202, json!({"runId": "run-8"})),
        ("true", 200, json!({})),
        ("no", 200, json!({})),
    ] {
        let request = client
            .post(running.http("/o"))
            .header("x-dispatch-blocking", blocking);
        let response = request.send().await.unwrap();
        let run = header(&response, "x-dispatch-run-id").map(str::to_owned);
        assert_eq!(
            run.as_deref(),
            (status == 202).then_some("run-8"),
            "{blocking}"
        );
        assert_eq!(told(response).await, (status, body), "{blocking}");
    }
}

#[tokio::test]
async fn a_head_request_runs_the_function_and_has_the_headers_of_a_get() {
    let running = start(vec![api("output", "/o")]).await;
    let client = client().build().unwrap();
    let url = running.http("/o?a=1");
    let got = client.get(&url).send().await.unwrap();
    let head = client.request(Method::HEAD, &url).send().await.unwrap();
    assert_eq!(head.status().as_u16(), 200);
    for name in ["content-type", "content-length"] {
        assert!(header(&head, name).is_some(), "{name}");
        assert_eq!(header(&head, name), header(&got, name), "{name}");
    }
    assert_eq!(told(head).await.1, Value::Null);
    assert_eq!(told(got).await.1, json!({"a": "1"}));
}

#[tokio::test]
async fn a_function_that_never_answers_is_given_up() {
    let timeout = std::time::Duration::from_millis(50);
    let running = start_with(vec![api("never", "/never")], |config| {
        config.request_timeout = timeout
    })
    .await;
    let response = client()
        .build()
        .unwrap()
        .get(running.http("/never"))
        .send()
        .await
        .unwrap();
    let (status, body) = told(response).await;
    assert_eq!((status, &body["error"]["type"]), (504, &json!("Timeout")));
}
