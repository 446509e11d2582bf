//! Runs: their record, their order, and their end in the view.

use engine_model::*;
use engine_stream::RunRecorded;
use serde_json::{Value, json};

use super::fixture::*;
use crate::RunDocument;
use crate::runs::{RunFilter, RunFold, one, runs};
use crate::store::Stream;

struct RunHouse {
    _dir: tempfile::TempDir,
    tree: sled::Tree,
    fold: RunFold,
    seq: u64,
}

fn run(n: u32) -> RunId {
    RunId::derived(format_args!("run {n}"))
}

fn command() -> RunCommand {
    RunCommand {
        input: json!({"num": 1, "data": "hello everyone"}),
        blocking: true,
        ..RunCommand::default()
    }
}

fn started(at: i64) -> RunEvent {
    RunEvent::Started {
        function: id("pg-example").into(),
        revision: RevisionId::derived(format_args!("1")),
        secrets: vec![name("open-sesame")],
        services: vec![name("azure-pg")],
        attempt: 1,
        at: Timestamp(START + at),
        command: Seq(1),
        lost: 0,
        nonce: 1,
        at_most_once: false,
        digest: None,
    }
}

fn finished(at: i64) -> RunEvent {
    let logs = RunLogs {
        stderr: vec!["one row".into()],
        stdout: vec![],
    };
    let output = json!([{"num": 1, "data": "hello everyone"}]);
    let result = RunResult {
        output,
        logs,
        ..RunResult::default()
    };
    RunEvent::Finished {
        result,
        at: Timestamp(START + at),
        digest: None,
    }
}

fn failed(at: i64) -> RunEvent {
    let error = RunError {
        kind: RunErrorKind::FunctionError,
        message: "division by zero".into(),
        stacktrace: vec!["line 1".into()],
    };
    let result = RunResult {
        error: Some(error),
        ..RunResult::default()
    };
    RunEvent::Finished {
        result,
        at: Timestamp(START + at),
        digest: None,
    }
}

impl RunHouse {
    fn new(max: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tree = tree(dir.path(), Stream::Runs);
        let fold = RunFold::open(tree.clone(), max).unwrap();
        Self {
            _dir: dir,
            tree,
            fold,
            seq: 0,
        }
    }

    fn requested(&mut self, function: &str, n: u32, at: i64) -> &mut Self {
        self.seq += 1;
        let envelope = RunEnvelope {
            id: run(n),
            org: org(),
            function: name(function),
            command: command(),
            actor: Actor("user:alice".into()),
            reply_to: None,
            at: Timestamp(START + at),
        };
        self.fold
            .fold(&RunRecorded::Requested {
                seq: Seq(self.seq),
                envelope,
            })
            .unwrap();
        self
    }

    fn happened(&mut self, function: &str, n: u32, event: RunEvent) -> &mut Self {
        self.seq += 1;
        let (seq, function, run) = (Seq(self.seq), name(function), run(n));
        let recorded = RunRecorded::Happened {
            seq,
            org: org(),
            function,
            run,
            event,
        };
        self.fold.fold(&recorded).unwrap();
        self
    }

    fn commit(&mut self) -> &mut Self {
        self.fold.commit(1000).unwrap();
        self
    }

    fn one(&self, n: u32) -> Value {
        one(&self.tree, &org(), run(n)).unwrap().unwrap_or_default()
    }

    fn list(&self, function: Option<&str>, since: Option<i64>, limit: usize) -> Vec<Value> {
        let since = since.map(|since| Timestamp(START + since));
        let filter = RunFilter {
            function: function.map(name),
            since,
            limit,
        };
        let found = runs(&self.tree, &org(), &filter).unwrap();
        found
            .into_iter()
            .map(|document| document["name"].clone())
            .collect()
    }

    /// How many rows and index entries there are.
    fn stored(&self) -> usize {
        self.tree.len() - 1
    }
}

fn names(runs: &[u32]) -> Vec<Value> {
    runs.iter().map(|n| json!(run(*n))).collect()
}

#[test]
fn a_run_is_recorded_from_request_to_end() {
    let mut house = RunHouse::new(100);
    house.requested("pg-example", 1, 0).commit();
    insta::assert_json_snapshot!("run_requested", house.one(1));
    house.happened("pg-example", 1, started(5_000)).commit();
    assert_eq!(house.one(1)["status"], "CREATING");
    house.happened("pg-example", 1, finished(7_000)).commit();
    insta::assert_json_snapshot!("run_finished", house.one(1));
}

#[test]
fn the_keys_of_a_record_come_out_in_alphabetical_order() {
    let mut house = RunHouse::new(100);
    house
        .requested("f", 1, 0)
        .happened("f", 1, started(1))
        .happened("f", 1, failed(2))
        .commit();
    let text = serde_json::to_string(&house.one(1)).unwrap();
    let parsed: Value = serde_json::from_str(&text).unwrap();
    let keys: Vec<_> = parsed.as_object().unwrap().keys().collect();
    assert!(keys.is_sorted(), "{keys:?}");
    let (blocking, status) = (
        text.find("\"blocking\"").unwrap(),
        text.find("\"tags\"").unwrap(),
    );
    assert!(blocking == 1 && status > blocking);
}

#[test]
fn a_failed_run_has_an_end_and_says_why() {
    let mut house = RunHouse::new(100);
    house
        .requested("f", 1, 0)
        .happened("f", 1, started(1))
        .happened("f", 1, failed(9_000));
    house.commit();
    insta::assert_json_snapshot!("run_failed", house.one(1));
}

#[test]
fn who_heard_a_runs_end_makes_the_same_record() {
    for (n, end) in [(1, finished(7_000)), (2, failed(7_000))] {
        let mut house = RunHouse::new(100);
        house
            .requested("pg-example", n, 0)
            .happened("pg-example", n, started(5_000));
        house.happened("pg-example", n, end.clone()).commit();
        let RunEvent::Finished { result, at, .. } = end else {
            panic!()
        };
        let reply = RunReply {
            run: run(n),
            seq: Seq(3),
            started: Some(started(5_000)),
            rejection: None,
            result,
            finished_at: at,
        };
        let heard = RunDocument::of_reply(&name("pg-example"), &command(), &reply);
        assert_eq!(serde_json::to_value(heard).unwrap(), house.one(n));
    }
}

#[test]
fn a_run_that_could_not_begin_is_an_error_with_the_reason() {
    let reply = RunReply {
        run: run(1),
        seq: Seq(1),
        started: None,
        rejection: Some(Rejection::new(Code::NotFound, "function f not found")),
        result: RunResult::default(),
        finished_at: Timestamp(START),
    };
    let record = RunDocument::of_reply(&name("f"), &command(), &reply);
    assert_eq!(record.status, Status::Error);
    assert!(record.reason.unwrap()[0].contains("function f not found"));
}

#[test]
fn the_first_end_counts_and_the_last_attempt() {
    let mut house = RunHouse::new(100);
    house
        .requested("f", 1, 0)
        .happened("f", 1, started(1_000))
        .happened("f", 1, started(4_000));
    house
        .happened("f", 1, finished(5_000))
        .happened("f", 1, failed(6_000))
        .commit();
    let shown = house.one(1);
    assert_eq!(shown["status"], "READY");
    assert_eq!(shown["executedTime"], (START + 4_000) / 1000);
    assert_eq!(shown["finishedTime"], (START + 5_000) / 1000);
}

#[test]
fn the_latest_runs_come_first_of_one_function_or_of_all() {
    let mut house = RunHouse::new(100);
    house
        .requested("f", 1, 1_000)
        .requested("g", 2, 2_000)
        .requested("f", 3, 3_000)
        .commit();
    house
        .requested("f-2", 4, 4_000)
        .happened("f", 1, started(5_000))
        .commit();
    assert_eq!(house.list(None, None, 10), names(&[1, 4, 3, 2]));
    assert_eq!(house.list(Some("f"), None, 10), names(&[1, 3]));
    assert_eq!(house.list(None, None, 2), names(&[1, 4]));
    assert_eq!(house.list(None, Some(3_000), 10), names(&[1, 4]));
    assert_eq!(house.list(Some("absent"), None, 10), names(&[]));
    assert_eq!(house.stored(), 4 * 3, "an older index entry does not stay");
}

#[test]
fn runs_of_another_organization_are_not_shown() {
    let mut house = RunHouse::new(100);
    house.requested("f", 1, 1_000).commit();
    let other = OrgName::new("acme2").unwrap();
    let filter = RunFilter {
        function: None,
        since: None,
        limit: 10,
    };
    assert!(runs(&house.tree, &other, &filter).unwrap().is_empty());
    assert_eq!(one(&house.tree, &other, run(1)).unwrap(), None);
}

#[test]
fn beyond_the_limit_the_oldest_runs_go() {
    let mut house = RunHouse::new(3);
    for n in 1..=5 {
        house.requested("f", n, i64::from(n)).commit();
    }
    assert_eq!(house.list(None, None, 10), names(&[5, 4, 3]));
    assert_eq!(house.stored(), 3 * 3);
    let reopened = RunFold::open(house.tree.clone(), 3).unwrap();
    assert_eq!(reopened.position().seq, Seq(5));
}

#[test]
fn what_the_stream_dropped_the_view_drops() {
    let mut house = RunHouse::new(100);
    house
        .requested("f", 1, 1)
        .requested("f", 2, 2)
        .requested("f", 3, 3);
    house.happened("f", 1, finished(4)).commit();
    // The stream begins at 3: of run 2 nothing is left, of run 1 its end.
    assert_eq!(house.fold.prune(Seq(3)).unwrap(), 1);
    assert_eq!(house.list(None, None, 10), names(&[1, 3]));
    assert_eq!(house.fold.prune(Seq(100)).unwrap(), 2);
    assert_eq!(house.stored(), 0);
}

#[test]
fn a_run_whose_request_was_dropped_is_shown_by_what_is_left() {
    let mut house = RunHouse::new(100);
    house.seq = 10;
    house.happened("f", 1, finished(4)).commit();
    let shown = house.one(1);
    assert_eq!(
        (&shown["status"], &shown["input"]),
        (&json!("READY"), &Value::Null)
    );
}

#[test]
fn what_comes_twice_changes_nothing() {
    let mut house = RunHouse::new(100);
    house
        .requested("f", 1, 1)
        .happened("f", 1, finished(4))
        .commit();
    let before = dump(&house.tree);
    house.seq = 0;
    house
        .requested("f", 1, 1)
        .happened("f", 1, finished(4))
        .commit();
    assert_eq!(dump(&house.tree), before);
}
