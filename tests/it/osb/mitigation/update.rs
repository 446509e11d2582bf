//! What comes of a request to update: whatever it is, nothing is removed because of it.

use adapter_osb::fake::{Options, Pace};
use engine_model::Kind;
use harness::faulty::{Fault, On};
use serde_json::json;

use crate::osb::bed::Bed;
use crate::osb::run::at_once;

/// An update to another plan that goes so fails with `reason`. The instance is what it was, is
/// used as before, and nothing is removed until someone asks for it.
fn is_left_alone(bed: &Bed, reason: &str) {
    bed.order("db");
    bed.until_ready("db");
    let password = bed.password("db");
    bed.update("db", "large", json!({})).unwrap();
    let shown = bed.until(Kind::ServiceInstance, "db", "says why", |shown| {
        shown.reason().contains(reason)
    });
    assert!(shown.is_ready(), "{shown:?}");
    assert_eq!(bed.happened("db", "UpdateFailed"), 1, "{}", bed.story());
    assert_eq!(
        bed.changes(),
        [On::Provision, On::Bind, On::Update],
        "{}",
        bed.story()
    );
    assert_eq!(bed.broker.instances().len(), 1);
    assert_eq!(bed.password("db"), password);
    bed.goes("db");
}

fn is_left_alone_after(fault: Fault, reason: &str) {
    let bed = Bed::start();
    bed.broker.script(On::Update, [fault]);
    is_left_alone(&bed, reason);
}

#[test]
pub(crate) fn mitigation_never_follows_an_update_that_was_answered() {
    let answers = [
        (Fault::say(200, "null").applied(), "not an object"),
        (Fault::say(202, "[]").applied(), "not an object"),
        (Fault::say(204, "").applied(), "204"),
        (Fault::error(400, "Bad", "no such size"), "no such size"),
        (
            Fault::error(422, "Unsupported", "not from here"),
            "not from here",
        ),
        (Fault::error(500, "Boom", "half way"), "half way"),
        (Fault::error(500, "Boom", "half way").applied(), "half way"),
        (Fault::redirect("/elsewhere"), "307"),
    ];
    at_once(answers, |(fault, reason)| {
        is_left_alone_after(fault, reason)
    });
}

#[test]
pub(crate) fn mitigation_never_follows_an_update_that_was_not_answered() {
    let answers = [
        (Fault::hang().applied(), "no answer in time"),
        (Fault::hang(), "no answer in time"),
        (Fault::reset().applied(), "the connection ended"),
        (Fault::half_head(), "the connection ended"),
    ];
    at_once(answers, |(fault, reason)| {
        is_left_alone_after(fault, reason)
    });
}

#[test]
pub(crate) fn mitigation_never_follows_an_update_that_a_poll_says_failed() {
    let bed = Bed::with(Options {
        pace: Pace::Polls(0),
        ..Options::default()
    });
    bed.broker.script(
        On::PollInstance,
        [
            Fault::none(),
            Fault::state("failed", "no room in that plan").applied(),
        ],
    );
    is_left_alone(&bed, "no room in that plan");
}
