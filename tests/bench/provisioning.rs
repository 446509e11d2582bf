//! Brokers that take their time: how late it is noticed that they are done, and what a hundred
//! thousand instances in provisioning at once cost.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use engine_model::spec::{BindingSpec, InstanceSpec, Tags};
use engine_model::{
    Actor, Cause, CommandId, Commit, Event, InstanceEvent, InstanceId, Kind, Name, RequestId, Seq,
    Timestamp,
};
use engine_stream::{JetStream, Log, Settings};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::json;

use crate::bed::{Bed, key};
use crate::report::{Figure, Report};
use crate::slow_broker::{CLASS, DESCRIPTION, PLAN, PLAN_ID, SERVICE_ID, SlowBroker};

/// How long operations take whose end is watched, and how many of each.
const TAKES: [(&str, Duration); 2] = [
    ("noticed_after_2s", Duration::from_secs(2)),
    ("noticed_after_20s", Duration::from_secs(20)),
];
const WATCHED: u32 = 200;
const AT_ONCE: usize = 100;

/// Instances in provisioning at once.
const INSTANCES: usize = 100_000;
const GROUP: usize = 1000;
/// For how long they have been, so that each is polled once a minute at most.
const AGE_MS: i64 = 10 * 60_000;
/// How long polls are counted, after they have begun.
const COUNTED: Duration = Duration::from_secs(30);

pub(crate) async fn run(report: &mut Report) -> Result<()> {
    noticed(report).await?;
    many(report).await
}

/// From the broker's being done to READY.
async fn noticed(report: &mut Report) -> Result<()> {
    let broker = SlowBroker::start(Duration::ZERO).await?;
    let bed = Bed::start().await?;
    register(&bed, &broker).await?;
    for (name, takes) in TAKES {
        broker.takes(takes);
        let one = |number: u32| {
            let (bed, broker) = (&bed, &broker);
            async move {
                let key = key(Kind::ServiceInstance, &format!("{name}-{number}"));
                let document = json!({
                    "name": key.name, "serviceClass": CLASS, "servicePlan": PLAN,
                });
                bed.create(Kind::ServiceInstance, document).await?;
                bed.ready(&key).await?;
                let now = Instant::now();
                let id = bed.instance_id(&key).context("it is ready")?;
                let done = broker
                    .done(&id.to_string())
                    .context("the broker knows it")?;
                anyhow::Ok(now.saturating_duration_since(done))
            }
        };
        let late: Vec<Duration> = stream::iter(0..WATCHED)
            .map(one)
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        report.add(Figure::named(name).times(late));
    }
    bed.stop().await;
    Ok(())
}

async fn register(bed: &Bed, broker: &SlowBroker) -> Result<()> {
    let document = json!({
        "name": "slow", "url": broker.url(),
        "limits": { "concurrent": 256, "perSecond": 100_000 },
    });
    bed.create(Kind::ServiceBroker, document).await?;
    bed.ready(&key(Kind::ServiceBroker, "slow")).await?;
    bed.ready(&key(Kind::ServiceClass, CLASS)).await
}

/// A hundred thousand at once.
async fn many(report: &mut Report) -> Result<()> {
    let broker = SlowBroker::start(Duration::ZERO).await?;
    let mut bed = Bed::start().await?;
    register(&bed, &broker).await?;
    bed.halt().await;
    let log: Arc<dyn Log> =
        Arc::new(JetStream::open(&bed.connection(), Settings::default()).await?);
    fill(log.as_ref()).await?;

    let (since, before) = (Instant::now(), resident_kb());
    bed.resume().await?;
    bed.create(Kind::Application, json!({ "name": "first" }))
        .await?;
    report.add(Figure {
        s: Some(since.elapsed().as_secs_f64()),
        ..Figure::named("restart_100k")
    });
    #[expect(clippy::cast_precision_loss, reason = "kilobytes of one process")]
    let grown = resident_kb().saturating_sub(before) as f64 / 1024.0;
    report.add(Figure {
        mb: Some(grown),
        ..Figure::named("provisioning_100k")
    });

    let first = broker.polls();
    while broker.polls() < first + 1000 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (since, before, cpu) = (Instant::now(), broker.polls(), bed.cpu());
    tokio::time::sleep(COUNTED).await;
    let (took, cpu) = (since.elapsed(), bed.cpu() - cpu);
    let polls = u32::try_from(broker.polls() - before)?;
    report.add(
        Figure::named("polls_100k")
            .rate(polls, took)
            .cpu(polls, cpu),
    );
    let times = one_more(&bed).await?;
    report.add(Figure::named("command_at_100k").times(times));
    bed.stop().await;
    Ok(())
}

/// What a command takes meanwhile.
async fn one_more(bed: &Bed) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    for number in 0..100 {
        let since = Instant::now();
        bed.create(
            Kind::Application,
            json!({ "name": format!("app-{number}") }),
        )
        .await?;
        times.push(since.elapsed());
    }
    Ok(times)
}

/// Writes instances whose operation the broker accepted some time ago.
async fn fill(log: &dyn Log) -> Result<()> {
    let began = now().plus_ms(-AGE_MS);
    for first in (0..INSTANCES).step_by(GROUP) {
        let numbers: Vec<usize> = (first..first + GROUP).collect();
        let created: Vec<(Commit, Seq)> = numbers
            .iter()
            .map(|number| (commit(*number, Seq(0), began, created(*number)), Seq(0)))
            .collect();
        let mut accepted = Vec::new();
        for (number, result) in numbers.iter().zip(log.append_group(&created).await) {
            let seq = result?;
            accepted.push((commit(*number, seq, began, working(*number)), seq));
        }
        for result in log.append_group(&accepted).await {
            result?;
        }
    }
    Ok(())
}

fn commit(number: usize, expected: Seq, at: Timestamp, events: Vec<Event>) -> Commit {
    let key = key(Kind::ServiceInstance, &format!("instance-{number}"));
    let cause = Cause::Command(CommandId::derived(format_args!("{number}")));
    Commit {
        id: Commit::id_for(&key, expected, cause),
        key,
        events,
        at,
        actor: Actor("user:bench".into()),
        cause,
        correlation: "bench".into(),
    }
}

fn request(number: usize) -> RequestId {
    RequestId::derived(format_args!("provision {number}"))
}

fn created(number: usize) -> Vec<Event> {
    let spec = InstanceSpec {
        service_class: CLASS.into(),
        service_plan: PLAN.into(),
        parameters: json!({ "location": "westus" }),
        secret_parameters: Vec::new(),
        binding: BindingSpec::default(),
        maintenance_version: String::new(),
        tags: Tags::new(),
    };
    let id = InstanceId::derived(format_args!("instance {number}"));
    vec![
        Event::ServiceInstance(InstanceEvent::Created { id, spec }),
        Event::ServiceInstance(InstanceEvent::ProvisionRequested {
            request: request(number),
            attempt: 1,
            instance: None,
            broker: Name::new("slow").expect("it is a name"),
            broker_org: None,
            service_id: SERVICE_ID.into(),
            plan_id: PLAN_ID.into(),
            bindable: false,
            maintenance_version: None,
            deadline: now().plus_ms(86_400_000),
        }),
    ]
}

/// The broker has accepted it, and was asked once how it goes.
fn working(number: usize) -> Vec<Event> {
    let request = request(number);
    let spread = i64::try_from(number % 300).unwrap_or(0) * 1000;
    vec![
        Event::ServiceInstance(InstanceEvent::OperationAccepted {
            request,
            operation: Some("provisioning".into()),
            dashboard_url: None,
            next_at: now(),
        }),
        Event::ServiceInstance(InstanceEvent::OperationProgressed {
            request,
            description: Some(DESCRIPTION.into()),
            polls: 1,
            next_at: now().plus_ms(spread),
        }),
    ]
}

fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// `VmRSS` of this process.
fn resident_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}
