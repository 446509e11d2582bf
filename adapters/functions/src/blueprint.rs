//! What a generic worker is started from, before it is given a function.

use std::path::{Path, PathBuf};

use adapter_sandbox::{Endpoint, Limits, Mount, Network, Spec};

use crate::oci::Root;
use crate::packs::language::{BINDINGS_DIR, BaseImage, Language, PACK_DIR};
use crate::packs::untrusted;

/// The folder of a layer that holds what its system packages unpack to.
pub(crate) const PACKAGES: &str = ".system";
/// Where that is shown inside the sandbox.
const PACKAGES_DIR: &str = "/system";

/// What of the network a function can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkPolicy {
    /// Nothing.
    None,
    /// The endpoints of its services, each through a relay of the engine.
    Services,
    /// Whatever this node can reach, its loopback included.
    Host,
}

/// Everything that tells one generic worker from another. Two functions with equal blueprints can
/// be served by workers that were started for either.
#[derive(Debug, Clone)]
pub(crate) struct Blueprint {
    pub(crate) language: Language,
    pub(crate) spec: Spec,
    /// The spec as text: equal blueprints have equal keys.
    pub(crate) key: String,
    /// Kept as long as workers may be started from this.
    _root: Option<Root>,
}

impl Blueprint {
    /// `packs` holds the wrappers, `layer` is an unpacked dependency layer.
    pub(crate) fn new(
        base: &BaseImage,
        packs: &Path,
        layer: Option<PathBuf>,
        limits: Limits,
        network: Network,
    ) -> Self {
        let (manifest, folder) = (base.language.manifest(), base.language.folder(packs));
        let prepared = base
            .prepared_worker()
            .filter(|name| folder.join(name).exists());
        let worker = prepared.unwrap_or_else(|| manifest.worker.file.clone());
        let mut spec = Spec::new(&base.interpreter);
        spec.args = base.language.arguments(&worker, limits.memory_bytes);
        spec.env = environment(base.root.as_ref());
        spec.env.extend(manifest.worker.environment.iter().cloned());
        spec.root = base.root.as_ref().map(|root| root.path.clone());
        spec.cwd = PathBuf::from("/tmp");
        spec.queue = manifest.worker.queue;
        spec.hostname = "function".to_owned();
        spec.network = network;
        spec.limits = limits;
        spec.mounts.push(Mount::read_only(folder, PACK_DIR));
        spec.mounts.extend(interpreter_mount(base));
        if let Some(path) = layer {
            // A link would be followed outside of the sandbox.
            let wanted = &manifest.layer.folder;
            if untrusted::folder_below(&path, wanted) == Some(true) {
                let source = path.join(wanted);
                let mount = Mount::read_only(source, &manifest.layer.mount);
                spec.mounts.push(mount);
            }
            show_packages(&path.join(PACKAGES), &mut spec);
        }
        let key = serde_json::to_string(&spec).expect("a spec is plain data");
        Self {
            language: base.language,
            spec,
            key,
            _root: base.root.clone(),
        }
    }

    /// The same for a worker that steps back behind all others.
    pub(crate) fn in_background(&self) -> Self {
        let mut other = self.clone();
        other.spec.background = true;
        other.key = serde_json::to_string(&other.spec).expect("a spec is plain data");
        other
    }

    /// The same with one more mount.
    pub(crate) fn with(mut self, mount: Mount) -> Self {
        self.spec.mounts.push(mount);
        self.key = serde_json::to_string(&self.spec).expect("a spec is plain data");
        self
    }
}

/// An interpreter outside of the system's own folders is mounted at its own place.
pub(crate) fn interpreter_mount(base: &BaseImage) -> Option<Mount> {
    let system = base.prefix.starts_with("/usr") || base.prefix == Path::new("/");
    (!system && base.root.is_none()).then(|| Mount::read_only(&base.prefix, &base.prefix))
}

/// Lets programs and libraries of the layer's system packages be found.
fn show_packages(folder: &Path, spec: &mut Spec) {
    if !untrusted::is_folder(folder) {
        return;
    }
    spec.mounts.push(Mount::read_only(folder, PACKAGES_DIR));
    let arch = std::env::consts::ARCH;
    let libraries: Vec<String> = ["usr/lib", "lib"]
        .iter()
        .flat_map(|lib| {
            let lib = format!("{PACKAGES_DIR}/{lib}");
            [format!("{lib}/{arch}-linux-gnu"), lib]
        })
        .collect();
    spec.env
        .push(("LD_LIBRARY_PATH".to_owned(), libraries.join(":")));
    for (name, value) in &mut spec.env {
        if name == "PATH" {
            *value += &format!(":{PACKAGES_DIR}/usr/bin:{PACKAGES_DIR}/bin");
        }
    }
}

/// What every worker has, and below it what its image says; an image knows its own `PATH` best.
fn environment(root: Option<&Root>) -> Vec<(String, String)> {
    let image = root.map_or(&[][..], |root| &root.note.env);
    let mut all: Vec<(String, String)> = OWN
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
    for (name, value) in image {
        match all.iter_mut().find(|(own, _)| own == name) {
            Some((own, kept)) if own == "PATH" => kept.clone_from(value),
            Some(_) => {}
            None => all.push((name.clone(), value.clone())),
        }
    }
    all
}

const OWN: [(&str, &str); 8] = [
    ("PATH", "/usr/local/bin:/usr/bin:/bin"),
    ("HOME", "/tmp"),
    ("TMPDIR", "/tmp"),
    ("LANG", "C.UTF-8"),
    ("LC_ALL", "C.UTF-8"),
    ("SERVICE_BINDING_ROOT", BINDINGS_DIR),
    // Threads of numeric libraries would count against the limit of processes.
    ("OPENBLAS_NUM_THREADS", "1"),
    ("OMP_NUM_THREADS", "1"),
];

/// The sandbox's network for a policy.
pub(crate) fn network(policy: NetworkPolicy, endpoints: &[Endpoint]) -> Network {
    match policy {
        NetworkPolicy::None => Network::None,
        NetworkPolicy::Services if endpoints.is_empty() => Network::None,
        NetworkPolicy::Services => Network::Relay(endpoints.to_vec()),
        NetworkPolicy::Host => Network::Host,
    }
}
