//! Kept revisions: going back to one, and dividing runs among them.

use std::collections::BTreeMap;

use engine_core::plan_run;
use engine_model::spec::{FunctionSpec, Source, Spec};
use engine_model::{Because, Code, Event, FunctionEvent, Kind, LOADED_KEPT, RevisionId, Status};

use crate::support::*;

fn f() -> engine_model::ResourceKey {
    key(Kind::Function, "f")
}

/// A function with a revision for each source.
fn with_revisions(sources: &[&str]) -> Platform {
    let mut platform = Platform::with_broker();
    platform.must(
        key(Kind::BaseImage, "python3-base"),
        create(base_image_spec("python3")),
    );
    platform.must(
        key(Kind::Image, "python"),
        create(image_spec("python3-base", "")),
    );
    platform.must(f(), create(function_spec(sources[0])));
    platform.run();
    for source in &sources[1..] {
        platform.must(f(), update(function_spec(source)));
        platform.run();
    }
    platform
}

fn planned(platform: &Platform, run: u32, begun_on: Option<RevisionId>) -> engine_core::RunPlan {
    plan_run(
        &platform.world,
        &f().org,
        &f().name,
        &[],
        run_id(run),
        begun_on,
    )
    .unwrap()
}

fn source(platform: &Platform, run: u32) -> String {
    match &planned(platform, run, None).load.spec.source {
        Source::File { text, .. } => text.clone(),
        other => panic!("{other:?}"),
    }
}

/// How many of a thousand runs each source is given.
fn tally(platform: &Platform) -> BTreeMap<String, u32> {
    let mut tally = BTreeMap::new();
    for run in 0..1000 {
        *tally.entry(source(platform, run)).or_default() += 1;
    }
    tally
}

fn last_load(platform: &Platform) -> (u32, Because) {
    let events = platform.events(Kind::Function, "f");
    let mut loads = events.iter().rev();
    let found = loads.find_map(|event| match event {
        Event::Function(FunctionEvent::LoadRequested {
            number, because, ..
        }) => Some((*number, *because)),
        _ => None,
    });
    found.unwrap()
}

#[test]
fn a_rollback_is_a_new_revision_with_the_document_of_the_one_before() {
    let mut platform = with_revisions(&["one", "two"]);
    platform.must(f(), rollback(None));
    assert_eq!(source(&platform, 1), "two", "it serves until then");
    platform.run();
    assert_eq!(source(&platform, 1), "one");
    assert_eq!(last_load(&platform), (3, Because::RolledBack { to: 1 }));
    platform.must(f(), rollback(None));
    platform.run();
    assert_eq!(source(&platform, 1), "two");
    assert_eq!(last_load(&platform), (4, Because::RolledBack { to: 2 }));
    platform.check();
}

#[test]
fn a_rollback_out_of_an_error_takes_the_document_that_serves() {
    let mut platform = with_revisions(&["one", "two", "bad"]);
    assert_eq!(platform.status(Kind::Function, "f").0, Status::Error);
    platform.must(f(), rollback(None));
    platform.run();
    assert_eq!(platform.status(Kind::Function, "f").0, Status::Ready);
    assert_eq!(last_load(&platform), (4, Because::RolledBack { to: 2 }));
    platform.must(f(), rollback(Some(1)));
    platform.run();
    assert_eq!(source(&platform, 1), "one");
    platform.check();
}

#[test]
fn a_rollback_waits_for_what_its_document_names() {
    let mut platform = with_revisions(&["one"]);
    platform.must(key(Kind::Secret, "s"), create(secret_spec()));
    platform.must(f(), update(function_with(&["s"], &[])));
    platform.run();
    platform.must(f(), update(function_spec("three")));
    platform.run();
    platform.must(key(Kind::Secret, "s"), delete());
    platform.must(f(), rollback(Some(2)));
    platform.run();
    let (status, reason) = platform.status(Kind::Function, "f");
    assert_eq!(status, Status::Updating);
    assert_eq!(reason, ["secret s does not exist yet"]);
    platform.must(key(Kind::Secret, "s"), create(secret_spec()));
    platform.run();
    assert_eq!(last_load(&platform), (4, Because::RolledBack { to: 2 }));
    assert_eq!(platform.status(Kind::Function, "f").0, Status::Ready);
    platform.check();
}

#[test]
fn there_is_no_rollback_to_what_was_never_loaded_nor_to_what_is_there() {
    let mut platform = with_revisions(&["one", "bad"]);
    for unknown in [2, 7] {
        let refused = platform.refused(f(), rollback(Some(unknown)));
        assert_eq!(refused.code, Code::InvalidField, "{refused}");
        assert!(refused.message.ends_with(": 1"), "{refused}");
    }
    let mut platform = with_revisions(&["one", "two"]);
    assert_eq!(
        platform.refused(f(), rollback(Some(2))).code,
        Code::NotReady
    );
    let mut platform = with_revisions(&["one"]);
    assert_eq!(platform.refused(f(), rollback(None)).code, Code::NotReady);
    let image = key(Kind::Image, "python");
    for command in [rollback(None), route(&[])] {
        let refused = platform.refused(image.clone(), command);
        assert_eq!(refused.code, Code::WrongKind, "{refused}");
    }
}

#[test]
fn each_revision_says_why_it_came() {
    let mut platform = with_revisions(&["one"]);
    assert_eq!(last_load(&platform), (1, Because::Created));
    platform.must(f(), update(function_spec("bad")));
    platform.run();
    assert_eq!(last_load(&platform), (2, Because::Updated));
    platform.must(f(), engine_model::Command::Retry);
    platform.run();
    assert_eq!(last_load(&platform), (3, Because::Retried));
    let image = key(Kind::Image, "python");
    platform.must(image, update(image_spec("python3-base", "requests")));
    platform.run();
    assert_eq!(last_load(&platform), (4, Because::Image));
    let pg = key(Kind::ServiceInstance, "azure-pg");
    platform.must(pg.clone(), create(instance_spec()));
    platform.must(f(), update(function_with(&[], &["azure-pg"])));
    platform.run();
    assert_eq!(last_load(&platform), (5, Because::Updated));
    platform.outside.port = 6432;
    platform.must(pg.clone(), abandon());
    platform.run();
    platform.must(pg, create(instance_spec()));
    platform.run();
    assert_eq!(last_load(&platform), (6, Because::Services));
    platform.check();
}

#[test]
fn runs_are_divided_as_they_are_routed_and_a_repeat_takes_the_same_revision() {
    let mut platform = with_revisions(&["one", "two", "three"]);
    assert_eq!(tally(&platform), [("three".to_owned(), 1000)].into());
    platform.must(f(), route(&[(1, 90), (3, 10)]));
    platform.run();
    let divided = tally(&platform);
    assert_eq!(divided.len(), 2);
    assert!((870..930).contains(&divided["one"]), "{divided:?}");
    assert_eq!(tally(&platform), divided);
    assert_eq!(engine_core::loads(&platform.world).len(), 2);
    platform.must(f(), route(&[]));
    platform.run();
    assert_eq!(tally(&platform), [("three".to_owned(), 1000)].into());
    platform.check();
}

#[test]
fn a_revision_that_runs_are_routed_to_reaches_its_services_where_they_are_now() {
    let mut platform = with_revisions(&["one"]);
    let pg = key(Kind::ServiceInstance, "azure-pg");
    platform.must(pg.clone(), create(instance_spec()));
    platform.must(f(), update(function_with(&[], &["azure-pg"])));
    platform.run();
    platform.must(f(), update(function_spec("three")));
    platform.run();
    platform.must(f(), route(&[(2, 100)]));
    platform.run();
    let before = planned(&platform, 1, None);
    assert_eq!(before.load.endpoints[0].port, 5432);
    assert_eq!(before.load.revision, before.revision);
    platform.outside.port = 6432;
    platform.must(pg.clone(), abandon());
    platform.run();
    platform.must(pg, create(instance_spec()));
    platform.run();
    let after = planned(&platform, 1, None);
    assert_eq!(after.revision, before.revision);
    assert_eq!(after.load.endpoints[0].port, 6432);
    assert_ne!(after.load.revision, before.load.revision, "other workers");
    assert_eq!(planned(&platform, 2, None).load, after.load);
    assert!(engine_core::active(&platform.world).contains(&after.load.revision));
    platform.check();
}

#[test]
fn ids_of_one_moment_are_spread_over_the_shares() {
    let mut platform = with_revisions(&["one", "two"]);
    platform.must(f(), route(&[(1, 50), (2, 50)]));
    let mut first = 0;
    for low in 0..1000_u128 {
        let run = engine_model::RunId(uuid::Uuid::from_u128((0x019d_bb7e << 96) | low));
        let plan = plan_run(&platform.world, &f().org, &f().name, &[], run, None).unwrap();
        let one = matches!(&plan.load.spec.source, Source::File { text, .. } if text == "one");
        first += u32::from(one);
    }
    assert!((440..560).contains(&first), "{first}");
}

#[test]
fn while_runs_are_routed_a_new_revision_is_loaded_and_gets_none() {
    let mut platform = with_revisions(&["one", "two"]);
    platform.must(f(), route(&[(1, 60), (2, 40)]));
    platform.must(f(), update(function_spec("three")));
    platform.run();
    assert!(!tally(&platform).contains_key("three"));
    let (status, reason) = platform.status(Kind::Function, "f");
    assert_eq!(status, Status::Ready);
    assert_eq!(
        reason,
        [
            "runs are routed: 60 % to revision 1, 40 % to revision 2",
            "revision 3 is loaded and gets no runs; `dispatch route function f --latest` sends it \
             all"
        ]
    );
    platform.must(f(), route(&[(3, 100)]));
    platform.run();
    assert_eq!(tally(&platform), [("three".to_owned(), 1000)].into());
    platform.check();
}

#[test]
fn workers_go_when_their_revision_is_neither_routed_to_nor_the_newest() {
    let mut platform = with_revisions(&["one", "two"]);
    let revision =
        |number| RevisionId::derived(format_args!("{}:revision:{number}", id(&platform)));
    let ids: Vec<RevisionId> = (1..=4).map(revision).collect();
    assert_eq!(platform.outside.retired, [ids[0]]);
    platform.must(f(), route(&[(1, 100)]));
    platform.must(f(), update(function_spec("three")));
    platform.run();
    assert_eq!(platform.outside.retired, [ids[0], ids[1]]);
    platform.must(f(), update(function_spec("four")));
    platform.run();
    assert_eq!(platform.outside.retired, [ids[0], ids[1], ids[2]]);
    platform.must(f(), route(&[]));
    platform.run();
    assert_eq!(platform.outside.retired, [ids[0], ids[1], ids[2], ids[0]]);
    platform.must(f(), route(&[(2, 50), (4, 50)]));
    platform.run();
    platform.must(f(), delete());
    platform.run();
    let mut last = platform.outside.retired.split_off(4);
    last.sort();
    let mut expected = [ids[1], ids[3]];
    expected.sort();
    assert_eq!(last, expected);
}

fn id(platform: &Platform) -> engine_model::FunctionId {
    planned(platform, 1, None).function
}

#[test]
fn a_late_retirement_leaves_a_revision_alone_that_runs_are_routed_to_again() {
    let mut platform = with_revisions(&["one"]);
    platform.must(f(), update(function_spec("two")));
    let load = platform.tasks.pop_front().unwrap();
    platform.react_with(&load);
    // The word to retire the first one is still on its way.
    platform.must(f(), route(&[(1, 50), (2, 50)]));
    platform.run();
    assert_eq!(platform.outside.retired, []);
}

#[test]
fn a_run_ends_on_the_revision_that_it_began_with() {
    let mut platform = with_revisions(&["one"]);
    let begun = planned(&platform, 1, None).revision;
    platform.must(f(), update(function_spec("two")));
    platform.run();
    assert_eq!(planned(&platform, 1, Some(begun)).revision, begun);
    assert_ne!(planned(&platform, 1, None).revision, begun);
    for number in 0..LOADED_KEPT {
        platform.must(f(), update(function_spec(&format!("more {number}"))));
        platform.run();
    }
    let newest = planned(&platform, 1, None).revision;
    assert_eq!(planned(&platform, 1, Some(begun)).revision, newest);
}

#[test]
fn the_last_ten_are_kept_and_whatever_is_routed_to() {
    let mut platform = with_revisions(&["one", "two"]);
    platform.must(f(), route(&[(1, 100)]));
    for number in 3..=30 {
        let source = if number % 2 == 0 { "bad" } else { "good" };
        let spec = FunctionSpec {
            timeout: number,
            ..function_of("python", source)
        };
        platform.must(f(), update(Spec::Function(spec)));
        platform.run();
        platform.check();
    }
    assert_eq!(tally(&platform), [("one".to_owned(), 1000)].into());
    let kept = engine_core::kept(&platform.world);
    assert_eq!(kept.len(), LOADED_KEPT + 1);
    assert_eq!(
        platform.refused(f(), route(&[(2, 100)])).code,
        Code::InvalidField
    );
    platform.must(f(), route(&[]));
    assert_eq!(engine_core::kept(&platform.world).len(), LOADED_KEPT);
    assert_eq!(
        platform.refused(f(), route(&[(1, 100)])).code,
        Code::InvalidField
    );
    platform.check();
}

#[test]
fn shares_are_of_different_loaded_revisions_and_make_up_a_hundred() {
    let mut platform = with_revisions(&["one", "two", "three", "four", "five", "six", "bad"]);
    let none: &[(u32, u8)] = &[(7, 100)];
    let six: Vec<(u32, u8)> = (1..=6)
        .map(|number| (number, 15 + number as u8 % 2))
        .collect();
    for shares in [
        none,
        &[(1, 50)],
        &[(1, 50), (1, 50)],
        &[(1, 100), (2, 0)],
        &[(1, 200), (2, 156)],
        &[(0, 100)],
        &six,
    ] {
        let refused = platform.refused(f(), route(shares));
        assert_eq!(refused.code, Code::InvalidField, "{shares:?} {refused}");
    }
    platform.must(f(), route(&[(1, 20), (2, 20), (3, 20), (4, 20), (5, 20)]));
    assert_eq!(tally(&platform).len(), 5);
    platform.check();
}

#[test]
fn what_a_routed_revision_names_is_in_use_and_its_own_binding_stays() {
    let mut platform = with_revisions(&["one"]);
    platform.must(key(Kind::Secret, "s"), create(secret_spec()));
    let pg = key(Kind::ServiceInstance, "azure-pg");
    platform.must(pg.clone(), create(instance_spec()));
    platform.must(f(), update(function_with(&["s"], &["azure-pg:own"])));
    platform.run();
    platform.must(f(), route(&[(2, 100)]));
    platform.must(f(), update(function_spec("three")));
    platform.run();
    assert_eq!(planned(&platform, 1, None).services.len(), 1);
    for used in [key(Kind::Secret, "s"), pg.clone()] {
        assert_eq!(platform.refused(used, delete()).code, Code::InUse);
    }
    platform.must(f(), route(&[]));
    platform.run();
    platform.must(key(Kind::Secret, "s"), delete());
    let gone = platform.refused(f(), route(&[(2, 100)]));
    assert_eq!(gone.code, Code::NotReady, "{gone}");
    // The binding of its own went with the last revision that used it, and comes again with it.
    let own = Kind::ServiceBinding;
    let binding = "azure-pg--f";
    assert_eq!(platform.history(own, binding).last().unwrap(), "Unbound");
    platform.must(key(Kind::Secret, "s"), create(secret_spec()));
    platform.must(f(), route(&[(2, 100)]));
    platform.run();
    assert_eq!(platform.status(own, binding).0, Status::Ready);
    platform.check();
}

#[test]
fn what_the_serving_revision_names_stays_although_a_failed_update_dropped_it() {
    let mut platform = with_revisions(&["one"]);
    let secret = key(Kind::Secret, "open-sesame");
    platform.must(secret.clone(), create(secret_spec()));
    let with_secret = FunctionSpec {
        secrets: vec![secret.name.clone()],
        ..function_of("python", "two")
    };
    platform.must(f(), update(Spec::Function(with_secret)));
    platform.run();
    platform.must(f(), update(Spec::Function(function_of("python", "bad"))));
    platform.run();
    assert_eq!(platform.status(Kind::Function, "f").0, Status::Error);
    assert_eq!(platform.refused(secret.clone(), delete()).code, Code::InUse);
    // Once a revision without it serves, it may go.
    platform.must(f(), update(Spec::Function(function_of("python", "three"))));
    platform.run();
    platform.must(secret, delete());
    platform.check();
}
