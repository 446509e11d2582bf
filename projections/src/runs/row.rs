//! What is stored of a run, and under which keys.

use engine_model::{Name, OrgName, RunCommand, RunEvent, RunId, Seq, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::runs::RunDocument;

/// Begins the keys of rows.
pub(crate) const ROWS: &str = "run/";
/// Begins the keys that order runs by when they changed.
pub(crate) const BY_TIME: &str = "runat/";
/// Begins the keys that order runs by their first message.
pub(crate) const BY_SEQ: &str = "runseq/";

/// What is kept of a run that is tried again and again: its last hundred attempts.
const EVENTS_MAX: usize = 200;

/// Bytes of a moment and a run at the end of a key that begins with [`BY_TIME`].
const TAIL_BYTES: usize = 8 + 16;

/// What is stored of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) org: OrgName,
    pub(crate) function: Name,
    pub(crate) run: RunId,
    /// Position of the first of its messages that the view saw.
    pub(crate) first: Seq,
    /// Position of the last of its messages.
    pub(crate) last: Seq,
    /// When it changed last.
    pub(crate) changed: Timestamp,
    /// None when the stream had dropped it before the view saw it.
    pub(crate) command: Option<RunCommand>,
    /// What happened to it before its end, the oldest first.
    pub(crate) events: Vec<RunEvent>,
    /// The end that counts: the first.
    pub(crate) finished: Option<RunEvent>,
}

impl Row {
    /// A run of which nothing is known but that there was a message at `seq`.
    pub(crate) fn new(org: OrgName, function: Name, run: RunId, seq: Seq, at: Timestamp) -> Self {
        Self {
            org,
            function,
            run,
            first: seq,
            last: seq,
            changed: at,
            command: None,
            events: Vec::new(),
            finished: None,
        }
    }

    /// Someone asked for it. A repeat changes nothing.
    pub(crate) fn request(&mut self, command: &RunCommand, seq: Seq, at: Timestamp) {
        self.last = seq;
        if self.command.is_none() {
            self.command = Some(command.clone());
            self.changed = self.changed.max(at);
        }
    }

    /// Something happened to it. What comes after its end changes nothing.
    pub(crate) fn happen(&mut self, event: &RunEvent, seq: Seq) {
        self.last = seq;
        if self.finished.is_some() {
            return;
        }
        match event {
            RunEvent::Delayed { .. }
            | RunEvent::Started { .. }
            | RunEvent::AttemptFailed { .. }
            | RunEvent::CancelRequested { .. } => {
                if self.events.len() >= EVENTS_MAX {
                    self.events.remove(0);
                }
                self.events.push(event.clone());
            }
            RunEvent::Finished { .. } => self.finished = Some(event.clone()),
        }
        self.changed = self.changed.max(event.at());
    }

    /// What people see of it.
    pub(crate) fn document(&self) -> RunDocument {
        let unknown = RunCommand::default();
        let command = self.command.as_ref().unwrap_or(&unknown);
        let requested = RunDocument::requested(self.run, &self.function, command);
        self.events
            .iter()
            .chain(&self.finished)
            .fold(requested, RunDocument::after)
    }

    /// Its key.
    pub(crate) fn key(&self) -> String {
        key(&self.org, self.run)
    }

    /// Its key among the runs of its function, by when they changed.
    pub(crate) fn time_key(&self) -> Vec<u8> {
        let mut key = time_prefix(&self.org, Some(&self.function)).into_bytes();
        key.extend_from_slice(&millis(self.changed));
        key.extend_from_slice(self.run.0.as_bytes());
        key
    }

    /// Its key among all runs, by their first message.
    pub(crate) fn seq_key(&self) -> Vec<u8> {
        seq_key(self.first)
    }
}

/// The key of a run.
pub(crate) fn key(org: &OrgName, run: RunId) -> String {
    format!("{ROWS}{org}/{run}")
}

/// Begins the keys by time of an organization, or of one of its functions.
pub(crate) fn time_prefix(org: &OrgName, function: Option<&Name>) -> String {
    match function {
        Some(function) => format!("{BY_TIME}{org}/{function}/"),
        None => format!("{BY_TIME}{org}/"),
    }
}

/// The key by first message.
pub(crate) fn seq_key(seq: Seq) -> Vec<u8> {
    let mut key = BY_SEQ.as_bytes().to_vec();
    key.extend_from_slice(&seq.0.to_be_bytes());
    key
}

/// Reads the position of a key by first message.
pub(crate) fn read_seq_key(key: &[u8]) -> Option<Seq> {
    let bytes = key.strip_prefix(BY_SEQ.as_bytes())?;
    Some(Seq(u64::from_be_bytes(bytes.try_into().ok()?)))
}

/// Reads moment and run of a key by time.
pub(crate) fn read_time_key(key: &[u8]) -> Option<(Timestamp, RunId)> {
    let tail = key.get(key.len().checked_sub(TAIL_BYTES)?..)?;
    let (at, run) = tail.split_at(8);
    let at = i64::try_from(u64::from_be_bytes(at.try_into().ok()?)).ok()?;
    Some((Timestamp(at), RunId(Uuid::from_slice(run).ok()?)))
}

/// Milliseconds so that keys sort by time; before the epoch there were no runs.
fn millis(at: Timestamp) -> [u8; 8] {
    u64::try_from(at.0).unwrap_or(0).to_be_bytes()
}
