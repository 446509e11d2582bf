//! What comes of a request to bind.

use std::time::Duration;

use adapter_osb::fake::{Options, Pace};
use engine_model::Kind;
use harness::faulty::{Fault, On};
use serde_json::json;

use crate::osb::bed::{Bed, Shown};
use crate::osb::run::at_once;

fn until_failed(bed: &Bed) -> Shown {
    bed.until(Kind::ServiceBinding, "db", "is in ERROR", Shown::is_error)
}

/// A bind that goes so succeeds, and nothing is mitigated.
fn succeeds(fault: Fault, pace: Pace) {
    let bed = Bed::with(Options {
        pace,
        ..Options::default()
    });
    bed.broker.script(On::Bind, [fault]);
    bed.order("db");
    bed.until_ready("db");
    assert_eq!(bed.changes(), [On::Provision, On::Bind], "{}", bed.story());
    bed.lives_and_goes("db");
}

/// A bind that goes so is a failure with `reason`, and nothing is deleted before someone asks.
fn is_left_alone(fault: Fault, reason: &str) {
    let bed = Bed::start();
    bed.broker.script(On::Bind, [fault]);
    bed.order("db");
    let shown = until_failed(&bed);
    assert!(shown.reason().contains(reason), "{shown:?}");
    let instance = bed.until_error("db");
    assert!(instance.reason().contains(reason), "{instance:?}");
    assert_eq!(bed.changes(), [On::Provision, On::Bind], "{}", bed.story());
    bed.goes("db");
}

/// A bind that goes so is a failure with `reason`; the binding that it may have made is deleted
/// until the broker confirms it, and the instance stays.
fn is_mitigated(bed: &Bed, reason: &str) {
    bed.order("db");
    bed.eventually("what was left is removed", || {
        let events = bed.events(Kind::ServiceBinding, "db");
        events.iter().any(|event| event == "OrphanRemoved")
    });
    assert_eq!(bed.broker.bindings(), [""; 0], "{}", bed.story());
    assert_eq!(bed.broker.instances().len(), 1, "{}", bed.story());
    let shown = until_failed(bed);
    assert!(shown.reason().contains(reason), "{shown:?}");
    let bound = &bed.broker.sent(On::Bind)[0];
    let unbound = bed.broker.sent(On::Unbind);
    assert!(
        unbound.iter().all(|one| one.binding == bound.binding),
        "{}",
        bed.story()
    );
    assert_eq!(bed.broker.count(On::Deprovision), 0, "{}", bed.story());
    // Another try is another binding.
    bed.ask(Kind::ServiceBinding, "db", engine_model::Command::Retry)
        .unwrap();
    bed.until_ready("db");
    let bindings = bed.broker.bindings();
    assert!(!bindings.contains(&bound.binding), "{}", bed.story());
    bed.lives_and_goes("db");
}

fn is_mitigated_after(fault: Fault, reason: &str) {
    let bed = Bed::start();
    bed.broker.script(On::Bind, [fault]);
    is_mitigated(&bed, reason);
}

#[test]
pub(crate) fn mitigation_of_a_bind_answered_200_201_or_202_is_none() {
    let ways = [
        (Fault::with_status(200), Pace::Sync),
        (Fault::none(), Pace::Sync),
        (Fault::none(), Pace::Polls(2)),
    ];
    at_once(ways, |(fault, pace)| succeeds(fault, pace));
}

#[test]
pub(crate) fn mitigation_of_a_bind_answered_200_malformed_is_none() {
    is_left_alone(Fault::say(200, "null").applied(), "not an object");
}

#[test]
pub(crate) fn mitigation_of_a_bind_answered_201_malformed_deletes_the_binding() {
    is_mitigated_after(Fault::html(201).applied(), "markup");
    is_mitigated_after(Fault::half_body(), "cut off");
    let text = r#"{"credentials": "all of them"}"#;
    is_mitigated_after(Fault::say(201, text).applied(), "credentials");
}

#[test]
pub(crate) fn mitigation_of_a_bind_answered_202_malformed_deletes_the_binding() {
    is_mitigated_after(Fault::say(202, "[]").applied(), "not an object");
}

#[test]
pub(crate) fn mitigation_of_a_bind_answered_by_another_2xx_deletes_the_binding() {
    is_mitigated_after(Fault::say(204, "").applied(), "204");
}

#[test]
pub(crate) fn mitigation_of_a_bind_answered_408_is_none_and_the_same_request_is_repeated() {
    let bed = Bed::start();
    bed.broker.script(On::Bind, [Fault::say(408, "")]);
    bed.order("db");
    bed.until_ready("db");
    let sent = bed.broker.sent(On::Bind);
    assert_eq!(sent.len(), 2, "{}", bed.story());
    assert_eq!(
        (&sent[0].body, &sent[0].binding),
        (&sent[1].body, &sent[1].binding)
    );
    bed.lives_and_goes("db");
}

#[test]
pub(crate) fn mitigation_of_a_bind_answered_by_another_4xx_is_none() {
    for status in [400, 401, 404, 409] {
        is_left_alone(Fault::error(status, "Refused", "not you"), "not you");
    }
    is_left_alone(
        Fault::error(422, "RequiresApp", "an app is needed"),
        "an app is needed",
    );
}

#[test]
pub(crate) fn mitigation_of_a_bind_answered_5xx_deletes_the_binding() {
    for status in [500, 502] {
        let fault = Fault::error(status, "Boom", "out of logins").applied();
        is_mitigated_after(fault, "out of logins");
    }
}

#[test]
pub(crate) fn mitigation_of_a_bind_without_an_answer_in_time_deletes_the_binding() {
    is_mitigated_after(Fault::hang().applied(), "no answer in time");
    is_mitigated_after(Fault::drip(Duration::from_millis(50)), "no answer in time");
}

#[test]
pub(crate) fn mitigation_of_a_bind_whose_connection_was_reset_deletes_the_binding() {
    is_mitigated_after(Fault::reset().applied(), "the connection ended");
}

#[test]
pub(crate) fn mitigation_of_a_bind_that_a_poll_says_failed_deletes_the_binding() {
    let bed = Bed::with(Options {
        pace: Pace::Polls(0),
        ..Options::default()
    });
    let failed = Fault::state("failed", "the disk is full").applied();
    bed.broker.script(On::PollBinding, [failed]);
    is_mitigated(&bed, "the disk is full");
}

#[test]
pub(crate) fn mitigation_of_a_bind_after_which_the_platform_fails_deletes_the_binding() {
    // What no event could hold is not stored, so the binding is of no use to anybody.
    let bed = Bed::start();
    let large = "x".repeat(200_000);
    let fault = Fault::edited(move |body| body["credentials"]["ca"] = json!(large));
    bed.broker.script(On::Bind, [fault]);
    is_mitigated(&bed, "larger than");
}
