//! Deletions that meet a broker at the wrong moment, or a wrong broker.

use std::time::Duration;

use adapter_osb::fake::{Options, Pace};
use engine_model::{Command, Kind, Status};
use harness::faulty::{Fault, On};

use crate::osb::bed::Bed;

/// 8: a broker answers 500 to each deletion, also of what is long gone. It is shown, the pace
/// slows, and a person can end it on record.
#[test]
pub(crate) fn story_08_a_deletion_that_never_succeeds_says_so_and_can_be_abandoned() {
    let bed = Bed::start();
    bed.order("db");
    bed.until_ready("db");
    let never = Fault::error(500, "Boom", "no such database").applied();
    bed.broker.always(On::Deprovision, never);
    bed.delete("db");
    bed.eventually("it fails again and again", || {
        bed.happened("db", "DeprovisionFailed") > 1
    });
    let shown = bed.until(Kind::ServiceInstance, "db", "says why", |shown| {
        shown.status == Status::Deleting && shown.reason().contains("no such database")
    });
    assert!(shown.reason().contains("tried again at"), "{shown:?}");
    let asked = bed.changes().len();
    let reason = "the broker lost its mind".to_owned();
    bed.ask(Kind::ServiceInstance, "db", Command::Abandon { reason })
        .unwrap();
    bed.until_gone("db");
    assert_eq!(bed.changes().len(), asked, "nobody was asked");
    let history = serde_json::to_string(&bed.history(Kind::ServiceInstance, "db")).unwrap();
    assert!(history.contains("lost its mind"), "{history}");
    bed.nothing_is_left(&["db"]);
}

/// 18: deleted while it is made. The broker will not hear of it before it is done, so the making
/// is followed to its end, and then it goes.
#[test]
pub(crate) fn story_18_a_deletion_that_the_broker_refuses_waits_for_the_creation() {
    let bed = Bed::with(Options {
        pace: Pace::For(Duration::from_millis(700)),
        ..Options::default()
    });
    bed.order("db");
    bed.eventually("it is made", || bed.broker.count(On::PollInstance) > 0);
    bed.delete("db");
    let shown = bed.until(Kind::ServiceInstance, "db", "is on its way out", |shown| {
        shown.status == Status::Deleting && shown.reason().contains("busy")
    });
    assert!(shown.reason().contains("tried again at"), "{shown:?}");
    bed.until_gone("db");
    assert!(bed.broker.count(On::Deprovision) > 1, "{}", bed.story());
    assert_eq!(bed.broker.count(On::Bind), 0, "{}", bed.story());
    bed.nothing_is_left(&["db"]);
}

/// 18: the broker gets on with the creation only while it is polled, as some do.
#[test]
pub(crate) fn story_18_a_creation_goes_on_being_polled_while_it_is_to_be_deleted() {
    let bed = Bed::with(Options {
        pace: Pace::Polls(3),
        ..Options::default()
    });
    bed.order("db");
    bed.eventually("it is made", || bed.broker.count(On::PollInstance) > 0);
    bed.delete("db");
    bed.until_gone("db");
    bed.nothing_is_left(&["db"]);
}

/// 18: the broker gives up the creation and deletes.
#[test]
pub(crate) fn story_18_a_broker_that_cancels_a_creation_leaves_nothing() {
    let bed = Bed::with(Options {
        pace: Pace::Polls(2),
        ..Options::default()
    });
    // It is cancelled at once: what it was is deleted before it is there.
    let cancelled = Fault::say(200, "{}");
    bed.broker.script(On::Deprovision, [cancelled]);
    bed.broker
        .always(On::PollInstance, Fault::state("in progress", "creating"));
    bed.order("db");
    bed.eventually("it is made", || bed.broker.count(On::PollInstance) > 0);
    bed.delete("db");
    bed.until_gone("db");
    assert_eq!(bed.broker.count(On::Deprovision), 1, "{}", bed.story());
    assert_eq!(bed.broker.count(On::Bind), 0, "{}", bed.story());
    bed.keeps_the_rules();
}

/// 19: a broker that fails for ever is not asked for ever: a failed provision is not repeated
/// unless someone says so, and the clean-up slows down, also across a crash.
#[test]
pub(crate) fn story_19_a_broker_that_fails_for_ever_is_not_hammered() {
    let mut bed = Bed::start();
    let boom = || Fault::error(500, "Boom", "always");
    bed.broker.always(On::Provision, boom().applied());
    bed.broker.always(On::Deprovision, boom());
    bed.order("db");
    bed.eventually("it is cleaned up twice", || {
        bed.happened("db", "DeprovisionFailed") == 2
    });
    let before = bed.broker.sent(On::Deprovision);
    assert_eq!(before.len(), 2, "{}", bed.story());
    let pause = before[1].at.duration_since(before[0].at);
    assert!(pause >= Duration::from_secs(3), "{pause:?}");
    bed.crash();
    // The pause is on record, so a new engine keeps it: nothing is asked for on its way up.
    bed.order("other");
    bed.eventually("the new engine is at work", || {
        bed.happened("other", "DeprovisionFailed") == 1
    });
    let own = |bed: &Bed| {
        let sent = bed.broker.sent(On::Deprovision);
        let same = sent.iter().filter(|one| one.instance == before[0].instance);
        same.count()
    };
    assert_eq!(own(&bed), 2, "{}", bed.story());
    assert_eq!(bed.broker.count(On::Provision), 2, "once each");
    bed.broker.heal();
    for name in ["db", "other"] {
        bed.retry(name).unwrap();
        bed.eventually("it is cleaned up", || {
            bed.happened(name, "OrphanRemoved") == 1
        });
        bed.delete(name);
        bed.until_gone(name);
    }
    bed.nothing_is_left(&["db", "other"]);
}
