//! Deleting what others use.

use engine_model::spec::{InstanceSpec, Spec};
use engine_model::{Code, Kind, Status};

use crate::support::*;

/// Everything there is, all of it ready.
fn all() -> Platform {
    let mut platform = Platform::with_broker();
    for (kind, text, spec) in [
        (Kind::Organization, "acme", organization_spec()),
        (Kind::BaseImage, "base", base_image_spec("python3")),
        (Kind::Image, "python", image_spec("base", "")),
        (Kind::Secret, "open-sesame", secret_spec()),
        (
            Kind::ServiceInstance,
            "azure-pg",
            Spec::ServiceInstance(InstanceSpec {
                secret_parameters: vec![name("open-sesame")],
                ..instance_of("pg", "basic")
            }),
        ),
        (
            Kind::Function,
            "f",
            function_with(&["open-sesame"], &["azure-pg"]),
        ),
        (Kind::API, "a", api_spec("f")),
    ] {
        platform.must(key(kind, text), create(spec));
    }
    platform.run();
    assert_eq!(platform.status(Kind::API, "a").0, Status::Ready);
    platform
}

fn gone(platform: &Platform, resources: &[(Kind, &str)]) {
    for (kind, name) in resources {
        assert_eq!(
            platform.status(*kind, name).0,
            Status::Deleted,
            "{kind} {name}"
        );
    }
    assert_eq!(platform.outside.offences, Vec::<String>::new());
    platform.check();
}

#[test]
fn what_is_used_is_kept_and_its_users_are_listed() {
    let mut platform = all();
    for (kind, name, user) in [
        (Kind::BaseImage, "base", "Image python"),
        (Kind::Image, "python", "Function f"),
        (Kind::Secret, "open-sesame", "Function f"),
        (Kind::Secret, "open-sesame", "ServiceInstance azure-pg"),
        (Kind::ServiceInstance, "azure-pg", "Function f"),
        (Kind::Function, "f", "API a"),
        (Kind::ServiceBroker, "azure", "ServiceInstance azure-pg"),
        (Kind::Organization, "acme", "Function f"),
    ] {
        let refused = platform.refused(key(kind, name), delete());
        assert_eq!(refused.code, Code::InUse);
        assert!(refused.message.contains(user), "{refused}");
        assert!(refused.message.contains("cascade"), "{refused}");
    }
}

#[test]
fn a_cascade_from_the_base_image_ends_all_above_it_in_one_decision() {
    let mut platform = all();
    let before = platform.log.len();
    platform.must(key(Kind::BaseImage, "base"), cascade());
    let ended: Vec<String> = platform.log[before..]
        .iter()
        .map(|one| one.commit.key.to_string())
        .collect();
    assert_eq!(
        ended,
        [
            "acme/api/a",
            "acme/function/f",
            "acme/image/python",
            "acme/baseimage/base"
        ]
    );
    platform.run();
    assert_eq!(platform.outside.retired.len(), 1);
    assert_eq!(
        platform.status(Kind::ServiceInstance, "azure-pg").0,
        Status::Ready
    );
    platform.check();
}

#[test]
fn a_cascade_from_an_instance_ends_its_functions_and_unbinds_it() {
    let mut platform = all();
    platform.must(key(Kind::ServiceInstance, "azure-pg"), cascade());
    platform.run();
    gone(
        &platform,
        &[
            (Kind::API, "a"),
            (Kind::Function, "f"),
            (Kind::ServiceBinding, "azure-pg"),
            (Kind::ServiceInstance, "azure-pg"),
        ],
    );
}

#[test]
fn a_secret_goes_after_the_instances_that_use_it_and_its_key_is_erased() {
    let mut platform = all();
    platform.must(key(Kind::Secret, "open-sesame"), cascade());
    assert_eq!(
        platform.status(Kind::Secret, "open-sesame").0,
        Status::Deleting
    );
    assert_eq!(platform.status(Kind::Function, "f").0, Status::Deleted);
    let refused = platform.refused(
        key(Kind::Function, "g"),
        create(function_with(&["open-sesame"], &[])),
    );
    assert_eq!(refused.code, Code::BeingDeleted);
    let erased = platform.outside.erased.len();
    platform.run();
    gone(
        &platform,
        &[
            (Kind::ServiceInstance, "azure-pg"),
            (Kind::Secret, "open-sesame"),
        ],
    );
    assert_eq!(
        platform.outside.erased.len(),
        erased + 2,
        "its own, and the credentials'"
    );
}

#[test]
fn an_organization_goes_with_all_that_it_owns() {
    let mut platform = all();
    platform.must(key(Kind::Organization, "acme"), cascade());
    let refused = platform.refused(key(Kind::Secret, "late"), create(secret_spec()));
    assert_eq!(refused.code, Code::BeingDeleted);
    platform.run();
    gone(
        &platform,
        &[
            (Kind::Function, "f"),
            (Kind::ServiceInstance, "azure-pg"),
            (Kind::ServiceBroker, "azure"),
            (Kind::Secret, "open-sesame"),
            (Kind::Organization, "acme"),
        ],
    );
    assert!(platform.outside.instances.is_empty() && platform.outside.bindings.is_empty());
}

#[test]
fn a_second_delete_of_what_is_going_changes_nothing() {
    let mut platform = all();
    platform.must(key(Kind::Secret, "open-sesame"), cascade());
    let before = platform.log.len();
    platform.must(key(Kind::Secret, "open-sesame"), delete());
    platform.must(key(Kind::ServiceInstance, "azure-pg"), cascade());
    assert_eq!(
        platform.log.len(),
        before + 1,
        "only the instance's own end was new"
    );
    platform.run();
    gone(&platform, &[(Kind::Secret, "open-sesame")]);
}
