//! Updates of instances: what is stays on record until the broker has said that it is otherwise,
//! and nothing is removed because of an update.

use engine_model::broker::Aftermath;
use engine_model::spec::{InstanceSpec, Spec};
use engine_model::{Code, Command, Effect, Event, InstanceEvent, Kind, ResourceKey, Status};
use serde_json::{Value, json};

use crate::support::outside::{Mood, read};
use crate::support::*;

fn pg() -> ResourceKey {
    key(Kind::ServiceInstance, "azure-pg")
}

fn catalog_with(version: &str) -> Vec<engine_model::broker::Offering> {
    vec![offering(json!({
        "id": "pg-id", "name": "pg", "bindable": true, "planUpdateable": true,
        "plans": [
            {"id": "basic-id", "name": "basic", "free": true, "maintenanceVersion": version,
             "schemas": {"update": {
                "$schema": "http://json-schema.org/draft-07/schema#",
                "properties": {"size": {"type": "integer"}},
             }}},
            {"id": "large-id", "name": "large", "free": true},
            {"id": "fixed-id", "name": "fixed", "free": true, "planUpdateable": false},
        ],
    }))]
}

/// A platform with an instance that is ready.
fn ready(plan: &str) -> Platform {
    let mut platform = Platform::new();
    platform.outside.catalog = read(catalog_with("1.0.0"));
    platform.must(key(Kind::ServiceBroker, "azure"), create(broker_spec()));
    platform.run();
    platform.must(pg(), create(Spec::ServiceInstance(instance_of("pg", plan))));
    platform.run();
    assert_eq!(status(&platform).0, Status::Ready);
    platform
}

fn status(platform: &Platform) -> (Status, Vec<String>) {
    platform.status(Kind::ServiceInstance, "azure-pg")
}

fn to(plan: &str, parameters: Value) -> Command {
    update(Spec::ServiceInstance(InstanceSpec {
        parameters,
        ..instance_of("pg", plan)
    }))
}

fn request(platform: &Platform) -> engine_model::UpdateCall {
    let found = platform.tasks.iter().find_map(|task| match &task.effect {
        Effect::UpdateInstance { update, .. } => Some(update.clone()),
        _ => None,
    });
    found.expect("an update was asked for")
}

#[test]
fn the_plan_and_the_parameters_change_when_the_broker_says_so_and_not_before() {
    let mut platform = ready("basic");
    platform.outside.moods(&[Mood::Async(2)]);
    platform.must(pg(), to("large", json!({"location": "westus", "size": 7})));
    let asked = request(&platform);
    assert_eq!(asked.plan_id.as_deref(), Some("large-id"));
    assert_eq!(
        asked.parameters,
        json!({"size": 7}),
        "only what is new is sent"
    );
    assert_eq!(asked.previous_maintenance_version.as_deref(), Some("1.0.0"));
    platform.drain();
    assert_eq!(status(&platform).0, Status::Updating);
    let polled = |platform: &Platform| {
        let found = platform
            .outside
            .calls
            .iter()
            .filter(|call| *call == "PollInstance");
        found.count()
    };
    let before = polled(&platform);
    platform.run();
    assert_eq!(polled(&platform) - before, 3);
    assert_eq!(status(&platform), (Status::Ready, vec![]));
    assert_eq!(platform.outside.plans.values().next().unwrap(), "large-id");
    // What it is now is what the next update starts from.
    platform.must(pg(), to("large", json!({"location": "westus", "size": 7})));
    assert!(platform.tasks.is_empty(), "nothing is to be changed");
    platform.check();
}

#[test]
fn a_poll_of_an_update_names_the_plan_before_it() {
    let mut platform = ready("basic");
    platform.outside.moods(&[Mood::Async(2)]);
    platform.must(pg(), to("large", Value::Null));
    platform.drain();
    let mut timers = platform.timers.iter();
    let (_, (_, due)) = timers.find(|((_, token), _)| *token == "poll").unwrap();
    let due = due.clone();
    let effects = engine_core::alarm(&platform.world, &due, platform.now.plus_ms(1_000));
    let Effect::PollInstance { call, .. } = &effects[0] else {
        panic!("{effects:?}")
    };
    assert_eq!(call.plan_id, "basic-id");
}

#[test]
fn a_failed_update_leaves_the_instance_as_it_was_and_nothing_is_removed() {
    for mood in [Mood::Rejects, Mood::LostRequest, Mood::AsyncFails(0)] {
        let mut platform = ready("basic");
        platform.outside.moods(&[mood]);
        platform.must(pg(), to("large", Value::Null));
        platform.run();
        let (status, reason) = status(&platform);
        assert_eq!(status, Status::Ready, "{mood:?}: {reason:?}");
        assert!(
            reason.iter().any(|why| why.contains("the update failed")),
            "{reason:?}"
        );
        assert!(
            !platform
                .outside
                .calls
                .iter()
                .any(|call| call == "Deprovision")
        );
        platform.must(pg(), Command::Retry);
        platform.run();
        assert_eq!(platform.outside.plans.values().next().unwrap(), "large-id");
        platform.check();
    }
}

#[test]
fn an_update_that_must_not_be_repeated_is_not_and_another_one_may_be() {
    let mut platform = ready("basic");
    platform.outside.aftermath = Aftermath {
        instance_usable: false,
        update_repeatable: false,
    };
    platform.outside.moods(&[Mood::Rejects]);
    platform.must(pg(), to("large", Value::Null));
    platform.run();
    assert_eq!(status(&platform).0, Status::Error);
    assert_eq!(platform.refused(pg(), Command::Retry).code, Code::NotReady);
    assert_eq!(
        platform.refused(pg(), to("large", Value::Null)).code,
        Code::NotReady
    );
    platform.outside.aftermath = Aftermath::default();
    platform.must(pg(), to("basic", json!({"size": 3})));
    platform.run();
    assert_eq!(status(&platform), (Status::Ready, vec![]));
}

#[test]
fn nothing_new_is_bound_while_the_broker_says_that_the_instance_is_unusable() {
    let mut platform = ready("basic");
    platform.outside.aftermath.instance_usable = false;
    platform.outside.moods(&[Mood::Rejects]);
    platform.must(pg(), to("large", Value::Null));
    platform.run();
    let more = key(Kind::ServiceBinding, "reports");
    platform.must(more.clone(), create(binding_spec("azure-pg")));
    platform.run();
    assert_eq!(platform.outside.bindings.len(), 1);
    let (status, reason) = platform.world.status(&more).unwrap();
    assert_eq!(status, Status::Initialized);
    assert!(reason[0].contains("cannot be used"), "{reason:?}");
    platform.must(pg(), to("basic", json!({"size": 3})));
    platform.run();
    assert_eq!(
        platform.outside.bindings.len(),
        2,
        "another update has repaired it"
    );
}

#[test]
fn what_the_catalog_does_not_allow_is_refused_before_anything_leaves() {
    let mut platform = ready("fixed");
    let calls = platform.outside.calls.len();
    for (command, code) in [
        (to("large", Value::Null), Code::InvalidField),
        (to("tiny", Value::Null), Code::MissingReference),
        (to("fixed", json!([1])), Code::InvalidField),
    ] {
        assert_eq!(platform.refused(pg(), command).code, code);
    }
    let other = update(Spec::ServiceInstance(instance_of("mq", "one")));
    assert_eq!(platform.refused(pg(), other).code, Code::InvalidField);
    let mut basic = ready("basic");
    let refused = basic.refused(pg(), to("basic", json!({"size": "big"})));
    assert_eq!(refused.code, Code::SchemaMismatch);
    let upgrade = update(Spec::ServiceInstance(InstanceSpec {
        maintenance_version: "9.9.9".into(),
        ..instance_of("pg", "basic")
    }));
    assert_eq!(basic.refused(pg(), upgrade).code, Code::InvalidField);
    assert_eq!(platform.outside.calls.len(), calls);
}

#[test]
fn an_upgrade_asks_for_the_maintenance_version_of_the_catalog() {
    let mut platform = ready("basic");
    platform.outside.catalog = read(catalog_with("2.0.0"));
    platform.must(key(Kind::ServiceBroker, "azure"), Command::Refresh);
    platform.run();
    let upgrade = update(Spec::ServiceInstance(InstanceSpec {
        maintenance_version: "2.0.0".into(),
        ..instance_of("pg", "basic")
    }));
    platform.must(pg(), upgrade.clone());
    let asked = request(&platform);
    assert_eq!(asked.maintenance_version.as_deref(), Some("2.0.0"));
    assert_eq!(asked.previous_maintenance_version.as_deref(), Some("1.0.0"));
    platform.run();
    platform.must(pg(), upgrade);
    assert!(platform.tasks.is_empty(), "it has that version now");
}

#[test]
fn a_plan_that_vanished_is_kept_for_those_who_have_it() {
    let mut platform = ready("basic");
    let mut catalog = catalog_with("1.0.0");
    catalog[0].plans.remove(0);
    platform.outside.catalog = read(catalog);
    platform.must(key(Kind::ServiceBroker, "azure"), Command::Refresh);
    platform.run();
    let (status, reason) = status(&platform);
    assert_eq!(status, Status::Ready);
    assert!(
        reason[0].contains("plan basic is no longer offered"),
        "{reason:?}"
    );
    platform.must(pg(), to("basic", json!({"size": 3})));
    platform.run();
    platform.must(pg(), to("large", Value::Null));
    platform.run();
    assert_eq!(platform.outside.plans.values().next().unwrap(), "large-id");
    platform.must(pg(), delete());
    platform.run();
    assert!(platform.outside.instances.is_empty());
    platform.check();
}

#[test]
fn a_deletion_during_an_update_waits_for_it_by_polls_and_not_by_deletes() {
    let mut platform = ready("basic");
    platform
        .outside
        .moods(&[Mood::Async(4), Mood::Sync, Mood::Busy]);
    platform.must(pg(), to("large", Value::Null));
    platform.drain();
    platform.must(pg(), delete());
    platform.run();
    assert_eq!(status(&platform).0, Status::Deleted);
    let deletes = platform
        .outside
        .calls
        .iter()
        .filter(|call| *call == "Deprovision");
    assert_eq!(deletes.count(), 2, "{:?}", platform.outside.calls);
    let updated =
        |event: &Event| matches!(event, Event::ServiceInstance(InstanceEvent::Updated { .. }));
    assert!(
        platform
            .events(Kind::ServiceInstance, "azure-pg")
            .iter()
            .any(updated)
    );
    platform.check();
}

#[test]
fn an_update_waits_until_no_binding_is_in_hand() {
    let mut platform = ready("basic");
    platform.outside.moods(&[Mood::Async(3)]);
    let more = key(Kind::ServiceBinding, "reports");
    platform.must(more, create(binding_spec("azure-pg")));
    platform.drain();
    platform.must(pg(), to("large", Value::Null));
    platform.drain();
    assert!(
        !platform
            .outside
            .calls
            .iter()
            .any(|call| call == "UpdateInstance")
    );
    assert_eq!(status(&platform).0, Status::Updating);
    platform.run();
    assert_eq!(platform.outside.plans.values().next().unwrap(), "large-id");
    assert_eq!(status(&platform), (Status::Ready, vec![]));
}

#[test]
fn a_dashboard_that_is_not_said_again_stays() {
    let mut platform = Platform::new();
    platform.outside.catalog = read(catalog_with("1.0.0"));
    platform.outside.dashboard = Some("https://pg.example/1".into());
    platform.must(key(Kind::ServiceBroker, "azure"), create(broker_spec()));
    platform.run();
    platform.must(
        pg(),
        create(Spec::ServiceInstance(instance_of("pg", "basic"))),
    );
    platform.run();
    platform.outside.dashboard = None;
    platform.must(pg(), to("large", Value::Null));
    platform.run();
    let found = engine_model::broker::FetchedInstance {
        dashboard_url: Some("https://pg.example/2".into()),
        ..Default::default()
    };
    let drift = engine_core::drift(&platform.world, &pg().org, &pg().name, &found);
    assert_eq!(
        drift[0],
        "dashboard: https://pg.example/1 on record, https://pg.example/2 at the broker"
    );
}

#[test]
fn an_update_that_takes_all_labels_away_is_recorded() {
    let mut platform = ready("basic");
    let label = |text: &str| [("role".to_owned(), text.to_owned())].into();
    let labelled = |tags| {
        update(Spec::ServiceInstance(InstanceSpec {
            tags,
            ..instance_of("pg", "basic")
        }))
    };
    let recorded = |platform: &Platform| {
        let events = platform.events(Kind::ServiceInstance, "azure-pg");
        let last = events.into_iter().rev().find_map(|event| match event {
            Event::ServiceInstance(InstanceEvent::Relabelled { spec }) => Some(spec.tags),
            _ => None,
        });
        last.unwrap_or_default()
    };
    platform.must(pg(), labelled(label("test")));
    assert_eq!(recorded(&platform), label("test"));
    platform.must(pg(), labelled([].into()));
    assert_eq!(recorded(&platform), [].into());
    platform.check();
}
