//! A fresh sandboxed process, from nothing to its first answer.

use std::sync::Arc;
use std::time::Instant;

use adapter_functions::{
    Call, Config, Functions, Isolation, Language, LauncherConfig, NetworkPolicy, Revision, Scale,
    Source,
};
use adapter_kit::MemoryBlobs;
use anyhow::{Context as _, Result, bail};
use serde_json::json;

use crate::bed::LAUNCHER;
use crate::report::{Figure, Report};

const STARTS: u32 = 100;

pub(crate) async fn run(report: &mut Report) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let exe = std::env::current_exe()?.display().to_string();
    let launcher = LauncherConfig::new([exe, LAUNCHER.into()]);
    let mut config = Config::new(
        dir.path().join("functions"),
        launcher,
        Arc::new(MemoryBlobs::default()),
    );
    config.pools.stems = 0;
    let functions = Functions::start(config)?;
    let python = "def handle(context, payload):\n    return payload\n";
    let node = "module.exports = (context, payload) => payload;\n";
    for (name, language, file, text) in [
        ("cold_python", "python3", "f.py", python),
        ("cold_node", "nodejs", "f.js", node),
    ] {
        let language = Language::parse(language).context("it has a pack")?;
        functions.base_image(language.label(), "").await?;
        let mut times = Vec::new();
        for number in 0..=STARTS {
            let revision = revision(format!("{name}-{number}"), language, file, text);
            let id = revision.id.clone();
            let since = Instant::now();
            functions.load(revision).await?;
            let call = Call {
                services: Vec::new(),
                run_id: id.clone(),
                context: json!({}),
                input: json!({ "n": number }),
                deadline: None,
                patient: false,
                lines: None,
            };
            let completion = functions.call(&id, call).await;
            let took = since.elapsed();
            if completion.output != json!({ "n": number }) {
                bail!("{name}: {completion:?}");
            }
            functions.retire(&id);
            // The first one finds files that nobody has read yet.
            if number > 0 {
                times.push(took);
            }
        }
        report.add(Figure::named(name).times(times));
    }
    functions.shutdown(std::time::Duration::from_secs(5)).await;
    Ok(())
}

fn revision(id: String, language: Language, file: &str, text: &str) -> Revision {
    Revision {
        id,
        language,
        root: None,
        layer: None,
        source: Source::File {
            name: file.into(),
            text: text.into(),
        },
        handler: String::new(),
        schema_in: None,
        schema_out: None,
        timeout_ms: 0,
        limits: None,
        output_bytes: None,
        scale: Scale::default(),
        isolation: Isolation::Shared,
        network: NetworkPolicy::None,
        endpoints: Vec::new(),
    }
}
