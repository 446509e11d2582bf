//! Attempts: another id for each at the broker, what a removal waits for, and what is only taken on
//! record.

use engine_model::broker::{Aftermath, Progress};
use engine_model::spec::{InstanceSpec, Spec};
use engine_model::{
    Code, Command, Event, InstanceEvent, InstanceId, InstanceOutcome, Kind, Outcome, ResourceKey,
    Status,
};
use serde_json::json;

use crate::support::outside::{Mood, read};
use crate::support::*;

fn pg() -> ResourceKey {
    key(Kind::ServiceInstance, "azure-pg")
}

fn with_instance(moods: &[Mood]) -> Platform {
    let mut platform = Platform::with_broker();
    platform.outside.moods(moods);
    platform.must(pg(), create(instance_spec()));
    platform
}

fn count(platform: &Platform, call: &str) -> usize {
    platform
        .outside
        .calls
        .iter()
        .filter(|known| *known == call)
        .count()
}

#[test]
fn another_attempt_bears_another_id_at_the_broker() {
    let mut platform = with_instance(&[Mood::LostAnswer]);
    let first = InstanceId(platform.world_id());
    platform.run();
    assert!(platform.outside.instances.is_empty());
    platform.must(pg(), Command::Retry);
    platform.run();
    assert_eq!(
        platform.status(Kind::ServiceInstance, "azure-pg").0,
        Status::Ready
    );
    let now = *platform.outside.instances.first().unwrap();
    assert_ne!(now, first);
    assert_eq!(platform.outside.bindings.values().next(), Some(&now));
    platform.must(pg(), delete());
    platform.run();
    assert!(platform.outside.instances.is_empty());
    platform.check();
}

#[test]
fn a_broker_that_wants_to_be_asked_otherwise_is_asked_again_a_few_times() {
    let again = Mood::Again { stale: false };
    let mut platform = with_instance(&[again, again]);
    platform.run();
    assert_eq!(
        platform.status(Kind::ServiceInstance, "azure-pg").0,
        Status::Ready
    );
    let mut platform = with_instance(&[again; 20]);
    platform.run();
    assert_eq!(
        platform.status(Kind::ServiceInstance, "azure-pg").0,
        Status::Error
    );
    assert!(count(&platform, "Provision") <= 6);
    assert_eq!(count(&platform, "Deprovision"), 0, "nothing has happened");
}

#[test]
fn a_stale_catalog_is_read_before_the_request_is_repeated() {
    let version = |version: &str| {
        read(vec![offering(json!({
            "id": "pg-id", "name": "pg", "bindable": true,
            "plans": [{"id": "basic-id", "name": "basic", "free": true,
                       "maintenanceVersion": version}],
        }))])
    };
    let mut platform = Platform::new();
    platform.outside.catalog = version("1.0.0");
    platform.must(key(Kind::ServiceBroker, "azure"), create(broker_spec()));
    platform.run();
    platform.outside.catalog = version("2.0.0");
    platform.outside.moods(&[Mood::Again { stale: true }]);
    platform.must(pg(), create(instance_spec()));
    platform.run();
    assert_eq!(
        platform.status(Kind::ServiceInstance, "azure-pg").0,
        Status::Ready
    );
    assert_eq!(count(&platform, "ReadCatalog"), 2);
    let sent = &platform.outside.maintenance;
    assert_eq!(sent, &[Some("1.0.0".to_owned()), Some("2.0.0".to_owned())]);
}

#[test]
fn a_removal_that_is_refused_during_the_creation_polls_the_creation_and_then_goes_at_once() {
    let mut platform = with_instance(&[Mood::Async(6), Mood::Busy]);
    platform.drain();
    platform.must(pg(), delete());
    let began = platform.now;
    platform.run();
    assert_eq!(
        platform.status(Kind::ServiceInstance, "azure-pg").0,
        Status::Deleted
    );
    assert_eq!(count(&platform, "Deprovision"), 2);
    assert!(
        platform.now.since_ms(began) < 2_000,
        "{} ms",
        platform.now.since_ms(began)
    );
    assert!(platform.outside.instances.is_empty());
    platform.check();
}

/// The broker repeats itself all along, so that no poll brings any news.
#[test]
fn a_removal_that_waits_for_a_creation_is_tried_again_although_the_polls_say_nothing_new() {
    let mut platform = with_instance(&[Mood::Async(40), Mood::Busy]);
    platform.drain();
    platform.pass(3_000);
    assert!(
        count(&platform, "PollInstance") > 1,
        "polled before the end"
    );
    platform.must(pg(), delete());
    let (began, polled) = (platform.now, count(&platform, "PollInstance"));
    platform.pass(4_000);
    assert!(
        count(&platform, "PollInstance") > polled + 3,
        "polled on: {} after {polled}",
        count(&platform, "PollInstance")
    );
    platform.run();
    assert_eq!(
        platform.status(Kind::ServiceInstance, "azure-pg").0,
        Status::Deleted
    );
    let took = platform.now.since_ms(began);
    assert!(took < 20_000, "{took} ms");
    platform.check();
}

#[test]
fn an_instance_that_exists_is_taken_on_record_and_belongs_to_it_from_then_on() {
    for retrievable in [true, false] {
        let mut platform = Platform::new();
        platform.outside.catalog = read(vec![offering(json!({
            "id": "pg-id", "name": "pg", "bindable": true, "instancesRetrievable": retrievable,
            "plans": [{"id": "basic-id", "name": "basic", "free": true}],
        }))]);
        platform.must(key(Kind::ServiceBroker, "azure"), create(broker_spec()));
        platform.run();
        let there = InstanceId(uuid::Uuid::from_u128(7));
        platform.outside.instances.insert(there);
        let adopt = |instance| Command::Adopt {
            spec: InstanceSpec {
                ..instance_of("pg", "basic")
            },
            instance,
        };
        platform.must(pg(), adopt(there));
        platform.run();
        assert_eq!(
            platform.status(Kind::ServiceInstance, "azure-pg").0,
            Status::Ready
        );
        assert_eq!(count(&platform, "Provision"), 0);
        assert_eq!(count(&platform, "FetchInstance"), usize::from(retrievable));
        assert_eq!(platform.outside.bindings.values().next(), Some(&there));
        let again = platform.refused(key(Kind::ServiceInstance, "b"), adopt(there));
        assert_eq!(again.code, Code::AlreadyExists);
        platform.must(pg(), delete());
        platform.run();
        assert!(platform.outside.instances.is_empty());
        platform.check();
    }
}

#[test]
fn what_cannot_be_taken_on_record_is_never_removed_for_that() {
    for mood in [
        Mood::Rejects,
        Mood::LostAnswer,
        Mood::LostRequest,
        Mood::Busy,
        Mood::Away,
    ] {
        for delete_early in [true, false] {
            let mut platform = Platform::new();
            platform.outside.catalog = read(vec![offering(json!({
                "id": "pg-id", "name": "pg", "bindable": true, "instancesRetrievable": true,
                "plans": [{"id": "basic-id", "name": "basic", "free": true}],
            }))]);
            platform.must(key(Kind::ServiceBroker, "azure"), create(broker_spec()));
            platform.run();
            let there = InstanceId(uuid::Uuid::from_u128(7));
            platform.outside.instances.insert(there);
            platform.outside.default = mood;
            let spec = instance_of("pg", "basic");
            platform.must(
                pg(),
                Command::Adopt {
                    spec,
                    instance: there,
                },
            );
            if !delete_early {
                platform.pass(60_000);
            }
            platform.must(pg(), delete());
            platform.pass(600_000);
            assert_eq!(
                platform.status(Kind::ServiceInstance, "azure-pg").0,
                Status::Deleted
            );
            assert_eq!(count(&platform, "Deprovision"), 0, "{mood:?}");
            assert!(platform.outside.instances.contains(&there));
        }
    }
}

#[test]
fn what_the_broker_does_not_have_is_not_taken_on_record() {
    let mut platform = Platform::new();
    platform.outside.catalog = read(vec![offering(json!({
        "id": "pg-id", "name": "pg", "bindable": true, "instancesRetrievable": true,
        "plans": [{"id": "basic-id", "name": "basic", "free": true}],
    }))]);
    platform.must(key(Kind::ServiceBroker, "azure"), create(broker_spec()));
    platform.run();
    let instance = InstanceId(uuid::Uuid::from_u128(7));
    let spec = instance_of("pg", "basic");
    platform.must(pg(), Command::Adopt { spec, instance });
    platform.run();
    let (status, reason) = platform.status(Kind::ServiceInstance, "azure-pg");
    assert_eq!(status, Status::Error);
    assert!(
        reason[0].contains("has no instance of that id"),
        "{reason:?}"
    );
    platform.outside.instances.insert(instance);
    platform.must(pg(), Command::Retry);
    platform.run();
    assert_eq!(
        platform.status(Kind::ServiceInstance, "azure-pg").0,
        Status::Ready
    );
    assert_eq!(platform.outside.instances.len(), 1);
}

#[test]
fn a_broker_of_all_organizations_serves_another_one() {
    let mut platform = Platform::new();
    let broker = key(Kind::ServiceBroker, "azure");
    let Spec::ServiceBroker(spec) = broker_spec() else {
        panic!()
    };
    let shared = Spec::ServiceBroker(engine_model::spec::BrokerSpec {
        scope: engine_model::spec::Scope::All,
        ..spec
    });
    assert_eq!(
        platform.refused(broker, create(shared.clone())).code,
        Code::InvalidField
    );
    let common = engine_model::OrgName::new("dispatch").unwrap();
    let broker = ResourceKey::new(common, Kind::ServiceBroker, name("azure"));
    platform.must(broker.clone(), create(shared));
    platform.run();
    platform.must(pg(), create(instance_spec()));
    platform.run();
    assert_eq!(
        platform.status(Kind::ServiceInstance, "azure-pg").0,
        Status::Ready
    );
    assert_eq!(platform.refused(broker.clone(), delete()).code, Code::InUse);
    assert_eq!(
        platform.refused(broker, update(broker_spec())).code,
        Code::InUse
    );
    platform.must(pg(), delete());
    platform.run();
    assert!(platform.outside.instances.is_empty());
    platform.check();
}

#[test]
fn a_poll_that_says_nothing_new_is_not_kept_and_asked_again_within_a_twentieth() {
    let mut platform = with_instance(&[Mood::Async(1_000)]);
    platform.pass(60_000);
    let request = platform
        .events(Kind::ServiceInstance, "azure-pg")
        .iter()
        .find_map(|event| match event {
            Event::ServiceInstance(InstanceEvent::ProvisionRequested { request, .. }) => {
                Some(*request)
            }
            _ => None,
        })
        .unwrap();
    let said = |description: &str| {
        Outcome::Instance(InstanceOutcome::Polled {
            request,
            progress: Progress::InProgress {
                description: Some(description.into()),
                retry_after_ms: None,
            },
            aftermath: Aftermath::default(),
        })
    };
    let now = platform.now;
    assert_eq!(
        platform.learn(&pg(), &said("busy")),
        0,
        "it said that before"
    );
    let again = engine_core::next_poll(&platform.world, &pg(), &said("busy"), now);
    let (which, at) = again.unwrap();
    assert_eq!(which, request);
    assert!(
        (100..=3_000).contains(&at.since_ms(now)),
        "{} ms",
        at.since_ms(now)
    );
    assert_eq!(engine_core::poll(&platform.world, &pg(), request).len(), 1);
    assert_eq!(
        platform.learn(&pg(), &said("creating tables")),
        1,
        "that is new"
    );
    let kept = platform
        .history(Kind::ServiceInstance, "azure-pg")
        .iter()
        .filter(|name| *name == "OperationProgressed")
        .count();
    assert!(kept < 16, "{kept} polls of a minute are kept");
    platform.must(pg(), delete());
    platform.outside.default = Mood::Sync;
    platform.run();
    assert!(engine_core::poll(&platform.world, &pg(), request).is_empty());
}
