//! What a run prints, seen while it runs and afterwards; and how long each of its stages took.

use std::fs::File;
use std::process::Stdio;

use harness::process::{Dispatch, eventually};
use serde_json::json;

/// Prints, sleeps, and prints again: whoever sees the first lines sees them early.
const SLOW: &str = "
import sys, time
def handle(context, payload):
    print('began')
    print('aside', file=sys.stderr)
    time.sleep(payload)
    print('ended')
    return 'done'
";

#[test]
fn lines_are_shown_while_the_run_goes_on() {
    let dispatch = Dispatch::up();
    dispatch.function("slow", SLOW, &[]);
    let (out, err) = (
        dispatch.scratch().join("out"),
        dispatch.scratch().join("err"),
    );
    let mut exec = dispatch
        .command()
        .args(["exec", "slow", "--wait", "--logs", "--input", "3"])
        .stdout(Stdio::from(File::create(&out).unwrap()))
        .stderr(Stdio::from(File::create(&err).unwrap()))
        .spawn()
        .unwrap();
    let told = || std::fs::read_to_string(&err).unwrap();
    eventually("the first lines are shown", || {
        told().contains("began\n") && told().contains("! aside\n")
    });
    assert!(exec.try_wait().unwrap().is_none(), "the run goes on");
    assert!(!told().contains("ended"));
    assert!(exec.wait().unwrap().success());
    assert!(told().contains("ended\n"), "{}", told());
    let record = std::fs::read_to_string(&out).unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    assert_eq!(record["logs"]["stdout"], json!(["began", "ended"]));
}

#[test]
fn kept_lines_are_shown_and_new_ones_are_followed() {
    let dispatch = Dispatch::up();
    dispatch.function("slow", SLOW, &[]);
    let once = || dispatch.cli(&["exec", "slow", "--wait", "--input", "0"]);
    assert_eq!(once().code, 0);
    let kept = dispatch.cli(&["logs", "slow"]).ok();
    let lines: Vec<&str> = kept.lines().collect();
    assert!(lines.len() == 3 && lines[0].ends_with(" began"), "{kept}");
    assert!(lines[2].ends_with(" ! aside"), "{kept}");
    let out = dispatch.scratch().join("followed");
    let mut follow = dispatch
        .command()
        .args(["log", "slow", "--follow", "--runs", "1"])
        .stdout(Stdio::from(File::create(&out).unwrap()))
        .spawn()
        .unwrap();
    let told = || std::fs::read_to_string(&out).unwrap();
    eventually("the kept lines are shown", || told().lines().count() == 3);
    assert_eq!(once().code, 0);
    eventually("the new lines are shown", || told().lines().count() == 6);
    assert!(follow.try_wait().unwrap().is_none());
    follow.kill().unwrap();
    follow.wait().unwrap();
    // A name that is not there is no function that prints nothing.
    let absent = dispatch.cli(&["logs", "slwo"]);
    assert_eq!(absent.code, 1, "{absent:?}");
}
