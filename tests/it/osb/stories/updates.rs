//! Updates that fail, and catalogs that are older than the broker.

use adapter_osb::fake::{Options, Pace, default_catalog};
use engine_model::{Code, Command, Kind, Status};
use harness::faulty::{Fault, On};
use serde_json::{Value, json};

use crate::osb::bed::{Bed, PLAN};

/// 17: the record says what the broker has, before, while and after an update goes wrong, and what
/// failed can be asked for again.
#[test]
pub(crate) fn story_17_a_failed_update_leaves_record_and_broker_alike() {
    let bed = Bed::with(Options {
        pace: Pace::Polls(1),
        ..Options::default()
    });
    bed.order("db");
    bed.until_ready("db");
    let failed = Fault::error(500, "Boom", "no room in that plan");
    bed.broker.script(On::Update, [failed]);
    bed.update("db", "large", json!({})).unwrap();
    let shown = bed.until(Kind::ServiceInstance, "db", "says why", |shown| {
        shown.reason().contains("no room in that plan")
    });
    assert!(shown.is_ready(), "{shown:?}");
    assert!(shown.reason().contains("as before"), "{shown:?}");
    bed.retry("db").unwrap();
    bed.until(Kind::ServiceInstance, "db", "is updating", |shown| {
        shown.status == Status::Updating
    });
    let ready = bed.until(Kind::ServiceInstance, "db", "is as proposed", |shown| {
        shown.is_ready() && shown.reasons.is_empty()
    });
    assert_eq!(ready.reason(), "");
    let updates = bed.broker.sent(On::Update);
    assert_eq!(updates.len(), 2, "{}", bed.story());
    for update in updates {
        let said = update.json();
        assert_eq!(said["plan_id"], "large-plan-id", "{said}");
        assert_eq!(
            said["previous_values"]["plan_id"], "small-plan-id",
            "{said}"
        );
    }
    let polls = bed.broker.sent(On::PollInstance);
    let updating = polls.iter().rev().take(2);
    for poll in updating {
        assert_eq!(poll.query["plan_id"], "small-plan-id", "{}", poll.target);
    }
    // The plan that it has now is named when it goes.
    bed.goes("db");
    let gone = bed.broker.sent(On::Deprovision);
    assert_eq!(gone[0].query["plan_id"], "large-plan-id");
}

/// 17: a broker that says that an instance is of no use now, and that the same update must not be
/// repeated, is believed.
#[test]
pub(crate) fn story_17_an_update_that_must_not_be_repeated_is_not_repeated() {
    let bed = Bed::start();
    bed.order("db");
    bed.until_ready("db");
    let broken = json!({
        "error": "Broken", "description": "the disk is half moved",
        "instance_usable": false, "update_repeatable": false,
    });
    bed.broker
        .script(On::Update, [Fault::say(500, broken.to_string())]);
    bed.update("db", "large", json!({})).unwrap();
    let shown = bed.until_error("db");
    assert!(
        shown.reason().contains("the disk is half moved"),
        "{shown:?}"
    );
    let again = bed.update("db", "large", json!({})).unwrap_err();
    assert_eq!(again.code, Code::NotReady, "{again}");
    assert_eq!(bed.retry("db").unwrap_err().code, Code::NotReady);
    let more = json!({"name": "more", "serviceInstance": "db"});
    bed.create(Kind::ServiceBinding, more).unwrap();
    let waits = bed.until(Kind::ServiceBinding, "more", "says why", |shown| {
        !shown.reasons.is_empty()
    });
    assert_eq!(waits.status, Status::Initialized, "{waits:?}");
    assert_eq!(bed.broker.count(On::Bind), 1, "{}", bed.story());
    assert_eq!(bed.broker.count(On::Update), 1, "{}", bed.story());
    // Another update repairs it, and then the binding is made.
    bed.update("db", PLAN, json!({"parameters": {"repair": true}}))
        .unwrap();
    bed.until_ready("db");
    bed.until(Kind::ServiceBinding, "more", "is bound", |shown| {
        shown.is_ready()
    });
    assert_eq!(bed.broker.bindings().len(), 2, "{}", bed.story());
    let command = Command::Delete(engine_model::Deletion::default());
    bed.ask(Kind::ServiceBinding, "more", command).unwrap();
    bed.eventually("it is unbound", || bed.broker.bindings().len() == 1);
    bed.goes("db");
}

fn catalog(version: &str) -> Value {
    let mut catalog = default_catalog();
    catalog["services"][0]["plans"][0]["maintenance_info"] = json!({ "version": version });
    catalog
}

/// 23: the catalog that the platform knows is older than the broker's. It is read again at once,
/// and the request says what it says then.
#[test]
pub(crate) fn story_23_a_stale_catalog_is_read_again_and_the_request_with_it() {
    let bed = Bed::with(Options {
        catalog: catalog("1.0.0"),
        ..Options::default()
    });
    bed.broker.set_catalog(catalog("2.0.0"));
    let conflict = Fault::error(422, "MaintenanceInfoConflict", "version 2.0.0 is out");
    bed.broker.script(On::Provision, [conflict]);
    bed.order("db");
    bed.until_ready("db");
    let sent = bed.broker.sent(On::Provision);
    assert_eq!(sent.len(), 2, "{}", bed.story());
    let version = |index: usize| sent[index].json()["maintenance_info"]["version"].clone();
    assert_eq!(version(0), "1.0.0");
    assert_eq!(version(1), "2.0.0", "{}", bed.story());
    assert_eq!(bed.broker.count(On::Deprovision), 0, "{}", bed.story());
    bed.lives_and_goes("db");
}

/// A broker that can only do it asynchronously is asked so again.
#[test]
pub(crate) fn an_answer_that_async_is_required_is_answered_by_asking_again() {
    let bed = Bed::start();
    let asynchronous = || Fault::error(422, "AsyncRequired", "this takes a while");
    for on in [On::Provision, On::Bind, On::Unbind, On::Deprovision] {
        bed.broker.script(on, [asynchronous()]);
    }
    bed.order("db");
    bed.lives_and_goes("db");
    for on in [On::Provision, On::Bind, On::Unbind, On::Deprovision] {
        let sent = bed.broker.sent(on);
        assert_eq!(sent.len(), 2, "{}", bed.story());
        assert_eq!(sent[1].query["accepts_incomplete"], "true");
    }
}
