//! Runs that an idempotency key names.

use std::thread;

use harness::http;
use harness::nats::Nats;
use harness::process::{Dispatch, eventually};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::{events, kinds};

/// Says when it was called.
const CLOCK: &str = "
import time
def handle(context, payload):
    time.sleep(payload.get('sleep', 0))
    return time.monotonic_ns()
";

#[test]
fn requests_with_one_key_are_one_run_and_another_input_is_refused() {
    let dispatch = Dispatch::up();
    dispatch.function("clock", CLOCK, &[]);
    let exec = |input: &str| {
        let words = ["exec", "clock", "--wait", "--idempotency-key", "order 7"];
        dispatch.cli(&[&words[..], &["--input", input]].concat())
    };
    let first = exec(r#"{"a":1,"b":2}"#).json();
    let second = exec(r#"{"b":2,"a":1}"#);
    assert_eq!(second.code, 0, "{second:?}");
    let second = second.json();
    assert_eq!(first["idempotencyKey"], "order 7", "{first}");
    assert_eq!(
        (&first["name"], &first["output"], &first["faasId"]),
        (&second["name"], &second["output"], &second["faasId"])
    );
    let run = first["name"].as_str().unwrap();
    assert_eq!(kinds(&events(&dispatch, run)), ["Started", "Finished"]);

    let other = exec(r#"{"a":2}"#);
    assert_eq!(other.code, 1, "{other:?}");
    assert!(other.err.contains("[idempotency-conflict]"), "{other:?}");
    assert_eq!(kinds(&events(&dispatch, run)), ["Started", "Finished"]);
}

#[test]
fn a_repeat_while_the_run_goes_on_waits_for_the_same_end() {
    let dispatch = Dispatch::up();
    dispatch.function("clock", CLOCK, &[]);
    let exec = || {
        let words = ["exec", "clock", "--wait", "--idempotency-key", "k"];
        dispatch.cli(&[&words[..], &["--input", r#"{"sleep":1}"#]].concat())
    };
    let outputs: Vec<Value> = thread::scope(|scope| {
        let all: Vec<_> = (0..4).map(|_| scope.spawn(exec)).collect();
        let heard = all.into_iter().map(|one| one.join().unwrap());
        heard.map(|answered| answered.json()).collect()
    });
    assert!(outputs[0]["output"].is_i64(), "{}", outputs[0]);
    for output in &outputs {
        assert_eq!(output["output"], outputs[0]["output"]);
    }
    let run = outputs[0]["name"].as_str().unwrap();
    assert_eq!(kinds(&events(&dispatch, run)), ["Started", "Finished"]);
}

#[test]
fn the_key_works_as_a_header_over_rest_and_as_a_field_over_nats() {
    let dispatch = Dispatch::up();
    dispatch.function("clock", CLOCK, &[]);
    let config = dispatch.config();
    let url = format!(
        "https://127.0.0.1:{}/v1/runs?functionName=clock",
        config["port"]
    );
    let runtime = Runtime::new().unwrap();
    let post = |blocking: bool, input: Value| {
        let request = http::client()
            .post(&url)
            .bearer_auth(config["token"].as_str().unwrap_or_default())
            .header("Idempotency-Key", "over-rest")
            .json(&json!({"blocking": blocking, "input": input}));
        runtime.block_on(async {
            let sent = request.send().await.unwrap();
            (sent.status(), sent.json::<Value>().await.unwrap())
        })
    };
    let (status, first) = post(true, json!({}));
    assert_eq!(status, StatusCode::OK, "{first}");
    let (_, second) = post(true, json!({}));
    assert_eq!(first["output"], second["output"]);
    for blocking in [true, false] {
        let (status, refused) = post(blocking, json!({"sleep": 0}));
        assert_eq!(status, StatusCode::CONFLICT, "{refused}");
        assert_eq!(refused["error"], "idempotency-conflict", "{refused}");
    }

    // Whatever id the subject names, the key names the run.
    let nats = Nats::connect(&dispatch, "client");
    let id = uuid::Uuid::new_v4();
    let subject = format!("dispatch.runcmd.dispatch.clock.{id}");
    let mut inbox = nats.inbox();
    let headers = [("Dispatch-Reply-To", inbox.subject.as_str())];
    let body = br#"{"input":{},"idempotencyKey":"over-rest"}"#;
    nats.publish(&subject, &headers, body).unwrap();
    let heard = nats.next(&mut inbox);
    assert_eq!(heard["run"], first["name"], "{heard}");
    assert_eq!(heard["result"]["output"], first["output"], "{heard}");
    eventually("the record is one", || {
        let run = first["name"].as_str().unwrap();
        kinds(&events(&dispatch, run)) == ["Started", "Finished"]
    });
}
