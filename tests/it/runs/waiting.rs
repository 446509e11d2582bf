//! What a run that was put aside meets when its turn comes.

use harness::nats::Nats;
use harness::process::{Dispatch, eventually};
use serde_json::json;
use uuid::Uuid;

use super::{events, kinds};

const ECHO: &str = "def handle(context, payload):\n    return payload\n";

/// What was on record of a run may have been dropped while it waited, a cancellation among it.
#[test]
fn a_run_that_was_on_record_and_is_no_more_is_not_begun() {
    let dispatch = Dispatch::up();
    dispatch.function("echo", ECHO, &[]);
    let nats = Nats::connect(&dispatch, "engine");
    let [forgotten, fresh] = [7, 0].map(|after| {
        let run = Uuid::now_v7().to_string();
        let wake = json!({"id": run, "org": "dispatch", "function": "echo", "actor": "user:a",
            "command": {"input": after}, "after": after});
        let sent = nats.publish("dispatch.waiting.dispatch.echo", &[], wake.to_string());
        sent.expect("it is stored");
        run
    });
    eventually("the other one ends", || {
        kinds(&events(&dispatch, &fresh)).last() == Some(&"Finished")
    });
    eventually("nothing waits", || {
        nats.stored("DISPATCH_WAITING", ">").is_empty()
    });
    assert!(events(&dispatch, &forgotten).is_empty());
}
