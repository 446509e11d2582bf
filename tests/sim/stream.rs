//! The streams of a simulation, with the rules of the real ones: the event log refuses what does
//! not name its subject's last position and recognises a repeat by its id, and whatever is
//! delivered comes again until it is acknowledged.

use std::collections::BTreeMap;

use engine_model::{
    CommandEnvelope, CommandId, Commit, CommitId, Due, Recorded, ResourceKey, Role, Seq, Timestamp,
};

/// How long the real streams recognise a repeated message, in milliseconds.
pub(super) const DEDUP_MS: i64 = 120_000;

/// When an unended delivery comes again, in milliseconds, as the real streams have it.
pub(super) const ACK_WAIT_MS: i64 = 12_000;

/// The event stream.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) commits: Vec<Recorded>,
    subjects: BTreeMap<ResourceKey, Vec<usize>>,
    ids: BTreeMap<String, (Seq, Timestamp)>,
    /// A commit that bears the id of a stored one is taken for that one without a look.
    trusts_ids: bool,
}

/// What came of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Appended {
    At(Seq),
    /// It is there already, from an earlier try or by another node.
    Known(Seq),
    Clash,
}

impl Log {
    /// An empty log; one that `trusts_ids` does not look at what it knows.
    pub(super) fn new(trusts_ids: bool) -> Self {
        Self {
            trusts_ids,
            ..Self::default()
        }
    }

    pub(super) fn append(&mut self, commit: &Commit, expected: Seq, now: Timestamp) -> Appended {
        let id = id_of(&commit.id);
        if let Some((seq, at)) = self.ids.get(&id)
            && now.since_ms(*at) < DEDUP_MS
        {
            // Two nodes that decide about the same thing give their commits the same id, and
            // need not have decided the same.
            let same = self.trusts_ids || self.at(*seq).commit == *commit;
            return if same {
                Appended::Known(*seq)
            } else {
                Appended::Clash
            };
        }
        let own = self.subjects.entry(commit.key.clone()).or_default();
        let last = own.last().map(|at| &self.commits[*at]);
        if last.map_or(Seq(0), |last| last.seq) != expected {
            // The real one looks whether the last message is its own from an earlier try.
            return match last {
                Some(last)
                    if last.commit == *commit || self.trusts_ids && last.commit.id == commit.id =>
                {
                    Appended::Known(last.seq)
                }
                _ => Appended::Clash,
            };
        }
        let seq = Seq(self.commits.len() as u64 + 1);
        own.push(self.commits.len());
        self.ids.insert(id, (seq, now));
        self.commits.push(Recorded {
            seq,
            commit: commit.clone(),
        });
        Appended::At(seq)
    }

    pub(super) fn last(&self) -> Seq {
        Seq(self.commits.len() as u64)
    }

    pub(super) fn after(&self, seq: Seq) -> &[Recorded] {
        let from = usize::try_from(seq.0).unwrap_or(usize::MAX);
        self.commits.get(from..).unwrap_or_default()
    }

    pub(super) fn at(&self, seq: Seq) -> &Recorded {
        &self.commits[usize::try_from(seq.0).unwrap_or(usize::MAX) - 1]
    }

    pub(super) fn of<'a>(&'a self, key: &ResourceKey) -> impl Iterator<Item = &'a Recorded> {
        let own = self.subjects.get(key).into_iter().flatten();
        own.map(|at| &self.commits[*at])
    }
}

fn id_of(id: &CommitId) -> String {
    id.to_string()
}

/// What is delivered.
#[derive(Debug, Clone)]
pub(super) enum Item {
    Command(Box<CommandEnvelope>),
    Reaction(Seq, Role),
    Alarm(Due),
}

/// Names a delivery.
pub(super) type DeliveryId = u64;

/// A message that is delivered until it is acknowledged.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) item: Item,
    /// How often it was handed out.
    pub(super) count: u32,
    /// To which node, in which of its lives; none while it waits.
    pub(super) held: Option<(usize, u32)>,
}

/// The messages that are not acknowledged yet, and what was published before.
#[derive(Debug, Default)]
pub(super) struct Inboxes {
    pub(super) open: BTreeMap<DeliveryId, Delivery>,
    published: u64,
    commands: BTreeMap<String, Timestamp>,
}

impl Inboxes {
    pub(super) fn publish(&mut self, item: Item) -> DeliveryId {
        self.published += 1;
        let delivery = Delivery {
            item,
            count: 0,
            held: None,
        };
        self.open.insert(self.published, delivery);
        self.published
    }

    /// Publishes a command; none when the stream recognises a repeat.
    pub(super) fn command(
        &mut self,
        envelope: CommandEnvelope,
        now: Timestamp,
    ) -> Option<DeliveryId> {
        let id: CommandId = envelope.id;
        let known = self.commands.get(&id.to_string());
        if known.is_some_and(|at| now.since_ms(*at) < DEDUP_MS) {
            return None;
        }
        self.commands.insert(id.to_string(), now);
        Some(self.publish(Item::Command(Box::new(envelope))))
    }
}
