//! Measures the log against a server of its own with `sync_interval: always`, and prints figures.
//!
//! ```sh
//! cargo run --release -p engine-stream --features testing --example measure [commits to replay]
//! ```

#![expect(clippy::print_stdout, reason = "figures are what it is run for")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine_model::spec::ApplicationSpec;
use engine_model::{
    Actor, ApplicationEvent, Cause, CommandId, Commit, Event, FunctionId, Kind, Name, OrgName,
    ResourceId, ResourceKey, RevisionId, RunEvent, RunId, RunResult, Seq, Timestamp,
};
use engine_stream::testing::{TestServer, append_apart, append_as_batch};
use engine_stream::{JetStream, Log, RunAppend, Settings};
use futures::StreamExt as _;
use futures::stream;

type Outcome = Result<(), Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() -> Outcome {
    let replayed = std::env::args()
        .nth(1)
        .map_or(Ok(1_000_000), |n| n.parse())?;
    let server = TestServer::start();
    let log = JetStream::open(&server.connection(), Settings::default()).await?;
    singles(&log).await?;
    groups(&log).await?;
    one_run(&log).await?;
    many_runs(&log).await?;
    replay(&log, replayed).await
}

fn org() -> OrgName {
    OrgName::new("acme").expect("a name")
}

fn commit(name: String, n: u64) -> (Commit, Seq) {
    let key = ResourceKey::new(org(), Kind::Application, Name::new(name).expect("a name"));
    let cause = Cause::Command(CommandId::derived(format_args!("{n}")));
    let id = ResourceId::derived(format_args!("{n}"));
    let spec = ApplicationSpec {
        tags: [("n".to_owned(), n.to_string())].into(),
    };
    let commit = Commit {
        id: Commit::id_for(&key, Seq(0), cause),
        key,
        events: vec![Event::Application(ApplicationEvent::Created { id, spec })],
        at: Timestamp(1_700_000_000_000),
        actor: Actor("user:alice".into()),
        cause,
        correlation: format!("correlation-{n}"),
    };
    (commit, Seq(0))
}

fn show(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)];
    let total: Duration = times.iter().sum();
    let rate = times.len() as f64 / total.as_secs_f64();
    println!(
        "{what:<28} p50 {:>9.3?}  p99 {:>9.3?}  {rate:>8.0}/s",
        at(50),
        at(99)
    );
}

async fn singles(log: &JetStream) -> Outcome {
    let mut times = Vec::new();
    for n in 0..2000 {
        let (commit, expected) = commit(format!("single-{n}"), n);
        let began = Instant::now();
        log.append(&commit, expected).await?;
        times.push(began.elapsed());
    }
    show("append, one at a time", times);
    Ok(())
}

/// A group apart (publishes sent together, acks awaited together) and as one batch.
async fn groups(log: &JetStream) -> Outcome {
    for size in [2, 4, 8, 12, 16, 24, 32, 64, 200, 1000] {
        for batch in [false, true] {
            let mut times = Vec::new();
            for round in 0..(2000 / size).clamp(5, 60) {
                let named = |n| format!("group-{size}-{batch}-{round}-{n}");
                let group: Vec<_> = (0..size).map(|n| commit(named(n), n)).collect();
                let began = Instant::now();
                let done = if batch {
                    append_as_batch(log, &group).await.is_some()
                } else {
                    append_apart(log, &group).await.iter().all(Result::is_ok)
                };
                times.push(began.elapsed());
                assert!(done, "a group of {size} was not appended");
            }
            show(
                &format!(
                    "group of {size} {}",
                    if batch { "as batch" } else { "apart" }
                ),
                times,
            );
        }
    }
    Ok(())
}

fn run_events(n: u64) -> [RunEvent; 2] {
    let at = Timestamp(1_700_000_000_000);
    let started = RunEvent::Started {
        function: FunctionId::derived(format_args!("f")),
        revision: RevisionId::derived(format_args!("r")),
        secrets: vec![],
        services: vec![],
        attempt: 1,
        at,
        command: Seq(1),
        lost: 0,
        nonce: 1,
        at_most_once: false,
        digest: None,
    };
    let result = RunResult {
        output: n.into(),
        ..RunResult::default()
    };
    [
        started,
        RunEvent::Finished {
            result,
            at,
            digest: None,
        },
    ]
}

async fn whole_run(log: &JetStream, n: u64) -> Result<(), engine_stream::AppendError> {
    let function = Name::new("hello").expect("a name");
    let run = RunId::derived(format_args!("{n}"));
    let mut expected = Seq(0);
    for event in run_events(n) {
        let append = RunAppend {
            org: org(),
            function: function.clone(),
            run,
            event,
            expected,
        };
        expected = log.append_run(append).await?;
    }
    Ok(())
}

async fn one_run(log: &JetStream) -> Outcome {
    let mut times = Vec::new();
    for n in 0..2000 {
        let began = Instant::now();
        whole_run(log, n).await?;
        times.push(began.elapsed() / 2);
    }
    show("run event, one at a time", times);
    Ok(())
}

async fn many_runs(log: &JetStream) -> Outcome {
    let log = Arc::new(log.clone());
    let count = 50_000_u64;
    let began = Instant::now();
    stream::iter(10_000..10_000 + count)
        .for_each_concurrent(256, |n| {
            let log = log.clone();
            async move { whole_run(&log, n).await.expect("appended") }
        })
        .await;
    let rate = 2.0 * count as f64 / began.elapsed().as_secs_f64();
    println!("run events, 256 at a time    {rate:>8.0}/s");
    Ok(())
}

/// Processor time of this process so far, which a busy machine does not distort as it does the
/// time on the wall.
fn processor() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    // User and system time, in hundredths of a second.
    let ticks = |i: usize| {
        fields
            .get(i)
            .and_then(|field| field.parse::<u64>().ok())
            .unwrap_or(0)
    };
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

async fn replay(log: &JetStream, wanted: u64) -> Outcome {
    let there = log.head().await?.0;
    let began = Instant::now();
    for round in 0..wanted.saturating_sub(there).div_ceil(1000) {
        let named = |n| format!("fill-{round}-{n}");
        let group: Vec<_> = (0..1000).map(|n| commit(named(n), n)).collect();
        for result in log.append_group(&group).await {
            result?;
        }
    }
    let head = log.head().await?;
    let filled = (head.0 - there) as f64 / began.elapsed().as_secs_f64();
    println!("filled in groups of 1000     {filled:>8.0}/s");
    for _ in 0..3 {
        let (began, used) = (Instant::now(), processor());
        let mut tail = log.tail(Seq(0)).await?;
        let mut seen = Seq(0);
        while seen < head {
            let recorded = tail.next().await.ok_or("the tail ended")??;
            assert_eq!(recorded.seq.0, seen.0 + 1, "nothing is missed");
            seen = recorded.seq;
        }
        let took = began.elapsed();
        let rate = head.0 as f64 / took.as_secs_f64();
        let used = processor() - used;
        println!("replay of {head} commits in {took:.2?} ({used:.2?} of processor): {rate:.0}/s");
    }
    Ok(())
}
