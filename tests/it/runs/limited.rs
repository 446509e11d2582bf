//! Runs that wait for their turn, and inputs that are too large.

use std::thread;

use harness::process::Dispatch;
use serde_json::Value;

use super::events;

const SLEEPS: &str = "
import time
def handle(context, payload):
    time.sleep(payload)
";

/// How many of these runs were carried out at once, at most.
fn at_once(dispatch: &Dispatch, runs: &[String]) -> usize {
    let mut edges = Vec::new();
    for run in runs {
        let log = events(dispatch, run);
        let at = |event: &Value, kind: &str| event[kind]["at"].as_i64();
        let began = log.iter().find_map(|event| at(event, "Started")).unwrap();
        let ended = log.iter().find_map(|event| at(event, "Finished")).unwrap();
        edges.extend([(began, 1), (ended, -1)]);
    }
    // What ends in the same millisecond has made room for what begins.
    edges.sort_unstable();
    let (mut now, mut most) = (0i64, 0i64);
    for (_, step) in edges {
        now += step;
        most = most.max(now);
    }
    usize::try_from(most).unwrap()
}

fn exec_all(dispatch: &Dispatch, functions: &[&str], input: &str) -> Vec<String> {
    thread::scope(|scope| {
        let exec = |function: &str| {
            let answered = dispatch.cli(&["exec", function, "--wait", "--input", input]);
            assert_eq!(answered.code, 0, "{answered:?}");
            answered.json()["name"].as_str().unwrap().to_owned()
        };
        let all: Vec<_> = functions
            .iter()
            .map(|function| scope.spawn(move || exec(function)))
            .collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    })
}

#[test]
fn no_more_runs_of_a_function_are_carried_out_than_it_allows() {
    let dispatch = Dispatch::up();
    dispatch.function("two", SLEEPS, &["--concurrency", "2"]);
    dispatch.function("free", SLEEPS, &[]);
    let runs = exec_all(&dispatch, &["two"; 6], "0.3");
    assert_eq!(at_once(&dispatch, &runs), 2);
    let free = exec_all(&dispatch, &["free"; 4], "1");
    assert!(at_once(&dispatch, &free) > 2);
}

#[test]
fn no_more_runs_of_an_organization_are_carried_out_than_the_node_allows() {
    let dispatch = Dispatch::up_as("worker:\n  runsPerOrganization: 2\n");
    dispatch.function("one", SLEEPS, &[]);
    dispatch.function("other", SLEEPS, &[]);
    let runs = exec_all(
        &dispatch,
        &["one", "other", "one", "other", "one", "other"],
        "0.3",
    );
    assert_eq!(at_once(&dispatch, &runs), 2);
}
