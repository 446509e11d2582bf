//! What the simulation in virtual time has taught: answers that say less than they seem to, and
//! requests that may still be on their way.

use engine_core::due;
use engine_model::broker::Verdict;
use engine_model::spec::{ServiceBindingSpec, Spec, Tags};
use engine_model::{Command, Effect, Event, InstanceEvent, InstanceOutcome, Kind, Outcome, Status};

use crate::support::outside::Mood;
use crate::support::*;

fn pg() -> engine_model::ResourceKey {
    key(Kind::ServiceInstance, "azure-pg")
}

fn with_instance(moods: &[Mood]) -> Platform {
    let mut platform = Platform::with_broker();
    platform.outside.moods(moods);
    platform.must(pg(), create(instance_spec()));
    platform
}

/// The broker's ids of all attempts.
fn attempts(platform: &Platform) -> Vec<Option<engine_model::InstanceId>> {
    let events = platform.events(Kind::ServiceInstance, "azure-pg");
    let asked = events.into_iter().filter_map(|event| match event {
        Event::ServiceInstance(InstanceEvent::ProvisionRequested { instance, .. }) => {
            Some(instance)
        }
        _ => None,
    });
    asked.collect()
}

#[test]
fn a_refusal_that_may_answer_a_repeat_is_followed_by_the_removal_of_what_the_first_one_made() {
    let mut platform = with_instance(&[Mood::Sync, Mood::Rejects]);
    // A node sent the request, and died with the answer.
    let sent = platform.tasks.front().cloned().unwrap();
    platform.outside.perform(&sent.effect, platform.now);
    assert_eq!(platform.outside.instances.len(), 1);
    // Another one repeats it when it gets it, and is refused.
    platform.now = platform.now.plus_ms(12_000);
    platform.run();
    assert_eq!(
        platform.status(Kind::ServiceInstance, "azure-pg").0,
        Status::Error
    );
    assert!(platform.outside.instances.is_empty(), "it is left there");
    platform.check();
}

#[test]
fn a_retry_after_a_plain_refusal_asks_under_the_same_id_since_nothing_was_deleted() {
    let mut platform = with_instance(&[Mood::Rejects, Mood::LostAnswer]);
    platform.run();
    platform.must(pg(), Command::Retry);
    platform.run();
    platform.must(pg(), Command::Retry);
    platform.run();
    let ids = attempts(&platform);
    assert_eq!(ids.len(), 3);
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[1], ids[2], "what was deleted is not asked for again");
    platform.check();
}

#[test]
fn one_refusal_to_delete_what_is_probably_not_there_is_not_believed() {
    let mut platform = with_instance(&[Mood::Rejects, Mood::Rejects, Mood::Rejects]);
    platform.run();
    platform.must(pg(), delete());
    platform.run();
    let asked = platform
        .outside
        .calls
        .iter()
        .filter(|call| *call == "Deprovision");
    assert_eq!(asked.count(), 3);
    assert_eq!(
        platform.status(Kind::ServiceInstance, "azure-pg").0,
        Status::Deleted
    );
}

#[test]
fn a_delete_waits_for_the_answer_to_a_request_that_is_being_repeated() {
    let mut platform = with_instance(&[Mood::Busy]);
    platform.drain();
    // The alarm has rung, and the repeat is on its way.
    platform.now = platform.now.plus_ms(2_000);
    platform.must(pg(), delete());
    // All words are spoken, and only the answer is awaited.
    while let Some(task) = platform.tasks.pop_front() {
        if !matches!(task.effect, Effect::Provision { .. }) {
            platform.react_with(&task);
        }
    }
    let removals = |platform: &Platform| {
        let history = platform.history(Kind::ServiceInstance, "azure-pg");
        history
            .iter()
            .filter(|name| *name == "DeprovisionRequested")
            .count()
    };
    assert_eq!(removals(&platform), 0);
    let request = platform
        .events(Kind::ServiceInstance, "azure-pg")
        .into_iter()
        .find_map(|event| match event {
            Event::ServiceInstance(InstanceEvent::ProvisionRequested { request, .. }) => {
                Some(request)
            }
            _ => None,
        });
    let answer = Outcome::Instance(InstanceOutcome::ProvisionAnswered {
        request: request.unwrap(),
        verdict: Verdict::Done(engine_model::broker::Provisioned::default()),
    });
    platform.learn(&pg(), &answer);
    platform.run();
    assert_eq!(removals(&platform), 1);
    assert_eq!(
        platform.status(Kind::ServiceInstance, "azure-pg").0,
        Status::Deleted
    );
    platform.check();
}

#[test]
fn the_sweep_leaves_a_repeat_that_another_node_may_be_sending_for_as_long_as_one_takes() {
    let mut platform = with_instance(&[Mood::Busy]);
    platform.drain();
    platform.now = platform.now.plus_ms(30_000);
    assert_eq!(due(&platform.world, platform.now), []);
    platform.now = platform.now.plus_ms(120_000);
    assert_eq!(due(&platform.world, platform.now).len(), 1);
}

#[test]
fn a_binding_of_an_instance_whose_plan_turns_out_not_to_be_bindable_says_so() {
    let mut platform = Platform::with_broker();
    let spec = engine_model::spec::InstanceSpec {
        secret_parameters: vec![name("later")],
        ..instance_of("pg", "alone")
    };
    platform.must(pg(), create(Spec::ServiceInstance(spec)));
    let wish = Spec::ServiceBinding(ServiceBindingSpec {
        service_instance: name("azure-pg"),
        parameters: serde_json::Value::Null,
        secret_parameters: Vec::new(),
        tags: Tags::new(),
    });
    platform.must(key(Kind::ServiceBinding, "extra"), create(wish));
    platform.must(key(Kind::Secret, "later"), create(secret_spec()));
    platform.run();
    let (status, why) = platform.status(Kind::ServiceBinding, "extra");
    assert_eq!(status, Status::Error);
    assert!(why[0].contains("cannot be bound; delete"), "{why:?}");
}

#[test]
fn what_a_failed_rotation_left_does_not_keep_another_removal_from_being_polled() {
    let mut platform = with_instance(&[]);
    platform.run();
    let binding = pg().sibling(Kind::ServiceBinding);
    // What the first rotation may have left is being removed, and the broker is busy.
    platform.outside.moods(&[Mood::LostAnswer, Mood::Busy]);
    platform.must(binding.clone(), Command::Rotate);
    platform.drain();
    platform.pass(500);
    // Another one waits for the broker. Then that takes its time to remove, and loses an answer.
    platform
        .outside
        .moods(&[Mood::Busy, Mood::Async(2), Mood::LostAnswer]);
    platform.must(binding, Command::Rotate);
    platform.run();
    assert_eq!(platform.outside.bindings.len(), 1, "something is left");
    assert_eq!(
        platform.status(Kind::ServiceBinding, "azure-pg").0,
        Status::Ready
    );
    platform.check();
}
