//! Nodes on one log: each occurrence is asked for once, whoever looks, and whoever dies.
//!
//! The clock is the log's, and stands still while anything is to be done.

use std::collections::BTreeSet;
use std::time::Duration;

use engine_model::spec::{ScheduleSpec, Tags};
use engine_model::{Commit, Event, Kind, Name, OrgName, RunEnvelope, ScheduleEvent};
use engine_stream::{Inbox, Memory};
use serde_json::json;
use tokio::task::JoinSet;

use super::*;

pub(super) fn org() -> OrgName {
    OrgName::new("acme").unwrap()
}

pub(super) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(super) fn key() -> ResourceKey {
    ResourceKey::new(org(), Kind::Schedule, name("s"))
}

fn id() -> ResourceId {
    ResourceId::derived(format_args!("the schedule"))
}

pub(super) fn spec(every: &str, overlap: Overlap) -> ScheduleSpec {
    ScheduleSpec {
        function: name("f"),
        cron: String::new(),
        time_zone: String::new(),
        every: every.into(),
        input: json!({ "n": 1 }),
        secrets: vec![],
        overlap,
        paused: false,
        tags: Tags::new(),
    }
}

/// A log in which a schedule has begun at a moment.
async fn log_with(spec: ScheduleSpec, begun: Timestamp, log: &Memory) {
    let cause = Cause::Alarm;
    let created = ScheduleEvent::Created { id: id(), spec };
    let commit = Commit {
        id: Commit::id_for(&key(), Seq(0), cause),
        key: key(),
        events: vec![
            Event::Schedule(created),
            Event::Schedule(ScheduleEvent::Begun),
        ],
        at: begun,
        actor: Actor("user:alice".into()),
        cause,
        correlation: "test".into(),
    };
    log.append(&commit, Seq(0)).await.unwrap();
}

/// A node, of which only this is of interest here.
pub(super) struct Node {
    schedules: Arc<Schedules>,
    tasks: JoinSet<()>,
}

impl Node {
    async fn on(log: &Memory) -> Self {
        let clock = log.clone();
        Self::with_clock(log, Arc::new(move || clock.now())).await
    }

    pub(super) async fn with_clock(log: &Memory, clock: Clock) -> Self {
        let stop = CancellationToken::new();
        let fold = Arc::new(Fold::default());
        let shared: Arc<dyn Log> = Arc::new(log.clone());
        let (ledger, desk) = Ledger::new(shared.clone(), fold.clone(), stop.clone());
        let mut tasks = JoinSet::new();
        let (follower, follower_log) = (fold.clone(), shared.clone());
        tasks.spawn(async move {
            follower.follow(follower_log.as_ref(), stop).await.unwrap();
        });
        tasks.spawn(async move { desk.await.unwrap() });
        fold.reached(log.head().await.unwrap()).await;
        let schedules = Arc::new(Schedules::new(shared, fold, ledger, clock));
        Self { schedules, tasks }
    }

    /// It sweeps, and takes alarms from now on.
    pub(super) async fn at_work(mut self, log: &Memory) -> Self {
        let own = self.schedules.clone();
        self.tasks.spawn(async move {
            let _ = own.sweep(CancellationToken::new()).await;
        });
        let (own, mut inbox) = (self.schedules.clone(), log.alarms().await.unwrap());
        self.tasks.spawn(async move {
            loop {
                // Whatever fails comes again.
                for alarm in inbox.pull(10).await.unwrap_or_default() {
                    let _ = match own.look(&alarm.item.key).await {
                        Ok(()) => alarm.ack.ack().await,
                        Err(later) => alarm.ack.again(later.delay).await,
                    };
                }
            }
        });
        self
    }
}

/// The requests that come within a time.
pub(super) async fn requests(
    inbox: &mut dyn Inbox<Result<RunEnvelope, engine_stream::Unreadable>>,
    within: Duration,
) -> Vec<RunEnvelope> {
    let mut found = Vec::new();
    let gather = async {
        loop {
            for delivery in inbox.pull(100).await.unwrap() {
                delivery.ack.ack().await.unwrap();
                found.push(delivery.item.unwrap());
            }
        }
    };
    let _ = tokio::time::timeout(within, gather).await;
    found
}

fn runs(begun: Timestamp, seconds: impl IntoIterator<Item = i64>) -> BTreeSet<RunId> {
    let at = |s: i64| RunId::of_schedule(&org(), id(), begun.plus_ms(s * 1000));
    seconds.into_iter().map(at).collect()
}

/// Each was asked for once, and no other.
fn once(found: &[RunEnvelope], wanted: &BTreeSet<RunId>) {
    let ids: BTreeSet<RunId> = found.iter().map(|one| one.id).collect();
    assert_eq!(&ids, wanted);
    assert_eq!(found.len(), ids.len(), "a run was asked for twice");
}

async fn words(log: &Memory) -> Vec<ScheduleEvent> {
    let history = log.history(&key()).await.unwrap();
    let events = history.into_iter().flat_map(|one| one.commit.events);
    events
        .filter_map(|event| match event {
            Event::Schedule(event) => Some(event),
            _ => None,
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn of_several_nodes_each_occurrence_is_asked_for_once() {
    let log = Memory::new();
    let begun = log.now();
    log_with(spec("1s", Overlap::Allow), begun, &log).await;
    let mut inbox = log.run_commands().await.unwrap();
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(Node::on(&log).await.at_work(&log).await);
    }
    // Whoever likes may look as well.
    for node in &nodes {
        let _ = node.schedules.look(&key()).await;
    }
    let found = requests(inbox.as_mut(), Duration::from_millis(20_400)).await;
    let passed = log.now().since_ms(begun) / 1000;
    once(&found, &runs(begun, 1..=passed));
    assert!(passed >= 20);
    assert_eq!(found[0].actor, Actor("schedule:s".into()));
    assert_eq!(found[0].command.input, json!({ "n": 1 }));
}

#[tokio::test(start_paused = true)]
async fn what_a_node_dies_over_after_its_timer_fired_is_asked_for_by_another() {
    let log = Memory::with_ack_wait(Duration::from_secs(12));
    let begun = log.now();
    log_with(spec("1s", Overlap::Allow), begun, &log).await;
    let mut inbox = log.run_commands().await.unwrap();
    let first = Node::on(&log).await;
    first.schedules.look(&key()).await.unwrap();
    let mut alarms = log.alarms().await.unwrap();
    let fired = alarms.pull(1).await.unwrap();
    assert_eq!(fired[0].item.alarm, Alarm::Occur);
    // It took the alarm, and that was the last that was heard of it.
    std::mem::forget(fired);
    drop(first);
    let mut nodes = Vec::new();
    for _ in 0..2 {
        nodes.push(Node::on(&log).await.at_work(&log).await);
    }
    let found = requests(inbox.as_mut(), Duration::from_millis(20_300)).await;
    let passed = log.now().since_ms(begun) / 1000;
    once(&found, &runs(begun, 1..=passed));
    let missed = |event: &ScheduleEvent| matches!(event, ScheduleEvent::Missed { .. });
    assert!(!words(&log).await.iter().any(missed), "none was too late");
}

#[tokio::test(start_paused = true)]
async fn what_a_node_dies_over_before_it_asked_for_the_run_is_asked_for_by_another() {
    let log = Memory::new();
    let begun = log.now().plus_ms(-10_000);
    log_with(spec("1h", Overlap::Allow), begun.plus_ms(-3_600_000), &log).await;
    let mut inbox = log.run_commands().await.unwrap();
    // It said that the run is to be, and died before it asked for it.
    let append = RunAppend {
        org: org(),
        function: name("f"),
        run: RunId::of_schedule(&org(), id(), begun),
        event: RunEvent::Delayed {
            until: begun,
            at: begun,
            command: Seq(0),
            digest: None,
        },
        expected: Seq(0),
    };
    log.append_run(append).await.unwrap();
    let _node = Node::on(&log).await.at_work(&log).await;
    let found = requests(inbox.as_mut(), Duration::from_secs(8)).await;
    once(&found, &runs(begun, [0]));
}

#[tokio::test(start_paused = true)]
async fn after_a_long_time_without_nodes_only_the_latest_is_run_and_that_is_recorded() {
    let log = Memory::new();
    let begun = log.now().plus_ms(-3_600_500);
    log_with(spec("10s", Overlap::Allow), begun, &log).await;
    let mut inbox = log.run_commands().await.unwrap();
    let mut nodes = Vec::new();
    for _ in 0..2 {
        nodes.push(Node::on(&log).await.at_work(&log).await);
    }
    let found = requests(inbox.as_mut(), Duration::from_secs(12)).await;
    once(&found, &runs(begun, [3600, 3610]));
    let words = words(&log).await;
    let missed: Vec<_> = words
        .iter()
        .filter_map(|event| match event {
            ScheduleEvent::Missed { first, last, count } => {
                Some((first.since_ms(begun), last.since_ms(begun), *count))
            }
            _ => None,
        })
        .collect();
    assert_eq!(missed, [(10_000, 3_590_000, 359)], "{words:?}");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_starts_repeats_nothing_of_what_was_asked_for_before_it_came() {
    let log = Memory::new();
    let begun = log.now().plus_ms(-3_000_500);
    log_with(spec("10s", Overlap::Allow), begun, &log).await;
    let mut inbox = log.run_commands().await.unwrap();
    // All were run but those of the last minute.
    for s in (10..=2940).step_by(10) {
        let at = begun.plus_ms(s * 1000);
        let append = RunAppend {
            org: org(),
            function: name("f"),
            run: RunId::of_schedule(&org(), id(), at),
            event: RunEvent::Finished {
                result: RunResult::default(),
                at,
                digest: None,
            },
            expected: Seq(0),
        };
        log.append_run(append).await.unwrap();
    }
    let _node = Node::on(&log).await.at_work(&log).await;
    let found = requests(inbox.as_mut(), Duration::from_secs(5)).await;
    once(&found, &runs(begun, [3000]));
    let words = words(&log).await;
    let missed = ScheduleEvent::Missed {
        first: begun.plus_ms(2_950_000),
        last: begun.plus_ms(2_990_000),
        count: 5,
    };
    assert!(words.contains(&missed), "{words:?}");
}

#[tokio::test(start_paused = true)]
async fn what_may_have_been_run_before_the_log_of_runs_begins_is_not_run_again() {
    let log = Memory::new();
    let begun = log.now().plus_ms(-2_000_000);
    log_with(spec("30m", Overlap::Allow), begun, &log).await;
    let mut inbox = log.run_commands().await.unwrap();
    let finished = |run: RunId, at: Timestamp| RunAppend {
        org: org(),
        function: name("f"),
        run,
        event: RunEvent::Finished {
            result: RunResult::default(),
            at,
            digest: None,
        },
        expected: Seq(0),
    };
    let due = begun.plus_ms(1_800_000);
    let own = RunId::of_schedule(&org(), id(), due);
    log.append_run(finished(own, due)).await.unwrap();
    let other = RunId(uuid::Uuid::from_u128(1));
    log.append_run(finished(other, log.now())).await.unwrap();
    log.drop_runs(1);
    let _node = Node::on(&log).await.at_work(&log).await;
    let found = requests(inbox.as_mut(), Duration::from_secs(60)).await;
    assert!(found.is_empty(), "{found:?}");
    let found = requests(inbox.as_mut(), Duration::from_secs(1_700)).await;
    once(&found, &runs(begun, [3600]));
}

#[tokio::test(start_paused = true)]
async fn one_that_is_due_often_leaves_a_word_an_hour_and_no_more() {
    let log = Memory::new();
    let begun = log.now();
    log_with(spec("10s", Overlap::Allow), begun, &log).await;
    let mut inbox = log.run_commands().await.unwrap();
    let _nodes = [
        Node::on(&log).await.at_work(&log).await,
        Node::on(&log).await.at_work(&log).await,
    ];
    for node in &_nodes {
        let _ = node.schedules.look(&key()).await;
    }
    let found = requests(inbox.as_mut(), Duration::from_secs(3 * 3600 + 65)).await;
    let passed = log.now().since_ms(begun) / 10_000;
    once(&found, &runs(begun, (1..=passed).map(|n| n * 10)));
    let words = words(&log).await;
    let passed = words
        .iter()
        .filter(|event| matches!(event, ScheduleEvent::Passed { .. }));
    assert_eq!(passed.count(), 3, "{words:?}");
    assert_eq!(words.len(), 2 + 3, "{words:?}");
}

#[tokio::test(start_paused = true)]
async fn what_comes_due_while_the_run_before_is_going_is_left_out_and_says_so() {
    let log = Memory::new();
    let begun = log.now();
    log_with(spec("1s", Overlap::Skip), begun, &log).await;
    let mut inbox = log.run_commands().await.unwrap();
    let node = Node::on(&log).await.at_work(&log).await;
    let _ = node.schedules.look(&key()).await;
    let found = requests(inbox.as_mut(), Duration::from_millis(4_500)).await;
    once(&found, &runs(begun, [1]));
    let run = |s: i64| RunId::of_schedule(&org(), id(), begun.plus_ms(s * 1000));
    let last = async |s: i64| {
        let last = log.last_run_event(&org(), &name("f"), run(s)).await;
        last.unwrap()
    };
    let passed = log.now().since_ms(begun) / 1000;
    assert!(passed >= 4);
    for s in 2..=passed {
        let Some((_, RunEvent::Finished { result, .. })) = last(s).await else {
            panic!("{s} is left out")
        };
        let still = result.still_going().unwrap();
        assert_eq!(
            (still.run, still.function),
            (run(1), Some(name("f"))),
            "{s}"
        );
    }
    // The first one ends.
    let (expected, _) = last(1).await.unwrap();
    let append = RunAppend {
        org: org(),
        function: name("f"),
        run: run(1),
        event: RunEvent::Finished {
            result: RunResult::default(),
            at: log.now(),
            digest: None,
        },
        expected,
    };
    log.append_run(append).await.unwrap();
    let found = requests(inbox.as_mut(), Duration::from_secs(1)).await;
    once(&found, &runs(begun, [passed + 1]));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_going_is_not_forgotten_when_the_schedule_runs_another_function() {
    let log = Memory::new();
    let begun = log.now();
    log_with(spec("1s", Overlap::Skip), begun, &log).await;
    let mut inbox = log.run_commands().await.unwrap();
    let node = Node::on(&log).await.at_work(&log).await;
    let _ = node.schedules.look(&key()).await;
    let found = requests(inbox.as_mut(), Duration::from_millis(2_500)).await;
    once(&found, &runs(begun, [1]));
    let run = |s: i64| RunId::of_schedule(&org(), id(), begun.plus_ms(s * 1000));
    for (function, until) in [("g", 6), ("h", 10)] {
        let spec = ScheduleSpec {
            function: name(function),
            ..spec("1s", Overlap::Skip)
        };
        let last = log.last(&key()).await.unwrap().unwrap();
        let cause = Cause::Effect {
            seq: last.seq,
            index: 0,
        };
        let commit = Commit {
            id: Commit::id_for(&key(), last.seq, cause),
            events: vec![
                Event::Schedule(ScheduleEvent::Updated { spec }),
                Event::Schedule(ScheduleEvent::Begun),
            ],
            at: log.now(),
            cause,
            ..last.commit
        };
        let changed = log.append(&commit, last.seq).await.unwrap();
        node.schedules.fold.reached(changed).await;
        let within = begun.plus_ms(until * 1000 + 300).since_ms(log.now());
        let within = Duration::from_millis(u64::try_from(within).unwrap());
        let _ = node.schedules.look(&key()).await;
        let found = requests(inbox.as_mut(), within).await;
        once(&found, &BTreeSet::new());
        for s in until - 2..=until {
            let last = log.last_run_event(&org(), &name(function), run(s)).await;
            let Some((_, RunEvent::Finished { result, .. })) = last.unwrap() else {
                panic!("{s} is left out")
            };
            let still = result.still_going().unwrap();
            assert_eq!(still.run, run(1), "{s}");
            assert_eq!(still.function, Some(name("f")), "{s}");
        }
    }
    let last = log.last_run_event(&org(), &name("f"), run(1)).await;
    let append = RunAppend {
        org: org(),
        function: name("f"),
        run: run(1),
        event: RunEvent::Finished {
            result: RunResult::default(),
            at: log.now(),
            digest: None,
        },
        expected: last.unwrap().unwrap().0,
    };
    log.append_run(append).await.unwrap();
    let found = requests(inbox.as_mut(), Duration::from_secs(1)).await;
    once(&found, &runs(begun, [11]));
    assert_eq!(found[0].function, name("h"));
}
