//! What workers compile of a function's source, kept on this node: once for each source.
//!
//! ```text
//! <state>/compiled/<key>/       what a worker left; others see it read-only
//! <state>/compiled/.<random>/   one being made
//! ```
//!
//! It is made in a sandbox like any other, by a worker that loads the function but never serves it:
//! nothing of a function has run where the folder could be written to, unless loading runs it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use adapter_kit::Digest;
use adapter_sandbox::{Limits, Mount, Network};

use crate::blueprint::Blueprint;
use crate::error::{Error, Failure};
use crate::floor::{Floor, Need};
use crate::frame::Init;
use crate::language::{BaseImage, FUNCTION_DIR};
use crate::source::Unpacked;

/// What a compiler may take, whatever the function may.
const MEMORY_BYTES: u64 = 2 << 30;
/// So many are kept that no loaded revision has.
const UNUSED_MAX: usize = 32;

/// The compiled sources of this node.
#[derive(Debug)]
pub(crate) struct Compiled {
    folder: PathBuf,
    timeout: Duration,
    /// Those in use. Held while one is made: compilers want all processors.
    used: tokio::sync::Mutex<HashMap<String, Weak<Folder>>>,
}

/// A compiled source, which stays for as long as somebody has this.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// How a worker sees it.
    pub(crate) fn mount(&self, target: &str) -> Mount {
        Mount::read_only(&self.path, target)
    }
}

impl Compiled {
    pub(crate) fn open(state: &Path, timeout: Duration) -> Result<Self, Error> {
        let folder = state.join("compiled");
        let failed = |source| Error::State {
            path: folder.clone(),
            source,
        };
        std::fs::create_dir_all(&folder).map_err(failed)?;
        for entry in std::fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_name().to_string_lossy().starts_with('.') {
                std::fs::remove_dir_all(entry.path()).map_err(failed)?;
            }
        }
        Ok(Self {
            folder,
            timeout,
            used: tokio::sync::Mutex::default(),
        })
    }

    /// The folder of a source, compiled now unless it was before. Nothing where the language does
    /// not keep what it compiles.
    pub(crate) async fn of(
        &self,
        source: &Unpacked,
        base: &BaseImage,
        packs: &Path,
        floor: &Floor,
    ) -> Result<Option<Arc<Folder>>, Failure> {
        let Some(target) = &base.language.manifest().worker.compiled else {
            return Ok(None);
        };
        let key = key(source, base);
        let mut used = self.used.lock().await;
        if let Some(folder) = used.get(&key).and_then(Weak::upgrade) {
            return Ok(Some(folder));
        }
        let path = self.folder.join(&key);
        if path.is_dir() {
            touch(&path);
        } else {
            self.compile(source, base, packs, floor, target, &path)
                .await?;
        }
        let folder = Arc::new(Folder { path });
        used.retain(|_, folder| folder.strong_count() > 0);
        used.insert(key, Arc::downgrade(&folder));
        self.prune(&used);
        Ok(Some(folder))
    }

    async fn compile(
        &self,
        source: &Unpacked,
        base: &BaseImage,
        packs: &Path,
        floor: &Floor,
        target: &str,
        path: &Path,
    ) -> Result<(), Failure> {
        let failed = |e| Failure::io("keep what is compiled of a function", &e);
        let scratch = tempfile::Builder::new()
            .prefix(".")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .tempdir_in(&self.folder)
            .map_err(failed)?;
        let out = scratch.path().join("out");
        std::fs::create_dir(&out).map_err(failed)?;
        let blueprint = Blueprint::new(base, packs, None, limits(), Network::None)
            .with(Mount::read_write(&out, target));
        let mut worker = floor.start(&blueprint, Need::Call { have: 0 }).await?;
        let init = Init {
            files: &source.files,
            dir: FUNCTION_DIR,
            handler: &source.handler,
            layer: None,
            code: None,
            fork: false,
        };
        worker.become_function(&init, self.timeout).await?;
        drop(worker);
        std::fs::rename(&out, path).map_err(failed)
    }

    /// Removes those that were not used for the longest time.
    fn prune(&self, used: &HashMap<String, Weak<Folder>>) {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten();
        let mut unused: Vec<(SystemTime, PathBuf)> = entries
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let name = entry.file_name().into_string().ok()?;
                let idle = !used.contains_key(&name) && !name.starts_with('.');
                let modified = entry.metadata().ok()?.modified().ok()?;
                idle.then(|| (modified, entry.path()))
            })
            .collect();
        unused.sort();
        let over = unused.len().saturating_sub(UNUSED_MAX);
        for (_, path) in unused.drain(..over) {
            if let Err(error) = std::fs::remove_dir_all(&path) {
                tracing::warn!(path = %path.display(), %error, "what was compiled is not removed");
            }
        }
    }
}

/// The same source comes to the same code for the same interpreter, program and machine.
fn key(source: &Unpacked, base: &BaseImage) -> String {
    let root = base.root.as_ref().map(|root| &root.digest);
    let parts = (
        env!("CARGO_PKG_VERSION"),
        std::env::consts::ARCH,
        (base.language, &base.version, root),
        &source.handler,
        &source.files,
    );
    let digest = Digest::of(&serde_json::to_vec(&parts).expect("plain data"));
    digest.as_str().to_owned()
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
