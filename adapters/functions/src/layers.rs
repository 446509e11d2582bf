//! Dependency layers: built once for what they hold, kept in the blob store, unpacked once a node.
//!
//! ```text
//! <state>/layers/<digest>/      unpacked, read-only; a digest is that of the packed layer
//! <state>/layers/keys/<key>     which layer a manifest came to, for this interpreter
//! <state>/layers/logs/<key>     what its build printed, which is in the blob store as well
//! <state>/builds/<random>/      a build under way; whatever is in there at start is swept out
//! <state>/cache/<org>@<base>/   downloads of the tools for one organization, on this host or in one
//!                               image; an image's are swept out at start
//! ```

mod archive;
mod locks;
mod packages;
mod printed;
mod secrets;
mod tool;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use adapter_kit::{BlobError, Blobs, Digest, LineSink};
use adapter_sandbox::{Launcher, Network};
use bytes::Bytes;
use engine_model::OrgName;
use serde::{Deserialize, Serialize};

use self::locks::Locks;
pub use self::printed::printed;
use crate::blueprint::PACKAGES;
use crate::config::Builds;
use crate::error::{Error, Failure};
use crate::oci::is_younger;
use crate::packs::language::{BaseImage, Language};
use crate::packs::untrusted;

/// Part of every key: what is built differently must not be taken for the same.
const BUILDER: u32 = 4;
/// The cache of builds on the host's interpreters, which run nothing but the host's own tools.
const HOST_CACHE: &str = "@host";
/// How long the log of a build is kept that came to nothing.
const FAILED_LOG_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// Each holds a packed layer in memory meanwhile.
const UNPACKINGS_MAX: usize = 4;

/// What a dependency layer is to hold.
#[derive(Debug, Clone, Default)]
pub struct LayerSpec {
    /// The whole text of `requirements.txt`, `package.json`, or what the language has.
    pub manifest: Option<String>,
    /// Packages of the operating system; those that this host lacks become part of the layer.
    pub system_packages: Vec<SystemPackage>,
}

/// A package of the operating system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemPackage {
    /// Its name.
    pub name: String,
    /// Its version, or how that begins; empty for any.
    #[serde(default)]
    pub version: String,
}

/// For whom a layer is built. Nobody finds what was downloaded for another, nor a layer that was
/// built of it.
#[derive(Clone, Default)]
pub struct Order {
    /// Whose it is; of the node itself unless said.
    pub organization: Option<OrgName>,
    /// Who is told what the tools print, while they do.
    pub lines: Option<Arc<dyn LineSink>>,
}

/// What came of a build.
#[derive(Debug)]
pub struct Built {
    /// The layer; none when the spec asks for nothing.
    pub layer: Result<Option<Layer>, Failure>,
    /// Where what the tools printed is in the blob store, if they printed anything; [`printed`]
    /// reads it.
    pub log: Option<Digest>,
}

/// A built layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Where the packed layer is in the blob store.
    pub digest: Digest,
    /// How long the packed layer is.
    pub bytes: u64,
}

/// The layers of this node.
#[derive(Debug)]
pub(crate) struct Layers {
    folder: PathBuf,
    builds: PathBuf,
    cache: PathBuf,
    blobs: Handle,
    launcher: Launcher,
    packs: PathBuf,
    tools: BTreeMap<String, PathBuf>,
    bounds: Builds,
    /// One build at a time: they want all processors, and the second one for the same thing then
    /// finds it done. Nothing that is built already waits for it.
    turn: tokio::sync::Mutex<()>,
    /// One unpacking, look or removal of a layer at a time.
    unpacking: Locks,
    unpackings: tokio::sync::Semaphore,
}

struct Handle(Arc<dyn Blobs>);

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Blobs")
    }
}

impl Layers {
    pub(crate) fn open(
        state: &Path,
        blobs: Arc<dyn Blobs>,
        launcher: Launcher,
        packs: PathBuf,
        tools: BTreeMap<String, PathBuf>,
        bounds: Builds,
    ) -> Result<Self, Error> {
        let layers = Self {
            folder: state.join("layers"),
            builds: state.join("builds"),
            cache: state.join("cache"),
            blobs: Handle(blobs),
            launcher,
            packs,
            tools,
            bounds,
            turn: tokio::sync::Mutex::default(),
            unpacking: Locks::default(),
            unpackings: tokio::sync::Semaphore::new(UNPACKINGS_MAX),
        };
        if layers.builds.exists() {
            remove(&layers.builds)?;
        }
        sweep_caches(&layers.cache)?;
        let (keys, logs) = (layers.folder.join("keys"), layers.folder.join("logs"));
        for path in [&keys, &logs, &layers.builds, &layers.cache] {
            std::fs::create_dir_all(path).map_err(|source| Error::State {
                path: path.clone(),
                source,
            })?;
        }
        Ok(layers)
    }

    /// Builds the layer of a spec, or finds that it is built already. A spec that asks for nothing
    /// has none.
    pub(crate) async fn build(&self, base: &BaseImage, spec: &LayerSpec, order: &Order) -> Built {
        let mut key = None;
        let layer = self.layer(base, spec, order, &mut key).await;
        let log = match key {
            Some(key) => self.log(&key).await,
            None => None,
        };
        Built { layer, log }
    }

    /// Notes the key as soon as it is known.
    async fn layer(
        &self,
        base: &BaseImage,
        spec: &LayerSpec,
        order: &Order,
        noted: &mut Option<Digest>,
    ) -> Result<Option<Layer>, Failure> {
        let root = base.root.as_ref();
        let missing = packages::missing(root, &spec.system_packages).await?;
        let manifest = spec.manifest.as_deref().unwrap_or_default().trim();
        if manifest.is_empty() && missing.is_empty() {
            return Ok(None);
        }
        let label = base.language.label();
        let rule = base.language.manifest().build.as_ref();
        if rule.is_none() && !manifest.is_empty() {
            return Err(Failure::of(format!(
                "{label} functions have no manifest of dependencies"
            )));
        }
        let key = &*noted.insert(key(base, manifest, &missing, order));
        let key_file = self.folder.join("keys").join(key.as_str());
        if let Some(layer) = self.known(&key_file).await {
            return Ok(layer);
        }
        let _turn = self.turn.lock().await;
        if let Some(layer) = self.known(&key_file).await {
            return Ok(layer);
        }
        let cache = self.cache.join(cache_name(base, order));
        let folder = self.scratch()?;
        let log = self.folder.join("logs").join(key.as_str());
        let mut room = tool::Room {
            launcher: &self.launcher,
            tools: &self.tools,
            base,
            pack: &base.language.folder(&self.packs),
            rule,
            folder: folder.path(),
            cache: &cache,
            timeout: self.bounds.timeout,
            layer_bytes_max: self.bounds.layer_bytes_max,
            network: match &self.bounds.hosts {
                None => Network::Host,
                Some(hosts) if hosts.is_empty() => Network::None,
                Some(hosts) => Network::Relay(hosts.clone()),
            },
            log: &log,
            lines: order.lines.clone(),
            said: Mutex::default(),
            secrets: secrets::Secrets::default(),
        };
        room.furnish()?;
        if !missing.is_empty() {
            room.install(&missing).await?;
        }
        if !manifest.is_empty() {
            room.build(manifest).await?;
        }
        let built = folder.path().join("layer");
        sound(&built)?;
        let asked_for_nothing = std::fs::read_dir(&built).is_ok_and(|mut all| all.next().is_none());
        let layer = match asked_for_nothing {
            true => None,
            false => Some(self.store(&built).await?),
        };
        let text = serde_json::to_string(&layer).expect("a layer is plain data");
        write_whole(&key_file, text.as_bytes())
            .map_err(|e| Failure::io("note a built layer", &e))?;
        Ok(layer)
    }

    /// Gives what a build printed to the blob store, so that it can be read on any node.
    async fn log(&self, key: &Digest) -> Option<Digest> {
        let text = std::fs::read(self.folder.join("logs").join(key.as_str())).ok()?;
        if text.is_empty() {
            return None;
        }
        let stored = printed::stored(key, &text);
        let digest = Digest::of(&stored);
        if matches!(self.blobs.0.has(&digest).await, Ok(true)) {
            return Some(digest);
        }
        match self.blobs.0.put(Bytes::from(stored)).await {
            Ok(digest) => Some(digest),
            Err(error) => {
                tracing::warn!(%error, "the log of a build is on this node only");
                None
            }
        }
    }

    /// What a key file tells of, if this node still has it or can have it.
    async fn known(&self, key: &Path) -> Option<Option<Layer>> {
        let known: Option<Layer> = serde_json::from_slice(&std::fs::read(key).ok()?).ok()?;
        let Some(layer) = known else {
            return Some(None);
        };
        let unpacked = self.fetch(&layer.digest).await.ok()?;
        // Another node may have removed it when nothing used it.
        if self.blobs.0.has(&layer.digest).await.is_ok_and(|has| !has) {
            let (from, bytes_max) = (unpacked, self.bounds.layer_bytes_max);
            let packed = blocking(move || archive::pack(&from, bytes_max))
                .await
                .ok()?;
            let stored = self.blobs.0.put(Bytes::from(packed)).await.ok()?;
            return (stored == layer.digest).then_some(Some(layer));
        }
        Some(Some(layer))
    }

    /// Packs a built folder, stores it, and keeps the folder as the unpacked layer.
    async fn store(&self, built: &Path) -> Result<Layer, Failure> {
        let (from, bytes_max) = (built.to_owned(), self.bounds.layer_bytes_max);
        let packed = blocking(move || archive::pack(&from, bytes_max)).await?;
        let bytes = packed.len() as u64;
        let digest = self.blobs.0.put(Bytes::from(packed)).await;
        let digest = digest.map_err(|e| Failure::now(format!("failed to store a layer: {e}")))?;
        self.settle(built, &digest)?;
        Ok(Layer { digest, bytes })
    }

    /// The folder of an unpacked layer; fetched and unpacked if this node does not have it yet.
    pub(crate) async fn fetch(&self, digest: &Digest) -> Result<PathBuf, Failure> {
        let path = self.folder.join(digest.as_str());
        // Whoever sweeps takes it too: what is found is noted as used before it could go.
        let _turn = self.unpacking.lock(digest.as_str()).await;
        if untrusted::is_folder(&path) {
            touch(&path);
        } else {
            self.unpack(digest).await?;
        }
        Ok(path)
    }

    /// Removes the layers that are neither `used` nor mounted, nor were within `grace`: from this
    /// node, and those that it built from the blob store too; how many.
    pub(crate) async fn sweep(
        &self,
        used: &BTreeSet<String>,
        mounted: &[PathBuf],
        grace: Duration,
    ) -> Result<usize, Failure> {
        let failed = |e| Failure::io("look for layers that nothing uses", &e);
        let _turn = self.turn.lock().await;
        let mut removed = 0;
        for entry in std::fs::read_dir(&self.folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = entry.path();
            let Some(digest) = Digest::parse(&name) else {
                continue;
            };
            let _its_turn = self.unpacking.lock(&name).await;
            let held = mounted.iter().any(|mount| mount.starts_with(&path));
            if held || used.contains(&name) || is_younger(&path, grace) {
                continue;
            }
            for key in self.keys_of(&digest).map_err(failed)? {
                let gone = self.blobs.0.remove(&digest).await;
                gone.map_err(|e| Failure::now(format!("failed to remove a layer: {e}")))?;
                self.remove_log(key.file_name()).await?;
                std::fs::remove_file(key).map_err(failed)?;
            }
            let going = self.scratch()?;
            std::fs::rename(&path, going.path().join("gone")).map_err(failed)?;
            removed += 1;
        }
        for entry in std::fs::read_dir(self.folder.join("logs")).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let built = self.folder.join("keys").join(entry.file_name()).exists();
            if !built && !is_younger(&entry.path(), FAILED_LOG_MAX) {
                self.remove_log(Some(&entry.file_name())).await?;
            }
        }
        Ok(removed)
    }

    /// Removes what a build printed, also from the blob store.
    async fn remove_log(&self, key: Option<&OsStr>) -> Result<(), Failure> {
        let path = self.folder.join("logs").join(key.unwrap_or_default());
        let Ok(text) = std::fs::read(&path) else {
            return Ok(()); // it printed nothing
        };
        if let Some(key) = key.and_then(OsStr::to_str).and_then(Digest::parse) {
            let stored = Digest::of(&printed::stored(&key, &text));
            let gone = self.blobs.0.remove(&stored).await;
            gone.map_err(|e| Failure::now(format!("failed to remove the log of a build: {e}")))?;
        }
        std::fs::remove_file(path).map_err(|e| Failure::io("remove the log of a build", &e))
    }

    /// The notes of builds that came to a layer.
    fn keys_of(&self, digest: &Digest) -> io::Result<Vec<PathBuf>> {
        let mut keys = Vec::new();
        for entry in std::fs::read_dir(self.folder.join("keys"))? {
            let path = entry?.path();
            let noted: Result<Option<Layer>, _> = serde_json::from_slice(&std::fs::read(&path)?);
            if matches!(noted, Ok(Some(layer)) if layer.digest == *digest) {
                keys.push(path);
            }
        }
        Ok(keys)
    }

    async fn unpack(&self, digest: &Digest) -> Result<(), Failure> {
        let permit = self.unpackings.acquire().await;
        let _permit = permit.expect("the semaphore is never closed");
        let packed = self
            .blobs
            .0
            .get(digest)
            .await
            .map_err(|error| match error {
                BlobError::Absent(_) => {
                    Failure::of(format!("the dependency layer {digest} is nowhere"))
                }
                error => Failure::now(format!("failed to fetch the layer {digest}: {error}")),
            })?;
        let folder = self.scratch()?;
        let (into, bytes_max) = (folder.path().join("layer"), self.bounds.layer_bytes_max);
        let unpacked = into.clone();
        blocking(move || archive::unpack(&packed, &into, bytes_max)).await?;
        sound(&unpacked)?;
        self.settle(&unpacked, digest)
    }

    /// Moves a finished folder to its place, which makes it visible all at once.
    fn settle(&self, from: &Path, digest: &Digest) -> Result<(), Failure> {
        let path = self.folder.join(digest.as_str());
        match std::fs::rename(from, &path) {
            Err(_) if untrusted::is_folder(&path) => Ok(()), // the same content was there first
            moved => moved.map_err(|e| Failure::io("keep an unpacked layer", &e)),
        }
    }

    fn scratch(&self) -> Result<tempfile::TempDir, Failure> {
        tempfile::Builder::new()
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .tempdir_in(&self.builds)
            .map_err(|e| Failure::io("make a build folder", &e))
    }
}

/// What a manifest comes to depends on it, on the interpreter it is for, and on this builder.
fn key(base: &BaseImage, manifest: &str, missing: &[String], order: &Order) -> Digest {
    let parts = (
        BUILDER,
        base.language,
        base.variant(),
        std::env::consts::ARCH,
        manifest,
        missing,
        &order.organization,
    );
    Digest::of(&serde_json::to_vec(&parts).expect("plain data"))
}

/// The time of a layer's folder is when it was last used.
fn touch(path: &Path) {
    let touched = std::fs::File::open(path).and_then(|f| f.set_modified(SystemTime::now()));
    if let Err(error) = touched {
        tracing::debug!(path = %path.display(), %error, "the use of a layer is not noted");
    }
}

async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(act).await;
    done.map_err(|e| Failure::now(format!("failed to handle a layer: {e}")))?
}

/// Refuses what has a link in the place of a folder that is mounted: it would be followed outside
/// of the sandbox, to whatever it names on this host.
fn sound(layer: &Path) -> Result<(), Failure> {
    let languages = Language::all();
    let mounted = languages
        .iter()
        .map(|language| language.manifest().layer.folder.as_str())
        .chain([PACKAGES]);
    let whole = std::iter::once(("layer", untrusted::is_folder(layer)));
    let mut all = whole.chain(mounted.filter_map(|below| {
        let real = untrusted::folder_below(layer, below)?;
        Some((below, real))
    }));
    match all.find(|(_, real)| !real) {
        Some((what, _)) => Err(Failure::of(format!(
            "the dependency layer has something else than a folder as {what:?}"
        ))),
        None => Ok(()),
    }
}

/// Organizations and images write to caches of their own, so that none finds what another has left.
fn cache_name(base: &BaseImage, order: &Order) -> String {
    let organization = order.organization.as_ref().map_or("", OrgName::as_str);
    match &base.root {
        None => format!("{organization}{HOST_CACHE}"),
        Some(root) => format!("{organization}@{}", root.digest.replace(':', "-")),
    }
}

fn sweep_caches(caches: &Path) -> Result<(), Error> {
    let Ok(entries) = std::fs::read_dir(caches) else {
        return Ok(()); // there was none yet
    };
    for entry in entries.flatten() {
        let of_host = entry.file_name().to_string_lossy().ends_with(HOST_CACHE);
        if !of_host && untrusted::is_folder(&entry.path()) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> Result<(), Error> {
    untrusted::remove_all(path).map_err(|source| Error::State {
        path: path.to_owned(),
        source,
    })
}

/// Writes a file so that it is there whole or not at all.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut file = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(parent)?;
    io::Write::write_all(&mut file, bytes)?;
    file.persist(path).map(drop).map_err(|e| e.error)
}
