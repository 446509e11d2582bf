//! Functions that are run again and again, by the real binary.

use std::fs;

use harness::nats::{Nats, Stored};
use harness::process::{Dispatch, Process, eventually, repository};
use serde_json::{Value, json};

/// Keeps every run that was acknowledged, so that a kill of everything loses none.
const FSYNC: &str = "runs:\n  durability: fsync\n";

const ECHO: &str = "def handle(context, payload):\n    return payload\n";

/// What is in the log of a run, without what else it says: the moment it was due at, and how often
/// it was begun and ended.
#[derive(Debug, Default)]
struct Run {
    id: String,
    due: i64,
    started: usize,
    finished: Vec<Value>,
}

/// The runs of a function, in the order in which they were due.
fn runs(dispatch: &Dispatch, function: &str) -> Vec<Run> {
    let subject = format!("dispatch.run.*.{function}.*");
    let stored = Nats::connect(dispatch, "engine").stored("DISPATCH_RUNS", &subject);
    let mut runs: Vec<Run> = Vec::new();
    for message in stored {
        let id = message.subject.rsplit('.').next().unwrap_or_default();
        let event = Stored::json(&message);
        let place = runs.iter().position(|run| run.id == id);
        let place = place.unwrap_or_else(|| {
            runs.push(Run {
                id: id.to_owned(),
                ..Run::default()
            });
            runs.len() - 1
        });
        let run = &mut runs[place];
        if let Some(until) = event["Delayed"]["until"].as_i64() {
            run.due = until;
        }
        run.started += usize::from(!event["Started"].is_null());
        if !event["Finished"].is_null() {
            run.finished.push(event["Finished"]["result"].clone());
        }
    }
    runs.sort_by_key(|run| run.due);
    runs
}

fn ended(dispatch: &Dispatch, function: &str) -> usize {
    let all = runs(dispatch, function);
    all.iter().filter(|run| !run.finished.is_empty()).count()
}

/// Each occurrence of these runs was carried out once, and none is missing between them.
fn once_each(runs: &[Run], every_ms: i64) {
    for pair in runs.windows(2) {
        assert_eq!(pair[1].due - pair[0].due, every_ms, "{runs:#?}");
    }
    for run in runs {
        assert!(run.finished.len() <= 1, "{run:?}");
    }
}

fn names(dispatch: &Dispatch, schedule: &str) -> Vec<String> {
    let history = dispatch.cli(&["history", "schedule", schedule, "--json"]);
    let history = history.json();
    let events = history.as_array().unwrap().iter();
    events
        .map(|event| event["event"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_function_is_run_every_second_from_when_it_is_there_until_it_is_not_to_be() {
    let dispatch = Dispatch::up();
    let made = dispatch.cli(&[
        "create",
        "schedule",
        "pulse",
        "echo",
        "--every",
        "1s",
        "--input",
        "{\"n\":7}",
    ]);
    assert_eq!(made.ok(), "Created schedule: pulse\n");
    let waits = dispatch.get("schedule", "pulse");
    assert_eq!(waits["status"], "INITIALIZED", "{waits}");
    assert_eq!(waits["reason"][0], "function echo does not exist yet");
    assert!(waits["nextTime"].is_null() && waits["lastRun"].is_null());
    dispatch.function("echo", ECHO, &[]);
    eventually("it is run again and again", || {
        ended(&dispatch, "echo") >= 4
    });
    let shown = dispatch.until("schedule", "pulse", |shown| {
        shown["lastRun"]["status"] == "READY"
    });
    assert_eq!(shown["status"], "READY", "{shown}");
    assert!(shown["nextTime"].as_i64() > shown["lastRun"]["dueTime"].as_i64());
    let id = shown["lastRun"]["name"].as_str().unwrap();
    let run = dispatch.cli(&["get", "runs", "echo", id, "--json"]).json();
    assert_eq!(run["output"], json!({ "n": 7 }), "{run}");
    let table = dispatch.cli(&["get", "schedules"]).ok();
    for word in ["pulse", "echo", "every 1s", "Next Run", "READY"] {
        assert!(
            table.to_lowercase().contains(&word.to_lowercase()),
            "{word}: {table}"
        );
    }
    let refused = dispatch.cli(&["delete", "function", "echo"]);
    assert!(
        refused.code == 1 && refused.err.contains("Schedule pulse"),
        "{refused:?}"
    );

    let paused = dispatch.cli(&["update", "schedule", "pulse", "--paused"]);
    assert_eq!(paused.ok(), "Updated schedule: pulse\n");
    let shown = dispatch.get("schedule", "pulse");
    assert!(shown["nextTime"].is_null(), "{shown}");
    assert!(shown["reason"][0].as_str().unwrap().contains("--resume"));
    assert!(dispatch.cli(&["get", "schedules"]).ok().contains("paused"));
    eventually("all that was asked for has ended", || {
        let all = runs(&dispatch, "echo");
        all.iter().all(|run| !run.finished.is_empty())
    });
    let before = runs(&dispatch, "echo");
    once_each(&before, 1000);
    assert!(before.iter().all(|run| run.started == 1), "{before:#?}");
    let _ = dispatch
        .cli(&["update", "schedule", "pulse", "--resume"])
        .ok();
    eventually("it goes on", || ended(&dispatch, "echo") > before.len());
    let after = runs(&dispatch, "echo");
    assert_eq!(
        (after[before.len()].due - before[0].due) % 1000,
        0,
        "it does not drift"
    );

    let _ = dispatch.cli(&["delete", "schedule", "pulse"]).ok();
    dispatch.until_gone("schedule", "pulse");
    let _ = dispatch.cli(&["delete", "function", "echo"]).ok();
    assert_eq!(
        names(&dispatch, "pulse"),
        ["Created", "Begun", "Updated", "Updated", "Deleted"],
        "its runs leave nothing on its record"
    );
}

#[test]
fn nothing_is_left_out_or_run_twice_when_everything_is_killed() {
    let mut dispatch = Dispatch::up_as(FSYNC);
    dispatch.function("echo", ECHO, &[]);
    let made = dispatch.cli(&["create", "schedule", "pulse", "echo", "--every", "1s"]);
    let _ = made.ok();
    eventually("it is run", || ended(&dispatch, "echo") >= 2);
    dispatch.kill();
    dispatch.start(&[]);
    let before = ended(&dispatch, "echo");
    eventually("it goes on", || ended(&dispatch, "echo") >= before + 3);
    let all = runs(&dispatch, "echo");
    once_each(&all, 1000);
}

#[test]
fn a_run_that_a_node_died_over_before_it_was_asked_for_is_asked_for_by_the_next() {
    let mut dispatch = Dispatch::up_as(FSYNC);
    dispatch.function("echo", ECHO, &[]);
    dispatch.stop();
    dispatch.start(&[("DISPATCH_HOLD_AT", "before run of a schedule")]);
    let made = dispatch.cli(&["create", "schedule", "pulse", "echo", "--every", "1s"]);
    let _ = made.ok();
    dispatch.until_held();
    let held = runs(&dispatch, "echo");
    assert_eq!((held.len(), held[0].started), (1, 0), "{held:#?}");
    dispatch.kill();
    dispatch.start(&[]);
    eventually("it is run", || {
        runs(&dispatch, "echo")
            .first()
            .is_some_and(|run| !run.finished.is_empty())
    });
    let all = runs(&dispatch, "echo");
    assert_eq!((&all[0].id, all[0].started), (&held[0].id, 1), "{all:#?}");
    once_each(&all, 1000);
}

#[test]
fn the_examples_of_the_page_do_what_it_says() {
    let dispatch = Dispatch::up();
    let file = repository().join("docs/examples/schedules.yaml");
    let file = file.to_str().unwrap();
    let made = dispatch.cli(&["create", "-f", file]).ok();
    assert!(made.contains("Created Schedule: nightly"), "{made}");
    dispatch.function("report", ECHO, &[]);
    dispatch.function("hello-py", ECHO, &[]);
    let nightly = dispatch.until("schedule", "nightly", |shown| shown["status"] == "READY");
    assert_eq!(nightly["when"], "0 3 * * * Europe/Berlin", "{nightly}");
    assert!(nightly["nextTime"].is_i64(), "{nightly}");
    assert_eq!(nightly["overlap"], "skip");
    // What was read can be written again.
    let updated = dispatch.cli(&["update", "schedule", "nightly", "--cron", "30 3 * * *"]);
    assert_eq!(updated.ok(), "Updated schedule: nightly\n");
    let nightly = dispatch.get("schedule", "nightly");
    assert_eq!(nightly["when"], "30 3 * * * Europe/Berlin", "{nightly}");
    let other = dispatch.cli(&["update", "schedule", "nightly", "--every", "1h"]);
    let _ = other.ok();
    assert_eq!(dispatch.get("schedule", "nightly")["when"], "every 1h");
    let updated = dispatch.cli(&["update", "-f", file]).ok();
    assert!(updated.contains("Updated Schedule: nightly"), "{updated}");
    for (flags, code, says) in [
        (&["--cron", "61 * * * *"][..], 1, "no cron pattern"),
        (&["--cron", "0 0 30 2 *"], 1, "never due"),
        (
            &["--cron", "* * * * *", "--time-zone", "Mars/Base"],
            1,
            "no time zone",
        ),
        (&["--every", "500"], 1, "no length of time"),
        (
            &["--every", "1s", "--cron", "* * * * *"],
            2,
            "cannot be used with",
        ),
        (&[], 1, "--cron PATTERN or --every"),
    ] {
        let words = [&["create", "schedule", "bad", "report"], flags].concat();
        let refused = dispatch.cli(&words);
        assert!(
            refused.code == code && refused.err.contains(says),
            "{flags:?}: {refused:?}"
        );
    }
    let gone = dispatch.cli(&["delete", "-f", file]).ok();
    assert!(gone.contains("Deleted Schedule: nightly"), "{gone}");
}

const SLOW: &str = "
import time

def handle(context, payload):
    time.sleep(2.5)
    return payload
";

#[test]
fn what_comes_due_while_the_run_before_is_going_is_left_out_and_its_run_says_so() {
    let dispatch = Dispatch::up();
    dispatch.function("slow", SLOW, &[]);
    let words = [
        "create",
        "schedule",
        "s",
        "slow",
        "--every",
        "1s",
        "--overlap",
        "skip",
    ];
    let _ = dispatch.cli(&words).ok();
    let carried_out = |all: &[Run]| all.iter().filter(|run| run.started > 0).count();
    eventually("two are carried out", || {
        carried_out(&runs(&dispatch, "slow")) >= 2
    });
    let _ = dispatch.cli(&["delete", "schedule", "s"]).ok();
    let all = runs(&dispatch, "slow");
    let left_out: Vec<&Run> = all.iter().filter(|run| run.started == 0).collect();
    let of = |run: &Run| {
        run.finished
            .first()
            .map(|end| end["output"]["stillGoing"].clone())
    };
    let first = all.iter().find(|run| run.started > 0).unwrap();
    let because: Vec<&&Run> = left_out
        .iter()
        .filter(|run| of(run) == Some(json!(first.id)))
        .collect();
    assert!(!because.is_empty(), "{all:#?}");
    let id = &because[0].id;
    let shown = dispatch.cli(&["get", "runs", "slow", id, "--json"]).json();
    assert_eq!(shown["status"], "CANCELLED", "{shown}");
    let reason = shown["reason"][0].as_str().unwrap();
    assert!(
        reason.contains(&first.id) && reason.contains("left out"),
        "{shown}"
    );
}

/// A second engine on the first one's NATS, with the same keys.
fn second(first: &Dispatch) -> Process {
    let home = first.scratch().join("second");
    for file in ["keys/master.key", "credentials/token"] {
        let copy = home.join(file);
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(first.home().join(file), &copy).unwrap();
    }
    let mut command = first.command();
    command
        .args(["serve", "--roles", "engine"])
        .args(["--nats-url", &first.nats_url()])
        .arg("--nats-credentials")
        .arg(first.home().join("credentials/nats-engine.json"))
        .env("DISPATCH_HOME", home);
    let log = first.scratch().join("second.log");
    Process::start(command, "Dispatch is up", &log).0
}

#[test]
fn of_two_engines_each_occurrence_has_one_run_although_one_of_them_is_killed() {
    let dispatch = Dispatch::up();
    let functions = ["one", "two", "three"];
    for function in functions {
        dispatch.function(function, ECHO, &[]);
    }
    let mut second = second(&dispatch);
    for name in functions {
        let words = ["create", "schedule", name, name, "--every", "1s"];
        let _ = dispatch.cli(&words).ok();
    }
    let least = || {
        functions
            .map(|name| ended(&dispatch, name))
            .into_iter()
            .min()
    };
    eventually("they are run", || least() >= Some(3));
    second.kill();
    let before = least().unwrap();
    eventually("they go on", || least() >= Some(before + 3));
    for name in functions {
        let _ = dispatch.cli(&["update", "schedule", name, "--paused"]).ok();
    }
    for name in functions {
        eventually("all that was asked for has ended", || {
            let all = runs(&dispatch, name);
            all.iter().all(|run| !run.finished.is_empty())
        });
        let all = runs(&dispatch, name);
        once_each(&all, 1000);
        assert!(all.iter().all(|run| run.started == 1), "{all:#?}");
    }
}
