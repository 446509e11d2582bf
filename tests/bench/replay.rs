//! A million events: folded into the engine's world, and into fresh views.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use engine_model::broker::{BoundCredentials, BoundExtras, Endpoint};
use engine_model::spec::{BindingSpec, InstanceSpec, Tags};
use engine_model::{
    Actor, BindingEvent, BindingId, Cause, CommandId, Commit, Event, InstanceEvent, InstanceId,
    KeyId, Kind, Name, RequestId, ResourceId, Sealed, Seq, Timestamp,
};
use engine_runtime::Fold;
use engine_stream::testing::TestServer;
use engine_stream::{JetStream, Log, Settings};
use projections::Views;
use tokio_util::sync::CancellationToken;

use crate::bed::key;
use crate::report::{Figure, Report};

/// Events of one instance's life, and instances: a million events.
const EVENTS_EACH: usize = 10;
const INSTANCES: usize = 100_000;
const GROUP: usize = 1000;
const LOOK: Duration = Duration::from_millis(5);
const WITHIN: Duration = Duration::from_secs(300);

pub(crate) async fn run(report: &mut Report) -> Result<()> {
    let server = TestServer::start();
    let log: Arc<dyn Log> =
        Arc::new(JetStream::open(&server.connection(), Settings::default()).await?);
    let since = Instant::now();
    fill(log.as_ref()).await?;
    let head = log.head().await?;
    harness::say(&format!(
        "a million events in {head} commits, written in {:?}",
        since.elapsed()
    ));

    let stop = CancellationToken::new();
    let fold = Arc::new(Fold::default());
    let since = Instant::now();
    let (follower, follower_log, follower_stop) = (fold.clone(), log.clone(), stop.clone());
    let following =
        tokio::spawn(async move { follower.follow(follower_log.as_ref(), follower_stop).await });
    tokio::time::timeout(WITHIN, fold.reached(head)).await?;
    report.add(Figure {
        s: Some(since.elapsed().as_secs_f64()),
        ..Figure::named("replay_1m")
    });
    let resources = fold.read(engine_core::World::resources);
    if resources != 2 * INSTANCES {
        bail!("{resources} resources were folded, not {}", 2 * INSTANCES);
    }
    stop.cancel();
    following.await??;
    drop(fold);

    let dir = tempfile::tempdir()?;
    let views = Views::open(dir.path())?;
    let stop = CancellationToken::new();
    let since = Instant::now();
    let (follower, follower_log, follower_stop) = (views.clone(), log.clone(), stop.clone());
    let following = tokio::spawn(async move { follower.follow(follower_log, follower_stop).await });
    while views.as_of().seq < head {
        if since.elapsed() > WITHIN {
            bail!("the views are at {} of {head}", views.as_of().seq);
        }
        tokio::time::sleep(LOOK).await;
    }
    report.add(Figure {
        s: Some(since.elapsed().as_secs_f64()),
        ..Figure::named("rebuild_1m")
    });
    stop.cancel();
    following.await??;
    Ok(())
}

/// Writes the lives of many instances: each step of all of them, then the next step.
async fn fill(log: &dyn Log) -> Result<()> {
    for first in (0..INSTANCES).step_by(GROUP) {
        let mut last = vec![[Seq(0); 2]; GROUP];
        for step in 0.. {
            let mut group = Vec::with_capacity(GROUP);
            for (offset, last) in last.iter().enumerate() {
                if let Some((kind, events)) = life(first + offset, step) {
                    let expected = last[usize::from(kind == Kind::ServiceBinding)];
                    group.push((commit(first + offset, kind, expected, events), expected));
                }
            }
            if group.is_empty() {
                break;
            }
            let results = log.append_group(&group).await;
            for ((last, (commit, _)), result) in last.iter_mut().zip(&group).zip(results) {
                last[usize::from(commit.key.kind == Kind::ServiceBinding)] = result?;
            }
        }
    }
    Ok(())
}

fn commit(number: usize, kind: Kind, expected: Seq, events: Vec<Event>) -> Commit {
    let key = key(kind, &format!("instance-{number}"));
    let cause = Cause::Command(CommandId::derived(format_args!("{number}")));
    Commit {
        id: Commit::id_for(&key, expected, cause),
        key,
        events,
        at: Timestamp(1_795_000_000_000),
        actor: Actor("user:bench".into()),
        cause,
        correlation: "bench".into(),
    }
}

/// What happens to an instance and its binding at a step; [`EVENTS_EACH`] events in all.
fn life(number: usize, step: usize) -> Option<(Kind, Vec<Event>)> {
    let id = InstanceId::derived(format_args!("instance {number}"));
    let request = RequestId::derived(format_args!("provision {number}"));
    let next_at = Timestamp(1_795_000_000_000);
    let instance = |event| Some((Kind::ServiceInstance, vec![Event::ServiceInstance(event)]));
    let binding = |event| Some((Kind::ServiceBinding, vec![Event::ServiceBinding(event)]));
    match step {
        0 => Some((Kind::ServiceInstance, created(id, request))),
        1 => binding(BindingEvent::Created {
            id: ResourceId::derived(format_args!("binding {number}")),
            instance: id,
            owner: None,
            function: None,
            tags: Tags::new(),
            spec: BindingSpec::default(),
        }),
        2 => instance(InstanceEvent::OperationAccepted {
            request,
            operation: Some(format!("operation-{number}")),
            dashboard_url: None,
            next_at,
        }),
        3..=5 => instance(InstanceEvent::OperationProgressed {
            request,
            description: Some("creating the database".into()),
            polls: u32::try_from(step).unwrap_or(0) - 2,
            next_at,
        }),
        6 => instance(InstanceEvent::Provisioned {
            request,
            dashboard_url: None,
        }),
        7 => binding(BindingEvent::BindRequested {
            request,
            binding: BindingId::derived(format_args!("binding {number}")),
            attempt: 1,
            deadline: next_at,
        }),
        8 => binding(BindingEvent::Bound {
            request,
            bound: credentials(number),
        }),
        _ => None,
    }
}

fn created(id: InstanceId, request: RequestId) -> Vec<Event> {
    let spec = InstanceSpec {
        service_class: "postgresql".into(),
        service_plan: "small".into(),
        parameters: serde_json::json!({ "location": "westus" }),
        secret_parameters: Vec::new(),
        binding: BindingSpec::default(),
        maintenance_version: String::new(),
        tags: Tags::new(),
    };
    vec![
        Event::ServiceInstance(InstanceEvent::Created { id, spec }),
        Event::ServiceInstance(InstanceEvent::ProvisionRequested {
            request,
            attempt: 1,
            instance: None,
            broker: Name::new("broker").expect("it is a name"),
            broker_org: None,
            service_id: "service".into(),
            plan_id: "plan".into(),
            bindable: true,
            maintenance_version: None,
            deadline: Timestamp(1_895_000_000_000),
        }),
    ]
}

fn credentials(number: usize) -> BoundCredentials {
    BoundCredentials {
        credentials: Sealed {
            key: KeyId(format!("binding-{number}")),
            nonce: "AAAAAAAAAAAAAAAA".into(),
            ciphertext: "A".repeat(256),
        },
        endpoints: vec![Endpoint {
            host: "127.0.0.1".into(),
            port: 5432,
        }],
        expires_at: None,
        renew_before: None,
        extras: BoundExtras::default(),
    }
}

const _: () = assert!(EVENTS_EACH * INSTANCES == 1_000_000, "a million events");
