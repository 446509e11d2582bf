//! What is not done by its deadline.

use std::time::Duration;

use adapter_osb::fake::{Options, Pace, default_catalog};
use engine_model::Kind;
use harness::faulty::{Fault, On};
use serde_json::json;

use crate::osb::bed::{Bed, Shown};

/// Twice as long as the plan allows.
const SLOW: Pace = Pace::For(Duration::from_secs(2));

fn bed(pace: Pace) -> Bed {
    let mut catalog = default_catalog();
    catalog["services"][0]["plans"][0]["maximum_polling_duration"] = json!(1);
    Bed::with(Options {
        catalog,
        pace,
        ..Options::default()
    })
}

fn is_overdue(shown: &Shown) {
    let reason = shown.reason();
    assert!(
        reason.contains("the broker was not done after 1 s"),
        "{reason}"
    );
}

#[test]
pub(crate) fn mitigation_of_a_provision_that_is_not_done_in_time_deletes_the_instance() {
    let bed = bed(SLOW);
    bed.order("db");
    is_overdue(&bed.until_error("db"));
    bed.broker.set_pace(Pace::Sync);
    bed.eventually("the instance is removed", || {
        bed.happened("db", "OrphanRemoved") == 1
    });
    assert_eq!(bed.broker.instances(), [""; 0], "{}", bed.story());
    bed.goes("db");
}

#[test]
pub(crate) fn mitigation_of_a_bind_that_is_not_done_in_time_deletes_the_binding() {
    let bed = bed(Pace::Sync);
    // The first request is not received, so that the second one meets a slow broker.
    bed.broker.script(On::Bind, [Fault::say(408, "")]);
    bed.order("db");
    bed.eventually("it is bound", || bed.broker.count(On::Bind) == 1);
    bed.broker.set_pace(SLOW);
    is_overdue(&bed.until_error("db"));
    bed.broker.set_pace(Pace::Sync);
    bed.eventually("the binding is removed", || {
        let events = bed.events(Kind::ServiceBinding, "db");
        events.iter().any(|event| event == "OrphanRemoved")
    });
    assert_eq!(
        (bed.broker.instances().len(), bed.broker.bindings().len()),
        (1, 0),
        "{}",
        bed.story()
    );
    bed.goes("db");
}
