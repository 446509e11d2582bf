//! A pack's builder in a sandbox: the network that builds have, its own folder and cache, a time
//! limit, a bounded log.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use adapter_kit::LineSink;
use adapter_sandbox::{Exit, Launcher, Limits, Mount, Network, Spec};
use engine_model::LogStream;
use tokio::time::Instant;

use super::packages;
use super::secrets::{Plain, Secrets};
use crate::blueprint::interpreter_mount;
use crate::error::{Failure, chain};
use crate::oci::Root;
use crate::packs::language::{BaseImage, PACK_DIR};
use crate::packs::pack::{Build, Tool, fill};
use crate::packs::untrusted;
use crate::workers::live::Live;
use crate::workers::logs::{Capture, KEPT_BYTES};
use crate::workers::relay::Relays;
use crate::workers::supervise::{Bound, End, exceeds, follow};

/// Where files of the host are in an image's sandbox.
const HOST: &str = "/host";
/// Files that the sandbox brings itself, whatever it has of the network.
const OVERLAID: [&str; 3] = ["/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf"];
/// The build folder inside the sandbox.
const BUILD: &str = "/build";
/// The folder that becomes the layer, inside the sandbox.
const LAYER: &str = "/build/layer";
/// The tools' download cache inside the sandbox.
const CACHE: &str = "/cache";

/// What of a failed tool's output is shown.
const LINES_SHOWN: usize = 10;
const CHARS_SHOWN: usize = 2000;

/// Variables by which people tell the tools how to reach their registries.
const PASSED: [&str; 14] = [
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "NIX_SSL_CERT_FILE",
];
/// What the host has for reaching anything at all; mounted where it is.
const HOST_FILES: [&str; 6] = [
    "/etc/ssl",
    "/etc/ca-certificates",
    "/etc/pki",
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
];
/// Where the builder leaves the reason for which it gave up, inside the sandbox.
const REASON: &str = "/build/reason";

/// Where a layer is built.
pub(super) struct Room<'a> {
    pub(super) launcher: &'a Launcher,
    pub(super) tools: &'a BTreeMap<String, PathBuf>,
    pub(super) base: &'a BaseImage,
    /// The pack's files on the host.
    pub(super) pack: &'a Path,
    /// What its language says of builds.
    pub(super) rule: Option<&'a Build>,
    /// The build folder on the host.
    pub(super) folder: &'a Path,
    pub(super) cache: &'a Path,
    pub(super) timeout: Duration,
    pub(super) layer_bytes_max: u64,
    /// What it can reach.
    pub(super) network: Network,
    /// Where what it prints is kept.
    pub(super) log: &'a Path,
    /// Who is told what it prints, while it does.
    pub(super) lines: Option<Arc<dyn LineSink>>,
    /// What all of its programs printed.
    pub(super) said: Mutex<Vec<String>>,
    /// What is not to be repeated of the owner's settings.
    pub(super) secrets: Secrets,
}

impl Room<'_> {
    /// Lays out the build folder: an empty layer, a home with the tools' configuration.
    pub(super) fn furnish(&mut self) -> Result<(), Failure> {
        let failed = |e| Failure::io("prepare a build folder", &e);
        for name in ["layer", "home", "tmp"] {
            std::fs::create_dir_all(self.folder.join(name)).map_err(failed)?;
        }
        if exceeds(self.cache, self.room_max()) {
            untrusted::remove_all(self.cache).map_err(failed)?;
        }
        std::fs::create_dir_all(self.cache).map_err(failed)?;
        if self.base.root.is_some() {
            return Ok(()); // the code of an image has nothing of the owner's
        }
        let Some(rule) = self.rule else {
            return Ok(()); // packages of the system know of no settings
        };
        for (name, value) in environment(rule) {
            self.secrets.variable(&name, &value);
        }
        for path in &rule.host_files {
            self.secrets.files(Path::new(path));
        }
        for (name, value) in environment(rule) {
            let of_tool = rule.variables.iter().any(|prefix| name.starts_with(prefix));
            if of_tool && Path::new(&value).is_absolute() {
                self.secrets.files(Path::new(&value));
            }
        }
        let Some(home) = std::env::var_os("HOME").map(PathBuf::from) else {
            return Ok(());
        };
        for name in &rule.home_files {
            let Ok(content) = std::fs::read(home.join(name)) else {
                continue;
            };
            self.secrets.file(&String::from_utf8_lossy(&content));
            let copy = self.folder.join("home").join(name);
            std::fs::create_dir_all(copy.parent().expect("it is in home")).map_err(failed)?;
            std::fs::write(copy, content).map_err(failed)?;
        }
        Ok(())
    }

    /// Runs the pack's builder on a manifest; what it leaves in the layer's folder is the layer.
    pub(super) async fn build(&self, manifest: &str) -> Result<(), Failure> {
        let rule = self.rule.expect("a manifest without a builder is refused");
        let failed = |e| Failure::io("write a manifest", &e);
        let text = format!("{manifest}\n");
        std::fs::write(self.folder.join(&rule.manifest), text).map_err(failed)?;
        let program = self.base.interpreter.to_string_lossy();
        let values = [("program", &*program), ("pack", PACK_DIR)];
        let words: Vec<String> = rule
            .command
            .iter()
            .map(|word| fill(word, &values))
            .collect();
        let root = self.base.root.as_ref();
        let (env, mounts) = match root {
            None => (environment(rule), host_files(rule)),
            Some(root) => {
                // The node owner's settings may hold passwords, and whoever made the image has
                // written what would read them.
                let rule = Build::default();
                within(root, environment(&rule), host_files(&rule))
            }
        };
        let mut spec = self.spec(&words, env, mounts);
        let manifest = format!("{BUILD}/{}", rule.manifest);
        spec.env.push(("MANIFEST".into(), manifest));
        for tool in &rule.tools {
            let name = tool.name.to_ascii_uppercase().replace('-', "_");
            if let Some(root) = root {
                // An image brings its own: the host's need not run in it.
                let found = root.on_path(&tool.name).into_iter().next();
                let found = found.map(|path| path.to_string_lossy().into_owned());
                spec.env
                    .extend(found.map(|path| (format!("TOOL_{name}"), path)));
                continue;
            }
            let chosen = self.tools.get(&tool.name).cloned();
            let Some(path) = chosen.or_else(|| on_path(&tool.name)) else {
                continue;
            };
            let (shown, mount) = show(tool, &path);
            spec.env.push((format!("TOOL_{name}"), shown));
            spec.mounts.extend(mount);
        }
        self.run(spec).await
    }

    /// Unpacks system packages into the layer.
    pub(super) async fn install(&self, missing: &[String]) -> Result<(), Failure> {
        let rule = Build {
            host_files: packages::HOST_FILES.map(str::to_owned).to_vec(),
            ..Build::default()
        };
        let mut words = ["/bin/sh", "-c", packages::SCRIPT, "packages"]
            .map(str::to_owned)
            .to_vec();
        words.extend_from_slice(missing);
        let spec = self.spec(&words, environment(&rule), host_files(&rule));
        match self.run(spec).await {
            Err(failure) if !failure.transient => {
                Err(packages::absent(missing, &format!(":\n{}", failure.reason)))
            }
            done => done,
        }
    }

    fn spec(&self, words: &[String], env: Vec<(String, String)>, mounts: Vec<Mount>) -> Spec {
        let (program, arguments) = words.split_first().expect("a pack without is refused");
        let mut spec = Spec::new(program);
        spec.args = arguments.to_vec();
        spec.env = env;
        spec.root = self.base.root.as_ref().map(|root| root.path.clone());
        spec.cwd = LAYER.into();
        spec.hostname = "build".into();
        spec.network = self.network.clone();
        spec.limits = limits();
        spec.mounts.extend(interpreter_mount(self.base));
        let own = |mount: &Mount| OVERLAID.iter().any(|file| mount.target == Path::new(file));
        let open = self.network == Network::Host;
        let mounts = mounts.into_iter().filter(|mount| open || !own(mount));
        spec.mounts.extend(mounts);
        spec.mounts.push(Mount::read_only(self.pack, PACK_DIR));
        spec.mounts.push(Mount::read_write(self.folder, BUILD));
        spec.mounts.push(Mount::read_write(self.cache, CACHE));
        spec
    }

    async fn run(&self, spec: Spec) -> Result<(), Failure> {
        let tool = self.base.language.label();
        let launcher = self.launcher.clone();
        let spawned = tokio::task::spawn_blocking(move || launcher.spawn(&spec)).await;
        let mut sandboxed = spawned
            .map_err(|e| Failure::now(format!("failed to start the builder for {tool}: {e}")))?
            .map_err(|e| {
                Failure::now(format!(
                    "failed to start the builder for {tool}: {}",
                    chain(&e)
                ))
            })?;
        let deadline = Instant::now() + self.timeout;
        let _relays = Relays::start(std::mem::take(&mut sandboxed.listeners))
            .map_err(|e| Failure::io("relay what a build may reach", &e))?;
        let live = self.lines.clone().map(|to| {
            let secrets = self.secrets.clone();
            Live::new(Arc::new(Plain { secrets, to }), LogStream::Stdout)
        });
        let mut log = [Capture::new(KEPT_BYTES, live)];
        let bounds = [(self.folder, 1), (self.cache, 2)].map(|(folder, times)| Bound {
            folder: folder.to_owned(),
            bytes_max: times * self.room_max(),
        });
        let ended = follow(sandboxed, &mut log, deadline, bounds.to_vec()).await;
        let [log] = log;
        let lines: Vec<String> = log
            .into_lines()
            .iter()
            .map(|l| self.secrets.hide(l))
            .collect();
        self.keep(&lines);
        let end = ended.map_err(|e| Failure::now(format!("failed to follow a build: {e}")))?;
        match end {
            End::Exited(exit) if exit.success() => Ok(()),
            End::Exited(exit) => Err(Failure::of(self.reason(exit, lines))),
            End::Late => {
                let limit = self.timeout;
                let said = last(lines);
                Err(Failure::of(format!(
                    "the build did not finish within {limit:?}{said}"
                )))
            }
            End::TooLarge(folder) => {
                let what = if folder == self.cache {
                    "cache"
                } else {
                    "folder"
                };
                let most = self.layer_bytes_max >> 20;
                Err(Failure::of(format!(
                    "the build's {what} grew far beyond the {most} MiB that a layer may hold"
                )))
            }
        }
    }

    /// What a build may write: a layer, and what is downloaded for it.
    fn room_max(&self) -> u64 {
        2 * self.layer_bytes_max
    }

    /// What the builder said why, or else how it ended; and its last words where they belong to it.
    fn reason(&self, exit: Exit, lines: Vec<String>) -> String {
        let said = untrusted::read(&self.folder.join("reason"), CHARS_SHOWN as u64);
        let said = said.unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let said = self.secrets.hide(said.trim());
        match said.strip_suffix(':') {
            Some(what) => what.to_owned() + &last(lines),
            None if said.is_empty() => format!("the builder {exit}{}", last(lines)),
            None => said,
        }
    }

    /// Keeps what was printed, after what was kept of the same build.
    fn keep(&self, lines: &[String]) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.extend(lines.iter().map(|line| format!("{line}\n")));
        let text = said.concat();
        if let Err(error) = super::write_whole(self.log, text.as_bytes()) {
            tracing::warn!(path = %self.log.display(), %error, "the log of a build is not kept");
        }
    }
}

/// The tool's last words.
fn last(lines: Vec<String>) -> String {
    let noise = |line: &String| {
        line.trim().is_empty()
            || line.contains("complete log of this run")
            || line.starts_with("npm notice")
    };
    let lines: Vec<String> = lines.into_iter().filter(|l| !noise(l)).collect();
    let text = lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n");
    let start = text
        .char_indices()
        .rev()
        .nth(CHARS_SHOWN)
        .map_or(0, |(at, _)| at);
    if text.is_empty() {
        String::new()
    } else {
        format!(":\n{}", &text[start..])
    }
}

fn environment(rule: &Build) -> Vec<(String, String)> {
    let passed = |name: &str| {
        let asked = PASSED.contains(&name) || rule.variables.iter().any(|p| name.starts_with(p));
        asked && !rule.withheld.iter().any(|withheld| withheld == name)
    };
    let mut all: Vec<(String, String)> =
        std::env::vars().filter(|(name, _)| passed(name)).collect();
    let own = [
        ("PATH", "/usr/local/bin:/usr/bin:/bin"),
        ("HOME", "/build/home"),
        ("TMPDIR", "/build/tmp"),
        ("LAYER", LAYER),
        ("CACHE", CACHE),
        ("REASON", REASON),
        ("LANG", "C.UTF-8"),
        ("PYTHONDONTWRITEBYTECODE", "1"),
        ("PYTHONHASHSEED", "0"),
        ("SOURCE_DATE_EPOCH", "0"),
    ];
    all.extend(own.map(|(name, value)| (name.to_owned(), value.to_owned())));
    all
}

/// The host's configuration files, and whatever else a variable that is passed on names by path.
fn host_files(rule: &Build) -> Vec<Mount> {
    let passed = environment(rule);
    let named = passed.iter().map(|(_, value)| value.as_str());
    let named = named.filter(|v| v.starts_with('/') && !v.contains(':'));
    let wanted = rule.host_files.iter().map(String::as_str);
    let system = |path: &&str| {
        ["/usr", "/build", "/cache"]
            .iter()
            .any(|s| path.starts_with(s))
    };
    let mut paths: Vec<&str> = Vec::new();
    for path in HOST_FILES.into_iter().chain(wanted).chain(named) {
        let inside_another = paths.iter().any(|known| Path::new(path).starts_with(known));
        if !system(&path) && !inside_another && Path::new(path).exists() {
            paths.push(path);
        }
    }
    let real = |path: &str| std::fs::canonicalize(path).unwrap_or_else(|_| path.into());
    paths
        .into_iter()
        .map(|path| Mount::read_only(real(path), path))
        .collect()
}

/// What a build in an image's root has of the host: files lie over the image's own where it has
/// some, and below [`HOST`] otherwise; variables name them there, and the image has its `PATH`.
fn within(
    root: &Root,
    mut env: Vec<(String, String)>,
    mounts: Vec<Mount>,
) -> (Vec<(String, String)>, Vec<Mount>) {
    let mut shown = Vec::new();
    for (name, value) in &mut env {
        if let Some((_, own)) = root.note.env.iter().find(|(own, _)| own == name)
            && name == "PATH"
        {
            value.clone_from(own);
        }
        let path = Path::new(value.as_str());
        let outside = ["/build", "/cache"].iter().any(|own| path.starts_with(own));
        if path.is_absolute() && !value.contains(':') && !outside && path.exists() {
            let target = Path::new(HOST).join(&value[1..]);
            let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
            shown.push(Mount::read_only(real, &target));
            *value = target.to_string_lossy().into_owned();
        }
    }
    for (name, value) in &root.note.env {
        if !env.iter().any(|(there, _)| there == name) {
            env.push((name.clone(), value.clone()));
        }
    }
    let kept = mounts.into_iter().filter(|mount| {
        let same = |real: PathBuf| real.is_dir() == mount.source.is_dir();
        !OVERLAID.contains(&mount.target.to_string_lossy().as_ref())
            && root.find(&mount.target).is_some_and(same)
    });
    shown.extend(kept);
    shown.sort_by(|a, b| a.target.cmp(&b.target));
    shown.dedup_by(|a, b| a.target.starts_with(&b.target));
    (env, shown)
}

/// Where a tool is inside the sandbox, and what is mounted for that: the file, or the whole
/// installation that it belongs to; nothing where the system's own folders have it.
fn show(tool: &Tool, path: &Path) -> (String, Option<Mount>) {
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if path.starts_with("/usr") {
        return (path.to_string_lossy().into_owned(), None);
    }
    if tool.alone {
        let shown = format!("/build-tool/{}", tool.name);
        let mount = Mount::read_only(path, &shown);
        return (shown, Some(mount));
    }
    let prefix = path.parent().and_then(Path::parent);
    let mount = prefix.map(|prefix| Mount::read_only(prefix, prefix));
    (path.to_string_lossy().into_owned(), mount)
}

fn limits() -> Limits {
    Limits {
        memory_bytes: Some(2 << 30),
        cpu_hundredths: None,
        processes: 256,
        open_files: 4096,
        file_bytes: 2 << 30,
        tmp_bytes: 256 << 20,
        address_space_bytes: None,
    }
}

/// A program of that name on `PATH`, with links followed.
fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|p| p.is_file())?;
    std::fs::canonicalize(found).ok()
}
