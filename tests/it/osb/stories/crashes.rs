//! The platform dies in between.

use std::time::Duration;

use adapter_osb::fake::{Options, Pace};
use engine_model::{Command, Kind, Status};
use harness::faulty::{Fault, On};

use crate::osb::bed::Bed;
use crate::osb::run::at_once;

/// 1: a crash between the request and the record of its answer. The same request is sent again,
/// whether or not the first one arrived, and nobody has to help.
#[test]
pub(crate) fn story_01_a_crash_between_a_request_and_its_record_repeats_the_same_request() {
    at_once([Fault::hang().applied(), Fault::hang()], |fault| {
        let mut bed = Bed::start();
        bed.broker.script(On::Provision, [fault]);
        bed.order("db");
        bed.eventually("the request is on its way", || {
            bed.broker.count(On::Provision) == 1
        });
        bed.crash();
        bed.until_ready("db");
        let sent = bed.broker.sent(On::Provision);
        assert_eq!(sent.len(), 2, "{}", bed.story());
        assert_eq!(sent[0].target, sent[1].target);
        assert_eq!(sent[0].body, sent[1].body);
        let identity = "x-broker-api-request-identity";
        assert_eq!(sent[0].header(identity), sent[1].header(identity));
        bed.lives_and_goes("db");
    });
}

/// 1, the other half: while nobody knows what came of the request, a person can delete it.
#[test]
pub(crate) fn story_01_what_was_being_made_in_a_crash_can_be_deleted() {
    let mut bed = Bed::start();
    bed.broker.script(On::Provision, [Fault::hang().applied()]);
    bed.order("db");
    bed.eventually("the request is on its way", || {
        bed.broker.instances().len() == 1
    });
    bed.delete("db");
    bed.crash();
    bed.until_gone("db");
    bed.nothing_is_left(&["db"]);
}

/// 2: the poller dies while the broker works on. Its successor asks the broker, and deletes
/// nothing.
#[test]
pub(crate) fn story_02_the_death_of_a_poller_costs_an_interval_and_no_instance() {
    let mut bed = Bed::with(Options {
        pace: Pace::For(Duration::from_millis(900)),
        ..Options::default()
    });
    bed.order("db");
    bed.eventually("it is polled", || bed.broker.count(On::PollInstance) > 1);
    bed.crash();
    let polls = bed.broker.count(On::PollInstance);
    bed.until_ready("db");
    assert!(
        bed.broker.count(On::PollInstance) > polls,
        "{}",
        bed.story()
    );
    assert_eq!(bed.changes(), [On::Provision, On::Bind], "{}", bed.story());
    bed.broker.set_pace(Pace::Sync);
    bed.lives_and_goes("db");
}

/// 14: a binding that is stored is not bound again after a crash, whatever a repeat would say.
#[test]
pub(crate) fn story_14_stored_credentials_outlive_a_crash_as_they_are() {
    let mut bed = Bed::start();
    bed.order("db");
    bed.until_ready("db");
    let first = bed.password("db");
    let other = Fault::edited(|body| body["credentials"]["password"] = "does not work".into());
    bed.broker.always(On::Bind, other);
    bed.crash();
    bed.order("another");
    bed.until_ready("another");
    assert_eq!(bed.password("db"), first);
    bed.delete("another");
    bed.until_gone("another");
    bed.lives_and_goes("db");
}

/// 20: a broker that is gone for good holds nobody: what it had is abandoned on record, without
/// a call, and then the broker itself can go.
#[test]
pub(crate) fn story_20_a_broker_that_is_gone_for_good_can_be_left_behind() {
    let bed = Bed::start();
    bed.order("db");
    bed.until_ready("db");
    bed.broker.always(On::Unbind, Fault::reset_unread());
    bed.broker.always(On::Deprovision, Fault::reset_unread());
    bed.delete("db");
    let stuck = bed.until(Kind::ServiceBinding, "db", "says why", |shown| {
        shown.reason().contains("tried again at")
    });
    assert_eq!(stuck.status, Status::Deleting);
    assert!(stuck.reason().contains("connection ended"), "{stuck:?}");

    let refused = bed.ask(
        Kind::ServiceBroker,
        "broker",
        Command::Delete(engine_model::Deletion::default()),
    );
    // An instance that is on its way out still needs the broker.
    let shown = bed.shown(Kind::ServiceBroker, "broker").unwrap();
    if let Err(rejection) = &refused {
        assert!(rejection.message.contains("db"), "{rejection}");
    } else {
        assert_eq!(shown.status, Status::Deleting, "{}", bed.story());
    }

    let asked = bed.changes().len();
    let why = Command::Abandon {
        reason: "the vendor is out of business".into(),
    };
    bed.ask(Kind::ServiceInstance, "db", why).unwrap();
    bed.until_gone("db");
    assert_eq!(bed.changes().len(), asked, "nobody was asked");
    let history = serde_json::to_string(&bed.history(Kind::ServiceInstance, "db")).unwrap();
    assert!(history.contains("out of business"), "{history}");
    if refused.is_err() {
        let command = Command::Delete(engine_model::Deletion::default());
        bed.ask(Kind::ServiceBroker, "broker", command).unwrap();
    }
    bed.until(Kind::ServiceBroker, "broker", "is gone", |shown| {
        shown.status == Status::Deleted
    });
    bed.keeps_the_rules();
}
