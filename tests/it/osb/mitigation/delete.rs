//! What comes of a request to delete: a refusal is shown and asked again, and never forgotten.

use adapter_osb::fake::{Options, Pace};
use engine_model::{Kind, Status};
use harness::faulty::{Fault, On};

use crate::osb::bed::Bed;
use crate::osb::run::at_once;

/// Deletes an instance whose `on` goes so, then well. What goes wrong is shown with `reason`
/// while the instance stays on record, and it is asked again until nothing is left.
fn is_asked_again(on: On, fault: Fault, reason: &str) {
    let bed = Bed::start();
    bed.order("db");
    bed.until_ready("db");
    bed.broker.script(on, [fault]);
    bed.delete("db");
    let kind = match on {
        On::Unbind => Kind::ServiceBinding,
        _ => Kind::ServiceInstance,
    };
    let shown = bed.until(kind, "db", "says why", |shown| {
        shown.status == Status::Deleting && shown.reason().contains(reason)
    });
    assert!(shown.reason().contains("tried again at"), "{shown:?}");
    bed.until_gone("db");
    let sent = bed.broker.sent(on);
    assert_eq!(sent.len(), 2, "{}", bed.story());
    assert_eq!(sent[0].target, sent[1].target);
    bed.nothing_is_left(&["db"]);
}

/// Both deletes of an instance's life.
const BOTH: [On; 2] = [On::Unbind, On::Deprovision];

#[test]
pub(crate) fn mitigation_of_a_deletion_answered_200_is_none() {
    let bed = Bed::start();
    bed.order("db");
    bed.lives_and_goes("db");
    assert_eq!(
        bed.changes(),
        [On::Provision, On::Bind, On::Unbind, On::Deprovision]
    );
}

#[test]
pub(crate) fn mitigation_of_a_deletion_answered_202_is_none() {
    let bed = Bed::with(Options {
        pace: Pace::Polls(1),
        ..Options::default()
    });
    bed.order("db");
    bed.lives_and_goes("db");
    assert_eq!(
        bed.changes(),
        [On::Provision, On::Bind, On::Unbind, On::Deprovision]
    );
}

#[test]
pub(crate) fn mitigation_of_a_deletion_answered_410_is_none() {
    for on in BOTH {
        let bed = Bed::start();
        bed.order("db");
        bed.until_ready("db");
        bed.broker.script(on, [Fault::say(410, "{}").applied()]);
        bed.goes("db");
        assert_eq!(bed.broker.count(on), 1, "{}", bed.story());
    }
}

#[test]
pub(crate) fn mitigation_of_a_deletion_answered_200_malformed_asks_again() {
    let answers = [
        (On::Unbind, Fault::html(200), "markup"),
        (On::Deprovision, Fault::html(200).applied(), "markup"),
    ];
    at_once(answers, |(on, fault, reason)| {
        is_asked_again(on, fault, reason)
    });
}

#[test]
pub(crate) fn mitigation_of_a_deletion_answered_by_another_2xx_asks_again() {
    let answers = [
        (On::Unbind, Fault::say(204, "").applied(), "204"),
        (On::Deprovision, Fault::say(204, ""), "204"),
    ];
    at_once(answers, |(on, fault, reason)| {
        is_asked_again(on, fault, reason)
    });
}

#[test]
pub(crate) fn mitigation_of_a_deletion_answered_408_repeats_the_same_request() {
    is_asked_again(On::Deprovision, Fault::say(408, ""), "408");
}

#[test]
pub(crate) fn mitigation_of_a_deletion_answered_by_another_4xx_keeps_it_on_record() {
    at_once(BOTH, |on| {
        is_asked_again(on, Fault::error(403, "No", "not now"), "not now");
    });
}

#[test]
pub(crate) fn mitigation_of_a_deletion_answered_5xx_asks_again() {
    let answers = [
        (
            On::Unbind,
            Fault::error(500, "Boom", "no idea").applied(),
            "no idea",
        ),
        (On::Deprovision, Fault::html(503), "503"),
    ];
    at_once(answers, |(on, fault, reason)| {
        is_asked_again(on, fault, reason)
    });
}

#[test]
pub(crate) fn mitigation_of_a_deletion_without_an_answer_in_time_asks_again() {
    let answers = [
        (On::Unbind, Fault::hang(), "no answer in time"),
        (
            On::Deprovision,
            Fault::hang().applied(),
            "no answer in time",
        ),
    ];
    at_once(answers, |(on, fault, reason)| {
        is_asked_again(on, fault, reason)
    });
}

#[test]
pub(crate) fn mitigation_of_a_deletion_whose_connection_was_reset_asks_again() {
    is_asked_again(
        On::Deprovision,
        Fault::reset().applied(),
        "the connection ended",
    );
}

#[test]
pub(crate) fn mitigation_of_a_deletion_that_found_another_operation_waits_for_it() {
    at_once(BOTH, |on| is_asked_again(on, Fault::concurrency(), "busy"));
}

#[test]
pub(crate) fn mitigation_of_a_deletion_that_a_poll_says_failed_asks_again() {
    let polls = [
        (On::Unbind, On::PollBinding),
        (On::Deprovision, On::PollInstance),
    ];
    at_once(polls, |(on, poll)| {
        let bed = Bed::with(Options {
            pace: Pace::Polls(0),
            ..Options::default()
        });
        bed.order("db");
        bed.until_ready("db");
        let failed = Fault::state("failed", "the disk is stuck").applied();
        bed.broker.script(poll, [failed]);
        bed.delete("db");
        let kind = match on {
            On::Unbind => Kind::ServiceBinding,
            _ => Kind::ServiceInstance,
        };
        bed.until(kind, "db", "says why", |shown| {
            shown.status == Status::Deleting && shown.reason().contains("the disk is stuck")
        });
        bed.until_gone("db");
        assert_eq!(bed.broker.count(on), 2, "{}", bed.story());
        bed.nothing_is_left(&["db"]);
    });
}
