//! Follows a program of a build in its sandbox to its end: one deadline for all of it, and a bound
//! on the folders that it can write to.

use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use adapter_sandbox::{Exit, Process, Sandboxed};
use tokio::time::Instant;

use crate::error::chain;
use crate::workers::logs::Capture;
use crate::workers::port::Pipe;

/// How long the kernel may take to end what was killed.
const ENDING_MAX: Duration = Duration::from_secs(10);
/// How often the folders are measured, at most; a large one more seldom, so that measuring takes a
/// tenth of one processor at most.
const MEASURED_EVERY: Duration = Duration::from_millis(500);
/// What an entry of a folder takes beside its content, as far as it matters: empty files count too.
const ENTRY_BYTES: u64 = 256;

/// How a program ended.
#[derive(Debug)]
pub(crate) enum End {
    /// By itself.
    Exited(Exit),
    /// It was killed at its deadline.
    Late,
    /// It was killed because this folder had grown beyond its bound.
    TooLarge(PathBuf),
}

/// A folder that a program can write to, and what it may hold.
#[derive(Debug, Clone)]
pub(crate) struct Bound {
    pub(crate) folder: PathBuf,
    pub(crate) bytes_max: u64,
}

enum Event {
    Out,
    Err,
    Ended(Result<Exit, String>),
    Measured(Option<PathBuf>),
    Late,
}

/// Follows a program until nothing of its sandbox is left. What it prints goes to the first of the
/// logs, and its complaints to the last.
///
/// # Errors
/// When this machine fails in it; the sandbox is killed then too.
pub(crate) async fn follow(
    sandboxed: Sandboxed,
    logs: &mut [Capture],
    deadline: Instant,
    bounds: Vec<Bound>,
) -> Result<End, String> {
    let mut out = Pipe::new(sandboxed.stdout).map_err(|e| e.to_string())?;
    let mut err = Pipe::new(sandboxed.stderr).map_err(|e| e.to_string())?;
    let mut killing = Killing(Some(Arc::new(sandboxed.process)));
    let waiting = {
        let process = Arc::clone(killing.0.as_ref().expect("it was put there"));
        tokio::task::spawn_blocking(move || process.wait().map_err(|e| chain(&e)))
    };
    let mut ended = std::pin::pin!(async {
        let joined = waiting.await;
        joined.unwrap_or_else(|e| Err(e.to_string()))
    });
    let mut measuring = std::pin::pin!(grown(bounds));
    let (mut scratch, last) = (Vec::new(), logs.len() - 1);
    let end = loop {
        let event = tokio::select! {
            () = out.readable() => Event::Out,
            () = err.readable() => Event::Err,
            exit = &mut ended => Event::Ended(exit),
            folder = &mut measuring => Event::Measured(folder),
            () = tokio::time::sleep_until(deadline) => Event::Late,
        };
        match event {
            Event::Out => out.drain(&mut logs[0], &mut scratch, 1),
            Event::Err => err.drain(&mut logs[last], &mut scratch, 1),
            Event::Ended(exit) => {
                killing.0 = None;
                // Nobody writes any more: what is in the pipes is all there will be.
                out.drain(&mut logs[0], &mut scratch, usize::MAX);
                err.drain(&mut logs[last], &mut scratch, usize::MAX);
                return exit.map(End::Exited);
            }
            Event::Measured(Some(folder)) => break End::TooLarge(folder),
            Event::Measured(None) => return Err("the build's folders cannot be measured".into()),
            Event::Late => break End::Late,
        }
    };
    drop(killing);
    // Whoever takes the folders next must not share them with what is left of this.
    match tokio::time::timeout(ENDING_MAX, ended).await {
        Ok(_) => Ok(end),
        Err(_) => Err(format!(
            "it was killed, and had not ended after {ENDING_MAX:?}"
        )),
    }
}

/// Kills what is followed when that ends before it does, and also when nobody waits any more.
struct Killing(Option<Arc<Process>>);

impl Drop for Killing {
    fn drop(&mut self) {
        if let Some(process) = &self.0
            && let Err(error) = process.kill()
        {
            tracing::warn!(pid = process.pid(), %error, "a build could not be killed");
        }
    }
}

/// Waits until one of the folders has grown beyond its bound, and says which; for ever while none
/// has. `None` when this machine fails to measure them.
async fn grown(bounds: Vec<Bound>) -> Option<PathBuf> {
    let mut pause = MEASURED_EVERY;
    loop {
        tokio::time::sleep(pause).await;
        let (began, bounds) = (Instant::now(), bounds.clone());
        let measured = tokio::task::spawn_blocking(move || {
            bounds
                .into_iter()
                .find(|bound| exceeds(&bound.folder, bound.bytes_max))
        });
        match measured.await {
            Ok(None) => pause = MEASURED_EVERY.max(began.elapsed() * 10),
            Ok(Some(bound)) => return Some(bound.folder),
            Err(_) => return None,
        }
    }
}

/// Whether a folder holds more than that. It may change meanwhile, and no link is followed knowingly;
/// what its writer made unreadable counts as too much, because it could hide anything.
pub(crate) fn exceeds(folder: &Path, bytes_max: u64) -> bool {
    let (mut total, mut folders) = (0, vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        match add(&folder, &mut folders) {
            Ok(bytes) => total += bytes,
            Err(e) if e.kind() == ErrorKind::NotFound || e.kind() == ErrorKind::NotADirectory => {}
            Err(_) => return true,
        }
        if total > bytes_max {
            return true;
        }
    }
    false
}

fn add(folder: &Path, folders: &mut Vec<PathBuf>) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // Of the entry itself, not of what a link names.
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        bytes += ENTRY_BYTES + metadata.blocks() * 512;
        if metadata.is_dir() {
            folders.push(entry.path());
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_folder_takes_is_counted_with_its_empty_files_and_without_what_links_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let below = folder.path().join("a/b");
        std::fs::create_dir_all(&below).expect("makes it");
        std::os::unix::fs::symlink("/usr", below.join("link")).expect("links");
        assert!(!exceeds(folder.path(), 64 << 10));
        for n in 0..300 {
            std::fs::write(below.join(n.to_string()), "").expect("writes");
        }
        assert!(exceeds(folder.path(), 64 << 10));
        assert!(!exceeds(folder.path(), 1 << 20));
        std::fs::write(below.join("big"), vec![1; 2 << 20]).expect("writes");
        assert!(exceeds(folder.path(), 1 << 20));
    }
}
