//! The end of a run that someone asks for, wherever the run stands.

use std::time::{Duration, Instant};
use std::{fs, thread};

use harness::http;
use harness::nats::Nats;
use harness::process::{Dispatch, Process, eventually};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::{ask, events, kinds, shown};

/// Never ends; what it started never ends either, and bears the mark on its command line.
const SPINS: &str = "
import subprocess, sys
def handle(context, payload):
    if payload:
        code = 'while True: pass # ' + payload
        subprocess.Popen([sys.executable, '-c', code], start_new_session=True)
    print('spinning', flush=True)
    while True:
        pass
";

/// Says which node decides a request.
const LOG: &str = "info,engine_runtime=debug";

fn begun(dispatch: &Dispatch, run: &str) -> bool {
    kinds(&events(dispatch, run)) == ["Started"]
}

/// Whether a process of this machine has the mark on its command line.
fn runs_with(mark: &str) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap();
    processes.flatten().any(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        line.contains("while True") && line.contains(mark)
    })
}

#[test]
fn a_handler_that_never_ends_is_killed_with_all_that_it_started() {
    let dispatch = Dispatch::up();
    dispatch.function("spins", SPINS, &["--attempts", "5"]);
    let mark = uuid::Uuid::new_v4().to_string();
    let run = ask(&dispatch, "spins", &json!(mark), &[]);
    eventually("its child runs", || runs_with(&mark));
    let cancelled = dispatch.cli(&["cancel", &run]);
    assert_eq!(cancelled.code, 0, "{cancelled:?}");
    let record = cancelled.json();
    assert_eq!(record["status"], "CANCELLED", "{record}");
    assert_eq!(record["error"]["type"], "Cancelled", "{record}");
    assert_eq!(record["logs"]["stdout"], json!(["spinning"]), "{record}");
    eventually("nothing of it is left", || !runs_with(&mark));
    let log = events(&dispatch, &run);
    assert_eq!(kinds(&log), ["Started", "CancelRequested", "Finished"]);
    // What is killed is killed at once.
    let at = |event: &Value| event["at"].as_i64().unwrap();
    let took = at(&log[2]["Finished"]) - at(&log[1]["CancelRequested"]);
    assert!(took <= 100, "{took} ms");

    // It is safe to repeat, and changes nothing.
    let again = dispatch.cli(&["cancel", &run]);
    assert_eq!(again.code, 0, "{again:?}");
    assert_eq!(events(&dispatch, &run).len(), 3);
}

#[test]
fn who_waits_for_a_run_hears_that_it_was_cancelled() {
    let dispatch = Dispatch::up();
    dispatch.function("spins", SPINS, &[]);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| dispatch.cli(&["exec", "spins", "--wait", "--input", "0"]));
        let mut run = String::new();
        eventually("it has begun", || {
            let runs = dispatch.cli(&["get", "runs", "spins", "--json"]).json();
            let creating = runs[0]["status"] == "CREATING";
            run = runs[0]["name"].as_str().unwrap_or_default().to_owned();
            creating
        });
        let cancelled = dispatch.cli(&["cancel", &run]);
        assert_eq!(cancelled.code, 0, "{cancelled:?}");
        let heard = waits.join().unwrap();
        assert_eq!(heard.code, 3, "{heard:?}");
        assert_eq!(heard.json()["status"], "CANCELLED", "{heard:?}");
    });
}

#[test]
fn a_run_that_has_ended_cannot_be_cancelled() {
    let dispatch = Dispatch::up();
    dispatch.function("one", "def handle(context, payload):\n    return 1\n", &[]);
    let ended = dispatch.cli(&["exec", "one", "--wait"]).json();
    let refused = dispatch.cli(&["cancel", ended["name"].as_str().unwrap()]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains("[already-ended]"), "{refused:?}");
    let unknown = dispatch.cli(&["cancel", &uuid::Uuid::new_v4().to_string()]);
    assert_eq!(unknown.code, 1, "{unknown:?}");
    assert!(unknown.err.contains("[not-found]"), "{unknown:?}");
}

#[test]
fn a_run_that_waits_is_cancelled_over_rest_and_never_begun() {
    let dispatch = Dispatch::up();
    let fails = "
def handle(context, payload):
    raise RuntimeError('no')
";
    let flags = [
        "--attempts",
        "3",
        "--backoff",
        "600000",
        "--backoff-max",
        "600000",
    ];
    dispatch.function("fails", fails, &flags);
    let backing_off = ask(&dispatch, "fails", &json!({}), &[]);
    let delayed = ask(&dispatch, "fails", &json!({}), &["--in", "10m"]);
    for (run, kind) in [(&backing_off, "AttemptFailed"), (&delayed, "Delayed")] {
        eventually("it waits", || {
            kinds(&events(&dispatch, run)).last() == Some(&kind)
        });
        let config = dispatch.config();
        let url = format!("https://127.0.0.1:{}/v1/runs/{run}", config["port"]);
        let answered = Runtime::new().unwrap().block_on(async {
            let request = http::client().delete(url);
            let token = config["token"].as_str().unwrap_or_default();
            let sent = request.bearer_auth(token).send().await.unwrap();
            (sent.status(), sent.json::<Value>().await.unwrap())
        });
        assert_eq!(answered.0, StatusCode::OK, "{answered:?}");
        assert_eq!(answered.1["status"], "CANCELLED", "{answered:?}");
        let shown = shown(&dispatch, "fails", run);
        assert_eq!(shown["status"], "CANCELLED", "{shown}");
        assert_eq!(shown["waitsUntil"], json!(null), "{shown}");
    }
    assert_eq!(kinds(&events(&dispatch, &delayed)), ["Delayed", "Finished"]);
}

#[test]
fn who_waits_for_a_run_that_waits_itself_hears_of_its_end_at_once_and_no_timer_is_left() {
    let dispatch = Dispatch::up();
    let fails = "
def handle(context, payload):
    raise RuntimeError('no')
";
    let long = ["--attempts", "3", "--backoff", "600000"];
    let long = [&long[..], &["--backoff-max", "600000"]].concat();
    dispatch.function("fails", fails, &long);
    for (flags, kind) in [(&["--in", "10m"][..], "Delayed"), (&[], "AttemptFailed")] {
        let words = [&["exec", "fails", "--wait"], flags].concat();
        thread::scope(|scope| {
            let waits = scope.spawn(|| dispatch.cli(&words));
            let mut run = String::new();
            eventually("it waits", || {
                let runs = dispatch.cli(&["get", "runs", "fails", "--json"]).json();
                let runs = runs.as_array().cloned().unwrap_or_default();
                let waiting = runs.iter().find(|run| run["waitsUntil"].is_i64());
                run = waiting.map_or(String::new(), |run| run["name"].as_str().unwrap().into());
                !run.is_empty() && kinds(&events(&dispatch, &run)).last() == Some(&kind)
            });
            let nats = Nats::connect(&dispatch, "engine");
            let timer = format!("dispatch.timer.*.run.{run}.>");
            eventually("its timer is set", || {
                !nats.stored("DISPATCH_TIMERS", &timer).is_empty()
            });
            let cancelled = dispatch.cli(&["cancel", &run]);
            assert_eq!(cancelled.code, 0, "{cancelled:?}");
            let heard = waits.join().unwrap();
            assert_eq!(heard.code, 3, "{heard:?}");
            assert_eq!(heard.json()["status"], "CANCELLED", "{heard:?}");
            assert!(nats.stored("DISPATCH_TIMERS", &timer).is_empty());
        });
    }
}

#[test]
fn a_run_is_ended_by_the_node_that_carries_it_out_whichever_takes_the_request() {
    let first = Dispatch::up_with(&[("DISPATCH_LOG", LOG)]);
    first.function("spins", SPINS, &[]);
    let mut second = second(&first);
    let nats = Nats::connect(&first, "client");
    // Two nodes share the runs and the requests. That the same one gets both each time is one in a
    // million.
    for _ in 0..20 {
        let run = ask(&first, "spins", &json!(0), &[]);
        eventually("it has begun", || begun(&first, &run));
        let mut inbox = nats.inbox();
        let subject = format!("dispatch.runcmd.dispatch.spins.{run}.cancel");
        let headers = [("Dispatch-Reply-To", inbox.subject.as_str())];
        nats.publish(&subject, &headers, "").unwrap();
        assert!(nats.next(&mut inbox)["Done"]["seq"].is_u64());
        eventually("it has ended", || {
            kinds(&events(&first, &run)) == ["Started", "CancelRequested", "Finished"]
        });
    }
    for log in [first.log(), second.said()] {
        assert!(log.contains("request to end a run decided"), "{log}");
    }
    assert!(second.stop(), "it ends by itself");
}

/// A second worker on the first one's NATS, with the same keys.
fn second(first: &Dispatch) -> Process {
    let home = first.scratch().join("second");
    for file in ["keys/master.key", "credentials/token"] {
        let copy = home.join(file);
        fs::create_dir_all(copy.parent().expect("it has one")).expect("it can be made");
        fs::copy(first.home().join(file), &copy).expect("it can be copied");
    }
    let mut command = first.command();
    command
        .args(["serve", "--roles", "engine,worker", "--nats-url"])
        .arg(first.nats_url())
        .arg("--nats-credentials")
        .arg(first.home().join("credentials/nats-engine.json"))
        .env("DISPATCH_HOME", home)
        .env("DISPATCH_LOG", LOG);
    let log = first.scratch().join("second.log");
    Process::start(command, "Dispatch is up", &log).0
}

#[test]
fn a_run_whose_node_is_killed_while_it_is_cancelled_is_not_begun_again() {
    let mut dispatch = Dispatch::up_as(super::FSYNC);
    dispatch.function("spins", SPINS, &[]);
    let run = ask(&dispatch, "spins", &json!(0), &[]);
    eventually("it has begun", || begun(&dispatch, &run));
    // Nobody is there to hear the signal; the request stays in the stream.
    let nats = harness::nats::Nats::connect(&dispatch, "client");
    let began = Instant::now();
    let subject = format!("dispatch.runcmd.dispatch.spins.{run}");
    let kept = nats.publish(&subject, &[], br#"{"cancel":true}"#);
    kept.unwrap();
    dispatch.kill();
    assert!(began.elapsed() < Duration::from_secs(5));
    dispatch.start(&[]);
    let ended = dispatch.until_run("spins", &run);
    assert_eq!(ended["status"], "CANCELLED", "{ended}");
}
