//! Revisions through the whole stack: going back, dividing runs, and ending where one began.

use std::collections::BTreeMap;

use harness::process::{Answered, Dispatch, eventually};
use serde_json::{Value, json};

/// A handler that says which one it is, after it has slept.
fn says(word: &str) -> String {
    format!(
        "import time\n\ndef handle(context, payload):\n    time.sleep(payload.get('sleep', 0))\n    \
         return '{word}'\n"
    )
}

fn exec(dispatch: &Dispatch) -> Value {
    dispatch.cli(&["exec", "f", "--wait"]).json()
}

fn update(dispatch: &Dispatch, source: &str) -> Answered {
    let path = dispatch.file("next.py", source);
    dispatch.cli(&["update", "function", "f", &path, "--wait"])
}

/// The kept revisions by number.
fn revisions(dispatch: &Dispatch) -> BTreeMap<u64, Value> {
    let listed = dispatch.cli(&["get", "revisions", "f", "--json"]).json();
    let number = |own: &Value| own["revision"].as_u64().unwrap();
    let all = listed.as_array().unwrap().iter();
    all.map(|own| (number(own), own.clone())).collect()
}

fn shown(dispatch: &Dispatch) -> Vec<(u64, String, u64)> {
    let all = revisions(dispatch).into_iter();
    all.map(|(number, own)| {
        let status = own["status"].as_str().unwrap().to_owned();
        (number, status, own["traffic"].as_u64().unwrap())
    })
    .collect()
}

#[test]
fn a_broken_update_leaves_the_old_one_serving_and_a_rollback_goes_back() {
    let dispatch = Dispatch::up();
    dispatch.function("f", &says("one"), &[]);
    assert_eq!(update(&dispatch, &says("two")).code, 0);
    assert_eq!(exec(&dispatch)["output"], "two");
    let broken = update(&dispatch, "this is not Python\n");
    assert_eq!(broken.code, 4, "{broken:?}");
    assert_eq!(exec(&dispatch)["output"], "two");
    let row = |number, status: &str, traffic| (number, status.to_owned(), traffic);
    assert_eq!(
        shown(&dispatch),
        [row(1, "READY", 0), row(2, "READY", 100), row(3, "ERROR", 0)]
    );

    // Out of the error, to what serves; and from there to the one before.
    let back = dispatch.cli(&["rollback", "function", "f", "--wait"]).ok();
    assert!(
        back.contains("Rolled back function: f, revision 4"),
        "{back}"
    );
    assert_eq!(exec(&dispatch)["output"], "two");
    let _ = dispatch.cli(&["rollback", "f", "--to", "1", "--wait"]).ok();
    let run = exec(&dispatch);
    let kept = revisions(&dispatch);
    assert_eq!(
        (&run["output"], &run["faasId"]),
        (&json!("one"), &kept[&5]["id"])
    );
    assert_eq!(kept[&5]["because"], "rolled back to 1");
    let table = dispatch.cli(&["get", "revisions", "f"]).ok();
    for text in ["Image layer", "100 %", "rolled back to 1", "ERROR"] {
        assert!(table.contains(text), "{text}: {table}");
    }
    let never = dispatch.cli(&["rollback", "function", "f", "--to", "3"]);
    assert_eq!(never.code, 1, "{never:?}");
    assert!(never.err.contains("[invalid-field]"), "{never:?}");
}

#[test]
fn runs_are_divided_and_a_new_revision_waits_for_its_share() {
    let dispatch = Dispatch::up();
    dispatch.function("f", &says("one"), &[]);
    assert_eq!(update(&dispatch, &says("two")).code, 0);
    let _ = dispatch
        .cli(&["route", "function", "f", "1=50", "2=50"])
        .ok();
    let kept = revisions(&dispatch);
    let mut seen = BTreeMap::new();
    // All of forty on one side would be as likely as one in 2^39.
    for _ in 0..40 {
        let run = exec(&dispatch);
        let word = run["output"].as_str().unwrap().to_owned();
        let number = if word == "one" { 1 } else { 2 };
        assert_eq!(run["faasId"], kept[&number]["id"], "{run}");
        *seen.entry(word).or_insert(0) += 1;
        if seen.len() == 2 {
            break;
        }
    }
    assert_eq!(seen.len(), 2, "{seen:?}");

    assert_eq!(update(&dispatch, &says("three")).code, 0);
    for _ in 0..5 {
        assert_ne!(exec(&dispatch)["output"], "three");
    }
    let function = dispatch.get("function", "f");
    assert_eq!(function["traffic"].as_array().unwrap().len(), 2);
    let reason = function["reason"].to_string();
    assert!(
        reason.contains("revision 3 is loaded and gets no runs"),
        "{function}"
    );
    let _ = dispatch.cli(&["route", "function", "f", "--latest"]).ok();
    assert_eq!(exec(&dispatch)["output"], "three");
    assert_eq!(dispatch.get("function", "f")["reason"], Value::Null);

    // The first one again, exactly as it was.
    let _ = dispatch.cli(&["route", "f", "1=100"]).ok();
    let run = exec(&dispatch);
    assert_eq!(
        (&run["output"], &run["faasId"]),
        (&json!("one"), &kept[&1]["id"])
    );
    for words in [&["1=60", "2=60"][..], &["9=100"]] {
        let refused = dispatch.cli(&[&["route", "f"], words].concat());
        assert_eq!(refused.code, 1, "{refused:?}");
        assert!(refused.err.contains("[invalid-field]"), "{refused:?}");
    }
}

#[test]
fn a_run_ends_on_the_revision_that_it_began_with_even_if_its_node_dies() {
    // With `fast`, the death of the NATS server itself may take a run of its last moment along.
    let mut dispatch = Dispatch::up_as("runs:\n  durability: fsync\n");
    dispatch.function("f", &says("one"), &[]);
    let first = dispatch.get("function", "f")["faasId"].clone();
    let start = |dispatch: &Dispatch, sleep: &str| {
        let accepted = dispatch.cli(&["exec", "f", "--input", sleep]).json();
        let run = accepted["name"].as_str().unwrap().to_owned();
        eventually("it has begun", || {
            let shown = dispatch.cli(&["get", "runs", "f", &run, "--json"]).json();
            shown["faasId"] == first
        });
        run
    };
    let run = start(&dispatch, r#"{"sleep": 3}"#);
    let lost = start(&dispatch, r#"{"sleep": 6}"#);
    assert_eq!(update(&dispatch, &says("two")).code, 0);
    assert_eq!(exec(&dispatch)["output"], "two");
    let ended = dispatch.until_run("f", &run);
    assert_eq!(
        (&ended["output"], &ended["faasId"]),
        (&json!("one"), &first)
    );

    dispatch.kill();
    dispatch.start(&[]);
    let ended = dispatch.until_run("f", &lost);
    assert_eq!(
        (&ended["output"], &ended["faasId"]),
        (&json!("one"), &first)
    );
    assert_eq!(exec(&dispatch)["output"], "two");
}
