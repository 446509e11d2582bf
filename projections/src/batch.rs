//! One atomic step of a tree: rows, and the positions that they show.

use std::collections::BTreeMap;

use engine_model::{AsOf, Seq, Timestamp};

use crate::Error;

/// Where the positions lie; rows begin with a view's name, which is never empty.
const POSITIONS: &[u8] = b"@positions";

/// Before the first message.
pub(crate) const NOTHING: AsOf = AsOf {
    seq: Seq(0),
    at: Timestamp(0),
};

/// How far each view of a tree has folded, by the view's name and version.
pub(crate) type Positions = BTreeMap<String, AsOf>;

/// Reads the positions of a tree; empty for a new one.
pub(crate) fn positions(tree: &sled::Tree) -> Result<Positions, Error> {
    match tree.get(POSITIONS)? {
        None => Ok(Positions::new()),
        Some(bytes) => decode(POSITIONS, &bytes),
    }
}

/// Rows that change together with the positions.
#[derive(Default)]
pub(crate) struct Batch(sled::Batch);

impl Batch {
    /// Stores a row.
    pub(crate) fn put(&mut self, key: &[u8], row: Vec<u8>) {
        self.0.insert(key, row);
    }

    /// Removes a row.
    pub(crate) fn remove(&mut self, key: &[u8]) {
        self.0.remove(key);
    }

    /// Applies the step as a whole.
    pub(crate) fn apply(mut self, tree: &sled::Tree, positions: &Positions) -> Result<(), Error> {
        self.0.insert(POSITIONS, encode(positions));
        Ok(tree.apply_batch(self.0)?)
    }
}

/// A row as it is stored.
pub(crate) fn encode<T: serde::Serialize>(row: &T) -> Vec<u8> {
    serde_json::to_vec(row).expect("rows are plain data with text keys")
}

/// Reads a stored row.
pub(crate) fn decode<T: serde::de::DeserializeOwned>(key: &[u8], row: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(row).map_err(|error| Error::Row {
        key: String::from_utf8_lossy(key).into_owned(),
        // The row itself may hold what someone put into parameters: only say where it is wrong.
        reason: format!("line {}, column {}", error.line(), error.column()),
    })
}
