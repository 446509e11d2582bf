//! What workers compile of a function's source, kept on this node: once for each source.
//!
//! ```text
//! <state>/compiled/<key>/out/   what a worker left; others see it read-only
//! <state>/compiled/<key>/code   or what a worker answered; others are told it
//! <state>/compiled/.<random>/   one being made
//! ```
//!
//! It is made in a sandbox like any other, by a worker that never serves the function: one that
//! answers only compiles it, one that leaves files loads it, and nothing of a function has run where
//! the folder could be written to, unless loading runs it. The interpreter may be a tenant's own, so
//! nothing that it left is followed, and the node reads none of it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use adapter_kit::Digest;
use adapter_sandbox::{Limits, Mount, Network};
use tokio::sync::Semaphore;

use crate::blueprint::Blueprint;
use crate::error::{Error, Failure};
use crate::packs::language::{BaseImage, FUNCTION_DIR};
use crate::packs::source::Unpacked;
use crate::packs::untrusted;
use crate::turns::Turns;
use crate::workers::floor::{Floor, Need};
use crate::workers::frame::{self, Init, REPLY_BYTES_MAX};

/// What a compiler may take, whatever the function may.
const MEMORY_BYTES: u64 = 2 << 30;
/// So much is kept that no loaded revision has.
const UNUSED_BYTES_MAX: u64 = 1 << 30;
/// What a worker may leave.
const LEFT_BYTES_MAX: u64 = 256 << 20;
/// A look at what a worker has left so far, while it compiles.
const LOOK: Duration = Duration::from_millis(250);
/// Changes when what is kept is laid out otherwise.
const LAYOUT: u8 = 2;
/// Where a folder holds what a worker left.
const OUT: &str = "out";
/// The file of a folder that holds a worker's answer.
const CODE: &str = "code";

/// The compiled sources of this node.
#[derive(Debug)]
pub(crate) struct Compiled {
    folder: PathBuf,
    /// Those in use.
    used: Mutex<HashMap<String, Weak<Folder>>>,
    making: Turns<String>,
    /// Compilers want all processors, and no function is to keep all others from being compiled.
    compilers: Semaphore,
}

/// A compiled source, which stays for as long as somebody has this.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// How a worker sees it.
    pub(crate) fn mount(&self, target: &str) -> Mount {
        Mount::read_only(self.path.join(OUT), target)
    }

    /// What a worker answered that only compiled, if that was anything.
    pub(crate) fn code(&self) -> Result<Option<String>, Failure> {
        let read = untrusted::read(&self.path.join(CODE), REPLY_BYTES_MAX as u64);
        match read.map(String::from_utf8) {
            Ok(Ok(code)) => Ok(Some(code)),
            Ok(Err(_)) => Err(Failure::now("what is compiled of a function is no text")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::io("read what is compiled of a function", &error)),
        }
    }
}

/// What is to be compiled, and with what.
#[derive(Debug)]
pub(crate) struct Compiling<'a> {
    pub(crate) source: &'a Unpacked,
    pub(crate) base: &'a BaseImage,
    /// The dependency layer that it is compiled against.
    pub(crate) layer: Option<(&'a Digest, &'a Path)>,
    pub(crate) packs: &'a Path,
}

impl Compiled {
    pub(crate) fn open(state: &Path) -> Result<Self, Error> {
        let folder = state.join("compiled");
        let failed = |source| Error::State {
            path: folder.clone(),
            source,
        };
        std::fs::create_dir_all(&folder).map_err(failed)?;
        for entry in std::fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_name().to_string_lossy().starts_with('.') {
                untrusted::remove_all(&entry.path()).map_err(failed)?;
            }
        }
        let processors = std::thread::available_parallelism().map_or(2, usize::from);
        Ok(Self {
            folder,
            used: Mutex::default(),
            making: Turns::default(),
            compilers: Semaphore::new(processors.max(2)),
        })
    }

    /// The folder of a source, compiled now unless it was before. Nothing where the language does
    /// not keep what it compiles.
    pub(crate) async fn of(
        &self,
        what: &Compiling<'_>,
        floor: &Floor,
    ) -> Result<Option<Arc<Folder>>, Failure> {
        let facts = &what.base.language.manifest().worker;
        if facts.compiled.is_none() && !facts.compiles {
            return Ok(None);
        }
        let key = what.key();
        let _turn = self.making.take(&key).await;
        let path = self.folder.join(&key);
        if let Some(folder) = self.known(&key, &path) {
            return Ok(Some(folder));
        }
        {
            let _permit = self.compilers.acquire().await;
            self.compile(what, floor, &path).await?;
        }
        let folder = self.known(&key, &path);
        self.prune();
        Ok(folder)
    }

    /// The folder of that key, if there is one; it stays while somebody has it.
    fn known(&self, key: &str, path: &Path) -> Option<Arc<Folder>> {
        // Held while one is pruned, so that none is taken into use and removed at once.
        let mut used = self.used();
        if let Some(folder) = used.get(key).and_then(Weak::upgrade) {
            return Some(folder);
        }
        if !untrusted::is_folder(path) {
            return None;
        }
        touch(path);
        let folder = Arc::new(Folder {
            path: path.to_owned(),
        });
        used.retain(|_, folder| folder.strong_count() > 0);
        used.insert(key.to_owned(), Arc::downgrade(&folder));
        Some(folder)
    }

    fn used(&self) -> MutexGuard<'_, HashMap<String, Weak<Folder>>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn compile(
        &self,
        what: &Compiling<'_>,
        floor: &Floor,
        path: &Path,
    ) -> Result<(), Failure> {
        let failed = |e| Failure::io("keep what is compiled of a function", &e);
        let scratch = tempfile::Builder::new()
            .prefix(".")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .tempdir_in(&self.folder)
            .map_err(failed)?;
        let kept = scratch.path().join("kept");
        let out = kept.join(OUT);
        std::fs::create_dir_all(&out).map_err(failed)?;
        let manifest = what.base.language.manifest();
        let layer = what.layer.map(|(_, path)| path.to_owned());
        let mut blueprint = Blueprint::new(what.base, what.packs, layer, limits(), Network::None);
        if let Some(target) = &manifest.worker.compiled {
            blueprint = blueprint.with(Mount::read_write(&out, target));
        }
        let mut worker = floor
            .start(&blueprint, Need::Call { have: 0 }, None)
            .await?;
        let init = Init {
            files: &what.source.files,
            dir: FUNCTION_DIR,
            handler: &what.source.handler,
            layer: what.layer.map(|_| manifest.layer.mount.as_str()),
            code: None,
            fork: false,
            compile: manifest.worker.compiles,
        };
        let order = frame::init(&init);
        let compiled = worker.become_function(&order, floor.settings.load_max);
        let code = tokio::select! {
            code = compiled => code?,
            failure = outgrown(&out) => return Err(failure),
        };
        drop(worker);
        if untrusted::size(&out) > LEFT_BYTES_MAX {
            return Err(too_much());
        }
        if let (true, Some(code)) = (manifest.worker.compiles, code) {
            std::fs::write(kept.join(CODE), code).map_err(failed)?;
        }
        std::fs::rename(&kept, path).map_err(failed)
    }

    /// Removes those that were not used for the longest time.
    fn prune(&self) {
        let used = self.used();
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten();
        let mut unused: Vec<(SystemTime, PathBuf, u64)> = entries
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let name = entry.file_name().into_string().ok()?;
                let held = used.get(&name).is_some_and(|own| own.strong_count() > 0);
                let idle = !held && !name.starts_with('.');
                let modified = entry.metadata().ok()?.modified().ok()?;
                idle.then(|| (modified, entry.path(), untrusted::size(&entry.path())))
            })
            .collect();
        unused.sort();
        let mut total: u64 = unused.iter().map(|(_, _, bytes)| bytes).sum();
        for (_, path, bytes) in unused {
            if total <= UNUSED_BYTES_MAX {
                return;
            }
            total -= bytes;
            if let Err(error) = untrusted::remove_all(&path) {
                tracing::warn!(path = %path.display(), %error, "what was compiled is not removed");
            }
        }
    }
}

impl Compiling<'_> {
    /// The same source comes to the same code for the same interpreter, program and machine, and
    /// beside the same dependencies.
    fn key(&self) -> String {
        let (source, base) = (self.source, self.base);
        let parts = (
            (env!("CARGO_PKG_VERSION"), LAYOUT),
            std::env::consts::ARCH,
            (
                base.language,
                &base.version,
                base.root.as_ref().map(|root| &root.digest),
            ),
            self.layer.map(|(digest, _)| digest),
            &source.handler,
            &source.files,
        );
        let digest = Digest::of(&serde_json::to_vec(&parts).expect("plain data"));
        digest.as_str().to_owned()
    }
}

/// Ends when a worker has left more than it may.
async fn outgrown(out: &Path) -> Failure {
    loop {
        tokio::time::sleep(LOOK).await;
        if untrusted::size(out) > LEFT_BYTES_MAX {
            return too_much();
        }
    }
}

fn too_much() -> Failure {
    let most = LEFT_BYTES_MAX >> 20;
    Failure::of(format!("the function compiles to more than {most} MiB"))
}

/// Says that it was used now; without that it is only removed earlier.
fn touch(path: &Path) {
    if let Ok(folder) = std::fs::File::open(path) {
        let _ = folder.set_modified(SystemTime::now());
    }
}

fn limits() -> Limits {
    Limits {
        memory_bytes: Some(MEMORY_BYTES),
        cpu_hundredths: None,
        processes: 64,
        open_files: 1024,
        file_bytes: 1 << 30,
        tmp_bytes: 64 << 20,
        address_space_bytes: None,
    }
}
