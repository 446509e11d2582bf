//! Folding twice, in other steps, again from the beginning, and by another version.

use engine_model::*;
use proptest::prelude::*;

use super::fixture::*;
use crate::batch::{Batch, positions};
use crate::events::EventFold;
use crate::view::{BaseImages, Instances};

#[test]
fn what_comes_twice_changes_nothing() {
    let tape = story();
    let once = House::of(&tape);
    let mut twice = House::empty();
    for recorded in &tape.0 {
        twice.fold(&[recorded.clone(), recorded.clone()]);
    }
    twice.fold(&tape.0);
    assert_eq!(once.dump(), twice.dump());
}

#[test]
fn the_position_is_that_of_the_last_commit_also_when_no_view_wants_it() {
    let tape = story();
    let house = House::of(&tape);
    let last = tape.0.last().unwrap();
    assert_eq!(
        house.fold.position(),
        AsOf {
            seq: last.seq,
            at: last.commit.at
        }
    );
}

#[test]
fn a_view_of_another_version_begins_anew_and_the_others_go_on() {
    let tape = story();
    let dir = tempfile::tempdir().unwrap();
    let tree = tree(dir.path(), crate::store::Stream::Events);
    let mut fold = EventFold::open(tree.clone()).unwrap();
    tape.0
        .iter()
        .for_each(|recorded| fold.fold(recorded).unwrap());
    fold.commit(0).unwrap();
    let whole = dump(&tree);

    // As an older program would have left it: other rows, under another version.
    let mut known = positions(&tree).unwrap();
    let position = known.remove("baseimage/2").unwrap();
    known.insert("baseimage/0".into(), position);
    let mut batch = Batch::default();
    batch.put(b"baseimage/acme/python3-base", b"\"old\"".to_vec());
    batch.put(b"baseimage/acme/forgotten", b"\"old\"".to_vec());
    batch.apply(&tree, &known).unwrap();

    let mut fold = EventFold::open(tree.clone()).unwrap();
    assert_eq!(
        fold.position().seq,
        Seq(0),
        "the slowest view says where to read on"
    );
    tape.0
        .iter()
        .for_each(|recorded| fold.fold(recorded).unwrap());
    fold.commit(0).unwrap();
    assert_eq!(dump(&tree), whole);
}

#[test]
fn a_row_that_is_not_ours_is_an_error_and_not_a_guess() {
    let tape = story();
    let dir = tempfile::tempdir().unwrap();
    let tree = tree(dir.path(), crate::store::Stream::Events);
    let mut fold = EventFold::open(tree.clone()).unwrap();
    tree.insert(b"baseimage/acme/python3-base", b"hunter2".to_vec())
        .unwrap();
    let updated = tape
        .0
        .iter()
        .find(|one| one.commit.key.kind == Kind::BaseImage)
        .unwrap();
    let error = fold.fold(updated).unwrap_err();
    assert!(
        error.is_corruption() && !error.to_string().contains("hunter2"),
        "{error}"
    );
}

/// What can happen to a few resources, in any order: the views must not care whether the engine
/// would have decided so.
fn any_step() -> impl Strategy<Value = (u8, u8)> {
    (0..3_u8, 0..24_u8)
}

fn tape_of(steps: &[(u8, u8)]) -> Tape {
    let story = story();
    let mut tape = Tape::default();
    for (who, what) in steps {
        let taken = &story.0[usize::from(*what) % story.0.len()].commit;
        let name = format!("r{who}");
        match what {
            21 => tape.instance(&name, InstanceEvent::DeleteRequested),
            22 => tape.instance(
                &name,
                InstanceEvent::Deprovisioned {
                    request: request(1),
                },
            ),
            23 => tape.binding(
                &name,
                BindingEvent::Unbound {
                    request: request(1),
                    replaced: None,
                },
            ),
            _ => tape.commit(taken.key.kind, &name, taken.events.clone()),
        };
    }
    tape
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_rebuild_equals_what_was_kept_live(
        steps in prop::collection::vec(any_step(), 1..60),
        cuts in prop::collection::vec(1..7_usize, 60),
        keep in prop::bool::ANY,
    ) {
        let tape = tape_of(&steps);
        let rebuilt = House::of(&tape);
        // Live: small steps, some of them delivered twice, the cache now and then emptied.
        let mut live = House::empty();
        let (mut from, mut before) = (0, 0);
        for cut in cuts {
            let to = (from + cut).min(tape.0.len());
            for recorded in &tape.0[before..to] {
                live.fold.fold(recorded).unwrap();
            }
            live.fold.commit(if keep { 1000 } else { 0 }).unwrap();
            (before, from) = (from, to);
        }
        live.fold(&tape.0[before..]);
        prop_assert_eq!(live.dump(), rebuilt.dump());
        for name in ["r0", "r1", "r2"] {
            prop_assert_eq!(live.one::<Instances>(name), rebuilt.one::<Instances>(name));
            prop_assert_eq!(live.one::<BaseImages>(name), rebuilt.one::<BaseImages>(name));
        }
    }
}
