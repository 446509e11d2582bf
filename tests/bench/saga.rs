//! The three-step saga on a broker that does nothing: instance created → provisioned → bound →
//! READY, each step durable with fsync.

use std::time::{Duration, Instant};

use adapter_osb::fake::{Fake, Options, PASSWORD, USERNAME};
use anyhow::Result;
use engine_model::Kind;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::json;

use crate::bed::{Bed, key};
use crate::report::{Figure, Report};

const ALONE: u32 = 500;
const TOGETHER: u32 = 5000;
const AT_ONCE: usize = 256;

/// What the fake broker offers.
const CLASS: &str = "fake-postgresql";

pub(crate) async fn run(report: &mut Report) -> Result<()> {
    let broker = Fake::start_with(Options {
        record: false,
        ..Options::default()
    })
    .await?;
    let bed = Bed::start().await?;
    let document = json!({
        "name": "noop", "url": broker.url().as_str(), "username": USERNAME, "password": PASSWORD,
    });
    bed.create(Kind::ServiceBroker, document).await?;
    bed.ready(&key(Kind::ServiceBroker, "noop")).await?;
    bed.ready(&key(Kind::ServiceClass, CLASS)).await?;

    let one = |name: String| {
        let bed = &bed;
        async move {
            let since = Instant::now();
            let document = json!({ "name": name, "serviceClass": CLASS, "servicePlan": "small" });
            bed.create(Kind::ServiceInstance, document).await?;
            bed.ready(&key(Kind::ServiceInstance, &name)).await?;
            anyhow::Ok(since.elapsed())
        }
    };
    one("warm-up".into()).await?;
    let mut times = Vec::new();
    let cpu = bed.cpu();
    for number in 0..ALONE {
        times.push(one(format!("alone-{number}")).await?);
    }
    let cpu = bed.cpu() - cpu;
    report.add(Figure::named("saga_fsync").times(times).cpu(ALONE, cpu));

    let (since, cpu) = (Instant::now(), bed.cpu());
    let times: Vec<Duration> = stream::iter(0..TOGETHER)
        .map(|number| one(format!("together-{number}")))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    let (took, cpu) = (since.elapsed(), bed.cpu() - cpu);
    let figure = Figure::named("saga_fsync_rate")
        .times(times)
        .rate(TOGETHER, took);
    report.add(figure.cpu(TOGETHER, cpu));
    bed.stop().await;
    Ok(())
}
