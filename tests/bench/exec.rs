//! A warm `exec`, from its sender to its durable outcome, and the best rate.

use std::time::{Duration, Instant};

use adapter_kit::{RunTicket, Runs};
use anyhow::{Result, bail};
use engine_model::{Actor, Kind, Name, RunCommand, RunId};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::json;
use uuid::Uuid;

use crate::bed::{Bed, key, org};
use crate::report::{Figure, Report};

const ALONE: u32 = 2000;
const TOGETHER: u32 = 30_000;
const AT_ONCE: usize = 256;
const WITHIN: Duration = Duration::from_secs(60);

/// What each language's function does: greets, and nothing else.
const PYTHON: &str = "def handle(context, payload):\n    return {'hello': payload['name']}\n";
const NODE: &str = "module.exports = (context, payload) => ({ hello: payload.name });\n";

pub(crate) async fn run(report: &mut Report) -> Result<()> {
    let bed = Bed::start().await?;
    for (language, file, text) in [("python3", "f.py", PYTHON), ("nodejs", "f.js", NODE)] {
        deploy(&bed, language, file, text).await?;
    }
    for (function, name) in [
        ("python3", "exec_warm_python"),
        ("nodejs", "exec_warm_node"),
    ] {
        for _ in 0..100 {
            call(&bed, function).await?;
        }
        let mut times = Vec::new();
        let cpu = bed.cpu();
        for _ in 0..ALONE {
            times.push(call(&bed, function).await?);
        }
        let cpu = bed.cpu() - cpu;
        report.add(Figure::named(name).times(times).cpu(ALONE, cpu));
    }
    let (since, cpu) = (Instant::now(), bed.cpu());
    let times: Vec<Duration> = stream::iter(0..TOGETHER)
        .map(|_| call(&bed, "python3"))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    let (took, cpu) = (since.elapsed(), bed.cpu() - cpu);
    let figure = Figure::named("exec_rate").times(times).rate(TOGETHER, took);
    report.add(figure.cpu(TOGETHER, cpu));
    bed.stop().await;
    Ok(())
}

async fn deploy(bed: &Bed, language: &str, file: &str, text: &str) -> Result<()> {
    let base = format!("{language}-base");
    bed.create(
        Kind::BaseImage,
        json!({ "name": base, "language": language }),
    )
    .await?;
    bed.create(
        Kind::Image,
        json!({ "name": language, "baseImageName": base }),
    )
    .await?;
    let document = json!({ "name": language, "image": language, "code": text, "fileName": file });
    bed.create(Kind::Function, document).await?;
    bed.ready(&key(Kind::Function, language)).await
}

async fn call(bed: &Bed, function: &str) -> Result<Duration> {
    let since = Instant::now();
    let function = Name::new(function)?;
    let command = RunCommand {
        input: json!({ "name": "Jon" }),
        blocking: true,
        ..RunCommand::default()
    };
    let id = RunId(Uuid::now_v7());
    let actor = Actor("user:bench".into());
    match bed
        .client
        .run(id, &org(), &function, command, actor, Some(WITHIN))
        .await?
    {
        RunTicket::Finished(reply) if reply.result.output == json!({ "hello": "Jon" }) => {
            Ok(since.elapsed())
        }
        other => bail!("the run ended otherwise: {other:?}"),
    }
}
