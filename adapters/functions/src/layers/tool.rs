//! A build tool in a sandbox: host network, its own folder and cache, a time limit, a bounded log.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use adapter_sandbox::{Launcher, Limits, Mount, Network, Process, Spec};
use tokio::time::Instant;

use super::SystemPackage;
use crate::blueprint::interpreter_mount;
use crate::config::Tools;
use crate::error::{Failure, chain};
use crate::language::BaseImage;
use crate::logs::Capture;
use crate::port::Pipe;

/// The build folder inside the sandbox.
pub(super) const BUILD: &str = "/build";
/// The folder that becomes the layer, inside the sandbox.
pub(super) const LAYER: &str = "/build/layer";
/// The tools' download cache inside the sandbox.
pub(super) const CACHE: &str = "/cache";

/// What of a failed tool's output is shown.
const LINES_SHOWN: usize = 10;
const CHARS_SHOWN: usize = 2000;

/// Variables by which people tell the tools where their registries are and how to reach them.
const PASSED_PREFIXES: [&str; 4] = ["PIP_", "UV_", "npm_config_", "NPM_CONFIG_"];
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
/// Variables that would send the tool's result elsewhere, or change what is built.
const KEPT_BACK: [&str; 12] = [
    "PIP_TARGET",
    "PIP_PREFIX",
    "PIP_ROOT",
    "PIP_USER",
    "PIP_REQUIRE_VIRTUALENV",
    "PIP_PYTHON",
    "PIP_CACHE_DIR",
    "PIP_NO_BINARY",
    "PIP_LOG",
    "UV_CACHE_DIR",
    "UV_PYTHON",
    "UV_TARGET",
];
/// Configuration files of the tools under the home directory.
const HOME_FILES: [&str; 4] = [
    ".config/pip/pip.conf",
    ".pip/pip.conf",
    ".config/uv/uv.toml",
    ".npmrc",
];
/// What the host has for them, and for reaching anything at all; mounted where it is.
const HOST_FILES: [&str; 9] = [
    "/etc/pip.conf",
    "/etc/uv",
    "/etc/npmrc",
    "/etc/ssl",
    "/etc/ca-certificates",
    "/etc/pki",
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
];

/// Where a layer is built.
pub(super) struct Room<'a> {
    pub(super) launcher: &'a Launcher,
    pub(super) tools: &'a Tools,
    pub(super) base: &'a BaseImage,
    /// The build folder on the host.
    pub(super) folder: &'a Path,
    pub(super) cache: &'a Path,
    pub(super) timeout: Duration,
}

impl Room<'_> {
    /// Lays out the build folder: an empty layer, a home with the tools' configuration.
    pub(super) fn furnish(&self) -> Result<(), Failure> {
        let failed = |e| Failure::io("prepare a build folder", &e);
        for name in ["layer", "home", "tmp"] {
            std::fs::create_dir_all(self.folder.join(name)).map_err(failed)?;
        }
        let Some(home) = std::env::var_os("HOME").map(PathBuf::from) else {
            return Ok(());
        };
        for name in HOME_FILES {
            let Ok(content) = std::fs::read(home.join(name)) else {
                continue;
            };
            let copy = self.folder.join("home").join(name);
            std::fs::create_dir_all(copy.parent().expect("it is in home")).map_err(failed)?;
            std::fs::write(copy, content).map_err(failed)?;
        }
        Ok(())
    }

    pub(super) fn write(&self, name: &str, text: &str) -> Result<(), Failure> {
        let failed = |e| Failure::io("write a manifest", &e);
        std::fs::write(self.folder.join(name), text).map_err(failed)
    }

    /// Runs one command of a tool to its end.
    pub(super) async fn run(
        &self,
        tool: &str,
        program: &Path,
        arguments: &[&str],
        extra: Vec<Mount>,
        network: Network,
    ) -> Result<(), Failure> {
        let mut spec = Spec::new(program);
        spec.args = arguments.iter().map(|&a| a.to_owned()).collect();
        spec.env = environment();
        spec.cwd = LAYER.into();
        spec.hostname = "build".into();
        spec.network = network;
        spec.limits = limits();
        spec.mounts.extend(interpreter_mount(self.base));
        spec.mounts.extend(extra);
        spec.mounts.extend(host_files(&spec.env));
        spec.mounts.push(Mount::read_write(self.folder, BUILD));
        spec.mounts.push(Mount::read_write(self.cache, CACHE));
        let launcher = self.launcher.clone();
        let spawned = tokio::task::spawn_blocking(move || launcher.spawn(&spec)).await;
        let sandboxed = spawned
            .map_err(|e| Failure::now(format!("failed to start {tool}: {e}")))?
            .map_err(|e| Failure::now(format!("failed to start {tool}: {}", chain(&e))))?;
        let failed = |e| Failure::io("follow a build tool", &e);
        let out = Pipe::new(sandboxed.stdout).map_err(failed)?;
        let err = Pipe::new(sandboxed.stderr).map_err(failed)?;
        self.follow(tool, sandboxed.process, [out, err]).await
    }

    async fn follow(&self, tool: &str, process: Process, pipes: [Pipe; 2]) -> Result<(), Failure> {
        let deadline = Instant::now() + self.timeout;
        let [mut out, mut err] = pipes;
        let (mut log, mut scratch) = (Capture::default(), Vec::new());
        while !(out.is_closed() && err.is_closed()) {
            let ready = tokio::select! {
                () = out.readable() => &mut out,
                () = err.readable() => &mut err,
                () = tokio::time::sleep_until(deadline) => break,
            };
            ready.drain(&mut log, &mut scratch, 1);
        }
        if Instant::now() >= deadline {
            // Dropping the process kills it.
            let limit = self.timeout;
            return Err(Failure::of(format!(
                "{tool} did not finish within {limit:?}{}",
                last(log)
            )));
        }
        let ended = tokio::task::spawn_blocking(move || process.wait()).await;
        match ended {
            Ok(Ok(exit)) if exit.success() => Ok(()),
            Ok(Ok(exit)) => Err(Failure::of(format!("{tool} {exit}{}", last(log)))),
            Ok(Err(e)) => Err(Failure::now(format!(
                "failed to wait for {tool}: {}",
                chain(&e)
            ))),
            Err(e) => Err(Failure::now(format!("failed to wait for {tool}: {e}"))),
        }
    }
}

/// The tool's last words, without what a URL may hold of passwords.
fn last(log: Capture) -> String {
    let noise = |line: &String| {
        line.trim().is_empty()
            || line.contains("complete log of this run")
            || line.starts_with("npm notice")
    };
    let lines: Vec<String> = log.into_lines().into_iter().filter(|l| !noise(l)).collect();
    let text = lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n");
    let start = text
        .char_indices()
        .rev()
        .nth(CHARS_SHOWN)
        .map_or(0, |(at, _)| at);
    if text.is_empty() {
        String::new()
    } else {
        format!(":\n{}", without_passwords(&text[start..]))
    }
}

fn without_passwords(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        plain.push_str(before);
        let authority = after
            .find(|c: char| c == '/' || c.is_whitespace())
            .unwrap_or(after.len());
        let user = after[..authority].rfind('@').map_or(0, |end| end + 1);
        if user > 0 {
            plain.push_str("***@");
        }
        rest = &after[user..];
    }
    plain + rest
}

fn environment() -> Vec<(String, String)> {
    let passed = |name: &str| {
        let asked = PASSED.contains(&name) || PASSED_PREFIXES.iter().any(|p| name.starts_with(p));
        asked && !KEPT_BACK.contains(&name)
    };
    let mut all: Vec<(String, String)> =
        std::env::vars().filter(|(name, _)| passed(name)).collect();
    let own = [
        ("PATH", "/usr/local/bin:/usr/bin:/bin"),
        ("HOME", "/build/home"),
        ("TMPDIR", "/build/tmp"),
        ("LANG", "C.UTF-8"),
        ("PYTHONDONTWRITEBYTECODE", "1"),
        ("PYTHONHASHSEED", "0"),
        ("SOURCE_DATE_EPOCH", "0"),
    ];
    all.extend(own.map(|(name, value)| (name.to_owned(), value.to_owned())));
    all
}

/// The host's configuration files, and whatever else a variable names by path.
fn host_files(env: &[(String, String)]) -> Vec<Mount> {
    let named = env
        .iter()
        .map(|(_, value)| value.as_str())
        .filter(|v| v.starts_with('/'));
    let system = |path: &&str| {
        ["/usr", "/build", "/cache"]
            .iter()
            .any(|s| path.starts_with(s))
    };
    let mut paths: Vec<&str> = Vec::new();
    for path in HOST_FILES.into_iter().chain(named).filter(|p| !system(p)) {
        let inside_another = paths.iter().any(|known| Path::new(path).starts_with(known));
        if !inside_another && !path.contains(':') && Path::new(path).exists() {
            paths.push(path);
        }
    }
    let real = |path: &str| std::fs::canonicalize(path).unwrap_or_else(|_| path.into());
    paths
        .into_iter()
        .map(|path| Mount::read_only(real(path), path))
        .collect()
}

fn limits() -> Limits {
    Limits {
        memory_bytes: Some(2 << 30),
        processes: 256,
        open_files: 4096,
        file_bytes: 2 << 30,
        tmp_bytes: 256 << 20,
        address_space_bytes: None,
    }
}

/// A base image that is the host has the host's packages, and cannot be given others.
pub(super) async fn check_system_packages(packages: &[SystemPackage]) -> Result<(), Failure> {
    for SystemPackage { name, version } in packages {
        let letter = |c: char| c.is_ascii_alphanumeric() || "+-.:_".contains(c);
        if name.is_empty() || name.starts_with('-') || !name.chars().all(letter) {
            return Err(Failure::of(format!(
                "{name:?} is not the name of a system package"
            )));
        }
        let asked = tokio::process::Command::new("dpkg-query")
            .args(["-W", "-f=${db:Status-Abbrev} ${Version}", name])
            .stdin(Stdio::null())
            .output()
            .await;
        let found = asked.ok().filter(|o| o.status.success());
        let found = found
            .and_then(|o| String::from_utf8(o.stdout).ok())
            .unwrap_or_default();
        let Some(installed) = found.strip_prefix("ii ").map(str::trim) else {
            return Err(Failure::of(format!(
                "system package {name} is not installed on this node, \
                 and a base image that is the host's interpreter cannot install it"
            )));
        };
        if !installed.starts_with(version.as_str()) {
            return Err(Failure::of(format!(
                "system package {name} is installed in version {installed}, not {version}"
            )));
        }
    }
    Ok(())
}

/// A program of that name on `PATH`, with links followed.
pub(super) fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|p| p.is_file())?;
    std::fs::canonicalize(found).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_in_urls_are_not_repeated() {
        let said = "Looking in https://joe:s3cret@host/simple, http://host/x and ftp://t0ken@h";
        let plain = without_passwords(said);
        assert_eq!(
            plain,
            "Looking in https://***@host/simple, http://host/x and ftp://***@h"
        );
    }

    #[tokio::test]
    async fn a_system_package_must_be_there_in_that_version() {
        let package = |name: &str, version: &str| {
            [SystemPackage {
                name: name.into(),
                version: version.into(),
            }]
        };
        assert_eq!(check_system_packages(&package("libc6", "")).await, Ok(()));
        for (name, version) in [
            ("libc6", "0.0"),
            ("no-such-package", ""),
            ("", "1"),
            ("-x", ""),
        ] {
            assert!(
                check_system_packages(&package(name, version))
                    .await
                    .is_err(),
                "{name}"
            );
        }
    }
}
