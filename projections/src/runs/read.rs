//! Reads runs, the latest first.

use std::collections::BinaryHeap;

use engine_model::{Name, OrgName, RunId, Timestamp};
use serde_json::Value;

use crate::Error;
use crate::batch::decode;
use crate::runs::row::{Row, key, read_time_key, time_prefix};
use crate::view::json;

/// Which runs are wanted.
#[derive(Debug, Clone)]
pub(crate) struct RunFilter {
    /// Only those of this function.
    pub(crate) function: Option<Name>,
    /// Only those that changed after this moment.
    pub(crate) since: Option<Timestamp>,
    /// At most so many.
    pub(crate) limit: usize,
}

/// The record of one run.
pub(crate) fn one(tree: &sled::Tree, org: &OrgName, run: RunId) -> Result<Option<Value>, Error> {
    let key = key(org, run);
    let row: Option<Row> = tree
        .get(&key)?
        .map(|bytes| decode(key.as_bytes(), &bytes))
        .transpose()?;
    Ok(row.map(|row| json(&row.document())))
}

/// The records of an organization's runs, the latest first.
pub(crate) fn runs(
    tree: &sled::Tree,
    org: &OrgName,
    filter: &RunFilter,
) -> Result<Vec<Value>, Error> {
    let prefixes = match &filter.function {
        Some(function) => vec![time_prefix(org, Some(function)).into_bytes()],
        None => functions(tree, org)?,
    };
    // Each function's runs are in order already; the heap yields the latest among their heads.
    let mut lists: Vec<_> = prefixes
        .iter()
        .map(|prefix| tree.scan_prefix(prefix).keys().rev())
        .collect();
    let mut heads = BinaryHeap::new();
    for (index, list) in lists.iter_mut().enumerate() {
        heads.extend(head(list.next())?.map(|head| (head, index)));
    }
    let mut documents = Vec::new();
    while let Some(((at, run), index)) = heads.pop() {
        if documents.len() >= filter.limit || filter.since.is_some_and(|since| at <= since) {
            break;
        }
        documents.extend(one(tree, org, run)?);
        heads.extend(head(lists[index].next())?.map(|head| (head, index)));
    }
    Ok(documents)
}

fn head(key: Option<Result<sled::IVec, sled::Error>>) -> Result<Option<(Timestamp, RunId)>, Error> {
    Ok(key.transpose()?.and_then(|key| read_time_key(&key)))
}

/// Begins the keys by time of each function that has runs. One look-up per function.
fn functions(tree: &sled::Tree, org: &OrgName) -> Result<Vec<Vec<u8>>, Error> {
    let prefix = time_prefix(org, None).into_bytes();
    let mut found = Vec::new();
    let mut from = prefix.clone();
    while let Some(entry) = tree.range(from..).next() {
        let (key, _) = entry?;
        let Some(rest) = key.strip_prefix(prefix.as_slice()) else {
            break;
        };
        let Some(end) = rest.iter().position(|byte| *byte == b'/') else {
            break;
        };
        let own = key[..=prefix.len() + end].to_vec();
        // The byte after '/' begins what comes after all runs of this function.
        from = own.clone();
        *from.last_mut().expect("it ends with '/'") = b'/' + 1;
        found.push(own);
    }
    Ok(found)
}
