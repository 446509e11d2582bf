//! Folds the run stream, and drops what the stream has dropped.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use engine_model::{AsOf, Name, OrgName, RunId, Seq, Timestamp};
use engine_stream::RunRecorded;

use crate::Error;
use crate::batch::{Batch, NOTHING, Positions, decode, encode, positions};
use crate::runs::row::{BY_SEQ, Row, key, read_seq_key};

/// Name and version of the view; the version is to be raised whenever row or fold change.
const ID: &str = "run/2";

/// How many runs are dropped in one step: a batch of under a megabyte of keys.
const DROPPED_AT_ONCE: usize = 4096;

/// The view of runs.
pub(crate) struct RunFold {
    tree: sled::Tree,
    position: AsOf,
    cache: HashMap<String, Cached>,
    dirty: usize,
    /// How many runs are stored.
    count: usize,
    /// How many may be.
    max: usize,
}

struct Cached {
    row: Row,
    /// Its key by time as it is stored.
    indexed: Option<Vec<u8>>,
    dirty: bool,
}

impl RunFold {
    /// Goes on where the tree stands; begins anew when it was written by another version.
    pub(crate) fn open(tree: sled::Tree, max: usize) -> Result<Self, Error> {
        let position = match positions(&tree)?.get(ID) {
            Some(position) => *position,
            None => {
                tree.clear()?;
                NOTHING
            }
        };
        let count = tree.scan_prefix(BY_SEQ).keys().count();
        Ok(Self {
            tree,
            position,
            cache: HashMap::new(),
            dirty: 0,
            count,
            max,
        })
    }

    /// Folds one message, unless it has been seen.
    pub(crate) fn fold(&mut self, recorded: &RunRecorded) -> Result<(), Error> {
        let (seq, at) = match recorded {
            RunRecorded::Requested { seq, envelope } => (*seq, envelope.at),
            RunRecorded::Happened { seq, event, .. } => (*seq, event.at()),
            RunRecorded::Unreadable { seq } => (*seq, self.position.at),
        };
        if seq <= self.position.seq {
            return Ok(());
        }
        match recorded {
            // It is no run, and what comes of it is an event of the run that it names.
            RunRecorded::Requested { envelope, .. } if envelope.command.cancel => {}
            RunRecorded::Requested { envelope, .. } => {
                let row = self.row(&envelope.org, &envelope.function, envelope.id, seq, at)?;
                row.request(&envelope.command, seq, at);
            }
            RunRecorded::Happened {
                org,
                function,
                run,
                event,
                ..
            } => {
                self.row(org, function, *run, seq, at)?.happen(event, seq);
            }
            RunRecorded::Unreadable { .. } => {}
        }
        self.position = AsOf { seq, at };
        Ok(())
    }

    fn row(
        &mut self,
        org: &OrgName,
        function: &Name,
        run: RunId,
        seq: Seq,
        at: Timestamp,
    ) -> Result<&mut Row, Error> {
        let cached = match self.cache.entry(key(org, run)) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let key = entry.key().as_bytes();
                let stored: Option<Row> = self
                    .tree
                    .get(key)?
                    .map(|bytes| decode(key, &bytes))
                    .transpose()?;
                let indexed = stored.as_ref().map(Row::time_key);
                let row =
                    stored.unwrap_or_else(|| Row::new(org.clone(), function.clone(), run, seq, at));
                entry.insert(Cached {
                    row,
                    indexed,
                    dirty: false,
                })
            }
        };
        if !cached.dirty {
            cached.dirty = true;
            self.dirty += 1;
        }
        Ok(&mut cached.row)
    }

    /// How many rows wait to be stored.
    pub(crate) fn pending(&self) -> usize {
        self.dirty
    }

    /// Stores what changed together with the position, in one step. At most `keep` rows stay in
    /// memory.
    pub(crate) fn commit(&mut self, keep: usize) -> Result<AsOf, Error> {
        let mut batch = Batch::default();
        for (key, cached) in self.cache.iter_mut().filter(|(_, cached)| cached.dirty) {
            let time_key = cached.row.time_key();
            if cached.indexed.as_ref() != Some(&time_key) {
                match &cached.indexed {
                    Some(old) => batch.remove(old),
                    None => {
                        batch.put(&cached.row.seq_key(), key.as_bytes().to_vec());
                        self.count += 1;
                    }
                }
                batch.put(&time_key, Vec::new());
                cached.indexed = Some(time_key);
            }
            batch.put(key.as_bytes(), encode(&cached.row));
            cached.dirty = false;
        }
        self.dirty = 0;
        batch.apply(&self.tree, &self.positions())?;
        // What has ended does not change again.
        self.cache.retain(|_, cached| cached.row.finished.is_none());
        if self.cache.len() > keep {
            self.cache = HashMap::new();
        }
        if self.count > self.max {
            self.drop_oldest(self.count - self.max)?;
        }
        Ok(self.position)
    }

    /// Drops the runs of which the stream, which begins at `first` now, holds nothing any more.
    pub(crate) fn prune(&mut self, first: Seq) -> Result<usize, Error> {
        let mut dropped = 0;
        let mut batch = Batch::default();
        for entry in self.tree.scan_prefix(BY_SEQ) {
            let (seq_key, key) = entry?;
            if read_seq_key(&seq_key).is_none_or(|seq| seq >= first) {
                break;
            }
            let stored = self
                .tree
                .get(&key)?
                .map(|bytes| decode::<Row>(&key, &bytes));
            match stored.transpose()? {
                Some(row) if row.last >= first => {}
                row => {
                    self.forget(&mut batch, &seq_key, &key, row.as_ref());
                    dropped += 1;
                }
            }
            if dropped % DROPPED_AT_ONCE == DROPPED_AT_ONCE - 1 {
                std::mem::take(&mut batch).apply(&self.tree, &self.positions())?;
            }
        }
        batch.apply(&self.tree, &self.positions())?;
        Ok(dropped)
    }

    fn drop_oldest(&mut self, surplus: usize) -> Result<(), Error> {
        let mut batch = Batch::default();
        for entry in self
            .tree
            .scan_prefix(BY_SEQ)
            .take(surplus.min(DROPPED_AT_ONCE))
        {
            let (seq_key, key) = entry?;
            let row = self
                .tree
                .get(&key)?
                .map(|bytes| decode::<Row>(&key, &bytes))
                .transpose()?;
            self.forget(&mut batch, &seq_key, &key, row.as_ref());
        }
        batch.apply(&self.tree, &self.positions())
    }

    fn forget(&mut self, batch: &mut Batch, seq_key: &[u8], key: &[u8], row: Option<&Row>) {
        batch.remove(seq_key);
        batch.remove(key);
        if let Some(row) = row {
            batch.remove(&row.time_key());
            self.cache.remove(&row.key());
        }
        self.count = self.count.saturating_sub(1);
    }

    fn positions(&self) -> Positions {
        Positions::from([(ID.to_owned(), self.position)])
    }

    /// How far it has folded.
    pub(crate) fn position(&self) -> AsOf {
        self.position
    }

    /// The tree.
    pub(crate) fn tree(&self) -> &sled::Tree {
        &self.tree
    }
}
