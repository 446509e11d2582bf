//! Brokers and their catalogs.

use engine_model::{
    BrokerEvent, BrokerOutcome, ClassEvent, Code, Command, Event, Kind, Outcome, Status,
};
use serde_json::json;

use crate::support::outside::read;
use crate::support::*;

fn azure() -> engine_model::ResourceKey {
    key(Kind::ServiceBroker, "azure")
}

#[test]
fn a_catalog_makes_classes_and_an_equal_one_changes_nothing() {
    let mut platform = Platform::with_broker();
    assert_eq!(
        platform.status(Kind::ServiceBroker, "azure").0,
        Status::Ready
    );
    assert_eq!(platform.history(Kind::ServiceClass, "pg"), ["Offered"]);
    platform.must(azure(), Command::Refresh);
    platform.run();
    assert_eq!(platform.history(Kind::ServiceClass, "pg"), ["Offered"]);
    assert_eq!(
        platform.history(Kind::ServiceBroker, "azure"),
        [
            "Registered",
            "CatalogRead",
            "RefreshRequested",
            "CatalogRead"
        ]
    );
    platform.check();
}

#[test]
fn a_change_of_the_catalog_is_an_event_with_its_differences() {
    let mut platform = Platform::with_broker();
    let mut offerings = catalog();
    offerings.pop();
    offerings[0].description = "better".into();
    offerings[0].plans[0].id = "other".into();
    offerings[0].plans.remove(1);
    platform.outside.catalog = read(offerings);
    platform.must(azure(), Command::Refresh);
    platform.run();
    let changed = platform.events(Kind::ServiceClass, "pg").pop();
    let Some(Event::ServiceClass(ClassEvent::Changed { diff, .. })) = changed else {
        panic!("{changed:?}");
    };
    assert_eq!(
        diff,
        [
            "description:  -> better",
            "~ plan basic: id",
            "- plan large"
        ]
    );
    assert_eq!(
        platform.history(Kind::ServiceClass, "mq"),
        ["Offered", "Withdrawn"]
    );
    platform.outside.catalog = read(catalog());
    platform.must(azure(), Command::Refresh);
    platform.run();
    assert_eq!(
        platform.history(Kind::ServiceClass, "mq"),
        ["Offered", "Withdrawn", "Offered"]
    );
    platform.check();
}

#[test]
fn an_entry_that_cannot_be_taken_is_told_and_the_others_are_taken() {
    let mut platform = Platform::with_broker();
    let bad = vec![
        offering(
            json!({"id": "1", "name": "has space", "bindable": true, "plans": [{"id": "p", "name": "p", "free": true}]}),
        ),
        offering(
            json!({"id": "2", "name": "pg", "bindable": true, "plans": [{"id": "p", "name": "p", "free": true}]}),
        ),
        offering(
            json!({"id": "3", "name": "good", "bindable": true, "plans": [
            {"id": "p", "name": "p", "free": true}, {"id": "q", "name": "p", "free": true}]}),
        ),
        offering(
            json!({"id": "3", "name": "twin", "bindable": true, "plans": [{"id": "p", "name": "p", "free": true}]}),
        ),
        offering(json!({"id": "4", "name": "empty", "bindable": true, "plans": []})),
    ];
    platform.outside.catalog = read(bad);
    platform.must(key(Kind::ServiceBroker, "other"), create(broker_spec()));
    platform.run();
    let read = platform.events(Kind::ServiceBroker, "other").pop();
    let Some(Event::ServiceBroker(BrokerEvent::CatalogRead {
        classes, refused, ..
    })) = read
    else {
        panic!("{read:?}");
    };
    assert_eq!(classes, ["good"]);
    assert_eq!(refused.len(), 5, "{refused:?}");
    assert!(
        refused[1].contains("broker azure offers this name already"),
        "{refused:?}"
    );
    assert!(refused[2].contains("plan p of service good"), "{refused:?}");
    assert_eq!(platform.status(Kind::ServiceClass, "pg").0, Status::Ready);
    platform.check();
}

#[test]
fn a_catalog_that_cannot_be_read_changes_nothing_and_is_read_later() {
    let mut platform = Platform::with_broker();
    platform.outside.catalog = BrokerOutcome::Failed {
        reason: "connection refused".into(),
    };
    platform.must(azure(), Command::Refresh);
    platform.run();
    let (status, reason) = platform.status(Kind::ServiceBroker, "azure");
    assert_eq!(status, Status::Error);
    assert!(reason[0].contains("connection refused"), "{reason:?}");
    assert_eq!(platform.status(Kind::ServiceClass, "pg").0, Status::Ready);
    platform.outside.catalog = BrokerOutcome::Unchanged;
    let (_, due) = platform
        .timers
        .values()
        .find(|(_, due)| due.key == azure())
        .cloned()
        .unwrap();
    platform.now = platform.now.plus_ms(3_600_000);
    platform.ring(&due);
    platform.run();
    assert_eq!(
        platform.status(Kind::ServiceBroker, "azure").0,
        Status::Ready
    );
    platform.check();
}

#[test]
fn a_broker_in_use_lists_its_instances_and_a_cascade_takes_them_first() {
    let mut platform = Platform::with_broker();
    platform.must(
        key(Kind::ServiceInstance, "azure-pg"),
        create(instance_spec()),
    );
    platform.run();
    let refused = platform.refused(azure(), delete());
    assert_eq!(refused.code, Code::InUse);
    assert!(
        refused.message.contains("ServiceInstance azure-pg"),
        "{refused}"
    );
    platform.must(azure(), cascade());
    assert_eq!(
        platform.status(Kind::ServiceBroker, "azure").0,
        Status::Deleting
    );
    platform.run();
    assert_eq!(
        platform.status(Kind::ServiceBroker, "azure").0,
        Status::Deleted
    );
    assert_eq!(
        platform.status(Kind::ServiceInstance, "azure-pg").0,
        Status::Deleted
    );
    assert_eq!(platform.status(Kind::ServiceClass, "pg").0, Status::Deleted);
    assert!(platform.outside.instances.is_empty());
    assert_eq!(platform.outside.offences, Vec::<String>::new());
    platform.check();
}

#[test]
fn an_unused_broker_goes_with_its_classes_and_its_key() {
    let mut platform = Platform::with_broker();
    platform.must(azure(), update(broker_spec()));
    platform.run();
    platform.must(azure(), delete());
    platform.run();
    assert_eq!(
        platform.history(Kind::ServiceClass, "mq"),
        ["Offered", "Withdrawn"]
    );
    assert_eq!(platform.outside.erased.len(), 2);
    let late = Outcome::Broker(read(catalog()));
    assert_eq!(platform.learn(&azure(), &late), 0);
    platform.must(azure(), create(broker_spec()));
    platform.run();
    assert_eq!(platform.status(Kind::ServiceClass, "mq").0, Status::Ready);
    platform.check();
}

#[test]
fn an_address_that_cannot_be_one_is_refused() {
    let mut platform = Platform::new();
    for url in [
        "",
        "ftp://x",
        "http://",
        "http://user:secret@x",
        "http://x/?a=b",
        "http://a b",
    ] {
        let refused = platform.refused(azure(), create(broker_at(url)));
        assert_eq!(refused.code, Code::InvalidField, "{url}");
        assert!(!refused.message.contains("secret"), "{refused}");
    }
}

#[test]
fn an_id_that_another_broker_has_as_well_is_told_and_kept_apart() {
    let mut platform = Platform::with_broker();
    let mut other = catalog();
    other.truncate(1);
    other[0].name = "other".into();
    platform.outside.catalog = read(other);
    let broker = key(Kind::ServiceBroker, "second");
    platform.must(broker.clone(), create(broker_spec()));
    platform.run();
    let (status, remarks) = platform.world.status(&broker).unwrap();
    assert_eq!(status, Status::Ready);
    assert!(
        remarks[0].contains("broker azure has its id pg-id as well"),
        "{remarks:?}"
    );
    assert_eq!(
        platform.status(Kind::ServiceClass, "other").0,
        Status::Ready
    );
    assert_eq!(platform.status(Kind::ServiceClass, "pg").0, Status::Ready);
}
