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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::record::{Backing, Home, OperationKind, Operations, Spec, Stage};

    fn record(stage: Stage) -> Instance {
        Instance {
            id: "i".to_owned(),
            service_id: "s".to_owned(),
            organization: "o".to_owned(),
            space: "p".to_owned(),
            spec: Spec {
                plan_id: "plan".to_owned(),
                backing: Backing::Shared {
                    connections_max: None,
                    extensions: Vec::new(),
                },
                parameters: serde_json::Map::new(),
                maintenance_version: None,
            },
            home: Home::Shared,
            stage,
            operations: Operations::begun("op".to_owned(), OperationKind::Provision),
            bindings: BTreeMap::new(),
        }
    }

    #[test]
    fn a_record_whose_writing_ended_anywhere_is_the_one_before() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let before = record(Stage::Creating);
        store.save(&before).unwrap();
        let next = serde_json::to_vec(&record(Stage::Ready)).unwrap();
        for written in 0..=next.len() {
            let half = directory.path().join("instances/i.json.tmp");
            fs::write(&half, &next[..written]).unwrap();
            assert_eq!(store.load().unwrap()["i"], before, "{written} bytes");
        }
        let after = record(Stage::Ready);
        store.save(&after).unwrap();
        assert_eq!(store.load().unwrap()["i"], after);
    }

    #[test]
    fn records_of_an_earlier_version_are_read() {
        let old = r#"{"id":"i","service_id":"s","organization":"o","space":"p","spec":{"plan_id":
            "plan","backing":{"kind":"shared"},"parameters":{},"maintenance_version":null},"home":
            "shared","stage":"creating","operations":[{"id":"op","kind":"provision","state":
            "in_progress"}],"bindings":{"b":{"id":"b","parameters":{},"bind_resource":{},
            "password":"p","stage":"ready","operations":[{"id":"x","kind":"bind","state":
            "succeeded"}]}}}"#;
        let mut read: Instance = serde_json::from_str(old).unwrap();
        let binding = read.bindings.remove("b").unwrap();
        assert_eq!((binding.validity, binding.predecessor), (None, None));
        assert_eq!(read, record(Stage::Creating));
    }
}
