//! Where a server keeps everything, and that only one server uses it.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long a server that is ending may hold the directory.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// The data directory.
#[derive(Debug, Clone)]
pub(crate) struct Home(PathBuf);

/// Held while a server uses the directory.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Home {
    /// The directory that `destination` names, else the default one; made if it is not there,
    /// for its owner only.
    pub(crate) fn open(destination: Option<PathBuf>) -> Result<Self> {
        let path = match destination {
            Some(path) => path,
            None => crate::config::home()?,
        };
        let what = || format!("cannot use {} as the data directory", path.display());
        if !path.is_dir() {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&path)
                .with_context(what)?;
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).with_context(what)?;
        Ok(Self(path.canonicalize().with_context(what)?))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The client's configuration file.
    pub(crate) fn config(&self) -> PathBuf {
        self.0.join("config.json")
    }

    /// The server's configuration file.
    pub(crate) fn settings(&self) -> PathBuf {
        self.0.join("server.yaml")
    }

    /// The vault's master keys.
    pub(crate) fn master_key(&self) -> PathBuf {
        self.0.join("keys/master.key")
    }

    /// The bearer token of the first service account.
    pub(crate) fn token(&self) -> PathBuf {
        self.0.join("credentials/token")
    }

    /// NATS credentials of a user.
    pub(crate) fn nats_user(&self, user: &str) -> PathBuf {
        self.0.join(format!("credentials/nats-{user}.json"))
    }

    /// Ports that were chosen once and are kept, so that clients find the server again.
    pub(crate) fn ports(&self) -> PathBuf {
        self.0.join("ports.json")
    }

    /// The embedded NATS server's files.
    pub(crate) fn nats(&self) -> PathBuf {
        self.0.join("nats")
    }

    /// The views.
    pub(crate) fn views(&self) -> PathBuf {
        self.0.join("views")
    }

    /// Layers and other things of workers that can be made again.
    pub(crate) fn functions(&self) -> PathBuf {
        self.0.join("functions")
    }

    /// Certificates of the gateway and the REST API.
    pub(crate) fn certificates(&self) -> PathBuf {
        self.0.join("certificates")
    }

    /// Takes the directory for this process.
    pub(crate) fn lock(&self) -> Result<Lock> {
        let path = self.0.join("lock");
        let file = File::options().create(true).append(true).open(&path);
        let file = file.with_context(|| format!("cannot open {}", path.display()))?;
        let deadline = Instant::now() + LOCK_PATIENCE;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Lock { _file: file }),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(TryLockError::WouldBlock) => bail!(
                    "another dispatch runs in {}; stop it, or choose another --destination",
                    self.0.display()
                ),
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("cannot lock {}", path.display()));
                }
            }
        }
    }
}
