//! Base images: the host's interpreter for a language, found and proved to run in the sandbox.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::blueprint::{Blueprint, NetworkPolicy, network};
use crate::config::Config;
use crate::error::Failure;
use crate::floor::Floor;
use crate::language::{BaseImage, Language, PACK_DIR};

/// Looked at before `PATH`: what an ordinary user may read, and does not change with a profile.
const SYSTEM_FOLDERS: [&str; 2] = ["/usr/bin", "/usr/local/bin"];
/// For an interpreter to say its version; a version manager's shim takes the longest.
const IDENTIFY_MAX: Duration = Duration::from_secs(10);

/// The first interpreter that runs in a sandbox.
pub(crate) async fn find(
    language: Language,
    config: &Config,
    packs: &Path,
    floor: &Floor,
) -> Result<BaseImage, Failure> {
    let label = language.label();
    let mut reason = format!("no {label} interpreter was found on this node");
    for candidate in candidates(language, config) {
        let tried = match identify(language, &candidate).await {
            Ok(base) => {
                compile_pack(&base, packs).await;
                prove(base, config, packs, floor).await
            }
            Err(why) => Err(why),
        };
        match tried {
            Ok(base) => return Ok(base),
            Err(why) => {
                tracing::debug!(interpreter = %candidate.display(), reason = %why, "not usable");
                reason = format!("{} does not run in the sandbox: {why}", candidate.display());
            }
        }
    }
    Err(Failure::of(reason))
}

fn candidates(language: Language, config: &Config) -> Vec<PathBuf> {
    let chosen = match language {
        Language::Python3 => &config.interpreters.python3,
        Language::Nodejs => &config.interpreters.nodejs,
    };
    if let Some(path) = chosen {
        return vec![path.clone()];
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = SYSTEM_FOLDERS
        .iter()
        .map(PathBuf::from)
        .chain(std::env::split_paths(&path))
        .collect();
    let mut found: Vec<PathBuf> = Vec::new();
    for folder in folders {
        for name in language.programs() {
            let program = folder.join(name);
            if program.is_file() && !found.contains(&program) {
                found.push(program);
            }
        }
    }
    found
}

/// Asks an interpreter who it is. This runs outside of a sandbox, and nothing but its own code.
async fn identify(language: Language, program: &Path) -> Result<BaseImage, String> {
    let asked = Command::new(program)
        .args(language.identify())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(IDENTIFY_MAX, asked)
        .await
        .map_err(|_| format!("it did not say its version within {IDENTIFY_MAX:?}"))?
        .map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let [version, prefix, interpreter] = text.lines().collect::<Vec<_>>()[..] else {
        return Err("it did not say its version".to_owned());
    };
    Ok(BaseImage {
        language,
        interpreter: interpreter.into(),
        prefix: prefix.into(),
        version: version.to_owned(),
    })
}

/// Compiles Python's wrapper for this interpreter, which saves every worker a millisecond. Without
/// it the wrapper starts from its text.
async fn compile_pack(base: &BaseImage, packs: &Path) {
    let Some(compiled) = base.compiled_pack() else {
        return;
    };
    let (name, _) = base.language.pack();
    let script = "import sys,py_compile as c;c.compile(sys.argv[1],sys.argv[2],dfile=sys.argv[3],\
        doraise=True,invalidation_mode=c.PycInvalidationMode.UNCHECKED_HASH)";
    let done = Command::new(&base.interpreter)
        .args(["-I", "-S", "-c", script])
        .args([packs.join(name), packs.join(compiled)])
        .arg(format!("{PACK_DIR}/{name}"))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let done = tokio::time::timeout(IDENTIFY_MAX, done).await;
    if !matches!(&done, Ok(Ok(output)) if output.status.success()) {
        tracing::debug!(interpreter = %base.interpreter.display(), ?done, "wrapper not compiled");
    }
}

async fn prove(
    base: BaseImage,
    config: &Config,
    packs: &Path,
    floor: &Floor,
) -> Result<BaseImage, String> {
    let reach = network(NetworkPolicy::None, &[]);
    let blueprint = Blueprint::new(&base, packs, None, config.limits.clone(), reach);
    let worker = floor
        .start(&blueprint)
        .await
        .map_err(|failure| failure.reason)?;
    if worker.version == base.version {
        Ok(base)
    } else {
        Err(format!(
            "it is version {} there, not {}",
            worker.version, base.version
        ))
    }
}
