//! More than one binding of an instance, and credentials that are replaced.

use adapter_osb::fake::On;
use harness::process::{Dispatch, eventually};
use serde_json::{Value, json};

use super::Bed;

/// Says with which password it was called.
const WHO: &str = "
def handle(context, payload):
    return context['serviceBindings']['db']['password']
";

fn password(dispatch: &Dispatch, function: &str) -> String {
    let run = dispatch.cli(&["exec", function, "--wait"]).json();
    let said = run["output"].as_str().map(str::to_owned);
    said.unwrap_or_else(|| panic!("{function}: {run}"))
}

#[test]
fn one_functions_credentials_are_revoked_while_others_keep_theirs() {
    let bed = Bed::start();
    let dispatch = &bed.dispatch;
    let _ = bed.order("db", &["--wait"]).ok();
    let made = dispatch.cli(&["create", "servicebinding", "reports", "db", "--wait"]);
    assert!(made.ok().contains("Created servicebinding: reports"));
    dispatch.function("shared", WHO, &["--service", "db"]);
    dispatch.function("alone", WHO, &["--service", "db:own"]);
    dispatch.function("report", WHO, &["--service", "db:reports"]);
    let before = password(dispatch, "shared");
    let others = [password(dispatch, "alone"), password(dispatch, "report")];
    assert!(
        !others.contains(&before) && others[0] != others[1],
        "{before} {others:?}"
    );
    assert_eq!(bed.broker.bindings().len(), 3);
    let own = dispatch.get("servicebinding", "db--alone");
    assert_eq!(
        (&own["instance"], &own["function"]),
        (&json!("db"), &json!("alone"))
    );
    let table = dispatch.cli(&["get", "servicebindings"]).ok();
    assert!(table.contains("| db--alone"), "{table}");

    let refused = dispatch.cli(&["delete", "servicebinding", "reports"]);
    assert!(
        refused.err.contains("[in-use]") && refused.err.contains("report"),
        "{}",
        refused.err
    );
    let _ = dispatch
        .cli(&["delete", "function", "report", "--wait"])
        .ok();
    let gone = dispatch.cli(&["delete", "servicebinding", "reports", "--wait"]);
    assert!(gone.ok().contains("Deleted service binding: reports"));
    let _ = dispatch
        .cli(&["delete", "function", "alone", "--wait"])
        .ok();
    dispatch.until_gone("servicebinding", "db--alone");
    assert_eq!(
        bed.broker.bindings().len(),
        1,
        "only the instance's own is left"
    );
    assert_eq!(
        password(dispatch, "shared"),
        before,
        "nothing happened to it"
    );

    let kept = dispatch.cli(&["delete", "servicebinding", "db"]);
    assert!(kept.err.contains("[read-only]"), "{}", kept.err);
    let _ = dispatch
        .cli(&["delete", "function", "shared", "--wait"])
        .ok();
    bed.goes("db");
    bed.nothing_is_left();
}

#[test]
fn a_run_after_a_rotation_sees_the_new_credentials_and_the_old_ones_go() {
    let bed = Bed::start();
    let dispatch = &bed.dispatch;
    let _ = bed.order("db", &["--wait"]).ok();
    // So that it is soon known that nobody uses the old ones.
    let flags = ["--service", "db", "--timeout", "1000"];
    dispatch.function("who", WHO, &flags);
    let before = password(dispatch, "who");
    let rotated = dispatch.cli(&["rotate", "servicebinding", "db", "--wait"]);
    assert_eq!(rotated.code, 0, "{}", rotated.err);
    assert!(rotated.out.contains("Rotated servicebinding: db"));
    let after = password(dispatch, "who");
    assert_ne!(before, after, "the next run has the new ones");
    let binding = dispatch.get("servicebinding", "db");
    assert_eq!(binding["rotation"]["state"], "succeeded");
    assert_eq!(binding["status"], "READY", "{binding}");
    dispatch.until("servicebinding", "db", |found| {
        found["rotation"]["replaced"] == json!([])
    });
    assert_eq!(bed.broker.bindings().len(), 1, "the old ones are unbound");
    assert_eq!(bed.broker.count(On::Bind), 2);
    assert_eq!(password(dispatch, "who"), after);
    let _ = dispatch.cli(&["delete", "function", "who", "--wait"]).ok();
    bed.goes("db");
    bed.nothing_is_left();
}

#[test]
fn what_brokers_serve_all_is_used_from_other_organizations() {
    let bed = Bed::start();
    let dispatch = &bed.dispatch;
    let _ = dispatch.cli(&["create", "organization", "other"]).ok();
    let other = |words: &[&str]| {
        let words = [words, &["--organization", "other"]].concat();
        dispatch.cli(&words)
    };
    let classes = |words: &[&str]| other(words).json();
    assert_eq!(classes(&["get", "serviceclasses", "--json"]), json!([]));
    // Credentials cannot be read back, and nothing is sent without them.
    let forgetful = dispatch.cli(&["update", "servicebroker", "fake", "--scope", "all"]);
    assert!(
        forgetful.code == 1 && forgetful.err.contains("--password-file"),
        "{}",
        forgetful.err
    );
    let file = dispatch.file("password", adapter_osb::fake::PASSWORD);
    let login = [
        "--username",
        adapter_osb::fake::USERNAME,
        "--password-file",
        &file,
    ];
    let words = [
        &["update", "servicebroker", "fake", "--scope", "all"][..],
        &["--max-concurrent", "3", "--wait"],
        &login[..],
    ]
    .concat();
    let updated = dispatch.cli(&words);
    assert_eq!(updated.code, 0, "{}", updated.err);
    let broker = dispatch.get("servicebroker", "fake");
    assert_eq!(
        (&broker["scope"], &broker["limits"]["concurrent"]),
        (&json!("all"), &json!(3))
    );
    let class = &classes(&["get", "serviceclasses", "--json"])[0];
    assert_eq!(
        (&class["name"], &class["organization"]),
        (&json!(harness::broker::CLASS), &json!("dispatch"))
    );
    let (class, plan) = (harness::broker::CLASS, harness::broker::PLAN);
    let made = other(&["create", "serviceinstance", "far", class, plan, "--wait"]);
    assert_eq!(made.code, 0, "{}", made.err);
    let far = classes(&["get", "serviceinstance", "far", "--json"]);
    assert_eq!(
        (&far["status"], &far["brokerOrganization"]),
        (&json!("READY"), &json!("dispatch"))
    );
    let url = bed.broker.url().to_string();
    let refused = other(&["create", "servicebroker", "mine", &url, "--scope", "all"]);
    assert!(refused.err.contains("[invalid-field]"), "{}", refused.err);
    let narrowed = [
        &["update", "servicebroker", "fake", "--scope", "organization"],
        &login[..],
    ]
    .concat();
    let in_use = dispatch.cli(&narrowed);
    assert!(
        in_use.err.contains("[in-use]") && in_use.err.contains("far"),
        "{}",
        in_use.err
    );
    let deleted = other(&["delete", "serviceinstance", "far", "--wait"]);
    assert_eq!(deleted.code, 0, "{}", deleted.err);
    bed.nothing_is_left();
}

#[test]
fn bad_input_about_services_is_told_with_the_way_out() {
    let bed = Bed::start();
    let dispatch = &bed.dispatch;
    let _ = bed.order("db", &["--wait"]).ok();
    let no_key = dispatch.file("no-key.pem", "nothing");
    let empty = dispatch.file("empty", "");
    let url = bed.broker.url().to_string();
    let broker = ["create", "servicebroker", "b", &url];
    let identity = ["--client-certificate", &no_key, "--client-key", &no_key];
    let adopt = ["adopt", "serviceinstance", "x", "c", "p", "--instance-id"];
    let abandon = ["abandon", "serviceinstance", "db", "--reason"];
    let function = ["create", "function", "f", &empty, "--image", "python3"];
    let cases: Vec<(Vec<&str>, i32, &str)> = vec![
        (vec!["update", "serviceinstance", "db"], 1, "--plan"),
        (
            vec!["update", "serviceinstance", "db", "--upgrade"],
            1,
            "no maintenance versions",
        ),
        (
            vec!["update", "serviceinstance", "db", "--plan", "absent"],
            1,
            "[missing-reference]",
        ),
        (
            vec!["update", "serviceinstance", "db", "--params", "[1]"],
            1,
            "must be a JSON map",
        ),
        (vec!["update"], 1, "say what to update"),
        ([&adopt[..], &["no-uuid"]].concat(), 2, "a UUID"),
        ([&abandon[..], &["lost"]].concat(), 1, "--yes"),
        ([&abandon[..], &[" ", "--yes"]].concat(), 1, "say why"),
        (
            vec!["abandon", "function", "db", "--reason", "x", "--yes"],
            1,
            "serviceinstance and servicebinding",
        ),
        (vec!["rotate", "function", "f"], 1, "servicebinding"),
        (vec!["get", "orphans", "db"], 1, "have no names"),
        (
            vec!["get", "function", "f", "--live"],
            1,
            "service instances",
        ),
        (
            [&broker[..], &identity[..]].concat(),
            1,
            "no PEM certificate",
        ),
        (
            [&broker[..], &["--token-file", &empty]].concat(),
            1,
            "is empty",
        ),
        (
            [&broker[..], &["--client-key", &no_key]].concat(),
            2,
            "--client-certificate",
        ),
        (
            [&function[..], &["--service", "db:"]].concat(),
            1,
            "INSTANCE:own",
        ),
        (
            [&broker[..], &["--tag", "nothing"]].concat(),
            1,
            "KEY=VALUE",
        ),
        (
            vec!["create", "servicebinding", "more", "absent"],
            1,
            "[missing-reference]",
        ),
    ];
    for (words, code, says) in cases {
        let answered = dispatch.cli(&words);
        assert_eq!(answered.code, code, "{words:?}: {}", answered.err);
        assert!(answered.err.contains(says), "{words:?}: {}", answered.err);
    }
    assert_eq!(dispatch.get("serviceinstance", "db")["update"], Value::Null);
    eventually("it still works", || {
        dispatch.get("serviceinstance", "db")["status"] == "READY"
    });
}
