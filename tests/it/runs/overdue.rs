//! Runs of which what would have brought them on was lost.

use harness::nats::Nats;
use harness::process::{Dispatch, eventually};
use serde_json::json;

use super::{ask, events, kinds};

/// The sweep comes as often, and looks after what is as late.
const SOON: &[(&str, &str)] = &[("DISPATCH_SOONER_MS", "1500")];

const ECHO: &str = "def handle(context, payload):\n    return payload\n";

/// Waits for the timer of a run, and deletes it.
fn lose_timer(dispatch: &Dispatch, run: &str) {
    let nats = Nats::connect(dispatch, "engine");
    let subject = format!("dispatch.timer.*.run.{run}.wake");
    let mut timers = vec![];
    eventually("it has a timer", || {
        timers = nats.stored("DISPATCH_TIMERS", &subject);
        !timers.is_empty()
    });
    nats.delete("DISPATCH_TIMERS", timers[0].seq);
}

#[test]
fn a_run_that_is_put_off_happens_although_its_timer_is_lost() {
    let dispatch = Dispatch::up_with(SOON);
    dispatch.function("echo", ECHO, &[]);
    let run = ask(&dispatch, "echo", &json!("late"), &["--in", "5s"]);
    lose_timer(&dispatch, &run);
    assert_eq!(kinds(&events(&dispatch, &run)), ["Delayed"]);
    let ended = dispatch.until_run("echo", &run);
    assert_eq!(ended["output"], "late", "{ended}");
    let log = events(&dispatch, &run);
    assert_eq!(kinds(&log), ["Delayed", "Started", "Finished"]);
    let until = log[0]["Delayed"]["until"].as_i64().unwrap();
    assert!(log[1]["Started"]["at"].as_i64().unwrap() >= until + 1500);
}
