//! Everything dies under a stream of commands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::thread;

use harness::nats::Nats;
use harness::process::{Dispatch, eventually};
use serde_json::{Value, json};
use uuid::Uuid;

/// Senders at once.
const SENDERS: usize = 8;

/// Commands of each; far more than are sent until the crash.
const COMMANDS_MAX: usize = 20_000;

/// Accepted commands before the crash.
const ENOUGH: usize = 400;

/// A command that the server acknowledged, or may have.
#[derive(Debug, Clone)]
struct Sent {
    name: String,
    id: String,
    accepted: bool,
}

#[test]
fn what_was_acknowledged_before_everything_died_is_there_and_nothing_is_there_twice() {
    let mut dispatch = Dispatch::up();
    let sent = Mutex::new(Vec::new());
    let pid = dispatch.id();
    thread::scope(|scope| {
        for sender in 0..SENDERS {
            let nats = Nats::connect(&dispatch, "client");
            let sent = &sent;
            scope.spawn(move || send_until_it_dies(&nats, sender, sent));
        }
        eventually("enough is accepted", || accepted(&sent) >= ENOUGH);
        harness::process::kill(pid);
    });
    dispatch.kill();
    dispatch.start(&[]);
    let sent = sent.into_inner().expect("no sender panics");
    let nats = Nats::connect(&dispatch, "client");
    // Who got no acknowledgement sends again under the same id, as a client does.
    for command in sent.iter().filter(|command| !command.accepted) {
        nats.publish(
            &subject(&command.name),
            &[("Nats-Msg-Id", &command.id)],
            body(),
        )
        .expect("it is up again");
    }
    let engine = Nats::connect(&dispatch, "engine");
    eventually("every command is decided", || {
        engine.stored("DISPATCH_COMMANDS", ">").is_empty()
    });

    let mut commits: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for commit in engine.stored("DISPATCH_EVENTS", "dispatch.evt.*.application.*") {
        commits
            .entry(commit.subject.clone())
            .or_default()
            .push(commit.json());
    }
    for command in &sent {
        let event = format!("dispatch.evt.dispatch.application.{}", command.name);
        let found = commits.get(&event).map_or(0, Vec::len);
        assert_eq!(found, 1, "{command:?}");
    }
    let names: BTreeSet<&String> = sent.iter().map(|command| &command.name).collect();
    assert_eq!(
        commits.len(),
        names.len(),
        "nothing is there that nobody sent"
    );
    let refused = engine.stored("DISPATCH_REJECTED", ">");
    assert!(refused.is_empty(), "{:?}", refused.first());
}

fn accepted(sent: &Mutex<Vec<Sent>>) -> usize {
    let sent = sent.lock().expect("no sender panics");
    sent.iter().filter(|command| command.accepted).count()
}

fn send_until_it_dies(nats: &Nats, sender: usize, sent: &Mutex<Vec<Sent>>) {
    for number in 0..COMMANDS_MAX {
        let name = format!("app-{sender}-{number}");
        let id = Uuid::now_v7().to_string();
        let ack = nats.publish(&subject(&name), &[("Nats-Msg-Id", &id)], body());
        let accepted = ack.is_ok();
        sent.lock()
            .expect("no sender panics")
            .push(Sent { name, id, accepted });
        if !accepted {
            return;
        }
    }
}

fn subject(name: &str) -> String {
    format!("dispatch.cmd.dispatch.application.{name}")
}

fn body() -> Vec<u8> {
    json!({ "Create": { "Application": {} } })
        .to_string()
        .into_bytes()
}
