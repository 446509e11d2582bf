//! Many runs of one function that nobody waits for, and others beside them.

use harness::nats::Nats;
use harness::process::{Dispatch, eventually};
use serde_json::json;
use uuid::Uuid;

use super::{events, kinds};

/// Takes as long as it is told to.
const SLOW: &str = "
import time
def handle(context, payload):
    time.sleep(payload)
    return 'slept'
";

/// Asks for many runs at once, in order, and waits for none; returns their ids.
fn ask_many(dispatch: &Dispatch, function: &str, input: f64, many: usize) -> Vec<String> {
    let nats = Nats::connect(dispatch, "engine");
    let runs: Vec<String> = (0..many).map(|_| Uuid::now_v7().to_string()).collect();
    let body = json!({ "input": input }).to_string();
    nats.wait(async {
        for run in &runs {
            let subject = format!("dispatch.runcmd.dispatch.{function}.{run}");
            let sent = nats.client().publish(subject, body.clone().into());
            sent.await.expect("the connection is open");
        }
        nats.client().flush().await.expect("the connection is open");
    });
    // What came in before it is stored, because one connection's messages are stored in order.
    let last = format!("dispatch.runcmd.dispatch.{function}.{}", Uuid::now_v7());
    nats.publish(&last, &[], body).expect("it is stored");
    runs
}

#[test]
fn a_node_that_is_full_of_runs_hears_that_one_is_to_end() {
    let dispatch = Dispatch::up();
    dispatch.function("slow", SLOW, &[]);
    let runs = ask_many(&dispatch, "slow", 600.0, 3000);
    let mut first = None;
    eventually("one has begun", || {
        first = runs.iter().take(64).find(|run| begun(&dispatch, run));
        first.is_some()
    });
    let (first, last) = (first.expect("it was found"), &runs[runs.len() - 1]);
    for run in [first, last] {
        let cancelled = dispatch.cli(&["cancel", run]);
        assert_eq!(cancelled.code, 0, "{cancelled:?}");
        assert_eq!(cancelled.json()["status"], "CANCELLED", "{cancelled:?}");
    }
    assert_eq!(kinds(&events(&dispatch, last)), ["Finished"]);
}

fn begun(dispatch: &Dispatch, run: &str) -> bool {
    kinds(&events(dispatch, run)) == ["Started"]
}
