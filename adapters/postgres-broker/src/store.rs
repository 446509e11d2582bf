//! The state directory: one file per instance, written whole or not at all, readable by us alone.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::disk;
use crate::record::Instance;

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another broker uses it.
    #[error("lock {}: another broker uses it", path.display())]
    InUse {
        /// The lock file.
        path: PathBuf,
    },
    /// Reading or writing failed.
    #[error("access {}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A record is not what this version writes.
    #[error("read the record {}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// The records of one broker. The directory is locked as long as this lives.
#[derive(Debug)]
pub(crate) struct Store {
    instances: PathBuf,
    _lock: File,
}

impl Store {
    /// Locks the directory, making it if need be.
    pub(crate) fn open(state_dir: &Path) -> Result<Self, Error> {
        let instances = state_dir.join("instances");
        disk::create_private_dir(&instances).map_err(io_error(&instances))?;
        let path = state_dir.join("lock");
        let lock = File::create(&path).map_err(io_error(&path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                instances,
                _lock: lock,
            }),
            Err(fs::TryLockError::WouldBlock) => Err(Error::InUse { path }),
            Err(fs::TryLockError::Error(source)) => Err(Error::Io { path, source }),
        }
    }

    /// All records. A record that cannot be read is an error: to go on without it would be to
    /// forget a database.
    pub(crate) fn load(&self) -> Result<HashMap<String, Instance>, Error> {
        let mut records = HashMap::new();
        for entry in fs::read_dir(&self.instances).map_err(io_error(&self.instances))? {
            let path = entry.map_err(io_error(&self.instances))?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "json")
            {
                let text = fs::read(&path).map_err(io_error(&path))?;
                let record: Instance =
                    serde_json::from_slice(&text).map_err(|source| Error::Record {
                        path: path.clone(),
                        source,
                    })?;
                records.insert(record.id.clone(), record);
            }
        }
        Ok(records)
    }

    /// Writes a record; when this returns it is durable.
    pub(crate) fn save(&self, record: &Instance) -> Result<(), Error> {
        let path = self.path(&record.id);
        let text = serde_json::to_vec(record).map_err(|source| Error::Record {
            path: path.clone(),
            source,
        })?;
        disk::write_atomically(&path, &text).map_err(io_error(&path))
    }

    /// Forgets a record.
    pub(crate) fn remove(&self, id: &str) -> Result<(), Error> {
        let path = self.path(id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(&path)(error)),
            _ => Ok(()),
        }
    }

    fn path(&self, id: &str) -> PathBuf {
        self.instances.join(format!("{id}.json"))
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_owned();
    |source| Error::Io { path, source }
}
