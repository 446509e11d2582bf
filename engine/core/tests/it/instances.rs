//! Service instances and their bindings, from request to gone.

use engine_model::spec::{InstanceSpec, Spec};
use engine_model::{Code, Command, Effect, Event, InstanceEvent, Kind, Status};
use serde_json::json;

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

/// What a person is told of a failure, and of what comes next.
fn failed(why: &str) -> Vec<String> {
    let next = "`dispatch retry` tries again, `dispatch delete` takes it away";
    vec![why.into(), next.into()]
}

fn instance(platform: &Platform) -> (Status, Vec<String>) {
    platform.status(Kind::ServiceInstance, "azure-pg")
}

fn history(platform: &Platform) -> Vec<String> {
    platform.history(Kind::ServiceInstance, "azure-pg")
}

fn binding_history(platform: &Platform) -> Vec<String> {
    platform.history(Kind::ServiceBinding, "azure-pg")
}

#[test]
fn the_first_intent_is_in_the_commit_that_creates() {
    let platform = with_instance(&[]);
    let commit = &platform.log.last().unwrap().commit;
    let names: Vec<String> = commit.events.iter().map(Event::name).collect();
    assert_eq!(names, ["Created", "ProvisionRequested"]);
    assert!(matches!(platform.tasks[0].effect, Effect::Provision { .. }));
}

#[test]
fn it_is_provisioned_and_bound_and_ready() {
    let mut platform = with_instance(&[Mood::Async(3), Mood::Async(1)]);
    platform.drain();
    assert_eq!(instance(&platform).0, Status::Creating);
    platform.run();
    assert_eq!(instance(&platform), (Status::Ready, vec![]));
    assert_eq!(
        history(&platform),
        [
            "Created",
            "ProvisionRequested",
            "OperationAccepted",
            "OperationProgressed",
            "OperationProgressed",
            "OperationProgressed",
            "Provisioned"
        ]
    );
    assert_eq!(
        binding_history(&platform),
        [
            "Created",
            "BindRequested",
            "OperationAccepted",
            "OperationProgressed",
            "Bound"
        ]
    );
    assert_eq!(
        (
            platform.outside.instances.len(),
            platform.outside.bindings.len()
        ),
        (1, 1)
    );
    platform.check();
}

#[test]
fn an_instance_of_a_plan_without_bindings_is_ready_unbound_and_can_be_deleted() {
    let mut platform = Platform::with_broker();
    platform.must(
        pg(),
        create(Spec::ServiceInstance(instance_of("pg", "alone"))),
    );
    platform.run();
    assert_eq!(instance(&platform).0, Status::Ready);
    assert!(binding_history(&platform).is_empty());
    platform.must(pg(), delete());
    platform.run();
    assert_eq!(instance(&platform).0, Status::Deleted);
}

#[test]
fn it_is_unbound_before_it_is_deprovisioned_and_its_name_is_free_for_another_id() {
    let mut platform = with_instance(&[]);
    platform.run();
    let first = *platform.outside.instances.first().unwrap();
    platform.must(pg(), delete());
    assert_eq!(instance(&platform).0, Status::Deleting);
    let refused = platform.refused(pg(), create(instance_spec()));
    assert_eq!(refused.code, Code::BeingDeleted);
    platform.run();
    assert_eq!(instance(&platform).0, Status::Deleted);
    assert!(platform.outside.instances.is_empty() && platform.outside.bindings.is_empty());
    assert_eq!(platform.outside.offences, Vec::<String>::new());
    assert_eq!(
        platform.outside.sealed, platform.outside.erased,
        "no credential outlives it"
    );
    platform.must(pg(), create(instance_spec()));
    platform.run();
    assert_eq!(instance(&platform).0, Status::Ready);
    assert_ne!(*platform.outside.instances.first().unwrap(), first);
    platform.check();
}

#[test]
fn it_waits_for_its_secrets_whatever_the_order() {
    let mut platform = Platform::with_broker();
    let spec = InstanceSpec {
        secret_parameters: vec![name("open-sesame")],
        ..instance_of("pg", "basic")
    };
    platform.must(pg(), create(Spec::ServiceInstance(spec)));
    platform.run();
    let (status, reason) = instance(&platform);
    assert_eq!(status, Status::Initialized);
    assert_eq!(reason, ["secret open-sesame does not exist yet"]);
    platform.must(key(Kind::Secret, "open-sesame"), create(secret_spec()));
    let provision = platform.tasks.iter().find_map(|task| match &task.effect {
        Effect::Proceed(key) => Some(key.clone()),
        _ => None,
    });
    assert_eq!(provision, Some(pg()));
    platform.run();
    assert_eq!(instance(&platform).0, Status::Ready);
    platform.check();
}

#[test]
fn secret_parameters_leave_the_check_to_who_sees_them() {
    let mut platform = Platform::with_broker();
    platform.must(key(Kind::Secret, "open-sesame"), create(secret_spec()));
    let spec = InstanceSpec {
        secret_parameters: vec![name("open-sesame")],
        parameters: json!({"location": "nowhere"}),
        ..instance_of("pg", "basic")
    };
    platform.must(pg(), create(Spec::ServiceInstance(spec)));
    let (schema, sealed) = platform
        .tasks
        .iter()
        .find_map(|task| match &task.effect {
            Effect::Provision {
                schema,
                secret_parameters,
                ..
            } => Some((schema.clone(), secret_parameters.len())),
            _ => None,
        })
        .unwrap();
    assert_eq!(schema["type"], "object");
    assert_eq!(sealed, 1);
}

#[test]
fn what_cannot_be_provisioned_is_refused_with_what_could() {
    let mut platform = Platform::with_broker();
    let refused =
        |platform: &mut Platform, spec| platform.refused(pg(), create(Spec::ServiceInstance(spec)));
    let no_class = refused(&mut platform, instance_of("oracle", "basic"));
    assert_eq!(no_class.code, Code::MissingReference);
    assert!(
        no_class
            .message
            .starts_with("service class oracle does not exist"),
        "{no_class}"
    );
    let no_plan = refused(&mut platform, instance_of("pg", "gold"));
    assert_eq!(no_plan.code, Code::MissingReference);
    assert!(
        no_plan.message.contains("it has: basic, large, alone"),
        "{no_plan}"
    );
    let text = InstanceSpec {
        parameters: json!("westus"),
        ..instance_of("pg", "basic")
    };
    assert_eq!(refused(&mut platform, text).code, Code::InvalidField);
    let misfit = InstanceSpec {
        parameters: json!({"location": "mars"}),
        ..instance_of("pg", "basic")
    };
    let misfit = refused(&mut platform, misfit);
    assert_eq!(misfit.code, Code::SchemaMismatch);
    assert!(misfit.message.contains("/location"), "{misfit}");
    assert!(
        platform
            .events(Kind::ServiceInstance, "azure-pg")
            .is_empty()
    );
}

#[test]
fn a_rejected_provision_is_an_error_that_says_why_and_can_be_retried_or_deleted() {
    let mut platform = with_instance(&[Mood::Rejects]);
    platform.run();
    assert_eq!(
        instance(&platform),
        (Status::Error, failed("quota exceeded"))
    );
    assert!(!platform.outside.calls.contains(&"Deprovision".to_owned()));
    platform.must(pg(), Command::Retry);
    platform.run();
    assert_eq!(instance(&platform).0, Status::Ready);
    platform.must(pg(), delete());
    platform.run();
    assert_eq!(instance(&platform).0, Status::Deleted);
    platform.check();
}

#[test]
fn a_failed_one_is_deleted_even_when_the_broker_refuses_to_delete_what_it_never_had() {
    let mut platform = with_instance(&[Mood::Rejects, Mood::Rejects]);
    platform.run();
    platform.must(pg(), delete());
    platform.run();
    assert_eq!(instance(&platform).0, Status::Deleted);
}

#[test]
fn a_lost_answer_is_followed_by_the_removal_of_what_it_may_have_made() {
    let mut platform = with_instance(&[Mood::LostAnswer, Mood::Away, Mood::Async(1)]);
    platform.drain();
    let (status, reason) = instance(&platform);
    assert_eq!(status, Status::Error);
    assert!(reason[0].contains("502 Bad Gateway"), "{reason:?}");
    assert!(reason[0].contains("being removed"), "{reason:?}");
    assert!(reason[0].contains("tried again at"), "{reason:?}");
    assert_eq!(platform.outside.instances.len(), 1);
    platform.run();
    assert!(platform.outside.instances.is_empty());
    assert_eq!(
        instance(&platform),
        (Status::Error, failed("502 Bad Gateway"))
    );
    assert_eq!(history(&platform).last().unwrap(), "OrphanRemoved");
    platform.must(pg(), Command::Retry);
    platform.run();
    assert_eq!(instance(&platform).0, Status::Ready);
    platform.check();
}

#[test]
fn that_nothing_is_there_is_believed_once_a_late_request_can_no_longer_come() {
    let mut platform = with_instance(&[Mood::LostRequest]);
    platform.drain();
    assert_eq!(
        history(&platform)[2..],
        [
            "ProvisionFailed",
            "DeprovisionRequested",
            "DeprovisionFailed"
        ]
    );
    platform.run();
    assert_eq!(
        history(&platform)[5..],
        ["DeprovisionRequested", "OrphanRemoved"]
    );
    assert!(platform.now.since_ms(START) >= 5_000);
}

#[test]
fn a_removal_that_fails_later_is_begun_again_without_end() {
    let mut platform = with_instance(&[
        Mood::AsyncFails(1),
        Mood::AsyncFails(0),
        Mood::Rejects,
        Mood::LostRequest,
        Mood::Busy,
        Mood::Async(2),
    ]);
    platform.run();
    assert!(platform.outside.instances.is_empty());
    assert_eq!(history(&platform).last().unwrap(), "OrphanRemoved");
    platform.check();
}

#[test]
fn a_broker_that_is_away_or_busy_delays_and_is_no_error() {
    let mut platform = with_instance(&[Mood::Away, Mood::Busy]);
    platform.drain();
    let (status, reason) = instance(&platform);
    assert_eq!(status, Status::Creating);
    assert!(
        reason[0].starts_with("connection refused; tried again at "),
        "{reason:?}"
    );
    platform.run();
    assert_eq!(instance(&platform).0, Status::Ready);
    let requests = history(&platform)
        .iter()
        .filter(|name| *name == "ProvisionRequested")
        .count();
    assert_eq!(requests, 1, "it is repeated under the same request");
}

#[test]
fn a_delay_is_cut_short_by_a_retry() {
    let mut platform = with_instance(&[Mood::Away]);
    platform.drain();
    let before = platform.now;
    platform.must(pg(), Command::Retry);
    platform.run();
    assert_eq!(instance(&platform).0, Status::Ready);
    assert_eq!(platform.now, before);
}

#[test]
fn a_delete_during_the_request_waits_for_its_answer() {
    let mut platform = with_instance(&[]);
    platform.must(pg(), delete());
    assert_eq!(history(&platform).last().unwrap(), "DeleteRequested");
    platform.run();
    assert_eq!(
        history(&platform)[2..],
        [
            "DeleteRequested",
            "Provisioned",
            "DeprovisionRequested",
            "Deprovisioned"
        ]
    );
    assert!(platform.outside.instances.is_empty());
    platform.check();
}

#[test]
fn a_delete_while_the_broker_works_is_sent_at_once_and_a_refusal_is_waited_out() {
    let mut platform = with_instance(&[Mood::Async(4), Mood::Busy, Mood::Busy, Mood::Sync]);
    platform.drain();
    platform.must(pg(), delete());
    platform.drain();
    assert!(platform.outside.calls.contains(&"Deprovision".to_owned()));
    platform.run();
    assert_eq!(instance(&platform).0, Status::Deleted);
    assert!(platform.outside.instances.is_empty());
    let polls = platform
        .outside
        .calls
        .iter()
        .filter(|call| *call == "PollInstance")
        .count();
    assert!(
        polls >= 2,
        "the creation is still polled, so that the broker gets on with it"
    );
    platform.check();
}

#[test]
fn a_delete_whose_answers_are_lost_goes_on_when_none_can_come() {
    let mut platform = with_instance(&[]);
    platform.must(pg(), delete());
    platform.tasks.clear();
    platform.run();
    assert_eq!(instance(&platform).0, Status::Deleting);
    platform.pass(200_000);
    assert_eq!(platform.sweep(), 1);
    platform.run();
    assert_eq!(instance(&platform).0, Status::Deleted);
}

#[test]
fn a_waiting_one_is_deleted_without_a_call() {
    let mut platform = Platform::with_broker();
    let spec = InstanceSpec {
        secret_parameters: vec![name("never")],
        ..instance_of("pg", "basic")
    };
    platform.must(pg(), create(Spec::ServiceInstance(spec)));
    let calls = platform.outside.calls.len();
    platform.must(pg(), delete());
    platform.run();
    assert_eq!(instance(&platform).0, Status::Deleted);
    assert_eq!(platform.outside.calls.len(), calls);
}

#[test]
fn a_failed_bind_is_an_error_of_the_instance_and_is_retried_under_a_new_binding_id() {
    let mut platform = with_instance(&[Mood::Sync, Mood::LostAnswer]);
    platform.run();
    let (status, reason) = instance(&platform);
    assert_eq!(status, Status::Error);
    assert_eq!(reason[0], "binding: 502 Bad Gateway");
    assert!(reason[1].contains("dispatch retry"), "{reason:?}");
    assert!(
        platform.outside.bindings.is_empty(),
        "what it may have made was removed"
    );
    let refused = platform.refused(pg(), Command::Retry);
    assert!(
        refused.message.contains("retry the service binding"),
        "{refused}"
    );
    platform.must(key(Kind::ServiceBinding, "azure-pg"), Command::Retry);
    platform.run();
    assert_eq!(instance(&platform).0, Status::Ready);
    let ids: Vec<_> = platform
        .events(Kind::ServiceBinding, "azure-pg")
        .into_iter()
        .filter_map(|event| match event {
            Event::ServiceBinding(engine_model::BindingEvent::BindRequested {
                binding, ..
            }) => Some(binding),
            _ => None,
        })
        .collect();
    assert_eq!(ids.len(), 2);
    assert_ne!(ids[0], ids[1]);
    platform.check();
}

#[test]
fn an_abandoned_one_is_gone_on_record_with_its_binding_and_without_a_call() {
    let mut platform = with_instance(&[]);
    platform.run();
    let calls = platform.outside.calls.clone();
    let silent = Command::Abandon { reason: " ".into() };
    assert_eq!(platform.refused(pg(), silent).code, Code::InvalidField);
    platform.must(pg(), abandon());
    platform.run();
    assert_eq!(instance(&platform).0, Status::Deleted);
    assert_eq!(binding_history(&platform).last().unwrap(), "Abandoned");
    assert_eq!(platform.outside.calls[calls.len()..], ["EraseKey"]);
    platform.check();
}

#[test]
fn an_operation_fails_when_its_time_is_over() {
    let mut platform = Platform::with_broker();
    platform.outside.moods(&[Mood::Async(u32::MAX)]);
    platform.must(
        pg(),
        create(Spec::ServiceInstance(instance_of("pg", "alone"))),
    );
    platform.run();
    let failed = platform
        .events(Kind::ServiceInstance, "azure-pg")
        .into_iter()
        .find_map(|event| match event {
            Event::ServiceInstance(InstanceEvent::ProvisionFailed { reason, orphan, .. }) => {
                Some((reason, orphan))
            }
            _ => None,
        });
    assert_eq!(
        failed,
        Some(("the broker was not done after 60 s".into(), true))
    );
    assert!(platform.outside.calls.contains(&"Deprovision".to_owned()));
}

#[test]
fn an_instance_whose_class_vanished_can_still_be_deleted() {
    let mut platform = with_instance(&[]);
    platform.run();
    platform.outside.catalog = crate::support::outside::read(Vec::new());
    platform.must(key(Kind::ServiceBroker, "azure"), Command::Refresh);
    platform.run();
    let (status, reason) = platform.status(Kind::ServiceClass, "pg");
    assert_eq!(status, Status::Error);
    assert!(
        reason[0].contains("kept for those who use it"),
        "{reason:?}"
    );
    assert_eq!(instance(&platform).0, Status::Ready);
    let refused = platform.refused(key(Kind::ServiceInstance, "two"), create(instance_spec()));
    assert!(refused.message.contains("no longer offered"), "{refused}");
    platform.must(pg(), delete());
    platform.run();
    assert_eq!(instance(&platform).0, Status::Deleted);
    assert_eq!(platform.status(Kind::ServiceClass, "pg").0, Status::Deleted);
    assert!(platform.outside.instances.is_empty());
}
