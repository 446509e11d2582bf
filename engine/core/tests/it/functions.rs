//! Functions and their revisions.

use engine_model::spec::{FunctionSchema, FunctionSpec, RunPolicy, Source, Spec, WorkerScale};
use engine_model::{Code, Command, Effect, Kind, Status};
use serde_json::json;

use crate::support::*;

fn f() -> engine_model::ResourceKey {
    key(Kind::Function, "f")
}

fn status(platform: &Platform) -> (Status, Vec<String>) {
    platform.status(Kind::Function, "f")
}

fn with_image() -> Platform {
    let mut platform = Platform::with_broker();
    platform.must(
        key(Kind::BaseImage, "python3-base"),
        create(base_image_spec("python3")),
    );
    platform.must(
        key(Kind::Image, "python"),
        create(image_spec("python3-base", "")),
    );
    platform.run();
    platform
}

#[test]
fn the_order_of_creation_does_not_matter() {
    let creations = [
        (f(), function_with(&["open-sesame"], &["azure-pg"])),
        (key(Kind::API, "a"), api_spec("f")),
        (
            key(Kind::Image, "python"),
            image_spec("python3-base", "requests"),
        ),
        (
            key(Kind::BaseImage, "python3-base"),
            base_image_spec("python3"),
        ),
        (key(Kind::Secret, "open-sesame"), secret_spec()),
        (key(Kind::ServiceInstance, "azure-pg"), instance_spec()),
    ];
    for turn in 0..creations.len() {
        for backwards in [false, true] {
            let mut platform = Platform::with_broker();
            let mut order = creations.clone();
            order.rotate_left(turn);
            if backwards {
                order.reverse();
            }
            for (key, spec) in order {
                platform.must(key, create(spec));
                if backwards {
                    platform.run();
                }
            }
            platform.run();
            assert_eq!(
                status(&platform),
                (Status::Ready, vec![]),
                "{turn} {backwards}"
            );
            assert_eq!(
                platform.status(Kind::API, "a").0,
                Status::Ready,
                "{turn} {backwards}"
            );
            platform.check();
        }
    }
}

#[test]
fn all_that_is_missing_is_named() {
    let mut platform = Platform::with_broker();
    platform.must(f(), create(function_with(&["open-sesame"], &["azure-pg"])));
    let (status, reason) = status(&platform);
    assert_eq!(status, Status::Initialized);
    assert_eq!(
        reason,
        [
            "image python does not exist yet",
            "secret open-sesame does not exist yet",
            "service instance azure-pg does not exist yet"
        ]
    );
}

#[test]
fn a_bad_handler_is_an_error_with_exactly_one_reason_and_recovers_by_an_update() {
    let mut platform = with_image();
    platform.must(f(), create(function_spec("bad")));
    platform.run();
    let expected = (
        Status::Error,
        vec!["Invalid function file or handler".into()],
    );
    assert_eq!(status(&platform), expected);
    platform.must(f(), Command::Retry);
    platform.run();
    assert_eq!(status(&platform), expected);
    platform.must(f(), update(function_spec("good")));
    platform.run();
    assert_eq!(status(&platform).0, Status::Ready);
    platform.check();
}

#[test]
fn the_old_revision_serves_until_the_new_one_is_loaded_and_then_goes() {
    let mut platform = with_image();
    platform.must(f(), create(function_spec("one")));
    platform.run();
    let plan = |platform: &Platform| {
        engine_core::plan_run(&platform.world, &f().org, &f().name, &[], run_id(1), None)
            .unwrap()
            .revision
    };
    let old = plan(&platform);
    platform.must(f(), update(function_spec("two")));
    assert_eq!(status(&platform).0, Status::Updating);
    assert_eq!(plan(&platform), old);
    platform.run();
    assert_ne!(plan(&platform), old);
    assert_eq!(platform.outside.retired, [old]);
    let loads = engine_core::loads(&platform.world);
    assert_eq!(loads.len(), 1);
    platform.check();
}

#[test]
fn a_failed_update_keeps_the_old_revision_callable() {
    let mut platform = with_image();
    platform.must(f(), create(function_spec("one")));
    platform.run();
    platform.must(f(), update(function_spec("bad")));
    platform.run();
    assert_eq!(status(&platform).0, Status::Error);
    assert!(
        engine_core::plan_run(&platform.world, &f().org, &f().name, &[], run_id(1), None).is_ok()
    );
}

#[test]
fn a_rebuilt_image_rolls_the_functions_that_use_it_and_an_equal_one_does_not() {
    let mut platform = with_image();
    platform.must(f(), create(function_spec("one")));
    platform.run();
    let loads = |platform: &Platform| {
        let history = platform.history(Kind::Function, "f");
        history
            .iter()
            .filter(|name| *name == "LoadRequested")
            .count()
    };
    let image = key(Kind::Image, "python");
    platform.must(image.clone(), update(image_spec("python3-base", "")));
    platform.run();
    assert_eq!(loads(&platform), 1);
    platform.must(image, update(image_spec("python3-base", "requests")));
    platform.run();
    assert_eq!(loads(&platform), 2);
    assert_eq!(status(&platform).0, Status::Ready);
    platform.check();
}

#[test]
fn an_image_in_error_is_waited_for_and_named() {
    let mut platform = with_image();
    let image = key(Kind::Image, "python");
    platform.must(image.clone(), update(image_spec("python3-base", "bad")));
    platform.run();
    platform.must(f(), create(function_spec("one")));
    platform.run();
    let (now, reason) = status(&platform);
    assert_eq!(now, Status::Initialized);
    assert_eq!(reason, ["image python is in error: no such package"]);
    platform.must(image, update(image_spec("python3-base", "requests")));
    platform.run();
    assert_eq!(status(&platform).0, Status::Ready);
}

#[test]
fn services_elsewhere_roll_the_function() {
    let mut platform = with_image();
    let (pg, binding) = (key(Kind::ServiceInstance, "azure-pg"), Kind::ServiceBinding);
    platform.must(pg.clone(), create(instance_spec()));
    platform.must(f(), create(function_with(&[], &["azure-pg"])));
    platform.run();
    assert_eq!(status(&platform).0, Status::Ready);
    assert_eq!(
        platform.history(binding, "azure-pg").last().unwrap(),
        "Bound"
    );
    // The instance is ended on record and made anew, at another port.
    platform.outside.port = 6432;
    platform.must(pg.clone(), abandon());
    platform.run();
    platform.must(pg, create(instance_spec()));
    platform.run();
    let load = engine_core::loads(&platform.world).pop().unwrap().1;
    assert_eq!(load.endpoints[0].port, 6432);
    platform.check();
}

#[test]
fn an_update_while_loading_drops_the_revision_that_nobody_wants() {
    let mut platform = with_image();
    platform.must(f(), create(function_spec("one")));
    let lost = platform.tasks.iter().find_map(|task| match &task.effect {
        Effect::LoadFunction(load) => Some(load.revision),
        _ => None,
    });
    platform.must(f(), update(function_spec("two")));
    platform.run();
    assert_eq!(status(&platform).0, Status::Ready);
    assert!(platform.outside.retired.contains(&lost.unwrap()));
    assert_eq!(
        platform.history(Kind::Function, "f"),
        [
            "Created",
            "LoadRequested",
            "Updated",
            "LoadRequested",
            "Loaded"
        ]
    );
}

#[test]
fn what_can_never_be_loaded_is_refused() {
    let mut platform = with_image();
    let refused = |platform: &mut Platform, spec: FunctionSpec| {
        platform.refused(f(), create(Spec::Function(spec)))
    };
    let good = || function_of("python", "good");
    let schema = FunctionSpec {
        schema: FunctionSchema {
            input: json!({"type": "gizmo"}),
            ..FunctionSchema::default()
        },
        ..good()
    };
    let schema = refused(&mut platform, schema);
    assert_eq!(schema.code, Code::InvalidSchema);
    assert!(schema.message.starts_with("schema.in: "), "{schema}");
    for source in [
        Source::Blob("abc".into()),
        Source::Archive(String::new()),
        Source::File {
            name: "../hello.py".into(),
            text: "x".into(),
        },
    ] {
        let spec = FunctionSpec { source, ..good() };
        assert_eq!(refused(&mut platform, spec).code, Code::InvalidField);
    }
    let scale = |min, max| FunctionSpec {
        workers: WorkerScale { min, max, idle: 0 },
        ..good()
    };
    let few = refused(&mut platform, scale(3, 2));
    assert_eq!(few.code, Code::InvalidField);
    assert!(few.message.starts_with("workers.min: 3 "), "{few}");
    // Without a number of its own, the node says how many there may be.
    let day = 24 * 3600 * 1000;
    for (field, attempts, backoff, backoff_max) in [
        ("runs.attempts", 101, 0, 0),
        ("runs.backoff", 100, day + 1, day),
        ("runs.backoffMax", 100, day, day + 1),
    ] {
        let runs = RunPolicy {
            attempts,
            backoff,
            backoff_max,
            ..RunPolicy::default()
        };
        let refusal = refused(&mut platform, FunctionSpec { runs, ..good() });
        assert_eq!(refusal.code, Code::InvalidField);
        assert!(
            refusal.message.starts_with(&format!("{field}: ")),
            "{refusal}"
        );
    }
}
