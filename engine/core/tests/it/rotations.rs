//! Credentials are replaced before they expire, and the old ones are unbound once nobody uses them.

use engine_model::{BindingEvent, Code, Command, Event, Kind, ResourceKey, Status};
use serde_json::json;

use crate::support::outside::{Mood, read};
use crate::support::*;

const HOUR: i64 = 3_600_000;

fn binding() -> ResourceKey {
    key(Kind::ServiceBinding, "azure-pg")
}

/// A platform with an instance that is ready, of a plan that can rotate or cannot.
fn ready(rotatable: bool, lifetime_ms: Option<i64>) -> Platform {
    let mut platform = Platform::new();
    platform.outside.catalog = read(vec![offering(json!({
        "id": "pg-id", "name": "pg", "bindable": true,
        "plans": [{"id": "basic-id", "name": "basic", "free": true, "bindingRotatable": rotatable}],
    }))]);
    platform.outside.lifetime_ms = lifetime_ms;
    platform.must(key(Kind::ServiceBroker, "azure"), create(broker_spec()));
    platform.run();
    platform.must(
        key(Kind::ServiceInstance, "azure-pg"),
        create(instance_spec()),
    );
    platform.pass(1_000);
    assert_eq!(
        platform.status(Kind::ServiceBinding, "azure-pg").0,
        Status::Ready
    );
    platform
}

fn count(platform: &Platform, name: &str) -> usize {
    let names = platform.history(Kind::ServiceBinding, "azure-pg");
    names.iter().filter(|event| *event == name).count()
}

#[test]
fn credentials_are_replaced_before_they_expire_and_the_old_ones_go_when_they_are_drained() {
    for rotatable in [true, false] {
        let mut platform = ready(rotatable, Some(HOUR));
        let old = *platform.outside.bindings.first_key_value().unwrap().0;
        platform.pass(HOUR / 2);
        assert_eq!(platform.outside.bindings.len(), 1, "it is early yet");
        platform.pass(HOUR / 2 - 10 * 60_000);
        assert_eq!(count(&platform, "Rotated"), 1, "before they expire");
        assert_eq!(platform.outside.predecessors.contains(&old), rotatable);
        platform.pass(60_000);
        assert!(
            !platform.outside.bindings.contains_key(&old),
            "nobody uses it"
        );
        assert_eq!(platform.outside.bindings.len(), 1);
        assert!(platform.outside.erased.contains(&old.data_key()));
        for _ in 0..50 {
            platform.pass(HOUR / 10);
            assert_eq!(
                platform.status(Kind::ServiceBinding, "azure-pg").0,
                Status::Ready
            );
            assert!(platform.outside.bindings.len() <= 2);
        }
        platform.check();
    }
}

#[test]
fn old_credentials_stay_as_long_as_a_run_may_take_that_was_given_them() {
    let mut platform = ready(true, None);
    platform.must(
        key(Kind::BaseImage, "base"),
        create(base_image_spec("python3")),
    );
    platform.must(key(Kind::Image, "python"), create(image_spec("base", "")));
    let function = function_with(&[], &["azure-pg"]);
    platform.must(key(Kind::Function, "f"), create(function));
    platform.run();
    platform.must(binding(), Command::Rotate);
    platform.pass(200_000);
    assert_eq!(
        platform.outside.bindings.len(),
        2,
        "a run of 300 s may still use them"
    );
    platform.pass(200_000);
    assert_eq!(platform.outside.bindings.len(), 1);
}

#[test]
fn a_rotation_that_fails_is_tried_again_under_another_id_and_what_it_left_is_removed() {
    for mood in [
        Mood::Rejects,
        Mood::LostAnswer,
        Mood::LostRequest,
        Mood::AsyncFails(1),
        Mood::Busy,
        Mood::Away,
        Mood::Again { stale: false },
    ] {
        let mut platform = ready(true, Some(HOUR));
        let old = *platform.outside.bindings.first_key_value().unwrap().0;
        platform.outside.moods(&[mood]);
        platform.pass(HOUR - 60_000);
        assert!(count(&platform, "Rotated") >= 1, "{mood:?}");
        platform.pass(600_000);
        assert_eq!(platform.outside.bindings.len(), 1, "{mood:?}");
        assert!(!platform.outside.bindings.contains_key(&old), "{mood:?}");
        assert_eq!(platform.outside.offences, Vec::<String>::new());
        platform.check();
    }
}

#[test]
fn a_person_may_ask_for_new_credentials_and_is_told_why_not() {
    let mut platform = ready(true, None);
    assert_eq!(
        platform
            .refused(key(Kind::ServiceBinding, "none"), Command::Rotate)
            .code,
        Code::NotFound
    );
    platform.outside.moods(&[Mood::Async(2)]);
    platform.must(binding(), Command::Rotate);
    platform.drain();
    let refused = platform.refused(binding(), Command::Rotate);
    assert!(refused.message.contains("already"), "{refused}");
    platform.run();
    assert_eq!(count(&platform, "Rotated"), 1);
    assert_eq!(platform.outside.bindings.len(), 1);
    assert_eq!(
        platform.status(Kind::ServiceInstance, "azure-pg"),
        (Status::Ready, vec![])
    );
    platform.check();
}

#[test]
fn a_deletion_takes_all_credentials_along_wherever_a_rotation_stands() {
    for moods in [
        vec![],
        vec![Mood::Async(3)],
        vec![Mood::LostAnswer],
        vec![Mood::AsyncFails(2)],
        vec![Mood::Sync, Mood::Busy],
        vec![Mood::Sync, Mood::LostAnswer],
    ] {
        for steps in 0..12 {
            let mut platform = ready(true, None);
            platform.outside.moods(&moods);
            platform.must(binding(), Command::Rotate);
            for _ in 0..steps {
                match platform.tasks.pop_front() {
                    Some(task) => platform.perform(&task),
                    None => platform.pass(2_000),
                }
            }
            platform.must(key(Kind::ServiceInstance, "azure-pg"), delete());
            platform.run();
            let shown = platform.status(Kind::ServiceInstance, "azure-pg");
            assert_eq!(
                shown.0,
                Status::Deleted,
                "{moods:?} after {steps}: {shown:?}"
            );
            assert!(
                platform.outside.bindings.is_empty(),
                "{moods:?} after {steps}"
            );
            assert!(platform.outside.instances.is_empty());
            let left: Vec<_> = platform
                .outside
                .sealed
                .difference(&platform.outside.erased)
                .collect();
            assert!(left.is_empty(), "{moods:?} after {steps}: {left:?}");
            assert_eq!(platform.outside.offences, Vec::<String>::new());
            platform.check();
        }
    }
}

#[test]
fn each_attempt_to_bind_bears_another_id() {
    let mut platform = ready(true, None);
    for _ in 0..4 {
        platform.must(binding(), Command::Rotate);
        platform.run();
    }
    let mut ids = Vec::new();
    for event in platform.events(Kind::ServiceBinding, "azure-pg") {
        if let Event::ServiceBinding(
            BindingEvent::BindRequested { binding, .. }
            | BindingEvent::RotateRequested { binding, .. },
        ) = event
        {
            assert!(!ids.contains(&binding));
            ids.push(binding);
        }
    }
    assert_eq!(ids.len(), 5);
}
