//! A handful of the stories through the real process, on a real log, by the command line.

use adapter_osb::fake::{PASSWORD, USERNAME};
use harness::faulty::{Fault, Faulty, On};
use harness::process::{Dispatch, eventually};
use serde_json::Value;

use super::bed::{CLASS, PLAN};
use super::foreign;

/// A server, and a broker that is registered at it.
struct Story {
    broker: Faulty,
    dispatch: Dispatch,
}

impl Story {
    fn before(broker: Faulty) -> Self {
        let dispatch = Dispatch::up();
        let file = dispatch.file("broker-password", PASSWORD);
        let login = ["--username", USERNAME, "--password-file", &file];
        let url = broker.url();
        let words = [&["create", "servicebroker", "broker", &url], &login[..]].concat();
        let _ = dispatch.cli(&words).ok();
        dispatch.until("serviceclass", CLASS, |class| class["status"] == "READY");
        Self { broker, dispatch }
    }

    fn order(&self, name: &str) {
        let words = ["create", "serviceinstance", name, CLASS, PLAN];
        let _ = self.dispatch.cli(&words).ok();
    }

    fn until(&self, name: &str, status: &str) -> Value {
        self.dispatch
            .until("serviceinstance", name, |found| found["status"] == status)
    }

    fn goes(&self, name: &str) {
        let _ = self.dispatch.cli(&["delete", "serviceinstance", name]).ok();
        self.dispatch.until_gone("serviceinstance", name);
        assert_eq!(self.broker.instances(), [""; 0]);
        assert_eq!(self.broker.bindings(), [""; 0]);
        assert_eq!(self.broker.violations(), [""; 0]);
    }
}

#[test]
fn through_the_process_a_page_after_the_work_is_a_reason_and_leaves_no_orphan() {
    let story = Story::before(Faulty::start());
    let page = Fault::html(504).applied();
    story.broker.script(On::Provision, [page]);
    story.order("db");
    eventually("what was left is removed", || {
        let history = ["history", "serviceinstance", "db"];
        story.dispatch.cli(&history).out.contains("OrphanRemoved")
    });
    assert_eq!(story.broker.instances(), [""; 0]);
    let failed = story.until("db", "ERROR");
    let reason = failed["reason"].to_string();
    assert!(reason.contains("504") && !reason.contains('<'), "{reason}");
    let retry = ["retry", "serviceinstance", "db"];
    let _ = story.dispatch.cli(&retry).ok();
    story.until("db", "READY");
    let sent = story.broker.sent(On::Provision);
    assert_ne!(
        sent[0].instance, sent[1].instance,
        "another try, another id"
    );
    story.goes("db");
}

#[test]
fn through_the_process_a_kill_while_the_broker_answers_repeats_the_same_request() {
    let mut story = Story::before(Faulty::start());
    story
        .broker
        .script(On::Provision, [Fault::hang().applied()]);
    story.order("db");
    eventually("the broker has done it", || {
        story.broker.instances().len() == 1
    });
    story.dispatch.kill();
    story.dispatch.start(&[]);
    story.until("db", "READY");
    let sent = story.broker.sent(On::Provision);
    assert_eq!(sent.len(), 2);
    assert_eq!(
        (&sent[0].target, &sent[0].body),
        (&sent[1].target, &sent[1].body)
    );
    story.goes("db");
}

#[test]
fn through_the_process_what_is_at_a_broker_that_is_gone_is_abandoned_on_record() {
    let story = Story::before(Faulty::start());
    story.order("db");
    story.until("db", "READY");
    for on in [On::Unbind, On::Deprovision] {
        story.broker.always(on, Fault::reset_unread());
    }
    let _ = story
        .dispatch
        .cli(&["delete", "serviceinstance", "db"])
        .ok();
    story.dispatch.until("servicebinding", "db", |binding| {
        binding["reason"].to_string().contains("tried again at")
    });
    let unasked = ["abandon", "db", "--reason", "it is gone"];
    let refused = story.dispatch.cli(&unasked);
    assert_ne!(refused.code, 0, "{}", refused.out);
    assert!(refused.err.contains("--yes"), "{}", refused.err);
    let words = [&unasked[..], &["--yes"]].concat();
    let _ = story.dispatch.cli(&words).ok();
    story.dispatch.until_gone("serviceinstance", "db");
    let history = story.dispatch.cli(&["history", "serviceinstance", "db"]);
    assert!(history.out.contains("it is gone"), "{}", history.out);
    assert_eq!(story.broker.instances().len(), 1, "no call was made");
    let _ = story
        .dispatch
        .cli(&["delete", "servicebroker", "broker"])
        .ok();
    story.dispatch.until_gone("servicebroker", "broker");
    assert_eq!(story.broker.violations(), [""; 0]);
}

#[test]
fn through_the_process_a_function_uses_a_broker_that_is_not_ours() {
    let Some(foreign) = foreign() else { return };
    let broker = Faulty::foreign(&foreign, adapter_osb::fake::Options::default());
    let story = Story::before(broker);
    story.order("db");
    story.until("db", "READY");
    let show = "
def handle(context, payload):
    return context['serviceBindings']['db']['password']
";
    story.dispatch.function("show", show, &["--service", "db"]);
    let run = story.dispatch.cli(&["exec", "show", "--wait"]).json();
    assert_eq!(run["output"], "canary-binding-1", "{run}");
    let _ = story.dispatch.cli(&["delete", "function", "show"]).ok();
    story.goes("db");
}
