//! The benchmarks: each prints its figures, and all of them go to `target/bench.json`.
//!
//! `bench [NAME…]` runs those whose name begins with one of the words; without words, all.

mod bed;
mod commands;
mod edit;
mod exec;
mod idle;
mod languages;
mod neighbour;
mod provisioning;
mod replay;
mod report;
mod saga;
mod served;
mod slow_broker;

use anyhow::Result;
use report::Report;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == bed::LAUNCHER) {
        adapter_sandbox::launcher_main()
    }
    // Two threads as the machine has cores; the load comes out of them too.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run(&words))
}

async fn run(words: &[String]) -> Result<()> {
    let wanted =
        |name: &str| words.is_empty() || words.iter().any(|w| name.starts_with(w.as_str()));
    let mut report = Report::default();
    if wanted("commands") {
        commands::run(&mut report).await?;
    }
    if wanted("saga") {
        saga::run(&mut report).await?;
    }
    if wanted("exec") {
        exec::run(&mut report).await?;
    }
    languages::run(&mut report, wanted).await?;
    if wanted("neighbour") {
        neighbour::run(&mut report).await?;
    }
    if wanted("served") {
        served::run(&mut report)?;
    }
    if wanted("edit") {
        edit::run(&mut report)?;
    }
    if wanted("replay") || wanted("rebuild") {
        replay::run(&mut report).await?;
    }
    if wanted("provisioning") {
        provisioning::run(&mut report).await?;
    }
    if wanted("idle") {
        idle::run(&mut report)?;
    }
    report.write()
}
