//! What each language costs on the sandbox alone: first calls, warm calls, rates, memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use adapter_functions::{
    Call, Config, Functions, Isolation, Language, LauncherConfig, NetworkPolicy, Revision, Source,
};
use adapter_kit::MemoryBlobs;
use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bed::LAUNCHER;
use crate::report::{Figure, Report};

/// First calls that are measured.
const FIRSTS: u32 = 60;
/// Sources that are measured with their compiling.
const COMPILED: u32 = 20;
/// Warm calls one after the other.
const WARM: u32 = 5_000;
/// Warm calls of a rate.
const RATE: u32 = 20_000;
/// Idle workers whose memory is compared with that of one.
const IDLE: usize = 5;

/// A function in one file; a component is written as text.
pub(crate) struct Sample {
    pub(crate) language: &'static str,
    pub(crate) file: &'static str,
    pub(crate) text: &'static str,
}

const SAMPLES: &[Sample] = &[
    Sample {
        language: "python3",
        file: "f.py",
        text: "def handle(context, payload):\n    return payload\n",
    },
    Sample {
        language: "nodejs",
        file: "f.js",
        text: "module.exports = (context, payload) => payload;\n",
    },
    Sample {
        language: "java",
        file: "Echo.java",
        text: "import java.util.Map;\nimport java.util.function.BiFunction;\n\
            public class Echo implements BiFunction<Map<String, Object>, Object, Object> {\n\
            public Object apply(Map<String, Object> context, Object payload) { return payload; }\n}\n",
    },
    Sample {
        language: "wasm",
        file: "echo.wasm",
        text: include_str!("components/echo.wat"),
    },
];

/// Measures each language that is wanted under the name `languages_LANGUAGE`.
pub(crate) async fn run(report: &mut Report, wanted: impl Fn(&str) -> bool) -> Result<()> {
    for sample in SAMPLES {
        if !wanted(&format!("languages_{}", sample.language)) {
            continue;
        }
        let (_dir, functions) = start(0)?;
        if let Err(missing) = functions.base_image(sample.language, "").await {
            harness::say(&format!("{}: not measured: {missing}", sample.language));
            continue;
        }
        fresh(report, sample, &functions).await?;
        if sample.language == "java" {
            compiling(report, sample, &functions).await?;
        }
        functions.shutdown(Duration::from_secs(5)).await;
        let (_dir, functions) = start(1)?;
        functions
            .base_image(sample.language, "")
            .await
            .context("it was there before")?;
        cell(report, sample, &functions).await?;
        warm(report, sample, &functions).await?;
        isolated(report, sample, &functions).await?;
        idle(report, sample, &functions).await?;
        functions.shutdown(Duration::from_secs(5)).await;
    }
    Ok(())
}

/// A host of functions with so many cells in stock.
pub(crate) fn start(stems: usize) -> Result<(TempDir, Functions)> {
    let dir = tempfile::tempdir()?;
    let exe = std::env::current_exe()?.display().to_string();
    let launcher = LauncherConfig::new([exe, LAUNCHER.into()]);
    let blobs = Arc::new(MemoryBlobs::default());
    let mut config = Config::new(dir.path().join("functions"), launcher, blobs);
    config.pools.stems = stems;
    // What `dispatch` takes: a program beside it, or itself, if it was built to be that.
    let program = harness::process::binary("dispatch");
    let worker = program.with_file_name("wasm-worker");
    let worker = if worker.is_file() { worker } else { program };
    config.interpreters.insert("wasm".into(), worker);
    let functions = Functions::start(config)?;
    Ok((dir, functions))
}

/// A fresh sandboxed process, from nothing to its first answer.
async fn fresh(report: &mut Report, sample: &Sample, functions: &Functions) -> Result<()> {
    let times = firsts(sample, functions, || true).await?;
    report.add(Figure::named(format!("cold_{}", sample.language)).times(times));
    Ok(())
}

/// The same with a source that was never seen, and is compiled before.
async fn compiling(report: &mut Report, sample: &Sample, functions: &Functions) -> Result<()> {
    let mut times = Vec::new();
    for number in 0..COMPILED {
        let mut revision = revision(sample, &format!("new-{number}"))?;
        revision.source = Source::File {
            name: sample.file.into(),
            text: format!("{}// {number}\n", sample.text),
        };
        times.push(first(functions, revision).await?);
    }
    report.add(Figure::named(format!("cold_compiling_{}", sample.language)).times(times));
    Ok(())
}

/// The first call of a function that is given to a cell that waits.
async fn cell(report: &mut Report, sample: &Sample, functions: &Functions) -> Result<()> {
    // What is loaded keeps a cell of its kind in stock.
    functions.load(revision(sample, "stock")?).await?;
    let times = firsts(sample, functions, || functions.stats().stems >= 1).await?;
    report.add(Figure::named(format!("first_on_cell_{}", sample.language)).times(times));
    Ok(())
}

async fn firsts(
    sample: &Sample,
    functions: &Functions,
    ready: impl Fn() -> bool,
) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    for number in 0..=FIRSTS {
        while !ready() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let revision = revision(sample, &format!("first-{number}"))?;
        let took = first(functions, revision).await?;
        // The first one finds files that nobody has read yet, and compiles what is kept.
        if number > 0 {
            times.push(took);
        }
    }
    Ok(times)
}

/// From an unknown revision to its first answer.
async fn first(functions: &Functions, revision: Revision) -> Result<Duration> {
    let id = revision.id.clone();
    let since = Instant::now();
    functions.load(revision).await?;
    answer(functions, &id).await?;
    let took = since.elapsed();
    functions.retire(&id);
    Ok(took)
}

async fn warm(report: &mut Report, sample: &Sample, functions: &Functions) -> Result<()> {
    let revision = revision(sample, "warm")?;
    let id = revision.id.clone();
    functions.load(revision).await?;
    let mut times = Vec::new();
    for number in 0..WARM + WARM / 10 {
        let took = answer(functions, &id).await?;
        if number >= WARM / 10 {
            times.push(took);
        }
    }
    report.add(Figure::named(format!("warm_{}", sample.language)).times(times));
    for at_once in [1, 16, 64] {
        let since = Instant::now();
        let mut calls = stream::iter(0..RATE)
            .map(|_| answer(functions, &id))
            .buffer_unordered(at_once);
        while let Some(answered) = calls.next().await {
            answered?;
        }
        let name = format!("calls_{}_c{at_once}", sample.language);
        report.add(Figure::named(name).rate(RATE, since.elapsed()));
    }
    functions.retire(&id);
    Ok(())
}

/// A call that has a process of its own.
async fn isolated(report: &mut Report, sample: &Sample, functions: &Functions) -> Result<()> {
    let mut revision = revision(sample, "isolated")?;
    revision.isolation = Isolation::Call;
    let id = revision.id.clone();
    functions.load(revision).await?;
    let mut times = Vec::new();
    for number in 0..=FIRSTS {
        let took = answer(functions, &id).await?;
        if number > 0 {
            times.push(took);
        }
        // What the next call takes is made ready beside it; callers come with pauses.
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    report.add(Figure::named(format!("own_process_{}", sample.language)).times(times));
    functions.retire(&id);
    Ok(())
}

/// Memory that nobody else shares, of each further worker that waits for a call.
async fn idle(report: &mut Report, sample: &Sample, functions: &Functions) -> Result<()> {
    let before = private_kb();
    let mut revision = revision(sample, "idle")?;
    let id = revision.id.clone();
    revision.scale.min = IDLE;
    functions.load(revision).await?;
    answer(functions, &id).await?;
    let deadline = Instant::now() + Duration::from_secs(30);
    while functions.stats().idle < IDLE && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    #[expect(clippy::cast_precision_loss, reason = "kilobytes of a few processes")]
    let each = private_kb().saturating_sub(before) as f64 / 1024.0 / IDLE as f64;
    functions.retire(&id);
    report.add(Figure {
        mb: Some(each),
        ..Figure::named(format!("idle_worker_{}", sample.language))
    });
    Ok(())
}

/// Private kilobytes of all processes below this one.
fn private_kb() -> u64 {
    let of = |pid: u32| -> Option<u64> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let lines = text.lines().filter(|line| line.starts_with("Private_"));
        Some(
            lines
                .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
                .sum(),
        )
    };
    harness::descendants(std::process::id())
        .into_iter()
        .filter_map(of)
        .sum()
}

async fn answer(functions: &Functions, id: &str) -> Result<Duration> {
    let input = json!({"name": "Jon", "place": "Winterfell"});
    let since = Instant::now();
    let done = functions.call(id, call(input.clone())).await;
    let took = since.elapsed();
    ensure!(done.output == input, "{id}: {done:?}");
    Ok(took)
}

pub(crate) fn call(input: Value) -> Call {
    Call {
        patient: true,
        // As requests are that leave nothing on record.
        ahead: true,
        ..Call::new("", input)
    }
}

/// A revision of a sample; its id begins with the language.
pub(crate) fn revision(sample: &Sample, id: &str) -> Result<Revision> {
    let language = Language::parse(sample.language).context("it has a pack")?;
    let source = match sample.language {
        "wasm" => packed(sample.file, &wat::parse_str(sample.text)?)?,
        _ => Source::File {
            name: sample.file.into(),
            text: sample.text.into(),
        },
    };
    let id = format!("{}-{id}", sample.language);
    Ok(Revision {
        network: NetworkPolicy::None,
        ..Revision::new(id, language, source)
    })
}

/// A file that is no text, as a client hands it over.
fn packed(name: &str, bytes: &[u8]) -> Result<Source> {
    let gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(gz);
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, name, bytes)?;
    Ok(Source::Archive(tar.into_inner()?.finish()?.into()))
}
