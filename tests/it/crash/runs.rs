//! The engine dies in the middle of a run.

use std::thread;

use harness::nats::Nats;
use harness::process::{Dispatch, eventually};
use serde_json::{Value, json};

/// Long enough to be killed in the middle.
const SLEEP: &str = "
import time
def handle(context, payload):
    time.sleep(payload)
    return 'slept'
";

#[test]
fn a_run_whose_engine_is_killed_is_taken_up_again_and_ends_once() {
    // With `fast`, the death of the NATS server itself may take a run of its last moment along.
    let mut dispatch = Dispatch::up_as("runs:\n  durability: fsync\n");
    dispatch.function("sleep", SLEEP, &[]);
    let accepted = dispatch.cli(&["exec", "sleep", "--input", "1.5"]).json();
    let run = accepted["name"]
        .as_str()
        .expect("a run has a name")
        .to_owned();
    let started = || {
        events(&dispatch, &run)
            .iter()
            .any(|event| !event["Started"].is_null())
    };
    eventually("it has begun", started);
    dispatch.kill();
    dispatch.start(&[]);
    let ended = dispatch.until_run("sleep", &run);
    assert_eq!(
        (&ended["status"], &ended["output"]),
        (&json!("READY"), &json!("slept")),
        "{ended}"
    );

    let events = events(&dispatch, &run);
    let attempts: Vec<&Value> = events
        .iter()
        .map(|event| &event["Started"]["attempt"])
        .collect();
    assert_eq!(
        attempts,
        [&json!(1), &json!(2), &Value::Null],
        "{events:#?}"
    );
    assert_eq!(events[2]["Finished"]["result"]["output"], "slept");
}

#[test]
fn each_of_many_accepted_runs_ends_exactly_once() {
    // With `fast`, the death of the NATS server itself may take a run of its last moment along.
    let mut dispatch = Dispatch::up_as("runs:\n  durability: fsync\n");
    dispatch.function("sleep", SLEEP, &[]);
    let accept = |_| {
        let accepted = dispatch.cli(&["exec", "sleep", "--input", "0.2"]);
        accepted.json()["name"]
            .as_str()
            .expect("a run has a name")
            .to_owned()
    };
    let runs: Vec<String> = thread::scope(|scope| {
        let all: Vec<_> = (0..12).map(|i| scope.spawn(move || accept(i))).collect();
        all.into_iter()
            .map(|one| one.join().expect("it is accepted"))
            .collect()
    });
    dispatch.kill();
    dispatch.start(&[]);
    for run in &runs {
        let ended = dispatch.until_run("sleep", run);
        assert_eq!(ended["output"], "slept", "{ended}");
        let events = events(&dispatch, run);
        let finished = events
            .iter()
            .filter(|event| !event["Finished"].is_null())
            .count();
        assert_eq!(finished, 1, "{events:#?}");
    }
}

/// The little log of a run.
fn events(dispatch: &Dispatch, run: &str) -> Vec<Value> {
    let subject = format!("dispatch.run.*.*.{run}");
    let stored = Nats::connect(dispatch, "engine").stored("DISPATCH_RUNS", &subject);
    stored.iter().map(harness::nats::Stored::json).collect()
}
