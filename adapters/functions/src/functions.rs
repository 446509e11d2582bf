//! The handle by which the engine has functions built, loaded and called.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use adapter_sandbox::{Capabilities, Launcher, Limit, Limits};
use engine_model::{Used, spec};
use serde::{Deserialize, Serialize};

use crate::blueprint::{Blueprint, network};
use crate::call::run::{Call, Completion, run};
use crate::call::schema::Schema;
use crate::config::Config;
use crate::error::{Error, ErrorType, Failure, RunError};
use crate::layers::{Built, Layer, LayerSpec, Layers, Order, write_whole};
use crate::oci::{Images, Place, Root};
use crate::packs::base;
use crate::packs::compiled::{Compiled, Compiling};
use crate::packs::language::{self, BaseImage, Language, add_packs};
use crate::packs::source;
use crate::revision::{Prepared, Revision};
use crate::turns::Turns;
use crate::workers::floor::{Floor, Need};
use crate::workers::logs::KEPT_BYTES;
use crate::workers::pool::Pool;
use crate::workers::sweep;

/// A language, and the digest of the root that its interpreter is in.
type Key = (Language, Option<String>);

/// A source up to this long is unpacked where it is, in less time than a thread takes to wake.
const INLINE_BYTES: usize = 16 << 10;

/// Functions on this node. Clones share everything; dropping the last one ends every worker.
#[derive(Debug, Clone)]
pub struct Functions {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: Config,
    packs: PathBuf,
    floor: Arc<Floor>,
    layers: Layers,
    compiled: Compiled,
    images: Images,
    /// Those that were proved, by language and root's digest; without the roots themselves, which
    /// this must not keep from being removed.
    bases: Mutex<HashMap<Key, BaseImage>>,
    /// Each is looked for once at a time, and none waits for another.
    finding: Turns<Key>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.floor.close();
        self.floor.pools().clear();
    }
}

/// How many workers there are and what they take.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Loaded revisions.
    pub revisions: usize,
    /// Their workers: idle, busy and starting.
    pub workers: usize,
    /// Those of them that wait for a call.
    pub idle: usize,
    /// Pre-started workers without a function.
    pub stems: usize,
    /// What the budget counts for all of them.
    pub reserved_bytes: u64,
    /// What the idle workers and stems really take, as far as this machine tells.
    pub resident_bytes: u64,
}

impl Functions {
    /// Starts the sandbox launcher and prepares the state directory. To be called within a tokio
    /// runtime, on which everything then runs.
    ///
    /// # Errors
    /// `Launcher` when this machine allows no sandbox, `State` when the directory cannot be used.
    pub fn start(config: Config) -> Result<Self, Error> {
        let launcher = Launcher::start(config.launcher.clone()).map_err(Error::Launcher)?;
        if let Some(folder) = &config.packs {
            let added = add_packs(folder).map_err(|reason| Error::Pack { reason })?;
            tracing::info!(languages = ?added, "language packs added");
        }
        for missing in launcher.capabilities().unenforced() {
            let instead = (missing.limit == Limit::Memory).then(language::memory_bounds);
            tracing::warn!(limit = ?missing.limit, why = %missing, instead, "a limit of functions is not enforced on this machine");
        }
        let packs = config.state_dir.join("packs");
        write_packs(&packs)?;
        let layers = Layers::open(
            &config.state_dir,
            Arc::clone(&config.blobs),
            launcher.clone(),
            packs.clone(),
            config.tools.clone(),
            config.builds.clone(),
        )?;
        let compiled = Compiled::open(&config.state_dir)?;
        let images = Images::open(
            &config.state_dir,
            config.images.clone(),
            Arc::clone(&config.blobs),
        )?;
        let runtime = tokio::runtime::Handle::current();
        let floor = Arc::new(Floor::new(launcher, config.pools.clone(), runtime));
        sweep::start(&floor);
        let bases = Mutex::default();
        Ok(Self {
            inner: Arc::new(Inner {
                config,
                packs,
                floor,
                layers,
                compiled,
                images,
                bases,
                finding: Turns::default(),
            }),
        })
    }

    /// What of the sandbox is in force on this machine.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.inner.floor.launcher.capabilities()
    }

    /// The base image of a language: this host's interpreter, or that of the image which the URL
    /// names now. It has started in a sandbox before this returns.
    ///
    /// # Errors
    /// When there is no pack for the language, the image is not to be had, or no interpreter runs
    /// in the sandbox.
    pub async fn base_image(&self, language: &str, docker_url: &str) -> Result<BaseImage, Failure> {
        let known = Language::parse(language).ok_or_else(|| {
            let all: Vec<&str> = Language::all().into_iter().map(Language::label).collect();
            Failure::of(format!(
                "this node has no language pack for {language:?}; it has {}",
                all.join(", ")
            ))
        })?;
        let root = match Place::parse(docker_url)? {
            Place::Host => None,
            place => {
                let root = self.inner.images.root(&place, None).await;
                // Whatever could pass has had its attempts: somebody has to look at it.
                Some(root.map_err(|failure| Failure::of(failure.reason))?)
            }
        };
        self.base(known, root).await
    }

    /// The base image of a language with the root that was found when it was prepared.
    ///
    /// # Errors
    /// As [`Functions::base_image`].
    pub async fn base_image_of(
        &self,
        language: Language,
        root: Option<&spec::Root>,
    ) -> Result<BaseImage, Failure> {
        let root = match root {
            None => None,
            Some(root) => {
                let place = Place::parse(&root.url)?;
                Some(self.inner.images.root(&place, Some(&root.digest)).await?)
            }
        };
        self.base(language, root).await
    }

    /// Removes roots of images, and dependency layers, that `used` does not hold, that nothing loaded
    /// here has, and that have not been used for the time that the configuration says; how many.
    ///
    /// # Errors
    /// When this node's own files cannot be read or removed, or the blob store does not answer.
    pub async fn clear(&self, used: Used) -> Result<usize, Failure> {
        let inner = &self.inner;
        let grace = inner.config.images.grace;
        let (roots, layers) = (used.roots, used.layers);
        let images = inner
            .images
            .sweep(move |digest| roots.contains(digest), grace)
            .await?;
        let mounted: Vec<PathBuf> = {
            let pools = inner.floor.pools();
            let mounts = pools
                .values()
                .flat_map(|pool| &pool.revision.blueprint.spec.mounts);
            mounts.map(|mount| mount.source.clone()).collect()
        };
        let removed = inner.layers.sweep(&layers, &mounted, grace).await?;
        Ok(images + removed)
    }

    /// The limits of a function that brings none of its own.
    #[must_use]
    pub fn limits(&self) -> &adapter_sandbox::Limits {
        &self.inner.config.limits
    }

    async fn base(&self, language: Language, root: Option<Root>) -> Result<BaseImage, Failure> {
        let inner = &self.inner;
        let key = (language, root.as_ref().map(|root| root.digest.clone()));
        let _turn = inner.finding.take(&key).await;
        let bases = || inner.bases.lock().unwrap_or_else(PoisonError::into_inner);
        let known = bases().get(&key).cloned();
        if let Some(base) = known {
            return Ok(BaseImage { root, ..base });
        }
        let (config, packs) = (&inner.config, &inner.packs);
        let base = base::find(language, root.as_ref(), config, packs, &inner.floor).await?;
        let noted = BaseImage {
            root: None,
            ..base.clone()
        };
        bases().insert(key, noted);
        Ok(base)
    }

    /// Builds the dependency layer of an image, or finds it built. The same spec gives the same
    /// layer again, so this is safe to repeat. `None` when the spec asks for nothing.
    ///
    /// # Errors
    /// When the manifest is refused, or the tool fails; its last lines are in the reason.
    pub async fn build_layer(
        &self,
        base: &BaseImage,
        spec: &LayerSpec,
    ) -> Result<Option<Layer>, Failure> {
        self.build(base, spec, &Order::default()).await.layer
    }

    /// Builds the dependency layer of an image for somebody, as [`build_layer`](Self::build_layer)
    /// does, and keeps what the tools printed.
    pub async fn build(&self, base: &BaseImage, spec: &LayerSpec, order: &Order) -> Built {
        self.inner.layers.build(base, spec, order).await
    }

    /// Loads a revision: when this returns, its handler has been loaded in a sandboxed worker that
    /// now waits for the first call. Loading the same id again does nothing.
    ///
    /// # Errors
    /// With exactly one reason: the source, the handler, a schema, the layer, or this node.
    pub async fn load(&self, revision: Revision) -> Result<(), Failure> {
        if self.is_loaded(&revision.id) {
            return Ok(());
        }
        let floor = &self.inner.floor;
        let prepared = self.prepare(revision).await?;
        let first = prepared.hire(floor, Need::Call { have: 0 }, false).await?;
        let blueprint = Arc::clone(&prepared.blueprint);
        let id = prepared.id.clone();
        let pool = Arc::new(Pool::new(prepared, Arc::clone(floor), first));
        {
            let mut pools = floor.pools();
            if pools.contains_key(&id) {
                return Ok(()); // loaded twice at the same time; one is enough
            }
            pools.insert(id, Arc::clone(&pool));
        }
        floor.keep(&blueprint);
        pool.scale();
        Ok(())
    }

    async fn prepare(&self, revision: Revision) -> Result<Prepared, Failure> {
        let inner = &self.inner;
        let schema_in = Schema::compile("input", revision.schema_in.as_ref())?;
        let schema_out = Schema::compile("output", revision.schema_out.as_ref())?;
        let Revision {
            source,
            handler,
            language,
            ..
        } = revision;
        let mut source = if source.bytes() <= INLINE_BYTES {
            source::unpack(&source, &handler, language)?
        } else {
            let unpack = move || source::unpack(&source, &handler, language);
            let unpacked = tokio::task::spawn_blocking(unpack).await;
            unpacked.map_err(|e| Failure::now(format!("failed to unpack the source: {e}")))??
        };
        let base = self.base_image_of(language, revision.root.as_ref()).await?;
        let layer = match &revision.layer {
            Some(digest) => Some(inner.layers.fetch(digest).await?),
            None => None,
        };
        let limits = revision
            .limits
            .unwrap_or_else(|| inner.config.limits.clone());
        let limits = bound_address_space(language, limits);
        let reach = network(revision.network, &revision.endpoints);
        let has_layer = layer.is_some();
        let compiling = Compiling {
            source: &source,
            base: &base,
            layer: revision.layer.as_ref().zip(layer.as_deref()),
            packs: &inner.packs,
        };
        let compiled = inner.compiled.of(&compiling, &inner.floor).await?;
        let code = match &compiled {
            Some(folder) => folder.code()?,
            None => None,
        };
        let target = language.manifest().worker.compiled.as_deref();
        let mut blueprint = Blueprint::new(&base, &inner.packs, layer, limits, reach);
        if let (Some(folder), Some(target)) = (&compiled, target) {
            blueprint = blueprint.with(folder.mount(target));
            source.files.clear();
        }
        Ok(Prepared {
            id: revision.id,
            blueprint: Arc::new(blueprint),
            source,
            _compiled: compiled,
            has_layer,
            schema_in,
            schema_out,
            timeout_ms: revision.timeout_ms,
            output_bytes: revision.output_bytes.unwrap_or(KEPT_BYTES),
            scale: revision.scale,
            isolation: revision.isolation,
            code: code.map_or_else(OnceLock::new, OnceLock::from),
        })
    }

    /// Whether calls of that revision can be served here without loading it.
    #[must_use]
    pub fn is_loaded(&self, revision_id: &str) -> bool {
        self.inner.floor.pools().contains_key(revision_id)
    }

    /// The revisions whose calls can be served here without loading them.
    #[must_use]
    pub fn loaded(&self) -> Vec<String> {
        self.inner.floor.pools().keys().cloned().collect()
    }

    /// Calls a loaded revision. Every way a call can end is a completion; dropping the future does
    /// not end a handler that has begun.
    pub async fn call(&self, revision_id: &str, call: Call) -> Completion {
        match self.call_if_loaded(revision_id, call).await {
            Ok(completion) => completion,
            Err(_) => Completion::refused(RunError {
                kind: ErrorType::SystemError,
                message: format!("function revision {revision_id} is not loaded on this node"),
                stacktrace: Vec::new(),
            }),
        }
    }

    /// The same; gives the call back when the revision is not loaded.
    pub(crate) async fn call_if_loaded(
        &self,
        revision_id: &str,
        call: Call,
    ) -> Result<Completion, Box<Call>> {
        let pool = self.inner.floor.pools().get(revision_id).cloned();
        match pool {
            Some(pool) => Ok(run(&pool, &self.inner.floor, call).await),
            None => Err(Box::new(call)),
        }
    }

    /// Forgets a revision: its idle workers end, calls under way go on, new ones are refused.
    pub fn retire(&self, revision_id: &str) {
        let retired = self.inner.floor.pools().remove(revision_id);
        if let Some(pool) = retired {
            pool.retire();
            self.inner.floor.forget(&pool.revision.blueprint);
        }
    }

    /// How many workers there are and what they take.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let floor = &self.inner.floor;
        let pools: Vec<Arc<Pool>> = floor.pools().values().cloned().collect();
        let mut pids = floor.stem_pids();
        let mut stats = Stats {
            revisions: pools.len(),
            stems: pids.len(),
            reserved_bytes: floor.reserved_bytes(),
            ..Stats::default()
        };
        for pool in pools {
            let (live, idle, idle_pids) = pool.count();
            stats.workers += live;
            stats.idle += idle;
            pids.extend(idle_pids);
        }
        stats.resident_bytes = pids.into_iter().map(sweep::resident_bytes).sum();
        stats
    }

    /// The first processes of the workers that wait for a call, as the host numbers them.
    #[must_use]
    pub fn idle_pids(&self) -> Vec<u32> {
        let pools: Vec<Arc<Pool>> = self.inner.floor.pools().values().cloned().collect();
        pools.iter().flat_map(|pool| pool.count().2).collect()
    }

    /// Takes no more calls, waits for those under way, and ends every worker. Whether all of it
    /// was done within `drain`; what was not is killed.
    pub async fn shutdown(&self, drain: Duration) -> bool {
        let floor = &self.inner.floor;
        let pools: Vec<Arc<Pool>> = floor.pools().drain().map(|(_, pool)| pool).collect();
        for pool in &pools {
            pool.retire();
        }
        floor.close();
        floor.tasks.close();
        let graceful = tokio::time::timeout(drain, floor.tasks.wait())
            .await
            .is_ok();
        floor.reaper.tasks.close();
        if graceful {
            floor.reaper.tasks.wait().await;
        }
        graceful
    }
}

/// Where there is no cgroup, a language that can do with little address space has that bounded in
/// place of its memory; some interpreters reserve gigabytes that they never use.
fn bound_address_space(language: Language, mut limits: Limits) -> Limits {
    let beside = language.manifest().worker.address_space;
    if let (Some(beside), None) = (beside, limits.address_space_bytes) {
        let bound = limits.memory_bytes.map(|bytes| bytes + (beside << 20));
        limits.address_space_bytes = bound;
    }
    limits
}

fn write_packs(folder: &std::path::Path) -> Result<(), Error> {
    let failed = |source| Error::State {
        path: folder.to_owned(),
        source,
    };
    if folder.exists() {
        // What was compiled there may be of an older wrapper.
        std::fs::remove_dir_all(folder).map_err(failed)?;
    }
    std::fs::create_dir_all(folder).map_err(failed)?;
    for language in Language::all() {
        let own = language.folder(folder);
        std::fs::create_dir_all(&own).map_err(failed)?;
        for (name, bytes) in language.files() {
            write_whole(&own.join(name), bytes).map_err(failed)?;
        }
    }
    Ok(())
}
