//! One stream in memory.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use engine_model::{Seq, Timestamp, header};

use crate::decode::Incoming;

/// For how long a message is recognised by its id, in milliseconds, as the server does it.
const DEDUP_MS: i64 = 120_000;

/// A stored message.
#[derive(Clone)]
pub(super) struct Stored {
    pub(super) seq: Seq,
    pub(super) subject: String,
    pub(super) headers: HashMap<String, String>,
    pub(super) body: Bytes,
    pub(super) at: Timestamp,
}

impl Stored {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Reads it as a delivery is read.
    pub(super) fn read<T>(&self, reader: fn(&Incoming<'_>) -> T) -> T {
        reader(&Incoming {
            subject: &self.subject,
            header: &|name| self.header(name),
            body: &self.body,
            seq: self.seq,
            at: self.at,
        })
    }
}

/// Messages by position, with the last of each subject and the ids that were seen.
#[derive(Default)]
pub(super) struct Store {
    pub(super) messages: BTreeMap<u64, Stored>,
    pub(super) last_seq: u64,
    by_subject: HashMap<String, Vec<u64>>,
    ids: HashMap<String, (u64, Timestamp)>,
}

impl Store {
    /// Stores a message, unless its id was seen of late: then the position of the first.
    pub(super) fn publish(
        &mut self,
        subject: &str,
        headers: HashMap<String, String>,
        body: Bytes,
        at: Timestamp,
    ) -> u64 {
        if let Some(id) = headers.get(header::MSG_ID) {
            if let Some((seq, first)) = self.ids.get(id)
                && at.since_ms(*first) < DEDUP_MS
            {
                return *seq;
            }
            self.ids.insert(id.clone(), (self.last_seq + 1, at));
        }
        self.last_seq += 1;
        let seq = self.last_seq;
        let subject = subject.to_owned();
        self.by_subject
            .entry(subject.clone())
            .or_default()
            .push(seq);
        self.messages.insert(
            seq,
            Stored {
                seq: Seq(seq),
                subject,
                headers,
                body,
                at,
            },
        );
        seq
    }

    /// Stores a message in place of the others of its subject.
    pub(super) fn replace(
        &mut self,
        subject: &str,
        headers: HashMap<String, String>,
        body: Bytes,
        at: Timestamp,
    ) -> u64 {
        for seq in self.by_subject.remove(subject).unwrap_or_default() {
            self.messages.remove(&seq);
        }
        self.publish(subject, headers, body, at)
    }

    /// Stores a message, provided that its subject's last position is `expected`; otherwise that
    /// last message.
    pub(super) fn append(
        &mut self,
        subject: &str,
        expected: Seq,
        headers: HashMap<String, String>,
        body: Bytes,
        at: Timestamp,
    ) -> Result<Seq, Option<Stored>> {
        let last = self.last(subject);
        if last.map_or(Seq(0), |last| last.seq) != expected {
            return Err(last.cloned());
        }
        Ok(Seq(self.publish(subject, headers, body, at)))
    }

    pub(super) fn last(&self, subject: &str) -> Option<&Stored> {
        let seq = self.by_subject.get(subject)?.last()?;
        self.messages.get(seq)
    }

    pub(super) fn of_subject(&self, subject: &str) -> impl Iterator<Item = &Stored> {
        let positions = self.by_subject.get(subject).map_or(&[][..], Vec::as_slice);
        positions.iter().filter_map(|seq| self.messages.get(seq))
    }

    pub(super) fn remove(&mut self, seq: u64) {
        if let Some(message) = self.messages.remove(&seq)
            && let Some(positions) = self.by_subject.get_mut(&message.subject)
        {
            positions.retain(|position| *position != seq);
            if positions.is_empty() {
                self.by_subject.remove(&message.subject);
            }
        }
    }
}
