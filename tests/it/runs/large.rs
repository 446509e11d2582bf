//! Inputs that are larger than a message, whichever way they come.

use harness::http;
use harness::nats::Nats;
use harness::process::{Dispatch, eventually};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::{events, kinds};

const LENGTH: &str = "
def handle(context, payload):
    return len(payload)
";

/// More than NATS takes in one message.
const LARGE: usize = 2 << 20;

/// More than an input may have.
const TOO_LARGE: usize = 7 << 20;

#[test]
fn an_input_larger_than_a_message_is_run_and_one_beyond_the_limit_is_refused_with_it() {
    let dispatch = Dispatch::up();
    dispatch.function("length", LENGTH, &[]);
    let exec = |bytes: usize, flags: &[&str]| {
        let file = dispatch.file("input.json", &json!("x".repeat(bytes)).to_string());
        let words = ["exec", "length", "--wait", "--input-file", &file];
        dispatch.cli(&[&words[..], flags].concat())
    };
    for flags in [&[][..], &["--in", "3s"], &["--idempotency-key", "k"]] {
        let answered = exec(LARGE, flags);
        assert_eq!(answered.code, 0, "{}", answered.err);
        assert_eq!(answered.json()["output"], json!(LARGE));
    }
    let refused = exec(TOO_LARGE, &[]);
    assert_eq!(refused.code, 1, "{}", refused.err);
    assert!(refused.err.contains("[too-large]"), "{}", refused.err);
    let limit = (6 << 20).to_string();
    assert!(refused.err.contains(&limit), "{}", refused.err);
}

#[test]
fn a_request_of_nearly_the_largest_body_passes_the_gateway() {
    let dispatch = Dispatch::up();
    dispatch.function("length", LENGTH, &[]);
    let words = [
        "create", "api", "length", "length", "--path", "/length", "--method", "POST",
    ];
    let _ = dispatch.cli(&[&words[..], &["--wait"]].concat()).ok();
    let url = format!(
        "http://127.0.0.1:{}/length",
        dispatch.config()["api-http-port"]
    );
    let runtime = Runtime::new().unwrap();
    let post = |bytes: usize| {
        let request = http::client().post(&url).json(&json!("x".repeat(bytes)));
        runtime.block_on(async {
            let sent = request.send().await.unwrap();
            (sent.status(), sent.json::<Value>().await.unwrap())
        })
    };
    let bytes = (1 << 20) - 10;
    assert_eq!(post(bytes), (StatusCode::OK, json!(bytes)));
    let (status, told) = post(2 << 20);
    assert_eq!(
        (status, &told["code"]),
        (StatusCode::PAYLOAD_TOO_LARGE, &json!(413))
    );
}

#[test]
fn an_input_that_grows_when_it_is_written_again_waits_all_the_same() {
    let dispatch = Dispatch::up();
    dispatch.function("length", LENGTH, &[]);
    let nats = Nats::connect(&dispatch, "client");
    // Each number is written with three times the digits.
    let input = ["1e9"; 150_000].join(",");
    let body = format!("{{\"input\":[{input}],\"notBefore\":\"{}\"}}", soon());
    let run = uuid::Uuid::new_v4().to_string();
    let subject = format!("dispatch.runcmd.dispatch.length.{run}");
    let mut inbox = nats.inbox();
    let headers = [("Dispatch-Reply-To", inbox.subject.as_str())];
    nats.publish(&subject, &headers, body).unwrap();
    eventually("it waits", || {
        kinds(&events(&dispatch, &run)) == ["Delayed"]
    });
    let heard = nats.next(&mut inbox);
    assert_eq!(heard["result"]["output"], json!(150_000), "{heard}");
}

fn soon() -> String {
    let now = chrono::Utc::now() + chrono::Duration::seconds(4);
    now.to_rfc3339()
}
