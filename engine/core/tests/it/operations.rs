//! Every outcome meets every stage: nothing panics, nothing illegal is recorded, and what is stale
//! changes nothing.

use engine_core::{Input, World, check, decide};
use engine_model::broker::{
    Aftermath, BoundCredentials, FetchedInstance, Progress, Provisioned, Verdict,
};
use engine_model::{
    BindingOutcome, Cause, Commit, Event, InstanceEvent, InstanceOutcome, Kind, Outcome, Recorded,
    RequestId, ResourceKey, Seq,
};

use crate::support::outside::Mood;
use crate::support::*;

fn verdicts<T: Clone>(done: T) -> Vec<Verdict<T>> {
    let reason = || "why".to_owned();
    let mut all = vec![
        Verdict::Done(done),
        Verdict::Accepted {
            operation: Some("op".into()),
            dashboard_url: Some("http://127.0.0.1/".into()),
            retry_after_ms: Some(5),
        },
        Verdict::Gone,
        Verdict::Rejected { reason: reason() },
        Verdict::Busy {
            reason: reason(),
            retry_after_ms: None,
        },
        Verdict::NotSent { reason: reason() },
    ];
    for orphan in [false, true] {
        all.push(Verdict::Unknown {
            reason: reason(),
            orphan,
        });
    }
    all
}

fn progresses() -> Vec<Progress> {
    let reason = || "why".to_owned();
    vec![
        Progress::InProgress {
            description: None,
            retry_after_ms: None,
        },
        Progress::Succeeded,
        Progress::Failed { reason: reason() },
        Progress::Gone,
        Progress::NotFound,
        Progress::NoAnswer {
            reason: reason(),
            retry_after_ms: Some(1),
        },
    ]
}

fn outcomes(request: RequestId, done: BoundCredentials) -> Vec<Outcome> {
    let mut all = Vec::new();
    for verdict in verdicts(FetchedInstance::default()) {
        all.push(Outcome::Instance(InstanceOutcome::Fetched {
            request,
            verdict,
        }));
    }
    for verdict in verdicts(Provisioned::default()) {
        all.push(Outcome::Instance(InstanceOutcome::UpdateAnswered {
            request,
            verdict: verdict.clone(),
            aftermath: Aftermath::default(),
        }));
        all.push(Outcome::Instance(InstanceOutcome::ProvisionAnswered {
            request,
            verdict,
        }));
    }
    for verdict in verdicts(()) {
        all.push(Outcome::Instance(InstanceOutcome::DeprovisionAnswered {
            request,
            verdict: verdict.clone(),
        }));
        all.push(Outcome::Binding(BindingOutcome::UnbindAnswered {
            request,
            verdict,
        }));
    }
    for verdict in verdicts(done) {
        all.push(Outcome::Binding(BindingOutcome::BindAnswered {
            request,
            verdict,
        }));
    }
    for progress in progresses() {
        all.push(Outcome::Instance(InstanceOutcome::Polled {
            request,
            progress: progress.clone(),
            aftermath: Aftermath::default(),
        }));
        all.push(Outcome::Binding(BindingOutcome::Polled {
            request,
            progress,
        }));
    }
    all
}

/// Every request id that a resource ever recorded.
fn requests(platform: &Platform) -> Vec<RequestId> {
    let text = serde_json::to_string(&platform.log).unwrap();
    let mut found: Vec<RequestId> = text
        .split("\"request\":\"")
        .skip(1)
        .map(|rest| rest[..36].parse().unwrap())
        .collect();
    found.sort();
    found.dedup();
    found
}

/// Platforms in as many stages as stories can reach, each with the steps that lead there.
fn stages() -> Vec<Platform> {
    let mut all = Vec::new();
    for moods in [
        vec![],
        vec![Mood::Async(2), Mood::Async(2)],
        vec![Mood::Sync, Mood::LostAnswer, Mood::Rejects],
        vec![Mood::Rejects],
        vec![Mood::Away, Mood::Away],
        vec![Mood::LostRequest, Mood::AsyncFails(1), Mood::Rejects],
        vec![Mood::AsyncFails(1), Mood::Async(1)],
    ] {
        for delete_at in 0..8 {
            let mut platform = Platform::with_broker();
            platform.outside.moods(&moods);
            platform.must(
                key(Kind::ServiceInstance, "azure-pg"),
                create(instance_spec()),
            );
            for step in 0..14 {
                all.push(platform.clone());
                if step == delete_at {
                    platform.must(key(Kind::ServiceInstance, "azure-pg"), delete());
                }
                if let Some(task) = platform.tasks.pop_front() {
                    platform.perform(&task);
                } else {
                    platform.pass(1_500);
                }
            }
        }
    }
    all
}

#[test]
fn every_outcome_meets_every_stage() {
    let bound = bound("again");
    let foreign = RequestId::derived(format_args!("nobody's"));
    let stages = stages();
    let mut decided = 0;
    for platform in &stages {
        for request in requests(platform).into_iter().chain([foreign]) {
            for outcome in outcomes(request, bound.clone()) {
                let kind = match outcome {
                    Outcome::Instance(_) => Kind::ServiceInstance,
                    _ => Kind::ServiceBinding,
                };
                let key = key(kind, "azure-pg");
                let input = Input::Outcome { outcome: &outcome };
                let decision = decide(&platform.world, &key, input, platform.now).unwrap();
                if request == foreign {
                    assert!(decision.writes.is_empty(), "{outcome:?}");
                }
                if decision.writes.is_empty() {
                    continue;
                }
                let mut world = platform.world.clone();
                for (key, events) in decision.writes {
                    decided += 1;
                    apply(&mut world, key, events, platform);
                }
                assert_eq!(check(&world), []);
            }
        }
    }
    assert!(
        stages.len() > 500 && decided > 2_000,
        "{} {decided}",
        stages.len()
    );
}

fn apply(world: &mut World, key: ResourceKey, events: Vec<Event>, platform: &Platform) {
    let recorded = Recorded {
        seq: Seq(platform.log.len() as u64 + 1),
        commit: Commit {
            id: Commit::id_for(&key, world.last_seq(&key), Cause::Alarm),
            key,
            events: events.clone(),
            at: platform.now,
            actor: engine_model::Actor::engine(),
            cause: Cause::Alarm,
            correlation: String::new(),
        },
    };
    assert_eq!(world.apply(&recorded), Ok(true), "{events:?}");
}

#[test]
fn a_provision_that_succeeds_after_it_was_given_up_is_removed() {
    let mut platform = Platform::with_broker();
    platform.outside.moods(&[Mood::LostRequest]);
    let pg = key(Kind::ServiceInstance, "azure-pg");
    platform.must(pg.clone(), create(instance_spec()));
    let late = platform.tasks.front().cloned().unwrap();
    platform.run();
    assert_eq!(
        platform
            .history(Kind::ServiceInstance, "azure-pg")
            .last()
            .unwrap(),
        "OrphanRemoved"
    );
    // The request was not lost after all: it only took very long.
    platform.perform(&late);
    assert_eq!(platform.outside.instances.len(), 1);
    platform.run();
    assert!(platform.outside.instances.is_empty());
    platform.check();
}

#[test]
fn a_bind_that_succeeds_after_it_was_given_up_is_unbound() {
    let mut platform = Platform::with_broker();
    platform.outside.moods(&[Mood::Sync, Mood::LostRequest]);
    platform.must(
        key(Kind::ServiceInstance, "azure-pg"),
        create(instance_spec()),
    );
    let late = loop {
        let task = platform.tasks.pop_front().unwrap();
        if matches!(task.effect, engine_model::Effect::Bind { .. }) {
            platform.tasks.push_front(task.clone());
            break task;
        }
        platform.perform(&task);
    };
    platform.run();
    assert_eq!(
        platform
            .history(Kind::ServiceBinding, "azure-pg")
            .last()
            .unwrap(),
        "OrphanRemoved"
    );
    platform.perform(&late);
    assert_eq!(platform.outside.bindings.len(), 1);
    platform.run();
    assert!(platform.outside.bindings.is_empty());
    platform.check();
}

#[test]
fn a_repeats_credentials_never_replace_the_first_ones() {
    let mut platform = Platform::with_broker();
    platform.must(
        key(Kind::ServiceInstance, "azure-pg"),
        create(instance_spec()),
    );
    platform.run();
    let request = *requests(&platform).last().unwrap();
    let before = platform.world.clone();
    for request in requests(&platform).into_iter().chain([request]) {
        let again = Outcome::Binding(BindingOutcome::BindAnswered {
            request,
            verdict: Verdict::Done(bound("other")),
        });
        assert_eq!(
            platform.learn(&key(Kind::ServiceBinding, "azure-pg"), &again),
            0
        );
    }
    assert!(before == platform.world);
}

#[test]
fn an_illegal_event_changes_nothing() {
    let mut platform = Platform::with_broker();
    platform.must(
        key(Kind::ServiceInstance, "azure-pg"),
        create(instance_spec()),
    );
    let mut world = platform.world.clone();
    let request = RequestId::derived(format_args!("nobody's"));
    let events = vec![
        Event::ServiceInstance(InstanceEvent::DeleteRequested),
        Event::ServiceInstance(InstanceEvent::Deprovisioned { request }),
    ];
    let mut recorded = platform.log.last().unwrap().clone();
    recorded.seq = Seq(recorded.seq.0 + 1);
    recorded.commit.events = events;
    let illegal = world.apply(&recorded).unwrap_err();
    assert_eq!(illegal.event, "Deprovisioned");
    assert!(world == platform.world);
}
