//! Everything that happened to a resource, read from the log itself: nothing is stored for it.

use engine_model::{CommitId, Recorded, Seq};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What stands in the place of a sealed value, a token's hash or an archive.
const HIDDEN: &str = "<hidden>";

/// One event of a resource's history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    /// On whose behalf it was decided.
    pub actor: String,
    /// What brought it about: a command, an effect of an earlier commit, or an alarm.
    pub cause: String,
    /// The commit that it belongs to.
    pub commit: CommitId,
    /// Ties together all that one request brought about.
    pub correlation: String,
    /// What it says, with sealed values hidden.
    pub data: Value,
    /// Its name, such as `ProvisionRequested`.
    pub event: String,
    /// Position of its commit in the event stream.
    pub seq: Seq,
    /// When it was decided: RFC 3339 in UTC.
    pub time: String,
}

/// The events of a commit.
pub(crate) fn entries(recorded: &Recorded) -> Vec<HistoryEntry> {
    let commit = &recorded.commit;
    let entry = |event: &engine_model::Event| {
        let (name, data) = split(crate::view::json(event));
        HistoryEntry {
            actor: commit.actor.to_string(),
            cause: commit.cause.to_string(),
            commit: commit.id,
            correlation: commit.correlation.clone(),
            data: hide(data),
            event: name,
            seq: recorded.seq,
            time: commit.at.rfc3339(),
        }
    };
    commit.events.iter().map(entry).collect()
}

/// `{"Kind":{"Name":{…}}}` or `{"Kind":"Name"}` as a name and its data.
fn split(event: Value) -> (String, Value) {
    let of_kind = match event {
        Value::Object(map) => map.into_iter().next().map(|(_, inner)| inner),
        other => Some(other),
    };
    match of_kind {
        Some(Value::Object(map)) => map.into_iter().next().unwrap_or_default(),
        Some(Value::String(name)) => (name, Value::Object(Map::new())),
        other => (String::new(), other.unwrap_or_default()),
    }
}

fn hide(value: Value) -> Value {
    match value {
        Value::Object(map) if is_sealed(&map) => HIDDEN.into(),
        Value::Object(map) => {
            let hidden = map.into_iter().map(|(key, value)| match key.as_str() {
                "tokenSha256" | "Archive" => (key, HIDDEN.into()),
                _ => (key, hide(value)),
            });
            Value::Object(hidden.collect())
        }
        Value::Array(items) => items.into_iter().map(hide).collect(),
        plain => plain,
    }
}

/// Whether it is what the vault or a client sealed.
fn is_sealed(map: &Map<String, Value>) -> bool {
    let third = map.contains_key("nonce") || map.contains_key("encapsulated");
    map.len() == 3 && third && map.contains_key("key") && map.contains_key("ciphertext")
}
