//! Updates and rotations by the broker that makes real PostgreSQL servers.

use harness::process::{Dispatch, Process};
use serde_json::{Value, json};

/// The password of the broker.
const PASSWORD: &str = "a-password-for-the-broker";

/// Says what it is given.
const GIVEN: &str = "
def handle(context, payload):
    bound = context['serviceBindings']['pg']
    return [bound['username'], bound['password']]
";

/// The broker, with the catalog of the examples.
fn broker(dispatch: &Dispatch) -> (Process, String) {
    let password = dispatch.file("postgres-password", PASSWORD);
    let state = dispatch.scratch().join("postgres");
    let mut command = dispatch.command();
    command
        .args(["broker", "postgres", "--username", "platform"])
        .args(["--catalog", "docs/examples/azure-catalog.yaml"])
        .args(["--password-file", &password])
        .arg("--state-dir")
        .arg(&state);
    let log = dispatch.scratch().join("postgres.log");
    let ready = "Service broker listens on ";
    let (process, said) = Process::start(command, ready, &log);
    let url = said.last().and_then(|line| line.strip_prefix(ready));
    let url = url.expect("it says where it listens").to_owned();
    let login = ["--username", "platform", "--password-file", &password];
    let words = [&["create", "servicebroker", "azure", &url], &login[..]].concat();
    let made = dispatch.cli(&[&words[..], &["--wait"]].concat());
    assert_eq!(made.code, 0, "{}", made.err);
    (process, url)
}

fn given(dispatch: &Dispatch) -> Value {
    let run = dispatch.cli(&["exec", "given", "--wait"]).json();
    assert!(run["output"].is_array(), "{run}");
    run["output"].clone()
}

#[test]
fn a_real_server_is_updated_and_its_credentials_are_rotated_under_a_function() {
    let dispatch = Dispatch::up();
    let (mut process, _) = broker(&dispatch);
    let class = "azure-postgresql";
    let made = dispatch.cli(&[
        "create",
        "serviceinstance",
        "pg",
        class,
        "basic50",
        "--wait",
    ]);
    assert_eq!(made.code, 0, "{}", made.err);
    let flags = ["--service", "pg", "--timeout", "2000"];
    dispatch.function("given", GIVEN, &flags);
    let before = given(&dispatch);

    let update = ["update", "serviceinstance", "pg", "--plan", "basic100"];
    let updated = dispatch.cli(&[&update[..], &["--wait"]].concat());
    assert_eq!(updated.code, 0, "{} {}", updated.out, updated.err);
    let shown = dispatch.get("serviceinstance", "pg");
    assert_eq!(
        (&shown["servicePlan"], &shown["status"], &shown["update"]),
        (&json!("basic100"), &json!("READY"), &Value::Null)
    );
    let live = dispatch.cli(&["get", "serviceinstance", "pg", "--live", "--json"]);
    assert_eq!(live.json()["drift"], json!([]), "{}", live.out);
    assert_eq!(given(&dispatch), before, "an update changes no credentials");

    let rotated = dispatch.cli(&["rotate", "servicebinding", "pg", "--wait"]);
    assert_eq!(rotated.code, 0, "{} {}", rotated.out, rotated.err);
    assert_ne!(given(&dispatch), before);
    dispatch.until("servicebinding", "pg", |found| {
        found["rotation"]["replaced"] == json!([])
    });
    let _ = dispatch
        .cli(&["delete", "function", "given", "--wait"])
        .ok();
    let gone = dispatch.cli(&["delete", "serviceinstance", "pg", "--wait"]);
    assert_eq!(gone.code, 0, "{}", gone.err);
    assert!(process.stop(), "it ends when it is asked to");
}
