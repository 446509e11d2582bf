//! What a run is given.

use engine_core::{Refused, plan_run};
use engine_model::{Code, Kind, RunErrorKind};

use crate::support::*;

fn with_function(secrets: &[&str], services: &[&str]) -> Platform {
    let mut platform = Platform::with_broker();
    platform.must(
        key(Kind::BaseImage, "base"),
        create(base_image_spec("python3")),
    );
    platform.must(key(Kind::Image, "python"), create(image_spec("base", "")));
    platform.must(key(Kind::Secret, "open-sesame"), create(secret_spec()));
    platform.must(
        key(Kind::ServiceInstance, "azure-pg"),
        create(instance_spec()),
    );
    platform.must(
        key(Kind::Function, "f"),
        create(function_with(secrets, services)),
    );
    platform.run();
    platform
}

fn plan(platform: &Platform, secrets: &[&str]) -> Result<engine_core::RunPlan, Refused> {
    let names: Vec<_> = secrets.iter().map(|text| name(text)).collect();
    plan_run(
        &platform.world,
        &key(Kind::Function, "f").org,
        &name("f"),
        &names,
        run_id(1),
        None,
    )
}

#[test]
fn a_run_is_given_the_functions_secrets_and_its_own_and_the_credentials_of_services() {
    let platform = with_function(&["open-sesame"], &["azure-pg"]);
    let id = platform.outside.instances.first().unwrap().to_string();
    let plan = plan(&platform, &[&id]).unwrap();
    let names: Vec<&str> = plan.secrets.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["open-sesame", &id]);
    assert_eq!(plan.services.len(), 1);
    assert_eq!(plan.services[0].bound.credentials, plan.secrets[1].1);
    assert_eq!(plan.load.revision, plan.revision);
}

#[test]
fn a_missing_secret_fails_the_run() {
    let platform = with_function(&[], &[]);
    let Err(Refused::Error(error)) = plan(&platform, &["nope"]) else {
        panic!()
    };
    assert_eq!(error.kind, RunErrorKind::InputError);
    assert_eq!(
        error.message,
        "error when retrieving secrets from secret store: secret nope does not exist"
    );
}

#[test]
fn a_service_that_is_not_bound_fails_the_run() {
    let mut platform = with_function(&[], &["azure-pg"]);
    platform.must(key(Kind::ServiceInstance, "azure-pg"), abandon());
    let Err(Refused::Error(error)) = plan(&platform, &[]) else {
        panic!()
    };
    assert_eq!(error.kind, RunErrorKind::InputError);
    assert!(
        error.message.starts_with(
            "error when retrieving bindings from service manager: failed to get service bindings \
             current status "
        ),
        "{}",
        error.message
    );
}

#[test]
fn a_function_that_is_not_there_or_not_ready_is_refused() {
    let mut platform = with_function(&[], &[]);
    let org = key(Kind::Function, "f").org;
    let Err(Refused::Rejection(absent)) =
        plan_run(&platform.world, &org, &name("g"), &[], run_id(1), None)
    else {
        panic!()
    };
    assert_eq!(absent.code, Code::NotFound);
    platform.must(
        key(Kind::Function, "g"),
        create(function_with(&["nope"], &[])),
    );
    let Err(Refused::Rejection(waiting)) =
        plan_run(&platform.world, &org, &name("g"), &[], run_id(1), None)
    else {
        panic!()
    };
    assert_eq!(waiting.code, Code::NotReady);
    assert!(
        waiting.message.contains("secret nope does not exist yet"),
        "{waiting}"
    );
}
