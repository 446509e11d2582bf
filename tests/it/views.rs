//! The views are made of the log, and can be made of it again.

use harness::broker::{Broker, CLASS, PLAN};
use harness::process::Dispatch;
use serde_json::{Value, json};

/// All that `get` shows; runs are kept in a stream and a view of their own.
const KINDS: &[&str] = &[
    "apis",
    "applications",
    "baseimages",
    "functions",
    "images",
    "organizations",
    "runs",
    "schedules",
    "secrets",
    "serviceaccounts",
    "servicebindings",
    "servicebrokers",
    "serviceclasses",
    "serviceinstances",
];

/// Says what it was given.
const ECHO: &str = "
def handle(context, payload):
    print('a line')
    return payload
";

/// Writes that are each followed by a look.
const WRITES: usize = 50;

/// What everybody sees.
fn seen(dispatch: &Dispatch) -> Vec<(&'static str, Value)> {
    KINDS
        .iter()
        .map(|kind| (*kind, dispatch.all(kind)))
        .collect()
}

fn histories(dispatch: &Dispatch) -> Vec<Value> {
    [
        ("function", "echo"),
        ("serviceinstance", "db"),
        ("servicebroker", "fake"),
        GONE,
    ]
    .iter()
    .map(|(kind, name)| dispatch.cli(&["history", kind, name, "--json"]).json())
    .collect()
}

/// An application that is not there any more.
const GONE: (&str, &str) = ("application", "gone");

/// Something of each kind, in a state that does not change by itself.
fn furnish(dispatch: &Dispatch, broker: &Broker) {
    let secret = dispatch.file("secret.json", r#"{"password":"open sesame"}"#);
    broker.register(dispatch, "fake");
    for words in [
        &["create", "application", "shop"][..],
        &["create", "application", "gone"],
        &["delete", "application", "gone", "--wait"],
        &["create", "organization", "other"],
        &["create", "secret", "sesame", &secret, "-a", "shop"],
        &["create", "serviceinstance", "db", CLASS, PLAN, "--wait"],
    ] {
        let _ = dispatch.cli(words).ok();
    }
    let flags = ["--secret", "sesame", "--service", "db", "-a", "shop"];
    dispatch.function("echo", ECHO, &flags);
    let api = ["create", "api", "echo", "echo", "--path", "/echo", "--wait"];
    let _ = dispatch.cli(&api).ok();
    let leap = ["create", "schedule", "leap", "echo", "--cron", "0 0 29 2 *"];
    let _ = dispatch.cli(&leap).ok();
    for input in ["1", r#"{"a":[2]}"#] {
        let _ = dispatch
            .cli(&["exec", "echo", "--wait", "--input", input])
            .ok();
    }
}

#[test]
fn views_made_anew_show_the_same() {
    let broker = Broker::start();
    let mut dispatch = Dispatch::up();
    furnish(&dispatch, &broker);
    let (before, past) = (seen(&dispatch), histories(&dispatch));
    for (kind, documents) in &before {
        let some = documents
            .as_array()
            .is_some_and(|documents| !documents.is_empty());
        assert!(some, "there is nothing to compare of {kind}");
    }

    let rebuilt = dispatch.cli(&["rebuild"]).ok();
    assert!(rebuilt.contains("Rebuilt the views"), "{rebuilt}");
    assert_eq!(seen(&dispatch), before, "after a rebuild");
    assert_eq!(histories(&dispatch), past);

    assert!(dispatch.stop(), "it ends when it is asked to");
    std::fs::remove_dir_all(dispatch.home().join("views")).expect("the views are there");
    dispatch.start(&[]);
    assert_eq!(
        without_refreshes(seen(&dispatch)),
        without_refreshes(before),
        "after their loss"
    );
    assert_eq!(
        dispatch.cli(&["history", GONE.0, GONE.1, "--json"]).json(),
        past[3]
    );

    // They are views of the one log: what happens now is shown as well.
    let _ = dispatch.cli(&["create", "application", "late"]).ok();
    assert_eq!(dispatch.get("application", "late")["status"], "READY");
}

/// A broker's catalog may have been read again by a new process.
fn without_refreshes(seen: Vec<(&'static str, Value)>) -> Vec<(&'static str, Value)> {
    let mut seen = seen;
    for (_, documents) in seen
        .iter_mut()
        .filter(|(kind, _)| *kind == "servicebrokers")
    {
        for document in documents.as_array_mut().expect("it is a list") {
            let fields = document.as_object_mut().expect("it is an object");
            for field in ["lastRefresh", "nextRefresh"] {
                assert!(fields.remove(field).is_some(), "{field}");
            }
        }
    }
    seen
}

#[test]
fn the_history_of_what_is_gone_is_still_told() {
    let dispatch = Dispatch::up();
    for _ in 0..2 {
        let _ = dispatch.cli(&["create", "application", "shop"]).ok();
        let _ = dispatch
            .cli(&["delete", "application", "shop", "--wait"])
            .ok();
    }
    let gone = dispatch.cli(&["get", "application", "shop"]);
    assert!(
        gone.code == 1 && gone.err.contains("[not-found]"),
        "{}",
        gone.err
    );
    let history = dispatch
        .cli(&["history", "application", "shop", "--json"])
        .json();
    let events: Vec<&Value> = history
        .as_array()
        .expect("it is a list")
        .iter()
        .map(|entry| &entry["event"])
        .collect();
    assert_eq!(
        events,
        ["Created", "Deleted", "Created", "Deleted"],
        "of both that had the name"
    );
    let table = dispatch.cli(&["history", "application", "shop"]).ok();
    assert_eq!(table.lines().count(), 2 + events.len(), "{table}");
    let never = dispatch.cli(&["history", "application", "never"]);
    assert!(
        never.code == 1 && never.err.contains("[not-found]"),
        "{} {}",
        never.out,
        never.err
    );
}

#[test]
fn a_look_right_after_a_command_sees_what_it_did() {
    let dispatch = Dispatch::up();
    for number in 0..WRITES {
        let name = format!("app-{number}");
        let _ = dispatch.cli(&["create", "application", &name]).ok();
        let found = dispatch.cli(&["get", "application", &name, "--json"]);
        assert_eq!(found.code, 0, "{name} is seen at once: {}", found.err);
        assert_eq!(found.json()["name"], name);
        if number % 5 == 0 {
            let _ = dispatch.cli(&["delete", "application", &name]).ok();
            assert_eq!(
                dispatch.cli(&["get", "application", &name]).code,
                1,
                "{name} is gone"
            );
        }
    }
    let left = dispatch.all("applications").as_array().map(Vec::len);
    assert_eq!(left, Some(WRITES - WRITES / 5));
    assert_eq!(dispatch.all("secrets"), json!([]));
}
