//! Which parts of the host every sandbox shows, found once.

use std::fs;
use std::path::{Path, PathBuf};

/// Top-level directories of programs and libraries; on most systems links into `/usr`.
const TOP: &[&str] = &["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];
/// What interpreters and libraries read of `/etc`, and nothing that is the host's business.
const ETC: &[&str] = &[
    "ld.so.cache",
    "localtime",
    "timezone",
    "os-release",
    "services",
    "protocols",
    "mime.types",
    "alternatives",
    "ssl/certs",
    "ssl/openssl.cnf",
    "pki/tls/certs",
    "pki/ca-trust/extracted",
];
/// The same for directories whose names bear a version.
const ETC_PREFIXES: &[&str] = &["java-", "python3"];
/// What finding hosts needs, where the host's network is to be seen.
const ETC_NETWORK: &[&str] = &["resolv.conf", "hosts", "nsswitch.conf", "gai.conf"];
/// What is there besides.
const OWN_DIRECTORIES: &[&str] = &["/dev/shm", "/etc", "/proc", "/run", "/tmp", "/var"];
/// The harmless devices.
pub(super) const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom"];

/// The host's parts, by their places inside.
pub(crate) struct System {
    /// Directories to be made first, each after the one that holds it.
    pub(super) directories: Vec<PathBuf>,
    pub(super) shown: Vec<Shown>,
    pub(super) network: Vec<Shown>,
    /// Links to be made anew: place and target.
    pub(super) links: Vec<(PathBuf, PathBuf)>,
}

/// A file or directory of the host that is mounted read-only.
pub(super) struct Shown {
    /// Its place inside.
    pub(super) target: PathBuf,
    /// Its place on the host, free of links.
    pub(super) source: PathBuf,
    pub(super) directory: bool,
}

impl System {
    /// Looks at the host.
    pub(crate) fn find() -> Self {
        let mut system = Self {
            directories: Vec::new(),
            shown: Vec::new(),
            network: Vec::new(),
            links: Vec::new(),
        };
        system.shown.extend(Shown::find(Path::new("/usr")));
        for path in TOP.iter().map(Path::new) {
            system.add(path);
        }
        let etc = Path::new("/etc");
        for name in ETC {
            system.add(&etc.join(name));
        }
        for entry in fs::read_dir(etc).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if ETC_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
                system.add(&entry.path());
            }
        }
        system.network = ETC_NETWORK
            .iter()
            .filter_map(|n| Shown::find(&etc.join(n)))
            .collect();
        system.note_directories();
        system
    }

    fn note_directories(&mut self) {
        let shown = self.shown.iter().chain(&self.network);
        let places = shown.map(|shown| (shown.target.as_path(), shown.directory));
        let links = self.links.iter().map(|(place, _)| (place.as_path(), false));
        let own = OWN_DIRECTORIES.iter().map(|path| (Path::new(path), true));
        for (path, itself) in own.chain(places).chain(links) {
            let path = if itself { Some(path) } else { path.parent() };
            let mut missing: Vec<_> = path.into_iter().flat_map(Path::ancestors).collect();
            missing.retain(|path| path.parent().is_some());
            for path in missing.into_iter().rev().map(Path::to_owned) {
                if !self.directories.contains(&path) {
                    self.directories.push(path);
                }
            }
        }
    }

    /// A link into `/usr` stays one; all else that exists is shown.
    fn add(&mut self, path: &Path) {
        match fs::read_link(path) {
            Ok(to) if fs::canonicalize(path).is_ok_and(|real| real.starts_with("/usr")) => {
                self.links.push((path.to_owned(), to));
            }
            _ => self.shown.extend(Shown::find(path)),
        }
    }
}

impl Shown {
    fn find(target: &Path) -> Option<Self> {
        let source = fs::canonicalize(target).ok()?;
        let directory = source.is_dir();
        Some(Self {
            target: target.to_owned(),
            source,
            directory,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_directory_comes_once_and_after_the_one_that_holds_it() {
        let system = System::find();
        for (index, path) in system.directories.iter().enumerate() {
            let before = &system.directories[..index];
            assert!(!before.contains(path));
            let parent = path.parent().unwrap();
            assert!(parent == Path::new("/") || before.iter().any(|earlier| earlier == parent));
        }
        let there = |path: &Path| system.directories.iter().any(|directory| directory == path);
        for shown in &system.shown {
            assert!(there(if shown.directory {
                &shown.target
            } else {
                shown.target.parent().unwrap()
            }));
        }
    }
}
