//! What the host of functions is told at start.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use adapter_kit::Blobs;
use adapter_sandbox::{Endpoint, LauncherConfig, Limits};

/// Everything [`Functions::start`](crate::Functions::start) needs; [`Config::new`] has defaults
/// for all but the first three.
#[derive(Clone)]
pub struct Config {
    /// Where unpacked layers, build folders and caches are kept. Everything in it can be made again.
    pub state_dir: PathBuf,
    /// How the sandbox launcher is started.
    pub launcher: LauncherConfig,
    /// Where dependency layers are stored, and fetched from when another node built them.
    pub blobs: Arc<dyn Blobs>,
    /// A folder with more language packs, each a folder of its own.
    pub packs: Option<PathBuf>,
    /// Interpreters, by their languages' labels, to use instead of what `/usr/bin`,
    /// `/usr/local/bin` and `PATH` have.
    pub interpreters: BTreeMap<String, PathBuf>,
    /// Build tools, by their names, to use instead of what `PATH` has.
    pub tools: BTreeMap<String, PathBuf>,
    /// How many workers, and for how long.
    pub pools: Pools,
    /// The limits of a function that brings none of its own.
    pub limits: Limits,
    /// The bounds of a layer's build.
    pub builds: Builds,
    /// How base images that are OCI images are had.
    pub images: Images,
}

impl Config {
    /// A configuration with the default pools, limits and bounds, and whatever interpreters and
    /// tools the host has.
    pub fn new(
        state_dir: impl Into<PathBuf>,
        launcher: LauncherConfig,
        blobs: Arc<dyn Blobs>,
    ) -> Self {
        Self {
            state_dir: state_dir.into(),
            launcher,
            blobs,
            packs: None,
            interpreters: BTreeMap::new(),
            tools: BTreeMap::new(),
            pools: Pools::default(),
            limits: default_limits(),
            builds: Builds::default(),
            images: Images::default(),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("state_dir", &self.state_dir)
            .field("packs", &self.packs)
            .field("interpreters", &self.interpreters)
            .field("tools", &self.tools)
            .field("pools", &self.pools)
            .field("limits", &self.limits)
            .field("builds", &self.builds)
            .field("images", &self.images)
            .finish_non_exhaustive()
    }
}

/// How many workers there may be, and how long they stay.
#[derive(Debug, Clone)]
pub struct Pools {
    /// The most workers of one function that does not say itself.
    pub workers_max: usize,
    /// How many calls of one function may wait for a worker; more are refused, of those for whose
    /// answers somebody waits.
    pub waiters_max: usize,
    /// Pre-started workers for each combination of image, network and limits in use.
    pub stems: usize,
    /// How long a worker may be idle before it is ended.
    pub idle_ttl: Duration,
    /// What all workers together may be expected to take.
    pub memory_budget_bytes: u64,
    /// The longest that one call may take when its function sets no timeout.
    pub call_max: Duration,
    /// How long a function's module may take to load.
    pub load_max: Duration,
}

impl Default for Pools {
    /// 16 workers of a function, 384 waiting calls, one stem, ten minutes idle, 2 GiB, an hour
    /// for a call and a minute for loading.
    fn default() -> Self {
        Self {
            workers_max: 16,
            // Less than a node takes from the queue at once, so that one function's callers leave
            // room for another's.
            waiters_max: 384,
            stems: 1,
            idle_ttl: Duration::from_secs(600),
            memory_budget_bytes: 2 << 30,
            call_max: Duration::from_secs(3600),
            load_max: Duration::from_secs(60),
        }
    }
}

/// The bounds of a layer's build.
#[derive(Debug, Clone)]
pub struct Builds {
    /// How long the tool may take.
    pub timeout: Duration,
    /// What the unpacked layer may hold.
    pub layer_bytes_max: u64,
    /// The hosts that a build can reach; none means whatever the node can.
    pub hosts: Option<Vec<Endpoint>>,
}

impl Default for Builds {
    /// Ten minutes, 1 GiB, and the node's network.
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(600),
            layer_bytes_max: 1 << 30,
            hosts: None,
        }
    }
}

/// How base images that are OCI images are had.
#[derive(Debug, Clone)]
pub struct Images {
    /// Registries, as `HOST:PORT`, that are spoken to without encryption; this machine always is.
    pub insecure: Vec<String>,
    /// The file in which `docker login` keeps credentials.
    pub credentials: Option<PathBuf>,
    /// Folders of this node below which images in files may lie.
    pub folders: Vec<PathBuf>,
    /// What the layers of one image may hold, unpacked.
    pub root_bytes_max: u64,
    /// How long one image may take to be had.
    pub pull_max: Duration,
    /// How long what nothing uses is kept.
    pub grace: Duration,
}

impl Default for Images {
    /// Encryption everywhere, nobody's credentials, no image in files, 8 GiB, ten minutes, an hour.
    fn default() -> Self {
        Self {
            insecure: Vec::new(),
            credentials: None,
            folders: Vec::new(),
            root_bytes_max: 8 << 30,
            pull_max: Duration::from_secs(600),
            grace: Duration::from_secs(3600),
        }
    }
}

/// 512 MiB of memory, 64 processes, 1,024 open files, 256 MiB in a file, 64 MiB of `/tmp`.
fn default_limits() -> Limits {
    Limits {
        memory_bytes: Some(512 << 20),
        cpu_hundredths: None,
        processes: 64,
        open_files: 1024,
        file_bytes: 256 << 20,
        tmp_bytes: 64 << 20,
        address_space_bytes: None,
    }
}
