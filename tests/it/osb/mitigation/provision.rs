//! What comes of a request to create an instance.

use std::time::Duration;

use adapter_osb::fake::{Options, Pace};
use engine_model::Kind;
use harness::faulty::{Fault, On};

use crate::osb::bed::Bed;

/// A provision that goes so succeeds, and nothing is mitigated.
fn succeeds(fault: Fault, pace: Pace) {
    let bed = Bed::with(Options {
        pace,
        ..Options::default()
    });
    bed.broker.script(On::Provision, [fault]);
    bed.order("db");
    bed.until_ready("db");
    assert_eq!(bed.changes(), [On::Provision, On::Bind], "{}", bed.story());
    bed.lives_and_goes("db");
}

/// A provision that goes so is a failure with `reason`, and all the same nothing is deleted
/// before someone asks for it.
fn is_left_alone(fault: Fault, reason: &str) {
    let bed = Bed::start();
    bed.broker.script(On::Provision, [fault]);
    bed.order("db");
    let shown = bed.until_error("db");
    assert!(shown.reason().contains(reason), "{shown:?}");
    assert_eq!(bed.happened("db", "DeprovisionRequested"), 0);
    assert_eq!(bed.changes(), [On::Provision], "{}", bed.story());
    bed.goes("db");
}

/// A provision that goes so is a failure with `reason`, and what it may have made is deleted
/// until the broker confirms it.
fn is_mitigated(bed: &Bed, reason: &str) {
    bed.order("db");
    bed.eventually("what was left is removed", || {
        bed.happened("db", "OrphanRemoved") == 1
    });
    assert_eq!(bed.broker.instances(), [""; 0], "{}", bed.story());
    let shown = bed.until_error("db");
    assert!(shown.reason().contains(reason), "{shown:?}");
    let deletions = bed.broker.sent(On::Deprovision);
    let made = &bed.broker.sent(On::Provision)[0];
    assert!(!deletions.is_empty());
    assert!(
        deletions.iter().all(|one| one.instance == made.instance),
        "{}",
        bed.story()
    );
    assert_eq!(bed.broker.count(On::Provision), 1, "{}", bed.story());
    assert_eq!(bed.broker.count(On::Bind), 0, "{}", bed.story());
    bed.goes("db");
}

fn is_mitigated_after(fault: Fault, reason: &str) {
    let bed = Bed::start();
    bed.broker.script(On::Provision, [fault]);
    is_mitigated(&bed, reason);
}

#[test]
pub(crate) fn mitigation_of_a_provision_answered_200_is_none() {
    succeeds(Fault::with_status(200), Pace::Sync);
}

#[test]
pub(crate) fn mitigation_of_a_provision_answered_201_is_none() {
    succeeds(Fault::none(), Pace::Sync);
}

#[test]
pub(crate) fn mitigation_of_a_provision_answered_202_is_none() {
    succeeds(Fault::none(), Pace::Polls(2));
}

#[test]
pub(crate) fn mitigation_of_a_provision_answered_200_malformed_is_none() {
    is_left_alone(Fault::say(200, "[]").applied(), "not an object");
}

#[test]
pub(crate) fn mitigation_of_a_provision_answered_201_malformed_deletes_the_instance() {
    is_mitigated_after(Fault::html(201).applied(), "markup");
    is_mitigated_after(Fault::say(201, "").applied(), "empty");
    is_mitigated_after(Fault::half_body(), "cut off");
}

#[test]
pub(crate) fn mitigation_of_a_provision_answered_202_malformed_deletes_the_instance() {
    is_mitigated_after(Fault::say(202, "null").applied(), "not an object");
    is_mitigated_after(
        Fault::say(202, r#"{"operation": 17}"#).applied(),
        "operation",
    );
}

#[test]
pub(crate) fn mitigation_of_a_provision_answered_by_another_2xx_deletes_the_instance() {
    for status in [203, 204, 206] {
        is_mitigated_after(Fault::say(status, "").applied(), &status.to_string());
    }
}

#[test]
pub(crate) fn mitigation_of_a_provision_answered_408_is_none_and_the_same_request_is_repeated() {
    let bed = Bed::start();
    bed.broker.script(On::Provision, [Fault::html(408)]);
    bed.order("db");
    bed.until_ready("db");
    let sent = bed.broker.sent(On::Provision);
    assert_eq!(sent.len(), 2, "{}", bed.story());
    assert_eq!(sent[0].body, sent[1].body);
    assert_eq!(sent[0].instance, sent[1].instance);
    assert_eq!(bed.broker.count(On::Deprovision), 0, "{}", bed.story());
    bed.lives_and_goes("db");
}

#[test]
pub(crate) fn mitigation_of_a_provision_answered_by_another_4xx_is_none() {
    let said = "no such region";
    for status in [400, 401, 403, 404, 409, 410, 412, 418] {
        is_left_alone(Fault::error(status, "Refused", said), said);
    }
    is_left_alone(
        Fault::error(422, "RequiresApp", "an app is needed"),
        "an app is needed",
    );
}

#[test]
pub(crate) fn mitigation_of_a_provision_answered_5xx_deletes_the_instance() {
    for status in [500, 502, 503, 504, 599] {
        let fault = Fault::error(status, "Boom", "the disk is full").applied();
        is_mitigated_after(fault, "the disk is full");
    }
}

#[test]
pub(crate) fn mitigation_of_a_provision_without_an_answer_in_time_deletes_the_instance() {
    is_mitigated_after(Fault::hang().applied(), "no answer in time");
    is_mitigated_after(
        Fault::drip(Duration::from_millis(50)).applied(),
        "no answer in time",
    );
}

#[test]
pub(crate) fn mitigation_of_a_provision_whose_connection_was_reset_deletes_the_instance() {
    is_mitigated_after(Fault::reset().applied(), "the connection ended");
    is_mitigated_after(Fault::close().applied(), "the connection ended");
    is_mitigated_after(Fault::half_head(), "the connection ended");
}

#[test]
pub(crate) fn mitigation_of_a_provision_reset_before_it_was_read_asks_until_it_is_sure() {
    is_mitigated_after(Fault::reset_unread(), "the connection ended");
}

#[test]
pub(crate) fn mitigation_of_a_provision_that_never_connected_is_none_and_it_is_tried_again() {
    // A broker that is away: nobody listens where it was.
    let away = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = away.local_addr().unwrap();
    drop(away);
    let bed = Bed::start();
    bed.move_broker(&format!("http://{address}"));
    bed.order("db");
    bed.until(Kind::ServiceInstance, "db", "says why", |shown| {
        shown.reason().contains("tried again at") && shown.reason().contains("refused")
    });
    let url = bed.broker.url();
    bed.move_broker(&url);
    bed.until_ready("db");
    assert_eq!(bed.changes(), [On::Provision, On::Bind], "{}", bed.story());
    bed.lives_and_goes("db");
}

#[test]
pub(crate) fn mitigation_of_a_provision_that_was_redirected_deletes_the_instance() {
    let bed = Bed::start();
    let elsewhere = format!("{}/elsewhere", bed.broker.url());
    let fault = Fault::redirect(&elsewhere).applied();
    bed.broker.script(On::Provision, [fault]);
    is_mitigated(&bed, "307");
}

#[test]
pub(crate) fn mitigation_of_a_provision_that_a_poll_says_failed_deletes_the_instance() {
    let bed = Bed::with(Options {
        pace: Pace::Polls(0),
        ..Options::default()
    });
    let failed = Fault::state("failed", "the region is full").applied();
    bed.broker.script(On::PollInstance, [failed]);
    is_mitigated(&bed, "the region is full");
}

#[test]
pub(crate) fn mitigation_never_follows_a_concurrency_error() {
    let bed = Bed::start();
    let busy = [
        Fault::concurrency(),
        Fault::concurrency().header("retry-after", 0),
    ];
    bed.broker.script(On::Provision, busy);
    bed.order("db");
    bed.until_ready("db");
    assert_eq!(bed.broker.count(On::Provision), 3, "{}", bed.story());
    assert_eq!(bed.broker.count(On::Deprovision), 0, "{}", bed.story());
    bed.lives_and_goes("db");
}
