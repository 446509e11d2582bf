//! Canaries: secrets that go in by every door, and must be found nowhere but where they are used.

mod disguise;

use std::fs;
use std::path::Path;

use adapter_osb::fake::{Fault, On, PASSWORD};
use harness::broker::{Broker, CLASS, PLAN};
use harness::descendants;
use harness::nats::Nats;
use harness::process::{Dispatch, eventually};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use disguise::{Disguises, Found};

/// Proves that it has seen the secrets, without telling them.
const PROVE: &str = "
import hashlib
def handle(context, payload):
    bound = context['serviceBindings']['db']
    seen = [context['secrets']['word'], bound['password'], bound['uri']]
    return [hashlib.sha256(one.encode()).hexdigest() for one in seen]
";

/// The fake broker's own password, and one canary for each other door.
struct Canaries {
    bearer: String,
    secret: String,
    parameter: String,
    binding_parameter: String,
    bound: String,
}

impl Canaries {
    fn draw() -> Self {
        // What JSON, URLs and quotes treat in their own ways.
        let canary = |door: &str| format!("{door} \"ü\" \\&/+=% {}", Uuid::new_v4().simple());
        Self {
            bearer: format!("bearer+/{}==", Uuid::new_v4().simple()),
            secret: canary("secret"),
            parameter: canary("parameter"),
            binding_parameter: canary("binding parameter"),
            bound: canary("bound"),
        }
    }

    fn all(&self) -> [&str; 6] {
        let Self {
            bearer,
            secret,
            parameter,
            binding_parameter,
            bound,
        } = self;
        [
            PASSWORD,
            bearer,
            secret,
            parameter,
            binding_parameter,
            bound,
        ]
    }

    fn uri(&self) -> String {
        format!("postgres://bound:{}@127.0.0.1:5432/db", self.bound)
    }
}

/// Puts each canary through its door.
fn let_in(dispatch: &Dispatch, broker: &Broker, canaries: &Canaries) {
    broker.register(dispatch, "basic");
    let token = dispatch.file("token", &canaries.bearer);
    let url = broker.url().as_str();
    let words = [
        "create",
        "servicebroker",
        "bearer",
        url,
        "--token-file",
        &token,
    ];
    let _ = dispatch.cli(&words).ok();
    for (name, key, value) in [
        ("open", "word", &canaries.secret),
        ("params", "adminPassword", &canaries.parameter),
        (
            "binding-params",
            "rolePassword",
            &canaries.binding_parameter,
        ),
    ] {
        let file = dispatch.file(name, &json!({ key: value }).to_string());
        let _ = dispatch
            .cli(&["create", "secret", name, &file, "-a", "visible-marker"])
            .ok();
    }
    broker.set_binding(json!({ "credentials": {
        "host": "127.0.0.1", "port": 5432, "username": "bound",
        "password": canaries.bound, "uri": canaries.uri(),
    }}));
    let words = [
        "create",
        "serviceinstance",
        "db",
        CLASS,
        PLAN,
        "--params",
        r#"{"size":"small"}"#,
    ];
    let secrets = ["-s", "params", "-S", "binding-params", "--wait"];
    let _ = dispatch.cli(&[&words[..], &secrets].concat()).ok();
    dispatch.function("prove", PROVE, &["--service", "db", "--secret", "open"]);
}

/// They were really used: by the broker, and by the function.
fn were_used(dispatch: &Dispatch, broker: &Broker, canaries: &Canaries) {
    let bearer = format!("Bearer {}", canaries.bearer);
    eventually("the bearer token is presented", || {
        broker
            .requests()
            .iter()
            .any(|request| request.header("authorization") == bearer)
    });
    let parameters = |on: On| {
        let requests = broker.requests();
        let request = requests.iter().find(|request| request.on == Some(on));
        request.expect("the broker was asked").json()["parameters"].clone()
    };
    let provision = json!({ "size": "small", "adminPassword": canaries.parameter });
    assert_eq!(parameters(On::Provision), provision);
    let bind = json!({ "rolePassword": canaries.binding_parameter });
    assert_eq!(parameters(On::Bind), bind);
    let hash = |text: &str| {
        Sha256::digest(text)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let run = dispatch.cli(&["exec", "prove", "--wait"]).json();
    let expected = json!([
        hash(&canaries.secret),
        hash(&canaries.bound),
        hash(&canaries.uri())
    ]);
    assert_eq!(run["output"], expected, "{run}");
}

/// A broker that repeats what it was sent as its excuse.
fn are_echoed(dispatch: &Dispatch, broker: &Broker, canaries: &Canaries) {
    let echo = format!(
        "{PASSWORD} may not set adminPassword to {}",
        canaries.parameter
    );
    broker.script(On::Provision, [Fault::error(400, "BadRequest", &echo)]);
    let words = [
        "create",
        "serviceinstance",
        "refused",
        CLASS,
        PLAN,
        "-s",
        "params",
    ];
    let _ = dispatch.cli(&words).ok();
    let refused = dispatch.until("serviceinstance", "refused", |it| it["status"] == "ERROR");
    let reason = refused["reason"][0].as_str().expect("it has a reason");
    assert!(
        reason.contains("may not set adminPassword to (hidden)"),
        "{reason}"
    );
}

/// A refusal repeats nothing of what was refused.
fn are_refused(dispatch: &Dispatch, canaries: &Canaries) {
    let nats = Nats::connect(dispatch, "client");
    let plain = json!({ "Create": { "Secret": { "secrets": { "word": canaries.secret } } } });
    let mut inbox = nats.inbox();
    let headers = [("Dispatch-Reply-To", inbox.subject.as_str())];
    let broken = plain.to_string().replace("secrets", "");
    nats.publish("dispatch.cmd.dispatch.organization.x", &headers, broken)
        .unwrap();
    let reply = nats.next(&mut inbox);
    assert_eq!(
        reply["Rejected"]["rejection"]["code"], "malformed-command",
        "{reply}"
    );
    let text = reply.to_string();
    assert!(!text.contains("secret \\\""), "{text}");
}

#[test]
fn a_canary_is_found_nowhere_but_where_it_is_used() {
    let mut dispatch = Dispatch::up_with(&[("DISPATCH_LOG", "debug")]);
    let broker = Broker::start();
    let canaries = Canaries::draw();
    let_in(&dispatch, &broker, &canaries);
    were_used(&dispatch, &broker, &canaries);
    are_echoed(&dispatch, &broker, &canaries);

    let disguises = Disguises::of(&canaries.all());
    let marker = Disguises::of(&["visible-marker"]);
    let nothing: [Found; 0] = [];
    let nats = Nats::connect(&dispatch, "engine");
    assert!(
        !in_streams(&nats, &marker).is_empty(),
        "the search looks into streams"
    );
    assert_eq!(in_streams(&nats, &disguises), nothing);

    let listens = Disguises::of(&["nats.conf", "DISPATCH_HOME"]);
    assert!(
        in_processes(&dispatch, &listens).len() > 1,
        "the search looks into processes"
    );
    assert_eq!(in_processes(&dispatch, &disguises), nothing);

    for kind in [
        "secrets",
        "servicebrokers",
        "serviceinstances",
        "functions",
        "runs",
    ] {
        let all = dispatch.all(kind).to_string();
        assert_eq!(disguises.search(kind, all.as_bytes()), nothing);
    }
    assert!(dispatch.stop(), "it ends in time");
    assert!(
        !in_files(&dispatch.home(), &marker).is_empty(),
        "the search looks into files"
    );
    assert_eq!(in_files(&dispatch.home(), &disguises), nothing);
    let log = dispatch.log();
    assert!(log.contains("DEBUG"), "it logs everything that it can");
    assert_eq!(disguises.search("log", log.as_bytes()), nothing);
}

#[test]
fn a_refusal_keeps_nothing_of_a_secret_in_the_wrong_place() {
    let mut dispatch = Dispatch::up_with(&[("DISPATCH_LOG", "debug")]);
    let canaries = Canaries::draw();
    are_refused(&dispatch, &canaries);
    // The command itself was stored in the clear by its sender, and is gone when it is decided.
    let nats = Nats::connect(&dispatch, "engine");
    let disguises = Disguises::of(&canaries.all());
    let nothing: [Found; 0] = [];
    eventually("the command is gone", || {
        nats.stored("DISPATCH_COMMANDS", ">").is_empty()
    });
    assert_eq!(in_streams(&nats, &disguises), nothing);
    drop(nats);
    assert!(dispatch.stop());
    assert_eq!(disguises.search("log", dispatch.log().as_bytes()), nothing);
}

#[test]
fn a_deleted_secret_is_shredded_and_its_history_remains() {
    let mut dispatch = Dispatch::up();
    let broker = Broker::start();
    let canaries = Canaries::draw();
    let_in(&dispatch, &broker, &canaries);
    let nats = Nats::connect(&dispatch, "engine");
    let sealed = |kind: &str, name: &str, found: &dyn Fn(&Value) -> Value| {
        let subject = format!("dispatch.evt.dispatch.{kind}.{name}");
        let commits = nats.stored("DISPATCH_EVENTS", &subject);
        let events: Vec<Value> = commits
            .iter()
            .map(|commit| commit.json()["events"].clone())
            .collect();
        let all = events
            .iter()
            .flat_map(|events| events.as_array().cloned().unwrap_or_default());
        all.map(|event| found(&event))
            .find(|sealed| !sealed.is_null())
            .expect("it is on record")
    };
    let of_secret = |event: &Value| event["Secret"]["Created"]["sealed"].clone();
    let of_binding =
        |event: &Value| event["ServiceBinding"]["Bound"]["bound"]["credentials"].clone();
    for (value, delete, kind, name) in [
        (
            sealed("secret", "open", &of_secret),
            [
                ["delete", "function", "prove"],
                ["delete", "secret", "open"],
            ],
            "secret",
            "open",
        ),
        (
            sealed("servicebinding", "db", &of_binding),
            [
                ["delete", "serviceinstance", "refused"],
                ["delete", "serviceinstance", "db"],
            ],
            "serviceinstance",
            "db",
        ),
    ] {
        let key = value["key"].as_str().expect("it names its data key");
        let hex: String = key.bytes().map(|byte| format!("{byte:02x}")).collect();
        let subject = format!("$KV.dispatch_keys.{hex}");
        let wrapped = nats.stored("KV_dispatch_keys", &subject);
        assert_eq!(wrapped.len(), 1, "{key}");
        let bytes = wrapped[0].body.clone();
        let on_disk = || contains(&dispatch.home().join("nats"), &bytes);
        assert!(on_disk(), "the wrapped key lies in the key store");

        for words in delete {
            let _ = dispatch.cli(&words);
        }
        dispatch.until_gone(kind, name);
        eventually("its data key is erased", || {
            nats.stored("KV_dispatch_keys", &subject).is_empty()
        });
        assert!(
            !on_disk(),
            "the wrapped key of {kind} {name} is overwritten"
        );
    }
    let history = dispatch
        .cli(&["history", "secret", "open", "--json"])
        .json()
        .to_string();
    assert!(
        history.contains("Deleted") && history.contains("Created"),
        "{history}"
    );
    let stored = nats.stored("DISPATCH_EVENTS", "dispatch.evt.dispatch.secret.open");
    let created = String::from_utf8_lossy(&stored[0].body).into_owned();
    assert!(created.contains("ciphertext"), "{created}");
    let disguises = Disguises::of(&canaries.all());
    let nothing: [Found; 0] = [];
    assert_eq!(in_streams(&nats, &disguises), nothing);
    drop(nats);
    assert!(dispatch.stop());
    assert_eq!(in_files(&dispatch.home(), &disguises), nothing);
}

fn in_streams(nats: &Nats, disguises: &Disguises) -> Vec<Found> {
    let mut found = Vec::new();
    for stream in nats.streams() {
        for message in nats.stored(&stream, ">") {
            let place = format!("{stream} {} {}", message.seq, message.subject);
            let headers = format!("{} {:?}", message.subject, message.headers);
            found.extend(disguises.search(&place, headers.as_bytes()));
            found.extend(disguises.search(&place, &message.body));
        }
    }
    found
}

/// Arguments and environment of the server and all that it started.
fn in_processes(dispatch: &Dispatch, disguises: &Disguises) -> Vec<Found> {
    let all = std::iter::once(dispatch.id()).chain(descendants(dispatch.id()));
    let files =
        all.flat_map(|pid| ["cmdline", "environ"].map(|what| format!("/proc/{pid}/{what}")));
    files
        .filter_map(|file| {
            fs::read(&file)
                .ok()
                .map(|bytes| disguises.search(&file, &bytes))
        })
        .flatten()
        .collect()
}

fn in_files(path: &Path, disguises: &Disguises) -> Vec<Found> {
    let mut found = Vec::new();
    each_file(path, &mut |file, bytes| {
        found.extend(disguises.search(file, bytes))
    });
    found
}

fn contains(path: &Path, bytes: &[u8]) -> bool {
    let mut found = false;
    each_file(path, &mut |_, file| {
        found |= file.windows(bytes.len()).any(|window| window == bytes);
    });
    found
}

fn each_file(path: &Path, look: &mut impl FnMut(&str, &[u8])) {
    let entries = fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    for entry in entries {
        let entry = entry.expect("a directory can be listed");
        let kind = entry.file_type().expect("a file has a type");
        if kind.is_dir() {
            each_file(&entry.path(), look);
        } else if kind.is_file()
            // What a server that is up has just removed is not there to be searched.
            && let Ok(bytes) = fs::read(entry.path())
        {
            look(&entry.path().display().to_string(), &bytes);
        }
    }
}
