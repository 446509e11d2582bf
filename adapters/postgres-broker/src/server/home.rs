//! The directory of a dedicated server: copied from a template that initdb made once.
//!
//! initdb takes a second, a copy a tenth of it. Neither is synced as it goes; a new directory is
//! synced once, by `initdb --sync-only`, before its instance is reported to exist. Until then a
//! power loss costs nothing but a directory that is made again.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use tokio::io::AsyncReadExt;

use super::conf::{self, Endpoint};
use super::launcher::Launcher;
use super::{Error, Yard, io_error};
use crate::certificates::ADMIN_ROLE;
use crate::disk;
use crate::record::Spec;

/// How much of what a failed program said is reported.
const OUTPUT_BYTES_MAX: usize = 2_000;
/// Directories that are being made. No instance has such a name: ids do not begin with a dot.
const UNFINISHED: &str = ".unfinished-";

impl Yard {
    /// Where the files of a server are.
    pub(super) fn data(&self, instance_id: &str) -> PathBuf {
        self.directory.join(instance_id).join("data")
    }

    /// Makes the directory of a server, if it is not there.
    pub(super) async fn make_home(&self, instance_id: &str, durable: bool) -> Result<(), Error> {
        let data = self.data(instance_id);
        if data.exists() {
            return Ok(());
        }
        let template = self
            .template
            .get_or_try_init(|| self.make_template())
            .await?
            .clone();
        let home = self.directory.join(instance_id);
        let unfinished = home.join(unfinished_name());
        let (launcher, target) = (self.launcher, unfinished.clone());
        blocking(&unfinished, move || {
            disk::create_private_dir(&home)?;
            remove_unfinished(&home);
            copy_tree(&template, &target, launcher)
        })
        .await?;
        if durable {
            self.initdb(&unfinished, &["--sync-only"]).await?;
        }
        fs::rename(&unfinished, &data).map_err(io_error(&data))?;
        disk::sync_parent(&data).map_err(io_error(&data))
    }

    /// Writes the configuration of a server. Its certificate is made once.
    pub(super) async fn write_conf(
        &self,
        instance_id: &str,
        port: u16,
        spec: &Spec,
    ) -> Result<(), Error> {
        let data = self.data(instance_id);
        let endpoint = Endpoint {
            listen: self.config.listen,
            port,
        };
        let mut files = vec![
            (
                "postgresql.conf",
                conf::postgresql(instance_id, endpoint, &spec.backing),
            ),
            ("pg_hba.conf", conf::hba(spec)),
            ("ca.crt", self.authority.certificate().to_owned()),
        ];
        // Key before certificate, whose presence says that both are there.
        if !data.join("server.crt").exists() {
            let reached = super::reachable(self.config.listen).to_string();
            let mut names = vec!["localhost".to_owned(), reached, self.address(port).host];
            names.dedup();
            let pair = self.authority.server(&names)?;
            files.push(("server.key", pair.key.0));
            files.push(("server.crt", pair.certificate));
        }
        let launcher = self.launcher;
        let within = data.clone();
        blocking(&data, move || {
            for (name, content) in &files {
                let path = within.join(name);
                disk::write_atomically(&path, content.as_bytes())?;
                launcher.own(&path)?;
            }
            Ok(())
        })
        .await
    }

    /// Removes the directory of a server that has ended.
    pub(super) async fn remove_home(&self, instance_id: &str) -> Result<(), Error> {
        let home = self.directory.join(instance_id);
        let target = home.clone();
        blocking(&home, move || disk::remove_tree(&target)).await
    }

    async fn make_template(&self) -> Result<PathBuf, Error> {
        let template = self
            .directory
            .join(format!(".template-{}", self.binaries.version));
        if template.exists() {
            return Ok(template);
        }
        remove_unfinished(&self.directory);
        let unfinished = self.directory.join(unfinished_name());
        disk::create_private_dir(&unfinished).map_err(io_error(&unfinished))?;
        self.launcher
            .own(&unfinished)
            .map_err(io_error(&unfinished))?;
        let user = format!("--username={ADMIN_ROLE}");
        let options = [
            user.as_str(),
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--lc-messages=C",
            // A server starts with one segment of log: 4 MB to copy instead of 16.
            "--wal-segsize=4",
            "--auth=reject",
            "--no-sync",
            "--no-instructions",
        ];
        self.initdb(&unfinished, &options).await?;
        fs::rename(&unfinished, &template).map_err(io_error(&template))?;
        Ok(template)
    }

    async fn initdb(&self, data: &Path, options: &[&str]) -> Result<(), Error> {
        let mut child = self
            .launcher
            .command(data, &self.binaries.initdb)
            .args(options)
            .kill_on_drop(true)
            .spawn()
            .map_err(io_error(&self.binaries.initdb))?;
        let mut output = Vec::new();
        if let Some(mut stderr) = child.stderr.take() {
            stderr
                .read_to_end(&mut output)
                .await
                .map_err(io_error(data))?;
        }
        if child.wait().await.map_err(io_error(data))?.success() {
            return Ok(());
        }
        let start = output.len().saturating_sub(OUTPUT_BYTES_MAX);
        let output = String::from_utf8_lossy(&output[start..]).trim().to_owned();
        Err(Error::Program {
            program: "initdb",
            output,
        })
    }
}

/// A name for a directory that is being made. It is a new one each time, because an initdb may
/// outlive a broker that was killed, and go on writing for a moment.
fn unfinished_name() -> String {
    format!("{UNFINISHED}{}", uuid::Uuid::now_v7())
}

/// Removes what was never finished. What is still written to is left to the next time.
fn remove_unfinished(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED)
            && let Err(error) = disk::remove_tree(&entry.path())
        {
            tracing::debug!(path = %entry.path().display(), error = %error, "not removed");
        }
    }
}

fn copy_tree(from: &Path, to: &Path, launcher: Launcher) -> std::io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(to)?;
    launcher.own(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target, launcher)?;
        } else {
            fs::copy(entry.path(), &target)?;
            launcher.own(&target)?;
        }
    }
    Ok(())
}

/// Runs file work off the runtime's threads.
async fn blocking(
    path: &Path,
    work: impl FnOnce() -> std::io::Result<()> + Send + 'static,
) -> Result<(), Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(io_error(path)),
        Err(_) => Err(Error::Stopping),
    }
}
