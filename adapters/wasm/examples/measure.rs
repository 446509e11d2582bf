//! Measures a component through the sandbox: `measure COMPONENT PAYLOAD [CALLS]`,
//! the component being binary or text.

use std::error::Error;
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adapter_functions::{Call, Config, Functions, Language, LauncherConfig, Revision, Source};
use adapter_kit::MemoryBlobs;
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(worker) = adapter_wasm::worker_arguments(arguments.iter().cloned()) {
        std::process::exit(i32::from(
            adapter_wasm::worker_main(worker.into_iter()) != std::process::ExitCode::SUCCESS,
        ));
    }
    if arguments.first().is_some_and(|first| first == "launcher") {
        adapter_sandbox::launcher_main();
    }
    arguments.resize(3, "1000".into());
    let [component, payload, calls] = &arguments[..] else {
        return Err("measure COMPONENT PAYLOAD [CALLS]".into());
    };
    let bytes = std::fs::read(component)?;
    let bytes = wat::parse_bytes(&bytes)?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(measure(
        &bytes,
        serde_json::from_str(payload)?,
        calls.parse()?,
    ))
}

async fn measure(component: &[u8], payload: Value, calls: usize) -> Result<(), Box<dyn Error>> {
    let state = tempfile::tempdir()?;
    let exe = std::env::current_exe()?;
    let launcher = LauncherConfig::new([exe.display().to_string(), "launcher".into()]);
    let blobs = Arc::new(MemoryBlobs::default());
    let mut config = Config::new(state.path(), launcher, blobs);
    config.interpreters.insert("wasm".into(), exe);
    let functions = Functions::start(config)?;
    for id in ["compiled", "loaded"] {
        let begun = Instant::now();
        functions.load(revision(id, component)?).await?;
        let loaded = begun.elapsed();
        let begun = Instant::now();
        let done = functions.call(id, call(payload.clone())).await;
        if let Some(error) = done.error {
            return Err(format!("{error:?}").into());
        }
        say(&format!(
            "{id} in {loaded:?}, first call {:?}",
            begun.elapsed()
        ))?;
    }
    let mut took = Vec::with_capacity(calls);
    let begun = Instant::now();
    for _ in 0..calls {
        let begun = Instant::now();
        functions.call("loaded", call(payload.clone())).await;
        took.push(begun.elapsed());
    }
    let rate = calls as f64 / begun.elapsed().as_secs_f64();
    took.sort();
    let at = |share: usize| {
        took.get(took.len() * share / 100)
            .copied()
            .unwrap_or(Duration::ZERO)
    };
    say(&format!(
        "a call each in an instance of its own: p50 {:?}, p99 {:?}, {rate:.0}/s",
        at(50),
        at(99)
    ))?;
    let stats = functions.stats();
    say(&format!(
        "an idle worker: {} KiB",
        stats.resident_bytes / 1024 / (stats.idle + stats.stems).max(1) as u64
    ))?;
    functions.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

fn say(line: &str) -> std::io::Result<()> {
    writeln!(std::io::stdout(), "{line}")
}

fn call(input: Value) -> Call {
    Call {
        context: json!({"secrets": {}}),
        ..Call::new("run", input)
    }
}

fn revision(id: &str, component: &[u8]) -> Result<Revision, Box<dyn Error>> {
    let gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(gz);
    let mut header = tar::Header::new_gnu();
    header.set_size(component.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, "function.wasm", component)?;
    let archive = tar.into_inner()?.finish()?;
    let language = Language::parse("wasm").ok_or("there is no pack")?;
    Ok(Revision::new(id, language, Source::Archive(archive.into())))
}
