//! Service instances at brokers that are slow, wrong or away.

mod bindings;
mod postgres;
mod updates;

use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use adapter_osb::fake::{Fault, On, Options, Pace, default_catalog};
use harness::broker::{Broker, CLASS, PLAN};
use harness::nats::Nats;
use harness::process::{Answered, Dispatch, eventually};
use serde_json::{Value, json};

/// A fake broker and a server; the broker is registered.
struct Bed {
    broker: Broker,
    dispatch: Dispatch,
}

impl Bed {
    fn with(options: Options) -> Self {
        let bed = Self {
            broker: Broker::start_with(options),
            dispatch: Dispatch::up(),
        };
        bed.broker.register(&bed.dispatch, "fake");
        bed
    }

    fn start() -> Self {
        Self::with(Options::default())
    }

    fn order(&self, name: &str, flags: &[&str]) -> Answered {
        let words = [&["create", "serviceinstance", name, CLASS, PLAN], flags].concat();
        self.dispatch.cli(&words)
    }

    fn is_ready(&self, name: &str) -> Value {
        let instance = self
            .dispatch
            .until("serviceinstance", name, |found| found["status"] == "READY");
        assert_eq!(
            (&instance["provisioned"], &instance["bound"]),
            (&json!(true), &json!(true))
        );
        instance
    }

    fn goes(&self, name: &str) {
        let _ = self.dispatch.cli(&["delete", "serviceinstance", name]).ok();
        self.dispatch.until_gone("serviceinstance", name);
    }

    /// It becomes READY, as one instance with one binding, and goes without a trace.
    fn lives_and_goes(&self, name: &str) {
        self.is_ready(name);
        assert_eq!(
            (self.broker.instances().len(), self.broker.bindings().len()),
            (1, 1)
        );
        self.goes(name);
        self.nothing_is_left();
    }

    fn nothing_is_left(&self) {
        assert_eq!(self.broker.instances(), [""; 0]);
        assert_eq!(self.broker.bindings(), [""; 0]);
        assert_eq!(
            self.dispatch.all("secrets"),
            json!([]),
            "the credentials are gone"
        );
        assert_eq!(
            self.broker.violations(),
            [""; 0],
            "no rule of the broker API was broken"
        );
        let letters = Nats::connect(&self.dispatch, "engine").stored("DISPATCH_DEADLETTERS", ">");
        assert!(letters.is_empty(), "{letters:?}");
    }
}

fn reason(document: &Value) -> String {
    document["reason"].to_string()
}

#[test]
fn an_instance_lives_to_ready_and_goes_whatever_pace_the_broker_has() {
    let bed = Bed::start();
    let answered = bed.order("now", &["--wait"]);
    assert_eq!(answered.code, 0, "{} {}", answered.out, answered.err);
    assert_eq!(
        bed.broker.count(On::PollInstance),
        0,
        "there was nothing to ask"
    );
    bed.lives_and_goes("now");

    bed.broker.set_pace(Pace::Polls(3));
    let _ = bed.order("later", &[]).ok();
    bed.is_ready("later");
    assert_eq!(bed.broker.count(On::Provision), 2, "one request each");
    assert!(
        bed.broker.count(On::PollInstance) > 3,
        "{}",
        bed.broker.count(On::PollInstance)
    );
    assert!(
        bed.broker.count(On::PollBinding) > 3,
        "{}",
        bed.broker.count(On::PollBinding)
    );
    bed.lives_and_goes("later");
    let history = bed
        .dispatch
        .cli(&["history", "serviceinstance", "later"])
        .ok();
    for event in ["ProvisionRequested", "Provisioned", "DeprovisionRequested"] {
        assert!(history.contains(event), "{event}: {history}");
    }
}

#[test]
fn parameters_against_the_plans_schema_are_refused_before_anything_leaves() {
    let mut catalog = default_catalog();
    let schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object", "required": ["location"], "additionalProperties": false,
        "properties": { "location": { "enum": ["westus", "eastus"] } },
    });
    catalog["services"][0]["plans"][0]["schemas"] =
        json!({ "service_instance": { "create": { "parameters": schema } } });
    let bed = Bed::with(Options {
        catalog,
        ..Options::default()
    });
    for params in [
        r#"{"location":"mars"}"#,
        "{}",
        r#"{"location":"westus","colour":"red"}"#,
    ] {
        let refused = bed.order("db", &["--params", params]);
        assert_eq!(refused.code, 1, "{params}: {}", refused.out);
        assert!(
            refused.err.contains("[schema-mismatch]"),
            "{params}: {}",
            refused.err
        );
    }
    assert_eq!(bed.dispatch.all("serviceinstances"), json!([]));
    let provisions = bed
        .broker
        .requests()
        .iter()
        .filter(|request| request.on != Some(On::Catalog))
        .count();
    assert_eq!(provisions, 0, "only the catalog was read");
    let params = r#"{"location":"westus"}"#;
    let _ = bed.order("db", &["--params", params]).ok();
    bed.is_ready("db");
    let sent = bed
        .broker
        .requests()
        .into_iter()
        .find(|request| request.on == Some(On::Provision));
    assert_eq!(
        sent.expect("it was sent").json()["parameters"],
        json!({ "location": "westus" })
    );
    bed.lives_and_goes("db");
}

/// Nobody listens there.
fn closed_address() -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    format!("http://{}", listener.local_addr().expect("it listens"))
}

#[test]
fn a_broker_that_cannot_be_read_says_why_and_when_it_is_tried_again() {
    let dispatch = Dispatch::up();
    let broker = Broker::start();
    // Twice, so that the refresh which is typed is not the first try again.
    broker.script(On::Catalog, [Fault::html(502), Fault::html(502)]);
    let file = dispatch.file("away-password", "any");
    let closed = closed_address();
    let login = ["--username", "platform", "--password-file", &file];
    let words = [&["create", "servicebroker", "away", &closed], &login[..]].concat();
    let _ = dispatch.cli(&words).ok();
    broker.register_as(&dispatch, "garbled", adapter_osb::fake::PASSWORD);
    broker.register_as(&dispatch, "stranger", "wrong");
    for (name, why) in [("away", "refused"), ("garbled", "502"), ("stranger", "401")] {
        let failed = dispatch.until("servicebroker", name, |found| found["status"] == "ERROR");
        assert!(
            reason(&failed).contains("the catalog could not be read"),
            "{failed}"
        );
        assert!(
            reason(&failed).to_lowercase().contains(why),
            "{why}: {failed}"
        );
        assert!(reason(&failed).contains("tried again at"), "{failed}");
        let (next, changed) = (
            failed["nextRefresh"].as_i64(),
            failed["modifiedTime"].as_i64(),
        );
        assert!(next >= changed && next.is_some(), "{failed}");
        assert!(failed["lastError"].is_string(), "{failed}");
        assert!(
            !failed.to_string().contains("<html"),
            "no page is repeated: {failed}"
        );
    }
    let refused = dispatch.cli(&["create", "serviceinstance", "db", CLASS, PLAN]);
    assert!(
        refused.err.contains("[missing-reference]"),
        "{}",
        refused.err
    );

    // Each refresh answers a new try, and the second good one reads it.
    eventually("it is read after all", || {
        let _ = dispatch.cli(&["refresh", "garbled"]).ok();
        dispatch.get("servicebroker", "garbled")["status"] == "READY"
    });
    dispatch.until("serviceclass", CLASS, |class| class["status"] == "READY");
    let read = dispatch.get("servicebroker", "garbled");
    assert!(
        read["lastError"].is_null() && read["reason"].is_null(),
        "{read}"
    );
    let bed = Bed { broker, dispatch };
    let _ = bed.order("db", &[]).ok();
    bed.lives_and_goes("db");
}

/// Makes a broker reachable at another address, for as long as the test goes on.
fn relay(address: &str, broker: &Broker) {
    let listener = TcpListener::bind(address).expect("the address is still free");
    let to = broker
        .url()
        .socket_addrs(|| None)
        .expect("it is an address")[0];
    thread::spawn(move || {
        for from in listener.incoming().map_while(Result::ok) {
            let to = TcpStream::connect(to).expect("the broker listens");
            let ways = [(from.try_clone(), to.try_clone()), (Ok(to), Ok(from))];
            for (source, sink) in ways {
                let mut source = source.expect("a socket can be shared");
                let mut sink = sink.expect("a socket can be shared");
                thread::spawn(move || std::io::copy(&mut source, &mut sink));
            }
        }
    });
}

#[test]
fn a_broker_that_comes_within_reach_is_ready_after_a_refresh() {
    let bed = Bed {
        broker: Broker::start(),
        dispatch: Dispatch::up(),
    };
    let url = closed_address();
    let file = bed.dispatch.file("password", adapter_osb::fake::PASSWORD);
    let login = [
        "--username",
        adapter_osb::fake::USERNAME,
        "--password-file",
        &file,
    ];
    let words = [&["create", "servicebroker", "fake", &url], &login[..]].concat();
    let _ = bed.dispatch.cli(&words).ok();
    let failed = bed
        .dispatch
        .until("servicebroker", "fake", |found| found["status"] == "ERROR");
    assert!(failed["nextRefresh"].is_i64(), "{failed}");
    assert_eq!(bed.broker.count(On::Catalog), 0, "it was not reached");

    relay(url.trim_start_matches("http://"), &bed.broker);
    let _ = bed.dispatch.cli(&["refresh", "fake"]).ok();
    bed.dispatch
        .until("servicebroker", "fake", |found| found["status"] == "READY");
    bed.dispatch
        .until("serviceclass", CLASS, |class| class["status"] == "READY");
    let _ = bed.order("db", &[]).ok();
    bed.lives_and_goes("db");
}

#[test]
fn what_goes_wrong_once_is_tried_again_until_it_is_ready() {
    let bed = Bed::start();
    // No work was done, and the answer says so: the same request is sent again.
    bed.broker.script(On::Provision, [Fault::concurrency()]);
    bed.broker.script(On::Bind, [Fault::concurrency()]);
    let _ = bed.order("busy", &[]).ok();
    let ready = bed.is_ready("busy");
    assert!(reason(&ready) == "null", "{ready}");
    assert!(bed.broker.count(On::Provision) > 1);
    bed.lives_and_goes("busy");

    // A broker that is away for a moment.
    bed.broker.script(On::Provision, [Fault::too_many(1)]);
    bed.broker
        .script(On::Deprovision, [Fault::error(503, "Busy", "come back")]);
    let _ = bed.order("polite", &[]).ok();
    bed.lives_and_goes("polite");
}

#[test]
fn what_a_failed_provision_left_behind_is_taken_away() {
    let bed = Bed::start();
    bed.broker.script(
        On::Provision,
        [Fault::error(500, "Boom", "no room").after_work()],
    );
    let _ = bed.order("orphan", &[]).ok();
    let failed = bed.dispatch.until("serviceinstance", "orphan", |found| {
        found["status"] == "ERROR" && bed.broker.instances().is_empty()
    });
    assert!(
        reason(&failed).contains("no room"),
        "the broker's own words: {failed}"
    );
    assert_eq!(bed.broker.count(On::Deprovision), 1);
    assert_eq!(bed.broker.count(On::Bind), 0);
    bed.goes("orphan");
    bed.nothing_is_left();
}

#[test]
fn a_page_in_place_of_an_answer_is_a_reason_and_nothing_is_lost() {
    let bed = Bed::start();
    bed.broker
        .script(On::Provision, [Fault::html(201).after_work()]);
    let _ = bed.order("garbled", &[]).ok();
    let failed = bed.dispatch.until("serviceinstance", "garbled", |found| {
        found["status"] == "ERROR" && bed.broker.instances().is_empty()
    });
    assert!(
        !reason(&failed).contains("<html"),
        "no page is repeated: {failed}"
    );
    assert!(
        reason(&failed).len() > 20,
        "it says what is wrong: {failed}"
    );
    // It can be asked for anew.
    eventually(
        "what was left is gone, so that it can be tried again",
        || {
            bed.dispatch
                .cli(&["retry", "serviceinstance", "garbled"])
                .code
                == 0
        },
    );
    bed.is_ready("garbled");
    bed.goes("garbled");
    assert_eq!(
        (bed.broker.instances().len(), bed.broker.bindings().len()),
        (0, 0)
    );
}

#[test]
fn a_provision_that_the_broker_gives_up_is_an_error_with_its_words() {
    let bed = Bed::start();
    bed.broker
        .script(On::Provision, [Fault::doomed("the region is full")]);
    let _ = bed.order("doomed", &[]).ok();
    let failed = bed.dispatch.until("serviceinstance", "doomed", |found| {
        found["status"] == "ERROR"
    });
    assert!(reason(&failed).contains("the region is full"), "{failed}");
    assert_eq!(
        (&failed["provisioned"], &failed["bound"]),
        (&json!(false), &json!(false))
    );
    let waited = bed
        .dispatch
        .cli(&["get", "serviceinstance", "doomed", "--wait"]);
    assert_eq!(waited.code, 4, "it ended in ERROR: {}", waited.err);
    bed.goes("doomed");
    eventually("nothing is left at the broker", || {
        bed.broker.instances().is_empty()
    });
    bed.nothing_is_left();
}

#[test]
fn deleted_while_it_is_made_it_ends_with_nothing_at_the_broker() {
    let bed = Bed::with(Options {
        pace: Pace::For(Duration::from_millis(700)),
        ..Options::default()
    });
    let _ = bed.order("early", &[]).ok();
    eventually("the broker works on it", || {
        bed.broker.count(On::PollInstance) > 0
    });
    bed.goes("early");
    bed.nothing_is_left();

    let _ = bed.order("bound", &[]).ok();
    eventually("the broker binds it", || {
        bed.broker.count(On::PollBinding) > 0
    });
    bed.goes("bound");
    bed.nothing_is_left();
    // Before it was decided what to do first.
    bed.broker.set_pace(Pace::Sync);
    let _ = bed.order("at-once", &[]).ok();
    bed.goes("at-once");
    bed.nothing_is_left();
}

#[test]
fn what_is_used_is_not_deleted_and_those_that_use_it_are_named() {
    let bed = Bed::start();
    for name in ["one", "two"] {
        let _ = bed.order(name, &["--wait"]).ok();
    }
    let refused = bed.dispatch.cli(&["delete", "servicebroker", "fake"]);
    assert_eq!(refused.code, 1, "{}", refused.out);
    assert!(refused.err.contains("[in-use]"), "{}", refused.err);
    for name in ["one", "two"] {
        assert!(
            refused.err.contains(name),
            "{name} is named: {}",
            refused.err
        );
    }
    assert_eq!(bed.dispatch.get("servicebroker", "fake")["status"], "READY");
    assert_eq!(bed.broker.instances().len(), 2, "nothing happened to them");
    let _ = bed
        .dispatch
        .cli(&["delete", "servicebroker", "fake", "--cascade"])
        .ok();
    bed.dispatch.until_gone("servicebroker", "fake");
    assert_eq!(bed.dispatch.all("serviceinstances"), json!([]));
    assert_eq!(bed.dispatch.all("serviceclasses"), json!([]));
    bed.nothing_is_left();
}

#[test]
fn a_broker_that_asks_for_what_it_was_offered_is_asked_again() {
    let bed = Bed::start();
    bed.broker.script(On::Provision, [Fault::async_required()]);
    let _ = bed.order("slow", &[]).ok();
    let delayed = bed.dispatch.until("serviceinstance", "slow", |found| {
        found["status"] == "READY" || reason(found).contains("tried again at")
    });
    let said = delayed["status"] == "READY" || reason(&delayed).contains("AsyncRequired");
    assert!(said, "{delayed}");
    bed.is_ready("slow");
    assert_eq!(bed.broker.count(On::Provision), 2);
    bed.lives_and_goes("slow");
}
