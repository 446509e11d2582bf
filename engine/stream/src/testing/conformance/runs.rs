//! Rules of runs.

use engine_model::{
    Actor, FunctionId, RevisionId, RunCommand, RunEvent, RunId, RunReply, RunResult, RunWake, Seq,
    Timestamp, header, subject,
};
use serde_json::json;
use tokio::time::timeout;

use super::bed::Bed;
use super::samples::{PATIENCE, name, next, nothing, org, pull_one};
use crate::message::wall_clock;
use crate::port::{AppendError, OpenRun, RunAppend, RunRecorded};

fn run_id(n: u32) -> RunId {
    RunId::derived(format_args!("run {n}"))
}

fn started(attempt: u32) -> RunEvent {
    RunEvent::Started {
        function: FunctionId::derived(format_args!("f")),
        revision: RevisionId::derived(format_args!("r")),
        secrets: vec![],
        services: vec![name("azure-pg")],
        attempt,
        at: Timestamp(1),
        command: Seq(1),
        lost: 0,
        nonce: 1,
        at_most_once: false,
        digest: None,
    }
}

fn finished(output: &str) -> RunEvent {
    let result = RunResult {
        output: json!(output),
        ..RunResult::default()
    };
    RunEvent::Finished {
        result,
        at: Timestamp(2),
        digest: None,
    }
}

fn append(n: u32, event: RunEvent, expected: Seq) -> RunAppend {
    RunAppend {
        org: org(),
        function: name("hello"),
        run: run_id(n),
        event,
        expected,
    }
}

/// Each run is a log of its own, and whoever finishes first has finished it.
pub async fn the_first_end_of_a_run_wins(bed: &mut dyn Bed) {
    let log = bed.log();
    let first = log
        .append_run(append(1, started(1), Seq(0)))
        .await
        .expect("appended");
    let again = log
        .append_run(append(1, started(1), Seq(0)))
        .await
        .expect("recognised");
    assert_eq!(first, again);
    let other = log.append_run(append(1, started(2), Seq(0))).await;
    assert!(matches!(other, Err(AppendError::Clash)));

    let (one, two) = tokio::join!(
        log.append_run(append(1, finished("one"), first)),
        log.append_run(append(1, finished("two"), first)),
    );
    let (seq, won) = match (one, two) {
        (Ok(seq), Err(AppendError::Clash)) => (seq, "one"),
        (Err(AppendError::Clash), Ok(seq)) => (seq, "two"),
        other => panic!("not one end: {other:?}"),
    };
    let last = log
        .last_run_event(&org(), &name("hello"), run_id(1))
        .await
        .expect("read");
    assert_eq!(last, Some((seq, finished(won))));
    let none = log
        .last_run_event(&org(), &name("hello"), run_id(2))
        .await
        .expect("read");
    assert_eq!(none, None);
    // Another run is not concerned.
    log.append_run(append(2, finished("x"), Seq(0)))
        .await
        .expect("appended");
    let large = finished(&"x".repeat((1 << 20) + 1));
    let refused = log.append_run(append(3, large, Seq(0))).await;
    assert!(matches!(refused, Err(AppendError::TooLarge { .. })));
}

/// The run stream shows what was asked and what happened, and passes over what nobody can read.
pub async fn a_run_is_asked_for_and_followed(bed: &mut dyn Bed) {
    let log = bed.log();
    let asked = subject::run_command(&org(), &name("hello"), run_id(1));
    bed.publish(
        &asked,
        &[(header::ACTOR, "user:alice")],
        br#"{"input":{"a":1}}"#,
    )
    .await;
    bed.publish("dispatch.runcmd.acme.hello.nonsense", &[], b"?")
        .await;
    let seq = log
        .append_run(append(1, started(1), Seq(0)))
        .await
        .expect("appended");
    let mut runs = log.tail_runs(Seq(0)).await.expect("followed");
    match next(&mut runs).await {
        RunRecorded::Requested { seq, envelope } => {
            assert_eq!((seq, envelope.id, envelope.org), (Seq(1), run_id(1), org()));
            assert_eq!(envelope.actor.0, "user:alice");
            assert_eq!(envelope.command.input, json!({"a": 1}));
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(
        next(&mut runs).await,
        RunRecorded::Unreadable { seq: Seq(2) }
    ));
    match next(&mut runs).await {
        RunRecorded::Happened {
            seq: at,
            run,
            function,
            event,
            ..
        } => {
            assert_eq!((at, run, function), (seq, run_id(1), name("hello")));
            assert_eq!(event, started(1));
        }
        other => panic!("{other:?}"),
    }
    // A follower that begins later sees only what is later.
    let mut later = log.tail_runs(seq).await.expect("followed");
    let end = log
        .append_run(append(1, finished("x"), seq))
        .await
        .expect("appended");
    for stream in [&mut runs, &mut later] {
        assert!(matches!(next(stream).await, RunRecorded::Happened { seq, .. } if seq == end));
    }
}

/// A request to end a run is not behind the run commands: each of the two has an inbox.
pub async fn a_request_to_end_a_run_has_a_way_of_its_own(bed: &mut dyn Bed) {
    let log = bed.log();
    let (mut runs, mut cancels) = (
        log.run_commands().await.expect("opened"),
        log.run_cancels().await.expect("opened"),
    );
    for n in 1..=3 {
        let asked = subject::run_command(&org(), &name("hello"), run_id(n));
        bed.publish(&asked, &[], b"{}").await;
    }
    let end = subject::run_cancel(&org(), &name("hello"), run_id(2));
    bed.publish(&end, &[(header::ACTOR, "user:alice")], b"")
        .await;
    let delivered = pull_one(cancels.as_mut()).await;
    let envelope = delivered.item.as_ref().expect("a request");
    assert!(envelope.command.cancel);
    assert_eq!((envelope.id, envelope.org.clone()), (run_id(2), org()));
    assert_eq!(envelope.actor.0, "user:alice");
    delivered.ack.ack().await.expect("acknowledged");
    for n in 1..=3 {
        let delivered = pull_one(runs.as_mut()).await;
        let envelope = delivered.item.as_ref().expect("a run command");
        assert_eq!((envelope.id, envelope.command.cancel), (run_id(n), false));
        delivered.ack.ack().await.expect("acknowledged");
    }
    nothing(runs.as_mut(), bed.ack_wait() * 2).await;
}

/// Runs that are put aside wait in order, each function's for itself; who put one aside twice
/// meant one, and what is not acknowledged comes again.
pub async fn runs_that_are_put_aside_wait_in_order_by_function(bed: &mut dyn Bed) {
    let log = bed.log();
    let wake = |n: u32, function: &str| RunWake {
        id: run_id(n),
        org: org(),
        function: name(function),
        command: RunCommand {
            input: json!(n),
            ..RunCommand::default()
        },
        actor: Actor("user:alice".into()),
        reply_to: None,
        after: Seq(0),
    };
    assert_eq!(log.waiting().await.expect("counted"), []);
    let mut runs: Vec<_> = (1..=300)
        .map(|n| (wake(n, "slow"), Seq(u64::from(n))))
        .collect();
    runs.push((wake(7, "slow"), Seq(7)));
    runs.insert(5, (wake(301, "quick"), Seq(301)));
    for result in log.put_aside(&runs).await {
        result.expect("it is put aside");
    }
    let counted = log.waiting().await.expect("counted");
    let (quick, slow) = (name("quick"), name("slow"));
    assert_eq!(
        counted,
        [(org(), quick.clone(), 1), (org(), slow.clone(), 300)]
    );

    let mut inbox = log.waiting_runs(&org(), &quick).await.expect("opened");
    let one = pull_one(inbox.as_mut()).await;
    assert_eq!((one.item, one.deliveries), (wake(301, "quick"), 1));
    one.ack.ack().await.expect("acknowledged");
    nothing(inbox.as_mut(), bed.ack_wait() * 2).await;
    let aside = async |function| log.runs_aside(&org(), function).await.expect("read");
    assert!(aside(&quick).await.is_empty());
    let all: std::collections::HashSet<_> = (1..=300).map(run_id).collect();
    assert_eq!(aside(&slow).await, all);

    let mut inbox = log.waiting_runs(&org(), &slow).await.expect("opened");
    let left = pull_one(inbox.as_mut()).await;
    assert_eq!(left.item, wake(1, "slow"));
    drop(left);
    let (mut first_time, mut again) = (Vec::new(), Vec::new());
    while first_time.len() < 299 || again.is_empty() {
        let next = pull_one(inbox.as_mut()).await;
        let seen = match next.deliveries {
            1 => &mut first_time,
            _ => &mut again,
        };
        seen.push(next.item.command.input.as_u64().expect("a number"));
        next.ack.ack().await.expect("acknowledged");
    }
    assert_eq!(first_time, (2..=300).collect::<Vec<_>>());
    assert_eq!(again, [1]);
    let empty = async {
        while !log.waiting().await.expect("counted").is_empty() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, empty).await.expect("all are gone");
}

/// Of all runs, those are found that have not ended and whose moment is past, with what asked for
/// them, and up to where requests are ended.
pub async fn runs_that_are_open_are_found_with_what_is_known_of_them(bed: &mut dyn Bed) {
    let log = bed.log();
    let later = wall_clock().plus_ms(3_600_000);
    let open = async |limit| log.open_runs(later, limit).await.expect("looked for");
    assert_eq!(open(10).await, []);
    let mut workers = log.run_commands().await.expect("opened");
    assert_eq!(log.requests_ended().await.expect("known"), Seq(0));
    let mut asked = Vec::new();
    for n in 1..=2 {
        let subject = subject::run_command(&org(), &name("hello"), run_id(n));
        bed.publish(&subject, &[], b"{}").await;
        asked.push(pull_one(workers.as_mut()).await);
    }
    let delayed = |until| RunEvent::Delayed {
        until,
        at: Timestamp(1),
        command: Seq(1),
        digest: None,
    };
    let finished = RunEvent::Finished {
        result: RunResult::default(),
        at: Timestamp(2),
        digest: None,
    };
    let events = [
        (1, delayed(wall_clock())),
        (2, started(1)),
        (3, delayed(later.plus_ms(60_000))),
        (4, finished.clone()),
        (5, started(1)),
    ];
    let mut last = Vec::new();
    for (n, event) in events {
        let appended = log.append_run(append(n, event, Seq(0))).await;
        last.push(appended.expect("appended"));
    }
    let ended = append(2, finished, last[1]);
    log.append_run(ended).await.expect("appended");
    let found = |n: u32| OpenRun {
        org: org(),
        function: name("hello"),
        run: run_id(n),
        seq: last[n as usize - 1],
    };
    assert_eq!(open(10).await, [found(1), found(5)]);
    assert_eq!(open(1).await, [found(1)]);
    let before = wall_clock().plus_ms(-60_000);
    let young = log.open_runs(before, 10).await.expect("looked for");
    assert_eq!(young, [], "their last words are too young");

    // The second one is ended first.
    let (first, second) = (asked.remove(0), asked.remove(0));
    second.ack.ack().await.expect("acknowledged");
    let (hello, run) = (name("hello"), run_id(2));
    let request = log.last_request(&org(), &hello, run).await;
    let (seq, envelope) = request.expect("looked for").expect("it is there");
    assert_eq!((seq, envelope.id), (second.seq, run_id(2)));
    assert!(log.requests_ended().await.expect("known") < first.seq);
    first.ack.ack().await.expect("acknowledged");
    let ended = async {
        while log.requests_ended().await.expect("known") < second.seq {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, ended).await.expect("both are ended");
}

/// Workers share the run commands, events of runs are none, and the asker hears the end.
pub async fn a_run_is_delivered_to_one_worker(bed: &mut dyn Bed) {
    let log = bed.log();
    let (inbox, mut answers) = bed.listen().await;
    let mut one = log.run_commands().await.expect("opened");
    log.append_run(append(9, started(1), Seq(0)))
        .await
        .expect("appended");
    let asked = subject::run_command(&org(), &name("hello"), run_id(1));
    bed.publish(&asked, &[(header::REPLY_TO, &inbox)], br#"{"input":1}"#)
        .await;
    let delivered = pull_one(one.as_mut()).await;
    let envelope = delivered.item.as_ref().expect("a run command");
    assert_eq!(envelope.id, run_id(1));
    let reply = RunReply {
        run: run_id(1),
        seq: Seq(3),
        started: Some(started(1)),
        result: RunResult::default(),
        rejection: None,
        finished_at: Timestamp(2),
    };
    let reply_to = envelope.reply_to.as_deref().expect("an inbox");
    log.answer_run(reply_to, &reply).await.expect("answered");
    delivered.ack.ack().await.expect("acknowledged");
    let heard = timeout(PATIENCE, answers.recv())
        .await
        .expect("in time")
        .expect("heard");
    assert_eq!(
        serde_json::from_slice::<RunReply>(&heard).expect("a reply"),
        reply
    );
    let mut two = log.run_commands().await.expect("opened");
    nothing(two.as_mut(), bed.ack_wait() * 2).await;
}
