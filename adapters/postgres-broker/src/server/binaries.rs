//! Where the PostgreSQL programs are.

use std::path::{Path, PathBuf};

use super::{Error, io_error};

/// Where Debian installs them, by version.
const DEBIAN_ROOT: &str = "/usr/lib/postgresql";

#[derive(Debug)]
pub(super) struct Binaries {
    pub(super) postgres: PathBuf,
    pub(super) initdb: PathBuf,
    /// As in "15.18": names the template that fits.
    pub(super) version: String,
}

impl Binaries {
    /// The given directory; else PATH; else the highest version that Debian has installed.
    pub(super) async fn find(given: Option<&Path>) -> Result<Self, Error> {
        let candidates = match given {
            Some(directory) => vec![directory.to_owned()],
            None => on_path()
                .into_iter()
                .chain(debian_versions(Path::new(DEBIAN_ROOT)))
                .collect(),
        };
        let found = candidates.iter().find(|directory| {
            directory.join("postgres").is_file() && directory.join("initdb").is_file()
        });
        let Some(directory) = found else {
            let searched = given.map_or_else(
                || format!("PATH and {DEBIAN_ROOT}/*/bin"),
                |directory| directory.display().to_string(),
            );
            return Err(Error::NoBinaries { searched });
        };
        let postgres = directory.join("postgres");
        Ok(Self {
            version: version(&postgres).await?,
            initdb: directory.join("initdb"),
            postgres,
        })
    }
}

fn on_path() -> Vec<PathBuf> {
    std::env::var_os("PATH")
        .map(|path| std::env::split_paths(&path).collect())
        .unwrap_or_default()
}

fn debian_versions(root: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    versions.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    versions.into_iter().map(|(_, path)| path).collect()
}

async fn version(postgres: &Path) -> Result<String, Error> {
    let output = tokio::process::Command::new(postgres)
        .arg("--version")
        .output()
        .await;
    let output = output.map_err(io_error(postgres))?;
    let text = String::from_utf8_lossy(&output.stdout);
    // "postgres (PostgreSQL) 15.18 (Debian …)"
    let version = text
        .split_whitespace()
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    version.map(str::to_owned).ok_or_else(|| Error::Program {
        program: "postgres --version",
        output: text.trim().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_version_comes_first_by_number() {
        let root = tempfile::tempdir().unwrap();
        for name in ["9", "15", "17", "common"] {
            std::fs::create_dir(root.path().join(name)).unwrap();
        }
        let found = debian_versions(root.path());
        let names: Vec<_> = found
            .iter()
            .map(|path| path.strip_prefix(root.path()).unwrap())
            .collect();
        assert_eq!(names, ["17/bin", "15/bin", "9/bin"].map(Path::new));
    }
}
