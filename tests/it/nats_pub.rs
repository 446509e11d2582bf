//! Plain NATS messages do what the command line does.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::mpsc;
use std::time::Duration;

use async_nats::{ConnectOptions, Event, ServerError};
use futures::StreamExt as _;
use harness::nats::{Nats, Stored};
use harness::process::{Dispatch, eventually};
use serde_json::{Value, json};
use tokio::time::timeout;
use uuid::Uuid;

/// How long an answer may take on a busy machine.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// The server's limit of one message.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// Says hello.
const HELLO: &str = "
def handle(context, payload):
    print('running')
    return 'Hello, ' + payload['name']
";

fn create() -> Vec<u8> {
    br#"{"Create":{"Application":{}}}"#.to_vec()
}

fn subject(name: &str) -> String {
    format!("dispatch.cmd.dispatch.application.{name}")
}

/// Sends a command and hears what came of it.
fn ask(nats: &Nats, subject: &str, id: Uuid, body: impl Into<Vec<u8>>) -> Value {
    ask_with(nats, subject, &[("Nats-Msg-Id", &id.to_string())], body)
}

fn ask_with(
    nats: &Nats,
    subject: &str,
    headers: &[(&str, &str)],
    body: impl Into<Vec<u8>>,
) -> Value {
    let inbox = nats.client().new_inbox();
    let mut answers = nats
        .wait(nats.client().subscribe(inbox.clone()))
        .expect("the connection is open");
    let headers = [headers, &[("Dispatch-Reply-To", &inbox)]].concat();
    nats.publish(subject, &headers, body)
        .expect("the stream takes it");
    let answer = nats.wait(async { timeout(ANSWER_MAX, answers.next()).await });
    let answer = answer
        .expect("an answer comes")
        .expect("the connection is open");
    serde_json::from_slice(&answer.payload).expect("it is JSON")
}

fn commits(engine: &Nats, name: &str) -> Vec<Stored> {
    engine.stored(
        "DISPATCH_EVENTS",
        &format!("dispatch.evt.dispatch.application.{name}"),
    )
}

/// What a document says besides who it is and when it was made.
fn essence(mut document: Value) -> Value {
    for field in ["id", "name", "createdTime", "modifiedTime"] {
        let taken = document
            .as_object_mut()
            .and_then(|fields| fields.remove(field));
        assert!(taken.is_some(), "{document} has no {field}");
    }
    document
}

fn login(dispatch: &Dispatch, user: &str) -> (String, String) {
    let file = dispatch
        .home()
        .join(format!("credentials/nats-{user}.json"));
    let text = std::fs::read_to_string(file).expect("the user has credentials");
    let login: Value = serde_json::from_str(&text).expect("they are JSON");
    let word = |name: &str| login[name].as_str().expect("it is a text").to_owned();
    (word("username"), word("password"))
}

#[test]
fn a_published_command_does_what_the_command_line_does() {
    let dispatch = Dispatch::up();
    let (nats, engine) = (
        Nats::connect(&dispatch, "client"),
        Nats::connect(&dispatch, "engine"),
    );
    let _ = dispatch.cli(&["create", "application", "typed"]).ok();
    let typed = essence(dispatch.get("application", "typed"));

    // Without any header, and without waiting even for the stream.
    nats.wait(async {
        nats.client()
            .publish(subject("bare"), create().into())
            .await
            .expect("it is connected");
        nats.client().flush().await.expect("it is connected");
    });
    let bare = dispatch.until("application", "bare", |found| found["status"] == "READY");
    assert_eq!(essence(bare), typed);

    let id = Uuid::now_v7();
    let heard = ask(&nats, &subject("named"), id, create());
    assert_eq!(heard["Done"]["command"], id.to_string(), "{heard}");
    assert_eq!(essence(dispatch.get("application", "named")), typed);
    let seq = heard["Done"]["seq"].as_u64();
    assert_eq!(
        seq,
        commits(&engine, "named").first().map(|commit| commit.seq)
    );
    the_same_id_again_is_done_once(&nats, &engine, id, &heard);
    the_commit_is_a_cloud_event(&commits(&engine, "named")[0], id);
}

fn the_same_id_again_is_done_once(nats: &Nats, engine: &Nats, id: Uuid, heard: &Value) {
    let (_, known) = nats
        .publish(
            &subject("named"),
            &[("Nats-Msg-Id", &id.to_string())],
            create(),
        )
        .expect("the stream takes it");
    assert!(known, "the stream knows the id");
    // Past the stream's window the engine itself has to know it.
    let (again, id) = (Uuid::now_v7().to_string(), id.to_string());
    let headers = [("Nats-Msg-Id", &*again), ("Dispatch-Command", &*id)];
    let known = ask_with(nats, &subject("named"), &headers, create());
    assert_eq!(&known, heard, "it hears the first outcome");
    assert_eq!(commits(engine, "named").len(), 1);
    let other = ask(nats, &subject("named"), Uuid::now_v7(), create());
    assert_eq!(
        other["Rejected"]["rejection"]["code"], "already-exists",
        "{other}"
    );
}

fn the_commit_is_a_cloud_event(commit: &Stored, id: Uuid) {
    let header = |name: &str| commit.header(name).unwrap_or_default();
    assert_eq!(header("ce-specversion"), "1.0");
    assert_eq!(header("ce-subject"), "dispatch/application/named");
    for name in ["ce-id", "ce-type", "ce-source", "ce-time"] {
        assert!(!header(name).is_empty(), "{name}: {:?}", commit.headers);
    }
    assert_eq!(header("Dispatch-Actor"), "anonymous");
    assert_eq!(header("Dispatch-Correlation"), id.to_string());
    assert!(
        header("Dispatch-Causation").contains(&id.to_string()),
        "{:?}",
        commit.headers
    );
    assert!(
        commit.json().to_string().contains("Created"),
        "{}",
        commit.json()
    );
}

#[test]
fn a_bad_message_is_refused_with_its_code_and_disturbs_nothing() {
    let dispatch = Dispatch::up();
    let (nats, engine) = (
        Nats::connect(&dispatch, "client"),
        Nats::connect(&dispatch, "engine"),
    );
    let application = "dispatch.cmd.dispatch.application.x";
    let bad: &[(&str, &str, &str)] = &[
        (application, r#"{"Create":"#, "malformed-command"),
        (application, "", "malformed-command"),
        (
            application,
            r#"{"Create":{"Application":{"colour":"red"}}}"#,
            "malformed-command",
        ),
        (
            application,
            r#"{"Make":{"Application":{}}}"#,
            "malformed-command",
        ),
        (
            application,
            r#"{"Create":{"Organization":{}}}"#,
            "wrong-kind",
        ),
        (application, r#"{"Delete":{}}"#, "not-found"),
        (
            "dispatch.cmd.dispatch.gizmo.x",
            r#"{"Create":{"Application":{}}}"#,
            "unknown-kind",
        ),
        (
            "dispatch.cmd.dispatch.application.-x",
            r#"{"Delete":{}}"#,
            "invalid-name",
        ),
        (
            "dispatch.cmd.dispatch.application",
            r#"{"Delete":{}}"#,
            "malformed-command",
        ),
        (
            "dispatch.cmd.dispatch.run.x",
            r#"{"Delete":{}}"#,
            "unknown-kind",
        ),
        (
            "dispatch.cmd.dispatch.serviceclass.x",
            r#"{"Delete":{}}"#,
            "read-only",
        ),
        (
            "dispatch.cmd.dispatch.serviceinstance.x",
            r#"{"Create":{"ServiceInstance":{"serviceClass":"absent","servicePlan":"p"}}}"#,
            "missing-reference",
        ),
    ];
    for (subject, body, code) in bad {
        let id = Uuid::now_v7();
        let heard = ask(&nats, subject, id, *body);
        let refused = &heard["Rejected"];
        assert_eq!(
            refused["rejection"]["code"], *code,
            "{subject} {body}: {heard}"
        );
        assert_eq!(refused["command"], id.to_string(), "{subject} {body}");
        is_kept(&engine, id, code);
    }
    without_an_inbox_it_is_kept_all_the_same(&nats, &engine);
    what_is_too_large_is_refused(&dispatch, &nats);
    let heard = ask(&nats, application, Uuid::now_v7(), create());
    assert!(
        heard["Done"].is_object(),
        "the next good one is done: {heard}"
    );
    assert!(engine.stored("DISPATCH_DEADLETTERS", ">").is_empty());
    eventually("nothing waits", || {
        engine.stored("DISPATCH_COMMANDS", ">").is_empty()
    });
}

fn is_kept(engine: &Nats, id: Uuid, code: &str) {
    let kept = engine.stored("DISPATCH_REJECTED", &format!("dispatch.rejected.*.{id}"));
    assert_eq!(kept.len(), 1, "{code} {id}");
    assert!(
        kept[0].json().to_string().contains(&format!("\"{code}\"")),
        "{}",
        kept[0].json()
    );
}

fn without_an_inbox_it_is_kept_all_the_same(nats: &Nats, engine: &Nats) {
    let id = Uuid::now_v7();
    nats.publish(
        &subject("x"),
        &[("Nats-Msg-Id", &id.to_string())],
        "no JSON",
    )
    .expect("the stream takes it");
    let subject = format!("dispatch.rejected.dispatch.{id}");
    eventually("it is kept", || {
        !engine.stored("DISPATCH_REJECTED", &subject).is_empty()
    });
    is_kept(engine, id, "malformed-command");
}

fn what_is_too_large_is_refused(dispatch: &Dispatch, nats: &Nats) {
    // It passes the server, not the engine.
    let heard = ask(
        nats,
        &subject("x"),
        Uuid::now_v7(),
        vec![b' '; MESSAGE_BYTES_MAX - 1024],
    );
    assert_eq!(
        heard["Rejected"]["rejection"]["code"], "too-large",
        "{heard}"
    );
    // A client library knows the server's limit.
    let refused = nats
        .publish(&subject("x"), &[], vec![b' '; MESSAGE_BYTES_MAX + 1])
        .unwrap_err();
    assert!(refused.contains("payload"), "{refused}");
    // Who does not ask a library hears it from the server.
    let said = publish_raw(dispatch, &subject("x"), MESSAGE_BYTES_MAX + 1);
    assert!(said.contains("Maximum Payload Violation"), "{said}");
}

/// Speaks the protocol itself; returns what the server says until it hangs up.
fn publish_raw(dispatch: &Dispatch, subject: &str, bytes: usize) -> String {
    let (user, pass) = login(dispatch, "client");
    let url = dispatch.nats_url();
    let address = url.trim_start_matches("nats://");
    let mut writing = TcpStream::connect(address).expect("the server listens");
    writing
        .set_read_timeout(Some(ANSWER_MAX))
        .expect("a time can be set");
    let mut reading = BufReader::new(writing.try_clone().expect("a socket can be shared"));
    let mut info = String::new();
    reading.read_line(&mut info).expect("the server greets");
    let hello = json!({ "verbose": false, "user": user, "pass": pass });
    write!(writing, "CONNECT {hello}\r\nPING\r\n").expect("it is connected");
    let mut pong = String::new();
    reading.read_line(&mut pong).expect("the server answers");
    assert_eq!(pong.trim(), "PONG", "it is logged in");
    write!(writing, "PUB {subject} {bytes}\r\n").expect("it is connected");
    let mut said = Vec::new();
    // The server may reset the connection once it has said what is wrong.
    let _ = reading.read_to_end(&mut said);
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn a_query_is_a_request() {
    let dispatch = Dispatch::up();
    let nats = Nats::connect(&dispatch, "client");
    let heard = ask(&nats, &subject("shop"), Uuid::now_v7(), create());
    let query = |filter: Value| {
        let body = json!({ "org": "dispatch", "filter": filter, "at_least": heard["Done"]["seq"] });
        nats.request("dispatch.query", body.to_string())
    };
    let one = query(json!({ "One": { "kind": "Application", "name": "shop" } }));
    assert_eq!(
        one["Ok"]["documents"],
        json!([dispatch.get("application", "shop")]),
        "{one}"
    );
    let all = query(json!({ "All": { "kind": "Application" } }));
    assert_eq!(
        all["Ok"]["documents"],
        dispatch.all("applications"),
        "{all}"
    );
    let history = query(json!({ "History": { "kind": "Application", "name": "shop" } }));
    assert_eq!(
        history["Ok"]["documents"][0]["event"], "Created",
        "{history}"
    );
    let info = query(json!("Info"));
    assert!(
        info["Ok"]["documents"][0]["publicKey"].is_string(),
        "{info}"
    );

    let absent = query(json!({ "One": { "kind": "Application", "name": "absent" } }));
    assert_eq!(absent["Err"]["code"], "not-found", "{absent}");
    for bad in [
        "",
        "no JSON",
        "{}",
        r#"{"org":"dispatch","filter":"Everything"}"#,
    ] {
        let heard = nats.request("dispatch.query", bad);
        assert!(heard["Err"]["code"].is_string(), "{bad}: {heard}");
    }
    assert!(
        query(json!("Info"))["Ok"].is_object(),
        "the next good one is answered"
    );
}

#[test]
fn a_run_is_a_message_and_its_end_is_heard_in_the_inbox() {
    let dispatch = Dispatch::up();
    let (nats, engine) = (
        Nats::connect(&dispatch, "client"),
        Nats::connect(&dispatch, "engine"),
    );
    dispatch.function("hello", HELLO, &[]);
    let run = Uuid::now_v7();
    let of = |function: &str, run: Uuid| format!("dispatch.runcmd.dispatch.{function}.{run}");
    let input = r#"{"input":{"name":"Jon"}}"#;
    let heard = ask(&nats, &of("hello", run), run, input);
    assert_eq!(heard["run"], run.to_string(), "{heard}");
    assert_eq!(heard["result"]["output"], "Hello, Jon", "{heard}");
    assert_eq!(
        heard["result"]["logs"]["stdout"],
        json!(["running"]),
        "{heard}"
    );
    let record = dispatch.until_run("hello", &run.to_string());
    assert_eq!(record["output"], "Hello, Jon", "{record}");

    // A repeat under another message id is the same run.
    let again = ask(&nats, &of("hello", run), Uuid::now_v7(), input);
    assert_eq!(again["result"], heard["result"], "{again}");
    let events = engine.stored(
        "DISPATCH_RUNS",
        &format!("dispatch.run.dispatch.hello.{run}"),
    );
    assert_eq!(events.len(), 2, "started once, finished once: {events:?}");

    let failed = Uuid::now_v7();
    let heard = ask(&nats, &of("hello", failed), failed, r#"{"input":{}}"#);
    assert_eq!(heard["result"]["error"]["type"], "FunctionError", "{heard}");
    let absent = Uuid::now_v7();
    let heard = ask(&nats, &of("absent", absent), absent, input);
    assert_eq!(heard["rejection"]["code"], "not-found", "{heard}");
    let malformed = Uuid::now_v7();
    let heard = ask(&nats, &of("hello", malformed), malformed, r#"{"inptu":{}}"#);
    assert!(
        heard.to_string().contains("\"malformed-command\""),
        "{heard}"
    );
}

#[test]
fn a_client_cannot_write_what_happened() {
    let dispatch = Dispatch::up();
    let engine = Nats::connect(&dispatch, "engine");
    let (user, password) = login(&dispatch, "client");
    let (sender, violations) = mpsc::channel();
    let options =
        ConnectOptions::with_user_and_password(user, password).event_callback(move |event| {
            let sender = sender.clone();
            async move {
                if let Event::ServerError(ServerError::Other(text)) = event {
                    let _ = sender.send(text);
                }
            }
        });
    let nats = Nats::connect_with(&dispatch.nats_url(), options).expect("the server lets it in");
    let before = engine.stored("DISPATCH_EVENTS", ">").len();
    for subject in [
        "dispatch.evt.dispatch.application.forged",
        "dispatch.committed.dispatch.application.forged",
        "dispatch.run.dispatch.hello.forged",
        "dispatch.rejected.dispatch.forged",
        "dispatch.due.forged",
        "$KV.dispatch_keys.forged",
    ] {
        nats.wait(async {
            nats.client()
                .publish(subject, "{}".into())
                .await
                .expect("it is connected");
            nats.client().flush().await.expect("it is connected");
        });
        let said = violations
            .recv_timeout(ANSWER_MAX)
            .expect("the server objects");
        let said = said.to_lowercase();
        assert!(
            said.contains("permissions violation for publish"),
            "{subject}: {said}"
        );
        assert!(said.contains(&subject.to_lowercase()), "{subject}: {said}");
    }
    assert_eq!(engine.stored("DISPATCH_EVENTS", ">").len(), before);
    let wrong = ConnectOptions::with_user_and_password("client".into(), "wrong".into());
    assert!(
        Nats::connect_with(&dispatch.nats_url(), wrong).is_err(),
        "and nobody comes in unknown"
    );
}
