//! Interpreters in the root of an image. Whatever is run of an image runs in a sandbox.

use std::path::{Path, PathBuf};

use adapter_sandbox::{Access, Launcher, Mount, Spec};
use tokio::time::Instant;

use super::IDENTIFY_MAX;
use crate::error::chain;
use crate::oci::Root;
use crate::packs::language::Language;
use crate::workers::logs::Capture;
use crate::workers::supervise::{Bound, End, follow};

/// Where a command may leave files, inside the sandbox.
pub(super) const OUT_DIR: &str = "/out";
/// What they may come to: compiled forms of a worker take less than one.
const OUT_BYTES_MAX: u64 = 64 << 20;

/// How many of an image's programs are tried; each may take its time.
const CANDIDATES_MAX: usize = 4;

/// The first programs on the image's own `PATH` that bear the language's names.
pub(super) fn candidates(language: Language, root: &Root) -> Vec<PathBuf> {
    let names = language.manifest().programs.iter();
    let mut found: Vec<PathBuf> = Vec::new();
    for place in names.flat_map(|name| root.on_path(name)) {
        if found.len() < CANDIDATES_MAX && !found.contains(&place) {
            found.push(place);
        }
    }
    found
}

/// What a command prints, in a sandbox with that root and nothing of the network.
pub(super) async fn output(
    launcher: &Launcher,
    root: &Root,
    command: &[String],
    mounts: Vec<Mount>,
) -> Result<Vec<u8>, String> {
    let (program, arguments) = command.split_first().expect("a pack without is refused");
    let mut spec = Spec::new(Path::new(program));
    spec.args = arguments.to_vec();
    spec.env = root.note.env.clone();
    spec.root = Some(root.path.clone());
    let writable = mounts
        .iter()
        .filter(|mount| mount.access == Access::ReadWrite);
    let bounds = writable
        .map(|mount| Bound {
            folder: mount.source.clone(),
            bytes_max: OUT_BYTES_MAX,
        })
        .collect();
    spec.mounts = mounts;
    let launcher = launcher.clone();
    let spawned = tokio::task::spawn_blocking(move || launcher.spawn(&spec)).await;
    let sandboxed = spawned.map_err(|e| e.to_string())?.map_err(|e| chain(&e))?;
    let mut logs = [Capture::default(), Capture::default()];
    let deadline = Instant::now() + IDENTIFY_MAX;
    let exit = match follow(sandboxed, &mut logs, deadline, bounds).await? {
        End::Exited(exit) => exit,
        End::Late => return Err(format!("it did not answer within {IDENTIFY_MAX:?}")),
        End::TooLarge(_) => {
            let most = OUT_BYTES_MAX >> 20;
            return Err(format!("it wrote more than {most} MiB"));
        }
    };
    let [said, complained] = logs;
    if exit.success() {
        return Ok(said.into_lines().join("\n").into_bytes());
    }
    let last = complained.into_lines().pop().unwrap_or_default();
    Err(format!("it {exit}: {last}"))
}
