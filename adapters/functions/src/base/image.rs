//! Interpreters in the root of an image. Whatever is run of an image runs in a sandbox.

use std::path::{Path, PathBuf};

use adapter_sandbox::{Launcher, Mount, Spec};
use tokio::time::Instant;

use super::IDENTIFY_MAX;
use crate::error::chain;
use crate::language::Language;
use crate::logs::Capture;
use crate::oci::Root;
use crate::port::Pipe;

/// Where a command may leave files, inside the sandbox.
pub(super) const OUT_DIR: &str = "/out";

/// The programs on the image's own `PATH` that bear the language's names.
pub(super) fn candidates(language: Language, root: &Root) -> Vec<PathBuf> {
    let names = language.manifest().programs.iter();
    let mut found: Vec<PathBuf> = names.flat_map(|name| root.on_path(name)).collect();
    found.dedup();
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
    spec.mounts = mounts;
    let launcher = launcher.clone();
    let spawned = tokio::task::spawn_blocking(move || launcher.spawn(&spec)).await;
    let sandboxed = spawned.map_err(|e| e.to_string())?.map_err(|e| chain(&e))?;
    let mut out = Pipe::new(sandboxed.stdout).map_err(|e| e.to_string())?;
    let mut err = Pipe::new(sandboxed.stderr).map_err(|e| e.to_string())?;
    let (mut said, mut complained) = (Capture::default(), Capture::default());
    let deadline = Instant::now() + IDENTIFY_MAX;
    let mut scratch = Vec::new();
    while !(out.is_closed() && err.is_closed()) {
        tokio::select! {
            () = out.readable() => out.drain(&mut said, &mut scratch, 1),
            () = err.readable() => err.drain(&mut complained, &mut scratch, 1),
            // Dropping the process kills it.
            () = tokio::time::sleep_until(deadline) => {
                return Err(format!("it did not answer within {IDENTIFY_MAX:?}"));
            }
        }
    }
    let process = sandboxed.process;
    let ended = tokio::task::spawn_blocking(move || process.wait()).await;
    let exit = ended.map_err(|e| e.to_string())?.map_err(|e| chain(&e))?;
    if exit.success() {
        return Ok(said.into_lines().join("\n").into_bytes());
    }
    let last = complained.into_lines().pop().unwrap_or_default();
    Err(format!("it {exit}: {last}"))
}
