//! Packages of the operating system: a base image that is the host has the host's.

use std::process::Stdio;

use super::SystemPackage;
use crate::error::Failure;

/// Whether every package is there in its version.
pub(super) async fn check(packages: &[SystemPackage]) -> Result<(), Failure> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_system_package_must_be_there_in_that_version() {
        let package = |name: &str, version: &str| {
            [SystemPackage {
                name: name.into(),
                version: version.into(),
            }]
        };
        assert_eq!(check(&package("libc6", "")).await, Ok(()));
        for (name, version) in [
            ("libc6", "0.0"),
            ("no-such-package", ""),
            ("", "1"),
            ("-x", ""),
        ] {
            assert!(check(&package(name, version)).await.is_err(), "{name}");
        }
    }
}
