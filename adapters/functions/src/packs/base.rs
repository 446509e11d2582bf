//! Base images: an interpreter for a language, the host's or one in an image's root, found and
//! proved to run in the sandbox.

mod image;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use adapter_sandbox::Mount;
use tokio::process::Command;
use tokio::time::Instant;

use crate::blueprint::{Blueprint, NetworkPolicy, network};
use crate::config::Config;
use crate::error::Failure;
use crate::oci::Root;
use crate::packs::language::{BaseImage, Language, PACK_DIR};
use crate::packs::pack::fill;
use crate::workers::floor::{Floor, Need};

/// Looked at before `PATH`: what an ordinary user may read, and does not change with a profile.
const SYSTEM_FOLDERS: [&str; 2] = ["/usr/bin", "/usr/local/bin"];
/// For an interpreter to say its version, or to prepare its worker; a compiler takes the longest.
const IDENTIFY_MAX: Duration = Duration::from_secs(30);

/// After which no other interpreter is tried.
const FIND_MAX: Duration = Duration::from_secs(90);

/// The first interpreter of this host, or of a root, that runs in a sandbox.
pub(crate) async fn find(
    language: Language,
    root: Option<&Root>,
    config: &Config,
    packs: &Path,
    floor: &Floor,
) -> Result<BaseImage, Failure> {
    let label = language.label();
    let install = &language.manifest().install;
    let (mut reason, found) = match root {
        None => (
            format!("no {label} interpreter was found on this node; to install it: {install}"),
            candidates(language, config),
        ),
        Some(root) => (
            format!(
                "the image has no {label} interpreter on its PATH; install it in the image: {install}"
            ),
            image::candidates(language, root),
        ),
    };
    let asking = Asking {
        language,
        root,
        packs,
        floor,
    };
    let deadline = Instant::now() + FIND_MAX;
    for candidate in found {
        if Instant::now() >= deadline {
            break; // with the reason of the last one
        }
        let tried = match asking.identify(&candidate).await {
            Ok(base) => match asking.prepare(&base).await {
                Ok(()) => prove(base, config, packs, floor).await,
                Err(why) => Err(why),
            },
            Err(why) => Err(why),
        };
        match tried {
            Ok(base) => return Ok(base),
            Err(why) => {
                tracing::debug!(interpreter = %candidate.display(), reason = %why, "not usable");
                let path = candidate.display();
                reason =
                    format!("{path} does not run in the sandbox: {why}; to install it: {install}");
            }
        }
    }
    Err(Failure::of(reason))
}

fn candidates(language: Language, config: &Config) -> Vec<PathBuf> {
    if let Some(path) = config.interpreters.get(language.label()) {
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
        for name in &language.manifest().programs {
            let program = folder.join(name);
            if program.is_file() && !found.contains(&program) {
                found.push(program);
            }
        }
    }
    found
}

/// Where an interpreter is asked: the host's directly, which runs nothing but its own code, an
/// image's in a sandbox.
struct Asking<'a> {
    language: Language,
    root: Option<&'a Root>,
    packs: &'a Path,
    floor: &'a Floor,
}

impl Asking<'_> {
    /// Asks an interpreter who it is.
    async fn identify(&self, program: &Path) -> Result<BaseImage, String> {
        let language = self.language;
        let folder = language.folder(self.packs);
        let pack = match self.root {
            None => folder.to_string_lossy().into_owned(),
            Some(_) => PACK_DIR.to_owned(),
        };
        let program = program.to_string_lossy();
        let values = [("program", &*program), ("pack", &*pack)];
        let command = fill_all(&language.manifest().identify, &values);
        let said = match self.root {
            None => output(&command).await?.stdout,
            Some(root) => {
                let mounts = vec![Mount::read_only(&folder, PACK_DIR)];
                image::output(&self.floor.launcher, root, &command, mounts).await?
            }
        };
        let text = String::from_utf8_lossy(&said);
        let [version, prefix, interpreter] = text.lines().collect::<Vec<_>>()[..] else {
            return Err("it did not say its version".to_owned());
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || ".+-_~".contains(c);
        if version.is_empty() || version.starts_with('.') || !version.chars().all(plain) {
            return Err(format!("{version:?} is no version")); // it becomes the name of a folder
        }
        Ok(BaseImage {
            language,
            interpreter: interpreter.into(),
            prefix: prefix.into(),
            version: version.to_owned(),
            root: self.root.cloned(),
        })
    }

    /// Makes the faster form of a worker that its pack has for this interpreter.
    async fn prepare(&self, base: &BaseImage) -> Result<(), String> {
        let Some(prepare) = &base.language.manifest().worker.prepare else {
            return Ok(());
        };
        let folder = base.language.folder(self.packs);
        let out = folder.join(base.variant());
        if out.join(&prepare.file).exists() {
            return Ok(());
        }
        std::fs::create_dir_all(&out).map_err(|e| e.to_string())?;
        let (program, pack) = (base.interpreter.to_string_lossy(), folder.to_string_lossy());
        let (prefix, out_text) = (base.prefix.to_string_lossy(), out.to_string_lossy());
        let (pack, out_text) = match self.root {
            None => (&*pack, &*out_text),
            Some(_) => (PACK_DIR, image::OUT_DIR),
        };
        let values = [
            ("program", &*program),
            ("prefix", &*prefix),
            ("pack", pack),
            ("out", out_text),
        ];
        let command = fill_all(&prepare.command, &values);
        let said = match self.root {
            None => match output(&command).await {
                Ok(output) if output.status.success() => return Ok(()),
                Ok(output) => {
                    let said = String::from_utf8_lossy(&output.stderr);
                    said.trim().lines().last().unwrap_or_default().to_owned()
                }
                Err(why) => why,
            },
            Some(root) => {
                let mounts = vec![
                    Mount::read_only(&folder, PACK_DIR),
                    Mount::read_write(&out, image::OUT_DIR),
                ];
                match image::output(&self.floor.launcher, root, &command, mounts).await {
                    Ok(_) => return Ok(()),
                    Err(why) => why,
                }
            }
        };
        tracing::debug!(interpreter = %program, said, "worker not prepared");
        if prepare.required {
            return Err(format!("its worker was not made: {said}"));
        }
        Ok(())
    }
}

fn fill_all(command: &[String], values: &[(&str, &str)]) -> Vec<String> {
    command.iter().map(|word| fill(word, values)).collect()
}

async fn output(command: &[String]) -> Result<std::process::Output, String> {
    let (program, arguments) = command.split_first().expect("a pack without is refused");
    let ran = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    tokio::time::timeout(IDENTIFY_MAX, ran)
        .await
        .map_err(|_| format!("it did not answer within {IDENTIFY_MAX:?}"))?
        .map_err(|e| e.to_string())
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
        .start(&blueprint, Need::Call { have: 0 }, None)
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
