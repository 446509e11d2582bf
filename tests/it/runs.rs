//! Runs that are tried again, named twice, put off, held back and cancelled, against real servers.

mod again;
mod cancelled;
mod crowd;
mod delayed;
mod large;
mod limited;
mod named;
mod overdue;
mod waiting;

use harness::nats::{Nats, Stored};
use harness::process::Dispatch;
use serde_json::{Value, json};

/// Keeps every run that was acknowledged, so that a kill of everything loses none.
const FSYNC: &str = "runs:\n  durability: fsync\n";

/// The little log of a run.
fn events(dispatch: &Dispatch, run: &str) -> Vec<Value> {
    let subject = format!("dispatch.run.*.*.{run}");
    let stored = Nats::connect(dispatch, "engine").stored("DISPATCH_RUNS", &subject);
    stored.iter().map(Stored::json).collect()
}

/// What kinds of events a run's log has, in order.
fn kinds(events: &[Value]) -> Vec<&str> {
    let kind = |event: &'_ Value| -> &str {
        let kinds = [
            "Delayed",
            "Started",
            "AttemptFailed",
            "CancelRequested",
            "Finished",
        ];
        let found = kinds.into_iter().find(|kind| !event[*kind].is_null());
        found.expect("an event of a run is one of these")
    };
    events.iter().map(kind).collect()
}

/// Asks for a run, does not wait for it, and returns its id.
fn ask(dispatch: &Dispatch, function: &str, input: &Value, flags: &[&str]) -> String {
    let input = input.to_string();
    let words = [&["exec", function, "--input", &input], flags].concat();
    let accepted = dispatch.cli(&words);
    accepted.json()["name"]
        .as_str()
        .expect("a run has a name")
        .to_owned()
}

/// A run as the view shows it; nothing while the view has not heard of it.
fn shown(dispatch: &Dispatch, function: &str, run: &str) -> Value {
    let answered = dispatch.cli(&["get", "runs", function, run, "--json"]);
    match answered.code {
        0 => answered.json(),
        _ => json!(null),
    }
}
