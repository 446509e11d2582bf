//! Random commands, outcomes, losses, repeats and faults: whatever happens, the rules hold, a replay
//! folds into the same world, and when the faults cease all comes to rest.

use engine_model::{BindingEvent, Command, Event, InstanceEvent, Kind, ResourceKey, Status};
use proptest::prelude::*;

use crate::support::outside::Mood;
use crate::support::*;

/// Something that happens.
#[derive(Debug, Clone)]
enum Step {
    Send(usize, Verb),
    /// The nth task is performed.
    Perform(usize),
    /// The nth task is performed, and will be again.
    Twice(usize),
    /// The nth task is performed, and its outcome is on its way.
    Begin(usize),
    /// The nth outcome arrives.
    Arrive(usize),
    /// The nth task is lost.
    Lose(usize),
    /// A commit is delivered again.
    Deliver(usize),
    Mood(Mood),
    Pass(i64),
    Sweep,
    /// The other node acts from now on, or the first one does.
    Other(bool),
    /// The other node reads all that there is.
    CatchUp,
}

#[derive(Debug, Clone, Copy)]
enum Verb {
    Create,
    Update,
    Delete,
    Cascade,
    Retry,
    Abandon,
    Refresh,
    Rotate,
    /// Another plan, for an instance; another document, for a function.
    Change,
    Rollback,
    /// Runs go to the newest revision and one before it, or to whatever is the newest.
    Route(u32),
}

fn resources() -> Vec<(ResourceKey, engine_model::spec::Spec)> {
    let instance = |plan, secret: &[&str]| {
        engine_model::spec::Spec::ServiceInstance(engine_model::spec::InstanceSpec {
            secret_parameters: secret.iter().map(|text| name(text)).collect(),
            ..instance_of("pg", plan)
        })
    };
    vec![
        (key(Kind::ServiceInstance, "one"), instance("basic", &[])),
        (key(Kind::ServiceInstance, "two"), instance("basic", &["s"])),
        (key(Kind::ServiceInstance, "three"), instance("alone", &[])),
        (
            key(Kind::Function, "f"),
            function_with(&["s"], &["one:own"]),
        ),
        (
            key(Kind::Function, "g"),
            function_with(&[], &["two", "three"]),
        ),
        (key(Kind::API, "a"), api_spec("f")),
        (
            key(Kind::Schedule, "s"),
            engine_model::spec::Spec::Schedule(schedule_of("g", "30s")),
        ),
        (key(Kind::Secret, "s"), secret_spec()),
        (key(Kind::Image, "python"), image_spec("base", "requests")),
        (key(Kind::BaseImage, "base"), base_image_spec("python3")),
        (key(Kind::ServiceBroker, "azure"), broker_spec()),
        (key(Kind::ServiceBinding, "one"), secret_spec()),
        (key(Kind::ServiceBinding, "extra"), binding_spec("one")),
        (key(Kind::Organization, "acme"), organization_spec()),
    ]
}

/// An instance in its other plan; anything else as it is.
fn changed(spec: engine_model::spec::Spec) -> engine_model::spec::Spec {
    use engine_model::spec::{InstanceSpec, Spec};
    match spec {
        Spec::ServiceInstance(spec) => Spec::ServiceInstance(InstanceSpec {
            service_plan: "large".into(),
            parameters: serde_json::json!({"size": 7}),
            ..spec
        }),
        Spec::Function(spec) => Spec::Function(engine_model::spec::FunctionSpec {
            secrets: Vec::new(),
            services: Vec::new(),
            timeout: 7,
            ..spec
        }),
        other => other,
    }
}

fn verb() -> impl Strategy<Value = Verb> {
    prop_oneof![
        8 => Just(Verb::Create),
        2 => Just(Verb::Update),
        4 => Just(Verb::Delete),
        1 => Just(Verb::Cascade),
        2 => Just(Verb::Retry),
        1 => Just(Verb::Refresh),
        1 => Just(Verb::Abandon),
        2 => Just(Verb::Rotate),
        2 => Just(Verb::Change),
        1 => Just(Verb::Rollback),
        2 => (0_u32..8).prop_map(Verb::Route),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..resources().len(), verb()).prop_map(|(which, verb)| Step::Send(which, verb)),
        10 => any::<usize>().prop_map(Step::Perform),
        2 => any::<usize>().prop_map(Step::Twice),
        3 => any::<usize>().prop_map(Step::Begin),
        3 => any::<usize>().prop_map(Step::Arrive),
        1 => any::<usize>().prop_map(Step::Lose),
        1 => any::<usize>().prop_map(Step::Deliver),
        2 => (0..Mood::ALL.len()).prop_map(|which| Step::Mood(Mood::ALL[which])),
        3 => (0_i64..20_000).prop_map(Step::Pass),
        1 => Just(Step::Sweep),
        1 => any::<bool>().prop_map(Step::Other),
        1 => Just(Step::CatchUp),
    ]
}

fn take(platform: &mut Platform, step: &Step) {
    let nth = |platform: &Platform, n: usize| n % platform.tasks.len().max(1);
    match step {
        Step::Send(which, verb) => {
            let (key, spec) = resources().swap_remove(*which);
            let command = match verb {
                Verb::Create => create(spec),
                Verb::Update => update(spec),
                Verb::Delete => delete(),
                Verb::Cascade => cascade(),
                Verb::Retry => Command::Retry,
                Verb::Abandon => abandon(),
                Verb::Refresh => Command::Refresh,
                Verb::Rotate => Command::Rotate,
                Verb::Change => update(changed(spec)),
                Verb::Rollback => Command::Rollback { revision: None },
                Verb::Route(0) => Command::Route { shares: vec![] },
                Verb::Route(newest) => route(&[(*newest, 50), (newest / 2, 50)]),
            };
            if let Err(refused) = platform.send(key, command) {
                assert!(refused.message.len() > 10, "{refused}");
            }
        }
        Step::Perform(n) => {
            if let Some(task) = platform.tasks.remove(nth(platform, *n)) {
                platform.react_with(&task);
            }
        }
        Step::Twice(n) => {
            if let Some(task) = platform.tasks.get(nth(platform, *n)).cloned() {
                platform.react_with(&task);
            }
        }
        Step::Begin(n) => {
            if let Some(task) = platform.tasks.remove(nth(platform, *n)) {
                platform.begin(&task);
            }
        }
        Step::Arrive(n) => platform.arrive(n % platform.answers.len().max(1)),
        Step::Lose(n) => {
            platform.tasks.remove(nth(platform, *n));
        }
        Step::Deliver(n) => {
            if !platform.log.is_empty() {
                let recorded = platform.log[n % platform.log.len()].clone();
                platform.react_to(&recorded);
            }
        }
        Step::Mood(mood) => platform.outside.moods.push_back(*mood),
        Step::Pass(ms) => {
            platform.now = platform.now.plus_ms(*ms);
            let now = platform.now;
            let due: Vec<_> = platform
                .timers
                .iter()
                .filter(|(_, (at, _))| *at <= now)
                .map(|(name, (_, due))| (name.clone(), due.clone()))
                .collect();
            for (name, due) in due {
                platform.timers.remove(&name);
                platform.ring(&due);
            }
        }
        Step::Other(acts) => platform.other_acts = *acts,
        Step::CatchUp => platform.catch_up(),
        Step::Sweep => {
            platform.sweep();
        }
    }
}

/// The faults cease, and the sweep runs now and then.
fn rest(platform: &mut Platform) {
    platform.outside.moods.clear();
    platform.other_acts = false;
    let mut quiet = 0;
    for _ in 0..400 {
        platform.run();
        platform.now = platform.now.plus_ms(700_000);
        quiet = if platform.sweep() == 0 { quiet + 1 } else { 0 };
        // Catalogs that are read by a sweep may set others going.
        if quiet == 3 {
            return;
        }
    }
    panic!(
        "it never comes to rest: {:?}",
        engine_core::due(&platform.world, platform.now)
    );
}

fn at_rest(platform: &Platform) {
    for (key, _) in resources() {
        let Some((status, reason)) = platform.world.status(&key) else {
            continue;
        };
        match status {
            Status::Ready | Status::Deleted => {}
            Status::Cancelled => panic!("{key} is no run"),
            Status::Error | Status::Initialized | Status::Updating | Status::Creating => {
                assert!(
                    !reason.is_empty(),
                    "{key} is {status:?} and does not say why"
                );
                let waits = reason.iter().any(|why| {
                    [
                        "not exist",
                        "is in error",
                        "waits",
                        "not ready",
                        "not provisioned yet",
                        "register it again",
                        "no longer offered",
                        " is ERROR",
                        " is INIT",
                        " is CREATING",
                    ]
                    .iter()
                    .any(|text| why.contains(text))
                });
                assert!(
                    status == Status::Error || waits,
                    "{key} is {status:?}: {reason:?}"
                );
            }
            Status::Deleting => {
                let way_out = reason.iter().any(|why| why.contains("register it again"));
                let waits = reason.iter().any(|why| why.contains("waits"));
                assert!(way_out || waits, "{key} is never gone: {reason:?}");
            }
        }
    }
    // What the broker holds is what the record shows, but for what was ended on record only.
    let mut shown = std::collections::BTreeSet::new();
    let mut abandoned = std::collections::BTreeSet::new();
    let mut ids = std::collections::BTreeMap::new();
    for recorded in &platform.log {
        let key = &recorded.commit.key;
        for event in &recorded.commit.events {
            let Event::ServiceInstance(event) = event else {
                continue;
            };
            match event {
                InstanceEvent::Created { id, .. } => {
                    ids.insert(key.clone(), *id);
                }
                InstanceEvent::ProvisionRequested {
                    instance: Some(id), ..
                } => {
                    ids.insert(key.clone(), *id);
                }
                InstanceEvent::Provisioned { .. } => {
                    shown.insert(ids[key]);
                }
                InstanceEvent::Deprovisioned { .. } => {
                    shown.remove(&ids[key]);
                }
                InstanceEvent::Abandoned { .. } => {
                    shown.remove(&ids[key]);
                    abandoned.insert(ids[key]);
                }
                _ => {}
            }
        }
    }
    // A broker that is no longer registered cannot be reached; the status says the way out.
    for (key, id) in &ids {
        let stuck = |kind, name: &str| {
            let status = platform.world.status(&crate::support::key(kind, name));
            status.is_some_and(|(_, why)| why.iter().any(|why| why.contains("register it again")))
        };
        let own = key.name.as_str();
        let bound = [own, "extra", "one--f"];
        if stuck(Kind::ServiceInstance, own)
            || bound.iter().any(|name| stuck(Kind::ServiceBinding, name))
        {
            shown.remove(id);
            abandoned.insert(*id);
        }
    }
    let held: std::collections::BTreeSet<_> = platform
        .outside
        .instances
        .difference(&abandoned)
        .copied()
        .collect();
    assert_eq!(held, shown, "instances at the broker and on record");
    let given_up = bindings_given_up(platform);
    let bound = platform
        .outside
        .bindings
        .iter()
        .filter(|(binding, id)| !abandoned.contains(id) && !given_up.contains(binding))
        .count();
    let ready = ["one", "two", "extra", "one--f"]
        .iter()
        .filter(|name| {
            let key = key(Kind::ServiceBinding, name);
            platform
                .world
                .status(&key)
                .is_some_and(|(status, _)| status == Status::Ready)
        })
        .count();
    assert_eq!(bound, ready, "bindings at the broker and on record");
}

/// Bindings at the broker that were ended on record only.
fn bindings_given_up(platform: &Platform) -> std::collections::BTreeSet<engine_model::BindingId> {
    let mut asked: std::collections::BTreeMap<ResourceKey, Vec<_>> = Default::default();
    let mut given_up = std::collections::BTreeSet::new();
    for recorded in &platform.log {
        let key = &recorded.commit.key;
        for event in &recorded.commit.events {
            match event {
                Event::ServiceBinding(
                    BindingEvent::BindRequested { binding, .. }
                    | BindingEvent::RotateRequested { binding, .. },
                ) => asked.entry(key.clone()).or_default().push(*binding),
                Event::ServiceBinding(
                    BindingEvent::Abandoned { .. } | BindingEvent::OrphanAbandoned { .. },
                ) => given_up.extend(asked.remove(key).into_iter().flatten()),
                _ => {}
            }
        }
    }
    given_up
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_rules_hold_and_all_comes_to_rest(
        steps in proptest::collection::vec(step(), 1..120)
    ) {
        let mut platform = Platform::with_broker();
        for step in &steps {
            take(&mut platform, step);
            prop_assert_eq!(engine_core::check(&platform.world), vec![]);
        }
        platform.check();
        rest(&mut platform);
        platform.check();
        at_rest(&platform);
    }
}
