//! Packages of the operating system: those that the host lacks are unpacked into the layer; an
//! image has to have them.

use std::path::Path;
use std::process::Stdio;

use super::SystemPackage;
use crate::error::Failure;
use crate::oci::Root;

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
        let installed = installed(root, name).await;
        if installed.is_some_and(|installed| installed.starts_with(version.as_str())) {
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

async fn installed(root: Option<&Root>, name: &str) -> Option<String> {
    // An image's own database, read by the host's tool; nothing of the image is run.
    let database = match root {
        Some(root) => Some(root.find(Path::new("/var/lib/dpkg"))?),
        None => None,
    };
    let asked = tokio::process::Command::new("dpkg-query")
        .args(database.map(|path| format!("--admindir={}", path.display())))
        .args(["-W", "-f=${db:Status-Abbrev} ${Version}", name])
        .stdin(Stdio::null())
        .output()
        .await;
    let output = asked.ok().filter(|o| o.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.strip_prefix("ii ").map(|v| v.trim().to_owned())
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
}
