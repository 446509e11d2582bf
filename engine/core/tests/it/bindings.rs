//! More than one binding of an instance: those of single functions, and those that people create.

use engine_model::{Code, Command, Kind, Status};

use crate::support::outside::Mood;
use crate::support::*;

fn platform() -> Platform {
    let mut platform = Platform::with_broker();
    platform.must(
        key(Kind::BaseImage, "base"),
        create(base_image_spec("python3")),
    );
    platform.must(key(Kind::Image, "python"), create(image_spec("base", "")));
    platform.must(key(Kind::ServiceInstance, "pg"), create(instance_spec()));
    platform.run();
    platform
}

#[test]
fn a_function_has_credentials_of_its_own_which_go_with_it() {
    let mut platform = platform();
    let function = key(Kind::Function, "f");
    platform.must(function.clone(), create(function_with(&[], &["pg:own"])));
    platform.must(
        key(Kind::Function, "g"),
        create(function_with(&[], &["pg"])),
    );
    platform.run();
    assert_eq!(
        platform.status(Kind::Function, "f"),
        (Status::Ready, vec![])
    );
    assert_eq!(
        platform.status(Kind::ServiceBinding, "pg--f").0,
        Status::Ready
    );
    assert_eq!(platform.outside.bindings.len(), 2);
    let plan = |name| {
        let org = &function.org;
        engine_core::plan_run(
            &platform.world,
            org,
            &crate::support::name(name),
            &[],
            crate::support::run_id(1),
            None,
        )
        .unwrap()
    };
    let (own, shared) = (plan("f"), plan("g"));
    assert_eq!(
        own.services[0].name, shared.services[0].name,
        "by the name of the instance"
    );
    assert_ne!(
        own.services[0].bound.credentials,
        shared.services[0].bound.credentials
    );
    platform.must(function.clone(), delete());
    platform.run();
    assert_eq!(platform.outside.bindings.len(), 1, "revoked alone");
    assert_eq!(platform.status(Kind::Function, "g").0, Status::Ready);
    assert_eq!(
        platform.status(Kind::ServiceBinding, "pg--f").0,
        Status::Deleted
    );
    platform.must(function, create(function_with(&[], &["pg:own"])));
    platform.run();
    assert_eq!(
        platform.outside.bindings.len(),
        2,
        "and again, under another id"
    );
    assert_eq!(platform.outside.offences, Vec::<String>::new());
    platform.check();
}

#[test]
fn a_function_that_shares_again_lets_its_own_credentials_go_once_the_new_revision_serves() {
    let mut platform = platform();
    let function = key(Kind::Function, "f");
    platform.must(function.clone(), create(function_with(&[], &["pg:own"])));
    platform.run();
    platform.must(function.clone(), update(function_with(&[], &["pg"])));
    assert_eq!(platform.outside.bindings.len(), 2);
    platform.run();
    assert_eq!(platform.outside.bindings.len(), 1);
    assert_eq!(
        platform.status(Kind::Function, "f"),
        (Status::Ready, vec![])
    );
    platform.check();
}

#[test]
fn the_order_in_which_function_and_instance_come_does_not_matter() {
    let mut platform = Platform::with_broker();
    platform.must(
        key(Kind::BaseImage, "base"),
        create(base_image_spec("python3")),
    );
    platform.must(key(Kind::Image, "python"), create(image_spec("base", "")));
    platform.must(
        key(Kind::Function, "f"),
        create(function_with(&[], &["pg:own"])),
    );
    platform.run();
    assert_eq!(platform.status(Kind::Function, "f").0, Status::Initialized);
    platform.must(key(Kind::ServiceInstance, "pg"), create(instance_spec()));
    platform.run();
    assert_eq!(
        platform.status(Kind::Function, "f"),
        (Status::Ready, vec![])
    );
}

#[test]
fn a_named_binding_is_someones_wish_and_keeps_its_instance_from_going() {
    let mut platform = platform();
    let reports = key(Kind::ServiceBinding, "reports");
    let instance = key(Kind::ServiceInstance, "pg");
    let refused = platform.refused(reports.clone(), create(binding_spec("none")));
    assert_eq!(refused.code, Code::MissingReference);
    platform.must(reports.clone(), create(binding_spec("pg")));
    platform.run();
    assert_eq!(
        platform.status(Kind::ServiceBinding, "reports"),
        (Status::Ready, vec![])
    );
    platform.must(
        key(Kind::Function, "f"),
        create(function_with(&[], &["pg:reports"])),
    );
    platform.run();
    assert_eq!(platform.status(Kind::Function, "f").0, Status::Ready);
    assert_eq!(
        platform.refused(reports.clone(), delete()).code,
        Code::InUse
    );
    platform.must(key(Kind::Function, "f"), delete());
    let refused = platform.refused(instance.clone(), delete());
    assert!(refused.message.contains("reports"), "{refused}");
    platform.must(reports, delete());
    platform.run();
    assert_eq!(platform.outside.bindings.len(), 1);
    platform.must(instance, delete());
    platform.run();
    assert!(platform.outside.instances.is_empty());
    platform.check();
}

#[test]
fn a_cascade_takes_every_binding_along_before_the_instance() {
    let mut platform = platform();
    platform.must(key(Kind::ServiceBinding, "one"), create(binding_spec("pg")));
    platform.must(key(Kind::ServiceBinding, "two"), create(binding_spec("pg")));
    platform.must(
        key(Kind::Function, "f"),
        create(function_with(&[], &["pg:own"])),
    );
    platform.run();
    assert_eq!(platform.outside.bindings.len(), 4);
    platform
        .outside
        .moods(&[Mood::LostAnswer, Mood::Async(2), Mood::Busy]);
    platform.must(key(Kind::ServiceInstance, "pg"), cascade());
    platform.run();
    assert!(platform.outside.bindings.is_empty());
    assert!(platform.outside.instances.is_empty());
    assert_eq!(platform.outside.offences, Vec::<String>::new());
    assert_eq!(
        platform.status(Kind::ServiceInstance, "pg").0,
        Status::Deleted
    );
    platform.check();
}

#[test]
fn one_request_about_an_instance_is_in_hand_at_a_time() {
    let mut platform = platform();
    platform.outside.moods(&[Mood::Async(4)]);
    for name in ["one", "two", "three"] {
        platform.must(key(Kind::ServiceBinding, name), create(binding_spec("pg")));
    }
    platform.drain();
    let binds = |platform: &Platform| {
        platform
            .outside
            .calls
            .iter()
            .filter(|call| *call == "Bind")
            .count()
    };
    assert_eq!(binds(&platform), 2, "its own, and the first of these");
    platform.run();
    assert_eq!(platform.outside.bindings.len(), 4);
}

#[test]
fn what_a_binding_may_have_left_can_be_given_up_on_record() {
    let mut platform = Platform::with_broker();
    platform.outside.moods(&[Mood::Sync, Mood::LostAnswer]);
    platform.outside.default = Mood::LostRequest;
    platform.must(key(Kind::ServiceInstance, "pg"), create(instance_spec()));
    platform.pass(60_000);
    let org = key(Kind::ServiceInstance, "pg").org;
    let orphans = engine_core::orphans(&platform.world, &org);
    assert_eq!(orphans.len(), 1);
    assert_eq!(orphans[0].key, key(Kind::ServiceBinding, "pg"));
    assert!(
        orphans[0].binding.is_some() && orphans[0].removals >= 2,
        "{orphans:?}"
    );
    assert!(
        orphans[0].next_at.is_some() && orphans[0].last.is_some(),
        "{orphans:?}"
    );
    platform.must(key(Kind::ServiceBinding, "pg"), abandon());
    platform.outside.default = Mood::Sync;
    assert!(engine_core::orphans(&platform.world, &org).is_empty());
    platform.must(key(Kind::ServiceBinding, "pg"), Command::Retry);
    platform.run();
    assert_eq!(
        platform.status(Kind::ServiceInstance, "pg").0,
        Status::Ready
    );
    platform.check();
}

#[test]
fn credentials_that_cannot_be_trusted_are_unbound_and_bound_anew_without_being_asked() {
    let mut platform = Platform::with_broker();
    platform.outside.moods(&[Mood::Sync, Mood::Doubtful]);
    platform.must(key(Kind::ServiceInstance, "pg"), create(instance_spec()));
    platform.run();
    assert_eq!(
        platform.status(Kind::ServiceInstance, "pg"),
        (Status::Ready, vec![])
    );
    assert_eq!(
        platform.history(Kind::ServiceBinding, "pg"),
        [
            "Created",
            "BindRequested",
            "BindFailed",
            "UnbindRequested",
            "OrphanRemoved",
            "BindRequested",
            "Bound"
        ]
    );
    assert_eq!(platform.outside.bindings.len(), 1);
    platform.outside.default = Mood::Doubtful;
    platform.must(
        key(Kind::ServiceBinding, "more"),
        create(binding_spec("pg")),
    );
    platform.pass(600_000);
    assert_eq!(
        platform.status(Kind::ServiceBinding, "more").0,
        Status::Error
    );
    let asked = platform.history(Kind::ServiceBinding, "more");
    let asked = asked.iter().filter(|name| *name == "BindRequested").count();
    assert_eq!(asked, 10, "and not for ever");
    platform.check();
}
