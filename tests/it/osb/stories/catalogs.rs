//! Catalogs that clash, change and lose what is in use.

use adapter_osb::fake::default_catalog;
use engine_model::{Code, Kind};
use harness::faulty::{Faulty, On};
use serde_json::{Value, json};

use crate::osb::bed::{Bed, CLASS, PLAN, Shown};

fn catalog(change: impl FnOnce(&mut Value)) -> Value {
    let mut catalog = default_catalog();
    change(&mut catalog["services"][0]);
    catalog
}

/// 15: two brokers, one set of ids. Each keeps its own instances.
#[test]
pub(crate) fn story_15_two_catalogs_with_the_same_ids_are_kept_apart() {
    let bed = Bed::start();
    let second = Faulty::start();
    second.set_catalog(catalog(|service| {
        service["name"] = json!("other-postgresql")
    }));
    bed.register_at("second", &second.url());
    bed.until(
        Kind::ServiceClass,
        "other-postgresql",
        "is offered",
        Shown::is_ready,
    );
    bed.order("one");
    bed.order_of("two", PLAN, json!({"serviceClass": "other-postgresql"}))
        .unwrap();
    bed.until_ready("one");
    bed.until_ready("two");
    for broker in [&bed.broker, &second] {
        assert_eq!(broker.count(On::Provision), 1);
        assert_eq!(broker.instances().len(), 1);
    }
    bed.delete("two");
    bed.until_gone("two");
    assert_eq!(second.instances(), [""; 0]);
    assert_eq!(second.violations(), [""; 0]);
    bed.lives_and_goes("one");
}

/// 15: a class name that another broker has already is refused, by name, and changes nothing.
#[test]
pub(crate) fn story_15_a_name_that_another_broker_has_is_reported_and_nothing_is_linked_anew() {
    let bed = Bed::start();
    bed.order("db");
    bed.until_ready("db");
    let second = Faulty::start();
    bed.register_at("second", &second.url());
    let shown = bed.until(Kind::ServiceBroker, "second", "says why", |shown| {
        !shown.reasons.is_empty()
    });
    assert!(
        shown.reason().contains(CLASS) && shown.reason().contains("broker"),
        "{shown:?}"
    );
    bed.order("more");
    bed.until_ready("more");
    assert_eq!(second.count(On::Provision), 0);
    bed.delete("more");
    bed.until_gone("more");
    bed.lives_and_goes("db");
}

/// 15: a broker comes back with other ids. What is there keeps those that it was made with.
#[test]
pub(crate) fn story_15_ids_that_change_do_not_change_what_is_there() {
    let bed = Bed::start();
    bed.order("old");
    bed.until_ready("old");
    bed.broker.set_catalog(catalog(|service| {
        service["id"] = json!("another-service-id");
        service["plans"][0]["id"] = json!("another-plan-id");
    }));
    bed.refresh();
    bed.eventually("the catalog was read", || {
        let reads = bed.broker.sent(On::Catalog);
        reads.iter().filter(|read| read.status == Some(200)).count() == 2
    });
    bed.eventually("the class changed", || {
        let events = bed.events(Kind::ServiceClass, CLASS);
        events.len() > 1
    });
    bed.order("new");
    bed.until_ready("new");
    let ids = |index: usize| {
        let sent = bed.broker.sent(On::Provision)[index].json();
        (sent["service_id"].clone(), sent["plan_id"].clone())
    };
    assert_eq!(ids(0), (json!("fake-service-id"), json!("small-plan-id")));
    assert_eq!(
        ids(1),
        (json!("another-service-id"), json!("another-plan-id"))
    );
    bed.delete("new");
    bed.until_gone("new");
    bed.lives_and_goes("old");
}

/// 16: a plan, or a whole class, is gone from the catalog while it is used. Those who use it keep
/// it to their end, and only new use is refused.
#[test]
pub(crate) fn story_16_what_a_catalog_lost_serves_those_who_have_it_and_nobody_else() {
    let gone = [
        catalog(|service| {
            service["plans"].as_array_mut().unwrap().remove(0);
        }),
        json!({ "services": [] }),
    ];
    for catalog in gone {
        let bed = Bed::start();
        bed.order("db");
        bed.until_ready("db");
        bed.broker.set_catalog(catalog);
        bed.refresh();
        bed.eventually("the class changed", || {
            bed.events(Kind::ServiceClass, CLASS).len() > 1
        });
        assert!(bed.shown_instance("db").is_ready(), "{}", bed.story());
        let refused = bed.order_of("late", PLAN, json!({})).unwrap_err();
        assert_eq!(refused.code, Code::MissingReference, "{refused}");
        bed.lives_and_goes("db");
    }
}

/// A catalog that has not changed is not sent again, and changes nothing.
#[test]
pub(crate) fn a_catalog_that_is_known_is_asked_for_by_its_etag() {
    let bed = Bed::start();
    bed.refresh();
    bed.eventually("it was asked for again", || {
        let reads = bed.broker.sent(On::Catalog);
        reads.len() == 2 && reads[1].status == Some(304)
    });
    let reads = bed.broker.sent(On::Catalog);
    assert_eq!(reads[0].header("if-none-match"), "");
    assert_ne!(reads[1].header("if-none-match"), "");
    bed.until(Kind::ServiceBroker, "broker", "is READY", Shown::is_ready);
    assert_eq!(bed.events(Kind::ServiceClass, CLASS).len(), 1);
    bed.order("db");
    bed.lives_and_goes("db");
}
