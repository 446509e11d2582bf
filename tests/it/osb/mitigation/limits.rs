//! What is not done by its deadline.

use adapter_osb::fake::{Options, Pace, default_catalog};
use engine_model::Kind;
use harness::faulty::{Fault, On};
use serde_json::json;

use crate::osb::bed::Bed;

/// A broker whose work takes as many polls as anybody may have, of plans that allow it a second.
fn slow(polls: Pace) -> Bed {
    let mut catalog = default_catalog();
    catalog["services"][0]["plans"][0]["maximum_polling_duration"] = json!(1);
    Bed::with(Options {
        catalog,
        pace: polls,
        ..Options::default()
    })
}

#[test]
fn mitigation_of_a_provision_that_is_not_done_in_time_deletes_the_instance() {
    let bed = slow(Pace::Polls(1));
    bed.broker.always(
        On::PollInstance,
        Fault::state("in progress", "any minute now"),
    );
    bed.order("db");
    let failed = bed.until_error("db");
    assert!(
        failed
            .reason()
            .contains("the broker was not done after 1 s"),
        "{failed:?}"
    );
    bed.broker.heal();
    bed.until_broker_empty();
    bed.eventually("the broker's word is on record", || {
        bed.happened("db", "OrphanRemoved") == 1
    });
    bed.goes("db");
}

#[test]
fn mitigation_of_a_bind_that_is_not_done_in_time_deletes_the_binding() {
    let bed = slow(Pace::Polls(1));
    bed.broker.always(
        On::PollBinding,
        Fault::state("in progress", "any minute now"),
    );
    bed.order("db");
    let failed = bed.until_error("db");
    assert!(
        failed
            .reason()
            .contains("the broker was not done after 1 s"),
        "{failed:?}"
    );
    bed.broker.heal();
    bed.eventually("the binding is removed", || {
        let events = bed.events(Kind::ServiceBinding, "db");
        bed.broker.bindings().is_empty() && events.iter().any(|event| event == "OrphanRemoved")
    });
    assert_eq!(bed.broker.instances().len(), 1, "{}", bed.story());
    bed.goes("db");
}
