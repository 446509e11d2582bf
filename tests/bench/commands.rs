//! A command from its sender to its durable outcome, and how many of them a second.

use std::time::Instant;

use anyhow::Result;
use engine_model::Kind;
use engine_model::spec::{ApplicationSpec, Spec};
use futures::{StreamExt, TryStreamExt, stream};

use crate::bed::{Bed, key};
use crate::report::{Figure, Report};

const ALONE: u32 = 1000;
const TOGETHER: u32 = 20_000;
const AT_ONCE: usize = 512;

pub(crate) async fn run(report: &mut Report) -> Result<()> {
    let bed = Bed::start().await?;
    let create = |name: String| {
        let bed = &bed;
        async move {
            let spec = Spec::Application(ApplicationSpec::default());
            bed.submit(key(Kind::Application, &name), spec).await
        }
    };
    create("warm-up".into()).await?;

    let mut times = Vec::new();
    let cpu = bed.cpu();
    for number in 0..ALONE {
        let since = Instant::now();
        create(format!("alone-{number}")).await?;
        times.push(since.elapsed());
    }
    let cpu = bed.cpu() - cpu;
    report.add(Figure::named("command_fsync").times(times).cpu(ALONE, cpu));

    let (since, cpu) = (Instant::now(), bed.cpu());
    stream::iter(0..TOGETHER)
        .map(|number| create(format!("together-{number}")))
        .buffer_unordered(AT_ONCE)
        .try_for_each(|_| async { Ok(()) })
        .await?;
    let cpu = bed.cpu() - cpu;
    let figure = Figure::named("command_fsync_rate").rate(TOGETHER, since.elapsed());
    report.add(figure.cpu(TOGETHER, cpu));
    bed.stop().await;
    Ok(())
}
