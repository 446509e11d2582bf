//! How fast the views are. To be run by hand:
//! `cargo nextest run -p projections --run-ignored only --no-capture rates`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine_model::*;
use engine_stream::{Log as _, Memory, RunRecorded};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::fixture::*;
use crate::Views;
use crate::events::EventFold;
use crate::runs::RunFold;
use crate::store::Stream;

const STEP: usize = 8192;

/// A hundred thousand events of 12,500 instances that come up side by side.
#[test]
#[ignore = "measures"]
fn rebuild_of_events() {
    let lives: Vec<_> = story()
        .0
        .into_iter()
        .map(|recorded| recorded.commit)
        .collect();
    let kinds = [Kind::ServiceInstance, Kind::ServiceBinding];
    let life: Vec<_> = lives
        .iter()
        .filter(|commit| kinds.contains(&commit.key.kind))
        .collect();
    let (instances, window) = (12_500, 500);
    let mut stream = Vec::new();
    for begin in (0..instances).step_by(window) {
        for step in &life {
            for n in begin..begin + window {
                let key = key(step.key.kind, &format!("i{n}"));
                let commit = Commit {
                    key,
                    ..(*step).clone()
                };
                stream.push(Recorded {
                    seq: Seq(stream.len() as u64 + 1),
                    commit,
                });
            }
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let mut fold = EventFold::open(tree(dir.path(), Stream::Events)).unwrap();
    let begun = Begun::now();
    for recorded in &stream {
        fold.fold(recorded).unwrap();
        if fold.pending() >= STEP {
            fold.commit(65_536).unwrap();
        }
    }
    fold.commit(0).unwrap();
    report("events", stream.len(), &begun);
}

/// A hundred thousand messages of runs that are under way side by side.
#[test]
#[ignore = "measures"]
fn rebuild_of_runs() {
    let dir = tempfile::tempdir().unwrap();
    let mut fold = RunFold::open(tree(dir.path(), Stream::Runs), 1_000_000).unwrap();
    let (org, function) = (org(), name("f"));
    let mut stream = Vec::new();
    for begin in (0..33_000_u32).step_by(8) {
        for phase in 0..3 {
            for n in begin..begin + 8 {
                // As version 7 ids: in order of time.
                let run = RunId(uuid::Uuid::from_u128(u128::from(n) << 64));
                let (seq, at) = (
                    Seq(stream.len() as u64 + 1),
                    Timestamp(START + i64::from(n)),
                );
                let (org, function) = (org.clone(), function.clone());
                let event = match phase {
                    0 => {
                        let input = json!({"num": n, "data": "hello everyone"});
                        let command = RunCommand {
                            input,
                            ..RunCommand::default()
                        };
                        let actor = Actor::engine();
                        let reply_to = None;
                        let id = run;
                        let envelope = RunEnvelope {
                            id,
                            org,
                            function,
                            command,
                            actor,
                            reply_to,
                            at,
                        };
                        stream.push(RunRecorded::Requested { seq, envelope });
                        continue;
                    }
                    1 => RunEvent::Started {
                        function: id("f").into(),
                        revision: RevisionId::derived(format_args!("1")),
                        secrets: vec![],
                        services: vec![name("azure-pg")],
                        attempt: 1,
                        at,
                        command: Seq(1),
                        lost: 0,
                        nonce: 1,
                        at_most_once: false,
                        digest: None,
                    },
                    _ => {
                        let output = json!([{"num": n, "data": "hello everyone"}]);
                        let result = RunResult {
                            output,
                            ..RunResult::default()
                        };
                        RunEvent::Finished {
                            result,
                            at,
                            digest: None,
                        }
                    }
                };
                stream.push(RunRecorded::Happened {
                    seq,
                    org,
                    function,
                    run,
                    event,
                });
            }
        }
    }
    let begun = Begun::now();
    for recorded in &stream {
        fold.fold(recorded).unwrap();
        if fold.pending() >= STEP {
            fold.commit(65_536).unwrap();
        }
    }
    fold.commit(0).unwrap();
    report("run messages", stream.len(), &begun);
}

/// From the append's acknowledgement to the answer of a query that names it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn news_to_answer() {
    let dir = tempfile::tempdir().unwrap();
    let views = Views::open(&dir.path().join("views")).unwrap();
    let (log, stop) = (Memory::new(), CancellationToken::new());
    let (own, shared, until) = (views.clone(), Arc::new(log.clone()), stop.clone());
    let following = tokio::spawn(async move { own.follow(shared, until).await });
    let mut took = Vec::new();
    for n in 0..1000 {
        let mut tape = Tape::default();
        let image = format!("i{n}");
        tape.image(
            &image,
            ImageEvent::Created {
                id: id("i"),
                spec: image_spec(),
            },
        );
        let mut commit = tape.0.remove(0).commit;
        commit.at = log.now();
        let at_least = log.append(&commit, Seq(0)).await.unwrap();
        let begun = Instant::now();
        let filter = Filter::One {
            kind: Kind::Image,
            name: name(&image),
        };
        let query = Query {
            org: org(),
            filter,
            at_least,
            runs_at_least: Seq(0),
        };
        views.query(query).await.unwrap();
        took.push(begun.elapsed());
    }
    took.sort();
    println!("news to answer: p50 {:?}, p99 {:?}", took[500], took[990]);
    stop.cancel();
    following.await.unwrap().unwrap();
}

struct Begun(Instant, Duration);

impl Begun {
    fn now() -> Self {
        Self(Instant::now(), on_cpu())
    }
}

/// How long this thread has been on a processor: what a busy machine does not distort.
fn on_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = stat.split(' ').next().and_then(|first| first.parse().ok());
    Duration::from_nanos(nanos.unwrap_or_default())
}

fn report(what: &str, count: usize, begun: &Begun) {
    let (wall, cpu) = (begun.0.elapsed(), on_cpu() - begun.1);
    let rate = |took: Duration| count as f64 / took.as_secs_f64();
    println!(
        "{count} {what}: {:.0} per second, {:.0} per second of processor time",
        rate(wall),
        rate(cpu)
    );
}
