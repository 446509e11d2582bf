//! What is asked for again, and what is left to what brings it on anyway.

use engine_model::{Actor, RunCommand, RunEnvelope, RunError, RunErrorKind, RunWake};
use engine_model::{RevisionId, RunResult, TimerRequest, subject};
use engine_stream::{Inbox, Memory, RunAppend, Unreadable};
use serde_json::json;

use super::*;

type Requests = Box<dyn Inbox<Result<RunEnvelope, Unreadable>>>;

fn org() -> OrgName {
    OrgName::new("acme").unwrap()
}

fn name() -> Name {
    Name::new("f").unwrap()
}

fn run(n: u32) -> RunId {
    RunId::derived(format_args!("run {n}"))
}

fn wake(n: u32, after: Seq) -> RunWake {
    RunWake {
        id: run(n),
        org: org(),
        function: name(),
        command: RunCommand {
            input: json!(n),
            ..RunCommand::default()
        },
        actor: Actor("user:alice".into()),
        reply_to: Some("_INBOX.alice".into()),
        after,
    }
}

/// Someone asks for a run; the request is taken and, if so, ended.
async fn request(log: &Memory, requests: &mut Requests, n: u32, ended: bool) -> Seq {
    let subject = subject::run_command(&org(), &name(), run(n));
    let body = serde_json::to_vec(&wake(n, Seq(0)).command).unwrap();
    let headers = [
        (engine_model::header::ACTOR, "user:alice"),
        (engine_model::header::REPLY_TO, "_INBOX.alice"),
    ];
    let sent = log.publish(&subject, &headers, &body).unwrap();
    let taken = requests.pull(1).await.unwrap().remove(0);
    assert_eq!(taken.seq, Seq(sent));
    match ended {
        true => taken.ack.ack().await.unwrap(),
        false => std::mem::forget(taken),
    }
    Seq(sent)
}

async fn append(log: &Memory, n: u32, event: RunEvent, expected: Seq) -> Seq {
    let append = RunAppend {
        org: org(),
        function: name(),
        run: run(n),
        event,
        expected,
    };
    log.append_run(append).await.unwrap()
}

fn delayed(log: &Memory, command: Seq, wait_ms: i64) -> RunEvent {
    RunEvent::Delayed {
        until: log.now().plus_ms(wait_ms),
        at: log.now(),
        command,
        digest: None,
    }
}

fn failed(log: &Memory, command: Seq, wait_ms: i64) -> RunEvent {
    RunEvent::AttemptFailed {
        attempt: 1,
        lost: 0,
        revision: RevisionId::derived(format_args!("r")),
        error: RunError {
            kind: RunErrorKind::FunctionError,
            message: "no".into(),
            stacktrace: vec![],
        },
        at: log.now(),
        next_at: log.now().plus_ms(wait_ms),
        command,
        digest: None,
    }
}

/// How many are asked for when all moments are long past.
async fn looked(log: &Memory) -> usize {
    tokio::time::advance(OVERDUE + Duration::from_secs(60)).await;
    let overdue = i64::try_from(OVERDUE.as_millis()).unwrap();
    look(log, log.now().plus_ms(-overdue)).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_timer_is_lost_is_asked_for_as_it_was_and_once() {
    let log = Memory::new();
    let mut requests = log.run_commands().await.unwrap();
    for (n, event) in [
        (1, delayed as fn(&Memory, Seq, i64) -> RunEvent),
        (2, failed),
    ] {
        let command = request(&log, &mut requests, n, true).await;
        let last = append(&log, n, event(&log, command, 30_000), Seq(0)).await;
        assert_eq!(looked(&log).await, 1);
        let asked = requests.pull(1).await.unwrap().remove(0);
        let envelope = asked.item.unwrap();
        assert_eq!(envelope.wake(last), wake(n, last));
        assert_eq!(looked(&log).await, 0, "it is under way");
        asked.ack.ack().await.unwrap();
        assert_eq!(looked(&log).await, 1, "it came to nothing");
        let again = requests.pull(1).await.unwrap().remove(0);
        let end = RunEvent::Finished {
            result: RunResult::default(),
            at: log.now(),
            digest: None,
        };
        append(&log, n, end, last).await;
        again.ack.ack().await.unwrap();
        assert_eq!(looked(&log).await, 0, "it has ended");
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_something_brings_on_is_left_to_that() {
    let log = Memory::new();
    let mut requests = log.run_commands().await.unwrap();
    // A timer, which has rung meanwhile.
    let command = request(&log, &mut requests, 1, true).await;
    let after = append(&log, 1, delayed(&log, command, 30_000), Seq(0)).await;
    let timer = TimerRequest {
        due: Due::wake(wake(1, after)),
        at: log.now().plus_ms(30_000),
    };
    log.set_timer(&timer).await.unwrap();
    // A place among the waiting.
    let command = request(&log, &mut requests, 2, true).await;
    let after = append(&log, 2, failed(&log, command, 30_000), Seq(0)).await;
    for put_aside in log.put_aside(&[(wake(2, after), command)]).await {
        put_aside.unwrap();
    }
    // Its own message, which comes again.
    let command = request(&log, &mut requests, 3, false).await;
    append(&log, 3, failed(&log, command, 1_000), Seq(0)).await;
    // A moment that has not come.
    append(&log, 4, delayed(&log, command, 3_600_000), Seq(0)).await;
    // A schedule asks for it yet.
    append(&log, 5, delayed(&log, Seq(0), 0), Seq(0)).await;
    assert_eq!(looked(&log).await, 0);
    let mut alarms = log.alarms().await.unwrap();
    let rung = alarms.pull(1).await.unwrap().remove(0);
    assert_eq!(rung.item, timer.due);
    assert_eq!(looked(&log).await, 0, "whoever took the alarm is at it");
    rung.ack.ack().await.unwrap();
    let mut waiting = log.waiting_runs(&org(), &name()).await.unwrap();
    let waited = waiting.pull(1).await.unwrap().remove(0);
    waited.ack.ack().await.unwrap();
    assert_eq!(looked(&log).await, 2, "both came to nothing");
}

#[tokio::test(start_paused = true)]
async fn a_run_is_not_looked_after_before_it_is_long_overdue() {
    let log = Memory::new();
    let mut requests = log.run_commands().await.unwrap();
    let command = request(&log, &mut requests, 1, true).await;
    append(&log, 1, delayed(&log, command, 30_000), Seq(0)).await;
    tokio::time::advance(Duration::from_secs(100)).await;
    let overdue = i64::try_from(OVERDUE.as_millis()).unwrap();
    let asked = look(&log, log.now().plus_ms(-overdue)).await.unwrap();
    assert_eq!(asked, 0);
    assert_eq!(looked(&log).await, 1);
}
