//! Many runs of one function that nobody waits for, and others beside them.

use std::collections::HashSet;
use std::thread;
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::pull::OrderedConfig;
use futures::StreamExt as _;
use harness::nats::Nats;
use harness::process::{Dispatch, eventually};
use serde_json::json;
use uuid::Uuid;

use super::{FSYNC, events, kinds};

/// Takes as long as it is told to.
const SLOW: &str = "
import time
def handle(context, payload):
    time.sleep(payload)
    return 'slept'
";

/// Asks for many runs at once, in order, and waits for none; returns their ids.
fn ask_many(dispatch: &Dispatch, function: &str, input: f64, many: usize) -> Vec<String> {
    let nats = Nats::connect(dispatch, "engine");
    let runs: Vec<String> = (0..many).map(|_| Uuid::now_v7().to_string()).collect();
    let body = json!({ "input": input }).to_string();
    nats.wait(async {
        let jetstream = async_nats::jetstream::new(nats.client().clone());
        for some in runs.chunks(500) {
            let mut acks = Vec::new();
            for run in some {
                let subject = format!("dispatch.runcmd.dispatch.{function}.{run}");
                let sent = jetstream.publish(subject, body.clone().into()).await;
                acks.push(sent.expect("the connection is open"));
            }
            for ack in acks {
                ack.await.expect("it is stored");
            }
        }
    });
    runs
}

#[test]
fn a_node_that_is_full_of_runs_hears_that_one_is_to_end() {
    let dispatch = Dispatch::up();
    dispatch.function("slow", SLOW, &[]);
    let runs = ask_many(&dispatch, "slow", 600.0, 3000);
    let mut first = None;
    eventually("one has begun", || {
        first = runs.iter().take(64).find(|run| begun(&dispatch, run));
        first.is_some()
    });
    let (first, last) = (first.expect("it was found"), &runs[runs.len() - 1]);
    for run in [first, last] {
        let cancelled = dispatch.cli(&["cancel", run]);
        assert_eq!(cancelled.code, 0, "{cancelled:?}");
        assert_eq!(cancelled.json()["status"], "CANCELLED", "{cancelled:?}");
    }
    assert_eq!(kinds(&events(&dispatch, last)), ["Finished"]);
}

const ECHO: &str = "def handle(context, payload):\n    return payload\n";

/// Runs that are asked for at once.
const CROWD: usize = 20_000;

/// Runs of one function that a node has in hand; among those, any may be first.
const IN_HAND: usize = 128;

/// How long a debug build may take to carry them all out beside other tests.
const DRAIN_MAX: Duration = Duration::from_secs(300);

/// What happened to all runs of a function, in order: the run, and what.
fn told(dispatch: &Dispatch, function: &str) -> Vec<(String, String)> {
    let nats = Nats::connect(dispatch, "engine");
    nats.wait(async {
        let jetstream = async_nats::jetstream::new(nats.client().clone());
        let stream = jetstream
            .get_stream("DISPATCH_RUNS")
            .await
            .expect("it is there");
        let consumer = stream
            .create_consumer(OrderedConfig {
                filter_subject: format!("dispatch.run.*.{function}.*"),
                ..OrderedConfig::default()
            })
            .await
            .expect("it is made");
        let (name, pending) = {
            let info = consumer.cached_info();
            (info.name.clone(), info.num_pending)
        };
        let mut told = Vec::new();
        if pending == 0 {
            return told;
        }
        let mut messages = consumer.messages().await.expect("they are read");
        while let Some(message) = messages.next().await {
            let message = message.expect("it is read");
            let run = message
                .subject
                .rsplit('.')
                .next()
                .unwrap_or_default()
                .to_owned();
            let event: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
            told.push((run, kinds(&[event])[0].to_owned()));
            if message.info().expect("it says where it is").pending == 0 {
                break;
            }
        }
        drop(messages);
        // A stream has only so many, and forgets them late.
        let _ = stream.delete_consumer(&name).await;
        told
    })
}

fn runs_that(dispatch: &Dispatch, function: &str, what: &str) -> Vec<String> {
    let told = told(dispatch, function).into_iter();
    told.filter(|(_, kind)| kind == what)
        .map(|(run, _)| run)
        .collect()
}

#[test]
fn a_crowd_of_one_function_leaves_others_be_and_loses_none_when_all_is_killed() {
    let mut dispatch = Dispatch::up_as(FSYNC);
    dispatch.function("slow", SLOW, &["--concurrency", "2"]);
    dispatch.function("quick", ECHO, &[]);
    let runs = ask_many(&dispatch, "slow", 600.0, CROWD);
    // It is behind all of them in the stream.
    let answered = dispatch.cli(&["exec", "quick", "--wait", "--input", "7"]);
    assert_eq!(answered.code, 0, "{answered:?}");
    assert_eq!(answered.json()["output"], 7);
    let begun = runs_that(&dispatch, "slow", "Started");
    assert_eq!(begun.len(), 2);
    let early: HashSet<&String> = runs[..IN_HAND].iter().collect();
    assert!(begun.iter().all(|run| early.contains(run)), "in order");
    let accepted = super::ask(&dispatch, "quick", &json!(8), &[]);
    assert_eq!(dispatch.until_run("quick", &accepted)["output"], 8);

    // Any of them can be cancelled: one in the middle, which never begins, and the first two.
    let middle = &runs[CROWD / 2];
    for run in [middle, &begun[0], &begun[1]] {
        let cancelled = dispatch.cli(&["cancel", run]);
        assert_eq!(cancelled.code, 0, "{cancelled:?}");
        assert_eq!(cancelled.json()["status"], "CANCELLED", "{cancelled:?}");
    }
    assert_eq!(kinds(&events(&dispatch, middle)), ["Finished"]);
    let mut begun = Vec::new();
    eventually("two others have begun", || {
        begun = runs_that(&dispatch, "slow", "Started");
        begun.len() == 4
    });

    // All that is left is carried out, although everything is killed in between.
    dispatch.kill();
    dispatch.start(&[]);
    let quick = dispatch.file("slow.py", ECHO);
    let words = ["update", "function", "slow", &quick, "--concurrency", "0"];
    let _ = dispatch.cli(&words).ok();
    for run in &begun[2..] {
        assert_eq!(dispatch.cli(&["cancel", run]).code, 0);
    }
    let deadline = Instant::now() + DRAIN_MAX;
    let ended = loop {
        let ended = runs_that(&dispatch, "slow", "Finished");
        if ended.len() >= CROWD || Instant::now() > deadline {
            break ended;
        }
        thread::sleep(Duration::from_millis(500));
    };
    let once: HashSet<&String> = ended.iter().collect();
    assert_eq!((once.len(), ended.len()), (CROWD, CROWD), "each ends once");
    assert!(runs.iter().all(|run| once.contains(run)));
    eventually("nothing waits", || {
        let nats = Nats::connect(&dispatch, "engine");
        nats.stored("DISPATCH_WAITING", ">").is_empty()
    });
}

fn begun(dispatch: &Dispatch, run: &str) -> bool {
    kinds(&events(dispatch, run)) == ["Started"]
}
