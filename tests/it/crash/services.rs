//! The engine, or its NATS server, dies in the life of a service instance.

use std::thread;
use std::time::Duration;

use adapter_osb::fake::{On, Options, Pace};
use harness::broker::{Broker, CLASS, PLAN};
use harness::nats::Nats;
use harness::process::{Dispatch, eventually, kill};
use serde_json::Value;

/// Shows the password that it is bound with.
const SHOW: &str = "
def handle(context, payload):
    return context['serviceBindings']['db']['password']
";

/// An instance `db`, and a function that shows its credentials.
struct Story {
    broker: Broker,
    dispatch: Dispatch,
}

impl Story {
    /// A server that stands still where `line` says, with all that the instance needs.
    fn held(line: &str) -> Self {
        Self::begin(Pace::Sync, &[("DISPATCH_HOLD_AT", line)])
    }

    fn begin(pace: Pace, env: &[(&str, &str)]) -> Self {
        let broker = Broker::start_with(Options {
            pace,
            ..Options::default()
        });
        let dispatch = Dispatch::up_with(env);
        let source = dispatch.file("show.py", SHOW);
        for words in [
            &[
                "create",
                "base-image",
                "python3-base",
                "host",
                "--language",
                "python3",
            ][..],
            &["create", "image", "python3", "python3-base"],
            &[
                "create",
                "function",
                "python3",
                "show",
                &source,
                "--service",
                "db",
            ],
        ] {
            let _ = dispatch.cli(words).ok();
        }
        broker.register(&dispatch, "fake");
        Self { broker, dispatch }
    }

    fn order(&self) {
        let _ = self
            .dispatch
            .cli(&["create", "serviceinstance", "db", CLASS, PLAN])
            .ok();
    }

    fn is_used(&self) {
        self.dispatch.until("serviceinstance", "db", is_ready);
        self.dispatch.until("function", "show", is_ready);
    }

    fn cancel(&self) {
        let _ = self.dispatch.cli(&["delete", "function", "show"]).ok();
        let _ = self.dispatch.cli(&["delete", "serviceinstance", "db"]).ok();
    }

    fn dies_where_it_is_held(&mut self) {
        self.dispatch.until_held();
        self.dies();
    }

    fn dies(&mut self) {
        self.dispatch.kill();
        self.dispatch.start(&[]);
    }

    /// It becomes READY, there is one of each at the broker, and the function sees that one.
    fn completes(&self) {
        self.is_used();
        let (instances, bindings) = (self.broker.instances(), self.broker.bindings());
        assert_eq!(
            (instances.len(), bindings.len()),
            (1, 1),
            "{instances:?} {bindings:?}"
        );
        let run = self.dispatch.cli(&["exec", "show", "--wait"]).json();
        assert_eq!(
            run["output"],
            self.broker.credentials()["password"],
            "{run}"
        );
        self.keeps_the_rules();
    }

    fn leaves_nothing(&self) {
        self.dispatch.until_gone("serviceinstance", "db");
        assert_eq!(self.broker.instances(), [""; 0]);
        assert_eq!(self.broker.bindings(), [""; 0]);
        self.keeps_the_rules();
        assert_eq!(self.dispatch.all("secrets"), Value::Array(Vec::new()));
    }

    fn ends(&self) {
        self.completes();
        self.cancel();
        self.leaves_nothing();
    }

    /// The platform broke no rule of the broker API, and nothing was given up.
    fn keeps_the_rules(&self) {
        assert_eq!(self.broker.violations(), [""; 0]);
        let letters = Nats::connect(&self.dispatch, "engine").stored("DISPATCH_DEADLETTERS", ">");
        assert!(letters.is_empty(), "{letters:?}");
    }
}

fn is_ready(document: &Value) -> bool {
    document["status"] == "READY"
}

#[test]
fn killed_between_intent_and_provision_it_provisions_once() {
    let mut story = Story::held("before provision");
    story.order();
    story.dispatch.until_held();
    assert_eq!(
        story.broker.count(On::Provision),
        0,
        "nothing left before the crash"
    );
    let history = story
        .dispatch
        .cli(&["history", "serviceinstance", "db"])
        .ok();
    assert!(
        history.contains("ProvisionRequested"),
        "the intent is on record: {history}"
    );
    story.dies();
    story.ends();
    assert_eq!(story.broker.count(On::Provision), 1);
}

#[test]
fn killed_between_provision_and_its_record_it_keeps_the_instance() {
    let mut story = Story::held("after provision");
    story.order();
    story.dispatch.until_held();
    let made = story.broker.instances();
    story.dies();
    story.completes();
    assert_eq!(
        story.broker.instances(),
        made,
        "the request was repeated under its id"
    );
    story.cancel();
    story.leaves_nothing();
}

#[test]
fn killed_while_the_broker_provisions_it_waits_for_the_same_instance() {
    let mut story = Story::begin(Pace::For(Duration::from_secs(3)), &[]);
    story.order();
    eventually("the broker is polled", || {
        story.broker.count(On::PollInstance) > 0
    });
    story.dies();
    story.completes();
    assert_eq!(
        story.broker.count(On::Provision),
        1,
        "it polls, and asks no second time"
    );
    story.broker.set_pace(Pace::Sync);
    story.cancel();
    story.leaves_nothing();
}

#[test]
fn killed_between_intent_and_bind_it_binds_once() {
    let mut story = Story::held("before bind");
    story.order();
    story.dispatch.until_held();
    assert_eq!(story.broker.count(On::Bind), 0);
    story.dies();
    story.ends();
}

#[test]
fn killed_between_bind_and_its_record_one_binding_survives_and_is_the_one_used() {
    let mut story = Story::held("after bind");
    story.order();
    story.dispatch.until_held();
    assert_eq!(story.broker.count(On::Bind), 1);
    story.dies();
    story.ends();
}

/// Dies where it is held while the instance is deleted.
fn killed_while_it_goes(line: &str) {
    let mut story = Story::held(line);
    story.order();
    story.is_used();
    story.cancel();
    story.dies_where_it_is_held();
    story.leaves_nothing();
}

#[test]
fn killed_between_intent_and_unbind_it_still_goes_altogether() {
    killed_while_it_goes("before unbind");
}

#[test]
fn killed_between_unbind_and_its_record_it_still_goes_altogether() {
    killed_while_it_goes("after unbind");
}

#[test]
fn killed_between_intent_and_deprovision_it_still_goes_altogether() {
    killed_while_it_goes("before deprovision");
}

#[test]
fn killed_between_deprovision_and_its_record_it_still_goes_altogether() {
    killed_while_it_goes("after deprovision");
}

#[test]
fn killed_again_and_again_at_any_moment_it_completes() {
    let mut story = Story::begin(Pace::Polls(2), &[]);
    let seed = std::process::id();
    println!("the moments come from seed {seed}");
    let mut moments = moments(u64::from(seed));
    story.order();
    for moment in moments.by_ref().take(4) {
        thread::sleep(moment);
        story.dies();
    }
    story.completes();
    story.cancel();
    for moment in moments.take(4) {
        thread::sleep(moment);
        story.dies();
    }
    story.leaves_nothing();
}

/// Moments up to half a second apart, by a linear congruential generator.
fn moments(seed: u64) -> impl Iterator<Item = Duration> {
    let next = |last: &u64| Some(last.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    let drawn = std::iter::successors(Some(seed), next).skip(1);
    drawn.map(|number| Duration::from_millis((number >> 33) % 500))
}

#[test]
fn a_nats_server_killed_during_provisioning_is_started_again_and_nothing_is_lost() {
    let story = Story::begin(Pace::For(Duration::from_secs(3)), &[]);
    story.order();
    eventually("the broker is polled", || {
        story.broker.count(On::PollInstance) > 0
    });
    let before = story.dispatch.nats_server().expect("it has a NATS server");
    kill(before);
    eventually("another NATS server is up", || {
        story
            .dispatch
            .nats_server()
            .is_some_and(|after| after != before)
    });
    story.completes();
    assert_eq!(story.broker.count(On::Provision), 1);
}
