//! Packages of the operating system: those that the host lacks are unpacked into the layer; an
//! image has to have them.

use std::path::{Path, PathBuf};

use super::SystemPackage;
use crate::error::Failure;
use crate::oci::Root;
use crate::packs::untrusted;

/// Where dpkg keeps what is installed.
const STATUS: &str = "/var/lib/dpkg/status";
/// What of it is read: more than any machine with all of Debian's desktops has.
const STATUS_BYTES_MAX: u64 = 64 << 20;

/// What fetches and unpacks them, in the build sandbox; the folder is the one of
/// [`crate::blueprint::PACKAGES`].
pub(super) const SCRIPT: &str = include_str!("packages.sh");
/// What `apt-get` reads.
pub(super) const HOST_FILES: [&str; 4] = [
    "/etc/apt",
    "/var/lib/apt/lists",
    "/var/lib/dpkg/status",
    "/etc/dpkg",
];

/// Those of the packages that the host does not have in their version, as `apt-get` names them.
/// What the root of an image does not have is refused.
pub(super) async fn missing(
    root: Option<&Root>,
    packages: &[SystemPackage],
) -> Result<Vec<String>, Failure> {
    let mut missing = Vec::new();
    if packages.is_empty() {
        return Ok(missing);
    }
    let installed = installed(root).await?;
    for SystemPackage { name, version } in packages {
        let letter = |c: char| c.is_ascii_alphanumeric() || "+-.:_~".contains(c);
        for (what, text) in [("name", name), ("version", version)] {
            let empty = text.is_empty() && what == "name";
            if empty || text.starts_with('-') || !text.chars().all(letter) {
                return Err(Failure::of(format!(
                    "{text:?} is not the {what} of a system package"
                )));
            }
        }
        if installed.has(name, version) {
            continue;
        }
        if root.is_some() {
            return Err(Failure::of(format!(
                "system package {name} {version} is not in the image: build an image that has it"
            )));
        }
        missing.push(match version.as_str() {
            "" => name.clone(),
            version => format!("{name}={version}*"),
        });
    }
    Ok(missing)
}

/// What is installed, by the database of dpkg: an image's own, or the host's. It is only read:
/// nothing of an image is run, and no tool of the host is given an image's files.
async fn installed(root: Option<&Root>) -> Result<Database, Failure> {
    let path = match root {
        Some(root) => root.find(Path::new(STATUS)),
        None => Some(PathBuf::from(STATUS)),
    };
    let Some(path) = path else {
        return Ok(Database::default());
    };
    let read = tokio::task::spawn_blocking(move || untrusted::read(&path, STATUS_BYTES_MAX)).await;
    let read = read.map_err(|e| Failure::now(format!("failed to read {STATUS}: {e}")))?;
    Ok(Database::parse(&String::from_utf8_lossy(
        &read.unwrap_or_default(),
    )))
}

/// Name, architecture and version of every package that is installed.
#[derive(Debug, Default)]
struct Database(Vec<[String; 3]>);

impl Database {
    fn parse(text: &str) -> Self {
        let stanzas = text.split("\n\n").filter_map(|stanza| {
            let field = |name: &str| {
                let values = stanza.lines().filter_map(|line| line.split_once(':'));
                let value = values.into_iter().find(|(key, _)| *key == name);
                value.map(|(_, value)| value.trim().to_owned())
            };
            let is_there = field("Status")?.ends_with(" ok installed");
            let package = [
                field("Package")?,
                field("Architecture").unwrap_or_default(),
                field("Version")?,
            ];
            is_there.then_some(package)
        });
        Self(stanzas.collect())
    }

    /// Whether there is a package of that name, or `name:architecture`, whose version begins so.
    fn has(&self, name: &str, version: &str) -> bool {
        let (name, architecture) = match name.split_once(':') {
            Some((name, architecture)) => (name, Some(architecture)),
            None => (name, None),
        };
        self.0.iter().any(|[package, arch, there]| {
            package == name
                && architecture.is_none_or(|wanted| wanted == arch)
                && there.starts_with(version)
        })
    }
}

/// Why they are not there, and what a node's owner can do about it.
pub(super) fn absent(packages: &[String], why: &str) -> Failure {
    Failure::of(format!(
        "the system packages {0} are not installed on this node, and could not be fetched; \
         to install them: apt-get install {0}{why}",
        packages.join(" ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_the_host_has_in_another_version_or_not_at_all_is_missing() {
        let package = |name: &str, version: &str| {
            [SystemPackage {
                name: name.into(),
                version: version.into(),
            }]
        };
        assert_eq!(missing(None, &package("libc6", "")).await, Ok(Vec::new()));
        for (name, version, named) in [
            ("libc6", "0.0", "libc6=0.0*"),
            ("no-such-package", "", "no-such-package"),
        ] {
            let found = missing(None, &package(name, version)).await;
            assert_eq!(found, Ok(vec![named.to_owned()]));
        }
        for (name, version) in [
            ("", "1"),
            ("-x", ""),
            ("x", "-o"),
            ("x y", ""),
            ("x", "$(y)"),
        ] {
            assert!(
                missing(None, &package(name, version)).await.is_err(),
                "{name}"
            );
        }
    }

    #[test]
    fn a_package_is_there_only_when_the_database_says_that_it_is_installed() {
        let text = "Package: one\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:2.3\n\
                    Description: x\n Version: 9\n\n\
                    Package: two\nStatus: deinstall ok config-files\nVersion: 1\n\n\
                    Package: three\nStatus: hold ok installed\nVersion: 4\n";
        let database = Database::parse(text);
        for (name, version) in [
            ("one", ""),
            ("one", "1:2"),
            ("one:amd64", "1"),
            ("three", "4"),
        ] {
            assert!(database.has(name, version), "{name} {version}");
        }
        for (name, version) in [("one", "9"), ("one:arm64", ""), ("two", ""), ("on", "")] {
            assert!(!database.has(name, version), "{name} {version}");
        }
    }
}
