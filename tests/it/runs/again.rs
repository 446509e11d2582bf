//! Retries by policy, and what is never begun twice.

use std::time::{SystemTime, UNIX_EPOCH};

use harness::process::{Dispatch, eventually};
use serde_json::json;

use super::{FSYNC, ask, events, kinds, shown};

/// Fails until its worker has been called so often.
const FLAKY: &str = "
calls = 0
def handle(context, payload):
    global calls
    calls += 1
    if calls < payload:
        raise RuntimeError('call %d' % calls)
    return calls
";

/// Fails before a moment.
const EARLY: &str = "
import time
def handle(context, payload):
    if time.time() < payload:
        raise RuntimeError('too early')
    return 'in time'
";

const BY_KIND: &str = "
import time
def handle(context, payload):
    if payload == 'late':
        time.sleep(60)
    raise ValueError('bad') if payload == 'bad' else RuntimeError('broken')
";

#[test]
fn a_failed_run_is_tried_again_and_its_record_tells_of_each_attempt() {
    let dispatch = Dispatch::up();
    let flags = ["--attempts", "4", "--backoff", "100"];
    dispatch.function("flaky", FLAKY, &flags);
    let answered = dispatch.cli(&["exec", "flaky", "--wait", "--input", "3"]);
    assert_eq!(answered.code, 0, "{answered:?}");
    let run = answered.json();
    assert_eq!(
        (&run["output"], &run["status"]),
        (&json!(3), &json!("READY"))
    );
    let attempts = run["attempts"].as_array().expect("it tells of them");
    let told: Vec<_> = attempts
        .iter()
        .map(|attempt| (&attempt["attempt"], &attempt["error"]["message"]))
        .collect();
    assert_eq!(
        told,
        [
            (&json!(1), &json!("call 1")),
            (&json!(2), &json!("call 2")),
            (&json!(3), &json!(null))
        ]
    );
    assert!(attempts[0]["nextAt"].is_string(), "{run}");
    let log = events(&dispatch, run["name"].as_str().unwrap());
    assert_eq!(
        kinds(&log),
        [
            "Started",
            "AttemptFailed",
            "Started",
            "AttemptFailed",
            "Started",
            "Finished"
        ]
    );
}

#[test]
fn only_the_errors_that_the_policy_names_are_tried_again_and_a_timeout_is_one() {
    let dispatch = Dispatch::up();
    let flags = ["--attempts", "2", "--timeout", "300"];
    dispatch.function("kinds", BY_KIND, &flags);
    for (input, attempts, kind) in [
        ("broken", 2, "FunctionError"),
        ("late", 2, "FunctionError"),
        ("bad", 1, "InputError"),
    ] {
        let input = json!(input).to_string();
        let answered = dispatch.cli(&["exec", "kinds", "--wait", "--input", &input]);
        assert_eq!(answered.code, 3, "{answered:?}");
        let run = answered.json();
        assert_eq!(run["error"]["type"], kind, "{run}");
        let log = events(&dispatch, run["name"].as_str().unwrap());
        let started = kinds(&log).iter().filter(|k| **k == "Started").count();
        assert_eq!(started, attempts, "{input}: {log:#?}");
    }
}

#[test]
fn an_attempt_that_is_due_after_the_node_was_killed_is_made() {
    let mut dispatch = Dispatch::up_as(FSYNC);
    let flags = [
        "--attempts",
        "20",
        "--backoff",
        "3000",
        "--backoff-max",
        "3000",
    ];
    dispatch.function("early", EARLY, &flags);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let run = ask(&dispatch, "early", &json!(now.as_secs_f64() + 2.0), &[]);
    eventually("its first attempt has failed", || {
        kinds(&events(&dispatch, &run)).contains(&"AttemptFailed")
    });
    let waiting = shown(&dispatch, "early", &run);
    dispatch.kill();
    dispatch.start(&[]);
    let ended = dispatch.until_run("early", &run);
    assert_eq!(ended["output"], "in time", "{ended}");
    assert!(waiting["waitsUntil"].is_i64(), "{waiting}");
    let log = events(&dispatch, &run);
    assert_eq!(
        kinds(&log),
        ["Started", "AttemptFailed", "Started", "Finished"],
        "{log:#?}"
    );
    assert_eq!(log[2]["Started"]["attempt"], 2);
}

#[test]
fn a_run_that_may_be_begun_once_only_is_not_begun_again_when_its_node_is_lost() {
    let mut dispatch = Dispatch::up_as(FSYNC);
    let sleeps = "
import time
def handle(context, payload):
    time.sleep(payload)
    return 'slept'
";
    dispatch.function("once", sleeps, &["--at-most-once"]);
    let run = ask(&dispatch, "once", &json!(600), &[]);
    eventually("it has begun", || {
        kinds(&events(&dispatch, &run)) == ["Started"]
    });
    dispatch.kill();
    dispatch.start(&[]);
    let ended = dispatch.until_run("once", &run);
    assert_eq!(ended["error"]["type"], "SystemError", "{ended}");
    let message = ended["error"]["message"].as_str().unwrap();
    assert!(message.contains("may have been carried out"), "{message}");
    assert_eq!(kinds(&events(&dispatch, &run)), ["Started", "Finished"]);
}
