//! The database: opened, moved aside when it is corrupt, and its trees by generation.
//!
//! A rebuild folds into a tree of the next generation beside the one that answers, and then the
//! default tree is told which one counts. What no generation counts is dropped at the next start.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tracing::{error, info};

use crate::Error;
use crate::error::corrupt;

/// How many corrupt databases may lie aside before a new one takes the place of the last.
const ASIDE_MAX: u32 = 100;

/// Bytes of page cache. The views are looked up by key, and the followers keep what they fold.
const CACHE_BYTES: u64 = 32 * 1024 * 1024;

/// How long whoever had the database open may take to let go of it: sled's own threads do so a moment
/// after its last user did.
const LET_GO_MAX: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Which stream a tree folds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Events,
    Runs,
}

impl Stream {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Runs => "runs",
        }
    }
}

/// The database of the views.
#[derive(Clone)]
pub(crate) struct Store {
    db: sled::Db,
}

impl Store {
    /// Opens the database in `path`. One that is corrupt is moved aside and a new one begun.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        match Self::try_open(path) {
            Ok(store) => Ok(store),
            Err(reason) if reason.is_corruption() => {
                let aside = move_aside(path)?;
                error!(
                    path = %path.display(),
                    aside = %aside.display(),
                    reason = %source(&reason),
                    "views corrupt, moved aside, rebuilding from the streams"
                );
                Self::try_open(path)
            }
            Err(reason) => Err(reason),
        }
    }

    fn try_open(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Open {
            path: path.to_owned(),
            source,
        };
        let config = sled::Config::new().path(path).cache_capacity(CACHE_BYTES);
        // Some damage makes the database panic instead of saying so.
        let open = || {
            catch_unwind(AssertUnwindSafe(|| config.open()))
                .unwrap_or_else(|_| Err(sled::Error::Corruption { at: None, bt: () }))
        };
        let deadline = Instant::now() + LET_GO_MAX;
        let mut opened = open();
        while opened.as_ref().is_err_and(is_locked) && Instant::now() < deadline {
            std::thread::sleep(LOOK_AGAIN);
            opened = open();
        }
        let store = Self {
            db: opened.map_err(failed)?,
        };
        store.drop_unused().map_err(failed)?;
        Ok(store)
    }

    /// The tree that counts for `stream`.
    pub(crate) fn tree(&self, stream: Stream) -> Result<sled::Tree, Error> {
        Ok(self.db.open_tree(name(stream, self.generation(stream)?))?)
    }

    /// An empty tree of the next generation.
    pub(crate) fn next_tree(&self, stream: Stream) -> Result<sled::Tree, Error> {
        let name = name(stream, self.generation(stream)? + 1);
        self.db.drop_tree(&name)?;
        Ok(self.db.open_tree(name)?)
    }

    /// Makes the next generation count. The old tree stays for those who read it still, until
    /// the next rebuild or the next start.
    pub(crate) fn promote(&self, stream: Stream) -> Result<(), Error> {
        let generation = self.generation(stream)?;
        self.db
            .insert(stream.as_str(), &(generation + 1).to_be_bytes())?;
        if let Some(before) = generation.checked_sub(1) {
            self.db.drop_tree(name(stream, before))?;
        }
        Ok(())
    }

    /// Writes everything to disk.
    pub(crate) async fn flush(&self) -> Result<(), Error> {
        self.db.flush_async().await?;
        Ok(())
    }

    fn generation(&self, stream: Stream) -> Result<u64, sled::Error> {
        let stored = self.db.get(stream.as_str())?;
        let read = |bytes: sled::IVec| Some(u64::from_be_bytes(bytes.as_ref().try_into().ok()?));
        Ok(stored.and_then(read).unwrap_or(0))
    }

    fn drop_unused(&self) -> Result<(), sled::Error> {
        let mut used = vec!["__sled__default".to_owned()];
        for stream in [Stream::Events, Stream::Runs] {
            used.push(name(stream, self.generation(stream)?));
        }
        for tree in self.db.tree_names() {
            if !used.iter().any(|name| name.as_bytes() == tree.as_ref()) {
                info!(tree = %String::from_utf8_lossy(&tree), "dropping an unused tree");
                self.db.drop_tree(tree)?;
            }
        }
        Ok(())
    }
}

/// Whether somebody has the database open: sled tells it in words only.
fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(reason) if reason.to_string().contains("could not acquire lock"))
}

fn name(stream: Stream, generation: u64) -> String {
    format!("{}.{generation}", stream.as_str())
}

fn move_aside(path: &Path) -> Result<PathBuf, Error> {
    let aside = |n: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".corrupt-{n}"));
        PathBuf::from(name)
    };
    let free = (1..ASIDE_MAX).map(aside).find(|path| !path.exists());
    let target = free.unwrap_or_else(|| aside(ASIDE_MAX));
    let failed = |source| Error::MoveAside {
        path: path.to_owned(),
        source,
    };
    if target.exists() {
        std::fs::remove_dir_all(&target).map_err(failed)?;
    }
    std::fs::rename(path, &target).map_err(failed)?;
    Ok(target)
}

fn source(error: &Error) -> String {
    match error {
        Error::Open { source, .. } | Error::Store(source) if corrupt(source) => source.to_string(),
        other => other.to_string(),
    }
}
