//! Commands of all kinds.

use engine_model::spec::{ServiceAccountSpec, Spec, Tags};
use engine_model::{Code, Command, Kind, Status};

use crate::support::*;

fn secret() -> engine_model::ResourceKey {
    key(Kind::Secret, "open-sesame")
}

#[test]
fn a_repeated_command_is_answered_with_its_first_outcome_also_when_its_work_is_gone() {
    let mut platform = Platform::new();
    let id = platform.next_id();
    let first = platform
        .send_as(id, secret(), create(secret_spec()))
        .unwrap();
    assert_eq!(
        platform.send_as(id, secret(), create(secret_spec())),
        Ok(first)
    );
    assert_eq!(
        platform.refused(secret(), create(secret_spec())).code,
        Code::AlreadyExists
    );
    for _ in 0..40 {
        platform.must(secret(), update(secret_spec()));
    }
    platform.must(secret(), delete());
    assert_eq!(
        platform.send_as(id, secret(), create(secret_spec())),
        Ok(first)
    );
    assert_eq!(
        platform.status(Kind::Secret, "open-sesame").0,
        Status::Deleted
    );
    platform.check();
}

#[test]
fn the_last_position_outlives_the_resource() {
    let mut platform = Platform::new();
    platform.must(secret(), create(secret_spec()));
    platform.must(secret(), delete());
    assert_eq!(platform.world.last_seq(&secret()).0, 2);
    assert_eq!(platform.world.position().0, 2);
    assert!(platform.world.status(&key(Kind::Secret, "never")).is_none());
}

#[test]
fn what_is_not_there_cannot_be_changed() {
    for (kind, spec) in [
        (Kind::Secret, secret_spec()),
        (Kind::ServiceBroker, broker_spec()),
        (Kind::ServiceInstance, instance_spec()),
        (Kind::BaseImage, base_image_spec("python3")),
        (Kind::Image, image_spec("base", "")),
        (Kind::Function, function_spec("good")),
        (Kind::API, api_spec("f")),
        (Kind::Organization, organization_spec()),
    ] {
        let mut platform = Platform::new();
        assert_eq!(
            platform.refused(key(kind, "x"), update(spec)).code,
            Code::NotFound,
            "{kind}"
        );
        assert_eq!(
            platform.refused(key(kind, "x"), delete()).code,
            Code::NotFound,
            "{kind}"
        );
    }
}

#[test]
fn a_document_of_another_kind_is_refused() {
    let mut platform = Platform::new();
    let refused = platform.refused(key(Kind::Image, "x"), create(secret_spec()));
    assert_eq!(refused.code, Code::WrongKind);
    let refused = platform.refused(key(Kind::Image, "x"), Command::Refresh);
    assert_eq!(refused.code, Code::WrongKind);
}

#[test]
fn what_the_engine_derives_takes_no_commands() {
    let mut platform = Platform::with_broker();
    platform.must(key(Kind::ServiceInstance, "own"), create(instance_spec()));
    platform.run();
    for derived in [
        key(Kind::ServiceClass, "pg"),
        key(Kind::ServiceBinding, "own"),
    ] {
        assert_eq!(platform.refused(derived, delete()).code, Code::ReadOnly);
    }
    assert_eq!(
        platform.refused(key(Kind::Run, "x"), delete()).code,
        Code::UnknownKind
    );
}

#[test]
fn an_account_bears_the_hash_of_its_token_and_never_the_token() {
    let mut platform = Platform::new();
    let account = |sha: &str| {
        Spec::ServiceAccount(ServiceAccountSpec {
            token_sha256: sha.into(),
            tags: Tags::new(),
        })
    };
    let ci = key(Kind::ServiceAccount, "ci");
    let refused = platform.refused(ci.clone(), create(account("hunter2")));
    assert_eq!(refused.code, Code::InvalidField);
    assert!(!refused.message.contains("hunter2"));
    platform.must(ci.clone(), create(account(&"0a".repeat(32))));
    platform.must(ci.clone(), update(account(&"0b".repeat(32))));
    platform.must(ci, delete());
    assert_eq!(
        platform.status(Kind::ServiceAccount, "ci").0,
        Status::Deleted
    );
}
