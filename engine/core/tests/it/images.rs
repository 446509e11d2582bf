//! Base images and images.

use engine_model::{Code, Command, Kind, Status};

use crate::support::*;

fn base() -> engine_model::ResourceKey {
    key(Kind::BaseImage, "base")
}

fn image() -> engine_model::ResourceKey {
    key(Kind::Image, "python")
}

#[test]
fn an_image_waits_for_its_base_image_and_is_built_in_the_commit_that_finds_it_ready() {
    let mut platform = Platform::new();
    platform.must(image(), create(image_spec("base", "requests")));
    let (status, reason) = platform.status(Kind::Image, "python");
    assert_eq!(status, Status::Initialized);
    assert_eq!(reason, ["base image base does not exist yet"]);
    platform.must(base(), create(base_image_spec("python3")));
    platform.run();
    assert_eq!(platform.status(Kind::Image, "python").0, Status::Ready);
    platform.must(key(Kind::Image, "two"), create(image_spec("base", "")));
    assert_eq!(
        platform.history(Kind::Image, "two"),
        ["Created", "BuildRequested"]
    );
}

#[test]
fn a_base_image_that_no_node_can_run_is_an_error_and_its_images_say_so() {
    let mut platform = Platform::new();
    platform.must(base(), create(base_image_spec("cobol")));
    platform.must(image(), create(image_spec("base", "")));
    platform.run();
    let expected = (Status::Error, vec!["no language pack for cobol".into()]);
    assert_eq!(platform.status(Kind::BaseImage, "base"), expected);
    let (status, reason) = platform.status(Kind::Image, "python");
    assert_eq!(status, Status::Initialized);
    assert_eq!(
        reason,
        ["base image base is in error: no language pack for cobol"]
    );
    platform.must(base(), Command::Retry);
    platform.run();
    assert_eq!(platform.status(Kind::BaseImage, "base"), expected);
    platform.must(base(), update(base_image_spec("python3")));
    platform.run();
    assert_eq!(platform.status(Kind::Image, "python").0, Status::Ready);
}

#[test]
fn another_language_of_the_base_image_rebuilds_its_images() {
    let mut platform = Platform::new();
    platform.must(base(), create(base_image_spec("python3")));
    platform.must(image(), create(image_spec("base", "")));
    platform.run();
    platform.must(base(), update(base_image_spec("nodejs")));
    assert_eq!(platform.status(Kind::BaseImage, "base").0, Status::Updating);
    platform.run();
    let history = platform.history(Kind::Image, "python");
    assert_eq!(history[3..], ["BuildRequested", "Built"]);
    platform.check();
}

#[test]
fn a_failed_build_says_why_and_can_be_retried() {
    let mut platform = Platform::new();
    platform.must(base(), create(base_image_spec("python3")));
    platform.run();
    platform.must(image(), create(image_spec("base", "bad")));
    platform.run();
    assert_eq!(
        platform.status(Kind::Image, "python"),
        (Status::Error, vec!["no such package".into()])
    );
    platform.must(image(), Command::Retry);
    assert_eq!(platform.status(Kind::Image, "python").0, Status::Creating);
    platform.run();
    platform.must(image(), update(image_spec("base", "requests")));
    platform.run();
    assert_eq!(platform.status(Kind::Image, "python").0, Status::Ready);
    assert_eq!(
        platform.refused(image(), Command::Retry).code,
        Code::NotReady
    );
}

fn on_an_image(url: &str) -> Platform {
    let mut platform = Platform::new();
    platform.must(base(), create(base_image_from(url)));
    platform.must(image(), create(image_spec("base", "requests")));
    platform.must(key(Kind::Function, "f"), create(function_spec("good")));
    platform.run();
    platform
}

#[test]
fn a_tag_that_names_another_image_now_rebuilds_its_images_and_rolls_their_functions() {
    let mut platform = on_an_image("moving");
    platform.must(base(), update(base_image_from("moving")));
    platform.run();
    let history = platform.history(Kind::Image, "python");
    assert_eq!(history[3..], ["BuildRequested", "Built"]);
    let history = platform.history(Kind::Function, "f");
    assert_eq!(history[3..], ["LoadRequested", "Loaded"]);
    platform.check();
}

#[test]
fn what_is_used_is_what_resources_and_kept_revisions_are_made_of() {
    let mut platform = on_an_image("moving");
    let layer = "layer of requests for python3";
    let digests = |digests: &[&str]| digests.iter().map(|d| (*d).to_owned()).collect();
    let used = engine_core::used(&platform.world);
    assert_eq!(
        (used.roots, used.layers),
        (digests(&["sha256:1"]), digests(&[layer]))
    );
    platform.must(base(), update(base_image_from("moving")));
    platform.run();
    let used = engine_core::used(&platform.world);
    assert_eq!(
        used.roots,
        digests(&["sha256:1", "sha256:2"]),
        "one can roll back"
    );
    platform.must(key(Kind::Function, "f"), delete());
    platform.must(image(), delete());
    platform.must(base(), delete());
    platform.run();
    assert_eq!(engine_core::used(&platform.world), Default::default());
}

#[test]
fn the_same_image_again_rebuilds_nothing() {
    let mut platform = on_an_image("fixed");
    platform.must(base(), update(base_image_from("fixed")));
    platform.run();
    assert_eq!(
        platform.history(Kind::Image, "python"),
        ["Created", "BuildRequested", "Built"]
    );
    let history = platform.history(Kind::Function, "f");
    assert_eq!(history, ["Created", "LoadRequested", "Loaded"]);
    platform.check();
}
