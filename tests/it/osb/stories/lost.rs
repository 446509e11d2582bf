//! Answers that never came, and what they left behind.

use std::time::Duration;

use adapter_osb::fake::{Options, Pace};
use engine_model::{Command, Kind, Status};
use harness::faulty::{Fault, On};

use crate::osb::bed::{Bed, REQUEST, Shown};

fn until_mitigated(bed: &Bed) {
    bed.eventually("what was left is removed", || {
        bed.happened("db", "OrphanRemoved") == 1
    });
}

/// A failed instance is asked for anew, and lives.
fn another_try_lives(bed: &Bed) {
    bed.retry("db").unwrap();
    bed.lives_and_goes("db");
}

/// 3: a request times out, and the broker finishes later. The word that it is not there is not
/// believed before it cannot come any more.
#[test]
pub(crate) fn story_03_a_broker_that_finishes_after_the_timeout_leaves_no_orphan() {
    let bed = Bed::start();
    let late = REQUEST + Duration::from_millis(600);
    bed.broker.script(On::Provision, [Fault::late(late)]);
    bed.order("db");
    let shown = bed.until_error("db");
    assert!(shown.reason().contains("no answer in time"), "{shown:?}");
    bed.eventually("the broker finishes", || bed.broker.instances().len() == 1);
    until_mitigated(&bed);
    assert_eq!(bed.broker.instances(), [""; 0], "{}", bed.story());
    assert!(bed.broker.count(On::Deprovision) > 1, "{}", bed.story());
    another_try_lives(&bed);
}

/// 4: 500, 502 or 504, and the instance was made all the same.
#[test]
pub(crate) fn story_04_an_error_after_the_work_was_done_leaves_no_orphan_and_says_what_came() {
    let page = Fault::html(504).applied();
    let said = Fault::error(500, "Internal", "the lease expired").applied();
    for (fault, reason) in [(page, "504"), (said, "the lease expired")] {
        let bed = Bed::start();
        bed.broker.script(On::Provision, [fault]);
        bed.order("db");
        until_mitigated(&bed);
        let shown = bed.until_error("db");
        assert!(shown.reason().contains(reason), "{shown:?}");
        assert!(!shown.reason().contains('<'), "{shown:?}");
        another_try_lives(&bed);
    }
}

/// 5: the connection is reset after the request was sent: some bytes may have arrived.
#[test]
pub(crate) fn story_05_a_reset_connection_leaves_no_orphan() {
    let bed = Bed::start();
    bed.broker.script(On::Provision, [Fault::reset().applied()]);
    bed.order("db");
    until_mitigated(&bed);
    another_try_lives(&bed);
}

/// 6: the clean-up is accepted by 202, and fails later. It is not done before it is done.
#[test]
pub(crate) fn story_06_a_cleanup_that_was_accepted_and_failed_begins_again() {
    let bed = Bed::start();
    bed.broker.script(
        On::Provision,
        [Fault::error(500, "Boom", "half made").applied()],
    );
    // The first deletion comes at once; a broker that takes its time answers it.
    bed.broker.script(On::Deprovision, [Fault::say(408, "")]);
    bed.order("db");
    bed.eventually("it is asked to delete", || {
        bed.broker.count(On::Deprovision) == 1
    });
    bed.broker.set_pace(Pace::Polls(1));
    let failed = Fault::state("failed", "the volume is attached");
    bed.broker.script(On::PollInstance, [failed]);
    let shown = bed.until(Kind::ServiceInstance, "db", "says why", |shown| {
        shown.reason().contains("the volume is attached")
    });
    assert!(
        shown.is_error() && shown.reason().contains("half made"),
        "{shown:?}"
    );
    until_mitigated(&bed);
    assert_eq!(bed.broker.instances(), [""; 0], "{}", bed.story());
    assert_eq!(bed.broker.count(On::Deprovision), 3, "{}", bed.story());
    bed.broker.set_pace(Pace::Sync);
    another_try_lives(&bed);
}

/// 7: the clean-up fails again and again, and is never forgotten.
#[test]
pub(crate) fn story_07_a_cleanup_is_never_given_up_and_always_visible() {
    let bed = Bed::start();
    let boom = Fault::error(500, "Boom", "no room").applied();
    bed.broker.script(On::Provision, [boom]);
    // A refusal, so that the broker does not count as one that is down.
    bed.broker
        .always(On::Deprovision, Fault::error(403, "No", "not today"));
    bed.order("db");
    // More tries than the eleven after which another platform forgets; a person hurries them on.
    for number in 1..=12 {
        let shown = bed.until(Kind::ServiceInstance, "db", "counts its tries", |shown| {
            let attempt = format!("(attempt {number})");
            shown.reason().contains(&attempt) && shown.reason().contains("not today")
        });
        assert!(shown.is_error(), "{shown:?}");
        assert!(shown.reason().contains("no room"), "{shown:?}");
        assert!(shown.reason().contains("tried again at"), "{shown:?}");
        if number == 12 {
            bed.broker.heal();
        }
        bed.retry("db").unwrap();
    }
    until_mitigated(&bed);
    bed.goes("db");
}

/// 7, the way out: a person drops what cannot be cleaned up, on record.
#[test]
pub(crate) fn story_07_an_orphan_can_be_dropped_on_record() {
    let bed = Bed::start();
    let boom = Fault::error(500, "Boom", "no room").applied();
    bed.broker.script(On::Provision, [boom]);
    bed.broker
        .always(On::Deprovision, Fault::error(500, "Boom", "not today"));
    bed.order("db");
    bed.eventually("it cannot be cleaned up", || {
        bed.happened("db", "DeprovisionFailed") > 0
    });
    let asked = bed.changes().len();
    let reason = "the region burnt down".to_owned();
    bed.ask(Kind::ServiceInstance, "db", Command::Abandon { reason })
        .unwrap();
    bed.until_gone("db");
    assert_eq!(bed.changes().len(), asked, "nobody was asked");
    let history = serde_json::to_string(&bed.history(Kind::ServiceInstance, "db")).unwrap();
    assert!(history.contains("the region burnt down"), "{history}");
    bed.keeps_the_rules();
}

/// 13: a bind comes after the platform gave it up, and after its unbind. Another try is another
/// binding, and the late one is found and removed.
#[test]
pub(crate) fn story_13_a_bind_that_is_late_is_removed_and_another_try_has_another_id() {
    let bed = Bed::start();
    let late = REQUEST + Duration::from_millis(600);
    bed.broker.script(On::Bind, [Fault::late(late)]);
    bed.order("db");
    let shown = bed.until(Kind::ServiceBinding, "db", "is in ERROR", Shown::is_error);
    assert!(shown.reason().contains("no answer in time"), "{shown:?}");
    bed.eventually("it comes late", || bed.broker.bindings().len() == 1);
    bed.eventually("what came late is removed", || {
        let events = bed.events(Kind::ServiceBinding, "db");
        events.iter().any(|event| event == "OrphanRemoved")
    });
    assert_eq!(bed.broker.bindings(), [""; 0], "{}", bed.story());
    let unbinds = bed.broker.sent(On::Unbind);
    assert!(unbinds.len() > 1, "asked before and after: {}", bed.story());
    bed.ask(Kind::ServiceBinding, "db", Command::Retry).unwrap();
    bed.until_ready("db");
    let binds = bed.broker.sent(On::Bind);
    assert_ne!(binds[0].binding, binds[1].binding);
    assert_eq!(bed.broker.bindings(), [binds[1].binding.clone()]);
    bed.lives_and_goes("db");
}

/// 14: the answer to a bind is lost, and a repeat is answered with a password that does not work.
#[test]
pub(crate) fn story_14_a_password_that_a_repeat_makes_up_is_not_handed_out() {
    let mut bed = Bed::start();
    bed.broker.script(
        On::Bind,
        [
            Fault::hang().applied(),
            Fault::edited(|body| body["credentials"]["password"] = "does not work".into()),
        ],
    );
    bed.order("db");
    bed.eventually("the bind is on its way", || {
        bed.broker.bindings().len() == 1
    });
    bed.crash();
    bed.until_ready("db");
    assert_ne!(bed.password("db"), "does not work", "{}", bed.story());
    bed.lives_and_goes("db");
}

/// 22: the unbind succeeded, and its answer was lost. The next one finds nothing, and is done.
#[test]
pub(crate) fn story_22_an_unbind_that_finds_nothing_is_done() {
    let bed = Bed::start();
    bed.order("db");
    bed.until_ready("db");
    bed.broker.script(On::Unbind, [Fault::reset().applied()]);
    bed.broker
        .script(On::Deprovision, [Fault::reset().applied()]);
    bed.delete("db");
    bed.until_gone("db");
    for on in [On::Unbind, On::Deprovision] {
        let sent = bed.broker.sent(on);
        assert_eq!(sent.len(), 2, "{}", bed.story());
        assert_eq!(sent[1].status, Some(410), "{}", bed.story());
    }
    bed.nothing_is_left(&["db"]);
}

/// 22, asynchronously: what is polled until it is gone is gone.
#[test]
pub(crate) fn story_22_a_poll_of_a_deletion_that_finds_nothing_is_done() {
    let bed = Bed::with(Options {
        pace: Pace::Polls(0),
        ..Options::default()
    });
    bed.order("db");
    bed.until_ready("db");
    for poll in [On::PollBinding, On::PollInstance] {
        bed.broker.script(poll, [Fault::say(410, "{}").applied()]);
    }
    bed.delete("db");
    bed.until_gone("db");
    assert_eq!(bed.broker.count(On::Unbind), 1, "{}", bed.story());
    assert_eq!(bed.broker.count(On::Deprovision), 1, "{}", bed.story());
    assert_eq!(
        bed.shown(Kind::ServiceInstance, "db").unwrap().status,
        Status::Deleted
    );
    bed.nothing_is_left(&["db"]);
}
