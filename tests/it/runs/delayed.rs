//! Runs that begin later.

use harness::process::{Dispatch, eventually};
use serde_json::json;

use super::{FSYNC, ask, events, kinds, shown};

const ECHO: &str = "def handle(context, payload):\n    return payload\n";

#[test]
fn a_run_that_is_put_off_begins_at_its_moment_although_everything_was_killed_meanwhile() {
    let mut dispatch = Dispatch::up_as(FSYNC);
    dispatch.function("echo", ECHO, &[]);
    let run = ask(&dispatch, "echo", &json!("later"), &["--in", "4s"]);
    eventually("it waits", || {
        kinds(&events(&dispatch, &run)) == ["Delayed"]
    });
    let mut waiting = json!(null);
    eventually("the view says so", || {
        waiting = shown(&dispatch, "echo", &run);
        waiting["waitsUntil"].is_i64()
    });
    assert_eq!(waiting["status"], "INITIALIZED", "{waiting}");
    assert!(
        waiting["reason"][0]
            .as_str()
            .unwrap()
            .starts_with("waits until")
    );
    let table = dispatch.cli(&["get", "runs", "echo"]).ok();
    assert!(table.to_lowercase().contains("waits until"), "{table}");
    dispatch.kill();
    dispatch.start(&[]);
    let ended = dispatch.until_run("echo", &run);
    assert_eq!(ended["output"], "later", "{ended}");
    let log = events(&dispatch, &run);
    assert_eq!(kinds(&log), ["Delayed", "Started", "Finished"], "{log:#?}");
    let until = log[0]["Delayed"]["until"].as_i64().unwrap();
    let began = log[1]["Started"]["at"].as_i64().unwrap();
    assert!(began >= until, "{began} {until}");
}

#[test]
fn a_moment_that_has_passed_is_now() {
    let dispatch = Dispatch::up();
    dispatch.function("echo", ECHO, &[]);
    let words = [
        "exec",
        "echo",
        "--wait",
        "--at",
        "2020-01-01T00:00:00+01:00",
    ];
    let answered = dispatch.cli(&words);
    assert_eq!(answered.code, 0, "{answered:?}");
    let run = answered.json()["name"].as_str().unwrap().to_owned();
    assert_eq!(kinds(&events(&dispatch, &run)), ["Started", "Finished"]);
}

#[test]
fn a_run_is_not_put_off_beyond_the_time_for_which_it_is_kept() {
    let dispatch = Dispatch::up_as("runs:\n  keepHours: 2\n");
    dispatch.function("echo", ECHO, &[]);
    let words = ["exec", "echo", "--wait", "--in", "3h"];
    let refused = dispatch.cli(&words);
    assert_eq!(refused.code, 1, "{refused:?}");
    for text in ["[invalid-field]", "2 hours", "runs.keepHours"] {
        assert!(refused.err.contains(text), "{refused:?}");
    }
    // Nobody waits for this one; its record says it.
    let run = ask(&dispatch, "echo", &json!(1), &["--in", "3h"]);
    let ended = dispatch.until_run("echo", &run);
    assert_eq!(ended["error"]["type"], "InputError", "{ended}");
    assert_eq!(kinds(&events(&dispatch, &run)), ["Finished"]);
}

#[test]
fn who_waits_hears_the_end_of_a_run_that_was_put_off() {
    let dispatch = Dispatch::up();
    dispatch.function("echo", ECHO, &[]);
    for delay in ["1s", "3s"] {
        let words = ["exec", "echo", "--wait", "--in", delay, "--input", "7"];
        let answered = dispatch.cli(&words);
        assert_eq!(answered.code, 0, "{answered:?}");
        assert_eq!(answered.json()["output"], 7);
    }
}
