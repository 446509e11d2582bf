//! The rows of one view: a cache in front of the tree for the fold, and a reader for queries.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::marker::PhantomData;

use engine_model::{AsOf, Commit, Event, Kind, OrgName, Recorded, ResourceKey};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Error;
use crate::batch::{Batch, decode, encode};

/// A view: what it folds, what it stores, and what it shows.
pub(crate) trait View: Sized + 'static {
    /// Begins the keys of its rows.
    const NAME: &'static str;
    /// To be raised whenever the row or the fold changes: the view is then rebuilt.
    const VERSION: u32;
    /// What is stored for one resource.
    type Row: Serialize + DeserializeOwned + Clone + Send + 'static;

    /// Whether it wants the events of `kind`.
    fn folds(kind: Kind) -> bool;

    /// Folds one event of a commit.
    fn fold(rows: &mut Rows<Self>, commit: &Commit, event: &Event) -> Result<(), Error>;

    /// What people see of a row; `None` when it is kept only for the fold.
    fn document(
        reader: &Reader<'_>,
        org: &OrgName,
        name: &str,
        row: Self::Row,
    ) -> Result<Option<Value>, Error>;
}

/// The tree key of a row.
pub(crate) fn row_key<V: View>(org: &str, name: &str) -> String {
    format!("{}/{org}/{name}", V::NAME)
}

/// The rows of one view, as its fold sees them.
pub(crate) struct Rows<V: View> {
    tree: sled::Tree,
    /// What was read or written since the cache was emptied; `None` for no row.
    cache: HashMap<String, Option<V::Row>>,
    dirty: HashSet<String>,
}

impl<V: View> Rows<V> {
    /// The row of `name`.
    pub(crate) fn get(&mut self, org: &OrgName, name: &str) -> Result<Option<&V::Row>, Error> {
        Ok(self.cached(row_key::<V>(org.as_str(), name))?.as_ref())
    }

    /// Replaces the row of `name` by what `change` makes of it.
    pub(crate) fn evolve(
        &mut self,
        org: &OrgName,
        name: &str,
        change: impl FnOnce(Option<V::Row>) -> Option<V::Row>,
    ) -> Result<(), Error> {
        let key = row_key::<V>(org.as_str(), name);
        if !self.dirty.contains(&key) {
            self.dirty.insert(key.clone());
        }
        let row = self.cached(key)?;
        *row = change(row.take());
        Ok(())
    }

    fn cached(&mut self, key: String) -> Result<&mut Option<V::Row>, Error> {
        Ok(match self.cache.entry(key) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let key = entry.key().as_bytes();
                let stored = self.tree.get(key)?;
                let row = stored.map(|bytes| decode(key, &bytes)).transpose()?;
                entry.insert(row)
            }
        })
    }

    /// Replaces the row of the resource by what `change` makes of it.
    pub(crate) fn evolve_key(
        &mut self,
        key: &ResourceKey,
        change: impl FnOnce(Option<V::Row>) -> Option<V::Row>,
    ) -> Result<(), Error> {
        self.evolve(&key.org, key.name.as_str(), change)
    }
}

/// A view with its position, without its type.
pub(crate) trait AnyTable: Send {
    /// Its name and version, as the positions name it.
    fn id(&self) -> String;
    /// How far it has folded.
    fn position(&self) -> AsOf;
    /// Folds a commit, unless it has seen it.
    fn fold(&mut self, recorded: &Recorded) -> Result<(), Error>;
    /// Moves what changed into `batch`. At most `keep` rows stay in memory.
    fn drain(&mut self, batch: &mut Batch, keep: usize);
    /// Begins the keys of its rows.
    fn prefix(&self) -> String;
    /// How many rows wait to be drained.
    fn dirty(&self) -> usize;
}

/// A view with its position.
pub(crate) struct Table<V: View> {
    rows: Rows<V>,
    position: AsOf,
    view: PhantomData<fn() -> V>,
}

impl<V: View> Table<V> {
    /// The view whose rows lie in `tree`, folded up to `position`.
    pub(crate) fn new(tree: &sled::Tree, position: AsOf) -> Self {
        let rows = Rows {
            tree: tree.clone(),
            cache: HashMap::new(),
            dirty: HashSet::new(),
        };
        Self {
            rows,
            position,
            view: PhantomData,
        }
    }
}

/// A view's name and version, as the positions name it.
pub(crate) fn view_id<V: View>() -> String {
    format!("{}/{}", V::NAME, V::VERSION)
}

impl<V: View> AnyTable for Table<V> {
    fn id(&self) -> String {
        view_id::<V>()
    }

    fn position(&self) -> AsOf {
        self.position
    }

    fn fold(&mut self, recorded: &Recorded) -> Result<(), Error> {
        if recorded.seq <= self.position.seq {
            return Ok(());
        }
        if V::folds(recorded.commit.key.kind) {
            for event in &recorded.commit.events {
                V::fold(&mut self.rows, &recorded.commit, event)?;
            }
        }
        self.position = AsOf {
            seq: recorded.seq,
            at: recorded.commit.at,
        };
        Ok(())
    }

    fn drain(&mut self, batch: &mut Batch, keep: usize) {
        for key in self.rows.dirty.drain() {
            match self.rows.cache.get(&key) {
                Some(Some(row)) => batch.put(key.as_bytes(), encode(row)),
                Some(None) | None => batch.remove(key.as_bytes()),
            }
        }
        if self.rows.cache.len() > keep {
            self.rows.cache = HashMap::new();
        }
    }

    fn prefix(&self) -> String {
        format!("{}/", V::NAME)
    }

    fn dirty(&self) -> usize {
        self.rows.dirty.len()
    }
}

/// Reads the rows of a tree.
pub(crate) struct Reader<'a>(pub(crate) &'a sled::Tree);

impl Reader<'_> {
    /// One row.
    pub(crate) fn get<V: View>(&self, org: &OrgName, name: &str) -> Result<Option<V::Row>, Error> {
        let key = row_key::<V>(org.as_str(), name);
        self.0
            .get(&key)?
            .map(|bytes| decode(key.as_bytes(), &bytes))
            .transpose()
    }

    /// The document of one resource.
    pub(crate) fn one<V: View>(&self, org: &OrgName, name: &str) -> Result<Option<Value>, Error> {
        match self.get::<V>(org, name)? {
            Some(row) => V::document(self, org, name, row),
            None => Ok(None),
        }
    }

    /// The documents of an organization, by name.
    pub(crate) fn all<V: View>(&self, org: &OrgName) -> Result<Vec<Value>, Error> {
        let prefix = row_key::<V>(org.as_str(), "");
        let mut documents = Vec::new();
        for entry in self.0.scan_prefix(&prefix) {
            let (key, bytes) = entry?;
            let row = decode(&key, &bytes)?;
            let name = String::from_utf8_lossy(&key[prefix.len()..]);
            documents.extend(V::document(self, org, &name, row)?);
        }
        Ok(documents)
    }

    /// Whether a row of an organization is such.
    pub(crate) fn any<V: View>(
        &self,
        org: &OrgName,
        such: impl Fn(&V::Row) -> bool,
    ) -> Result<bool, Error> {
        for entry in self.0.scan_prefix(row_key::<V>(org.as_str(), "")) {
            let (key, bytes) = entry?;
            if such(&decode(&key, &bytes)?) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The names of an organization's rows, in order.
    pub(crate) fn names<V: View>(&self, org: &OrgName) -> Result<Vec<String>, Error> {
        let prefix = row_key::<V>(org.as_str(), "");
        let keys = self.0.scan_prefix(&prefix).keys();
        keys.map(|key| Ok(String::from_utf8_lossy(&key?[prefix.len()..]).into_owned()))
            .collect()
    }

    /// Whether a row of any organization is such.
    pub(crate) fn any_of_all<V: View>(
        &self,
        such: impl Fn(&str, &V::Row) -> bool,
    ) -> Result<bool, Error> {
        let prefix = format!("{}/", V::NAME);
        for entry in self.0.scan_prefix(&prefix) {
            let (key, bytes) = entry?;
            let rest = String::from_utf8_lossy(&key[prefix.len()..]);
            let org = rest.split('/').next().unwrap_or_default();
            if such(org, &decode(&key, &bytes)?) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
