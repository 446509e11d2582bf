//! The revisions of functions that are kept, as long as the engine keeps them.

use std::collections::BTreeSet;

use engine_model::{Because, LOADED_KEPT, RevisionId, Share, Timestamp, UNLOADED_KEPT};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::view::{json, reasons};

/// A revision of a function.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevisionDocument {
    /// Why it came, for a person.
    pub because: String,
    /// When it was asked for.
    pub created_time: i64,
    /// The function, by name.
    pub function: String,
    /// Its id, which runs bear as `faasId`.
    pub id: RevisionId,
    /// Always `Revision`.
    pub kind: String,
    /// The language of its image.
    pub language: String,
    /// The digest of its image's layer; null when there are no dependencies.
    pub layer: Option<String>,
    /// Why it cannot be called.
    pub reason: Option<Vec<String>>,
    /// Its number; the first one is 1.
    pub revision: u32,
    /// The number of the revision whose document it has again; null unless it is a rollback.
    pub rollback_to: Option<u32>,
    /// How far it has come.
    pub status: RevisionStatus,
    /// How many runs of a hundred it takes.
    pub traffic: u8,
}

/// How far a revision has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum RevisionStatus {
    /// A worker loads it.
    Creating,
    /// It can be called.
    Ready,
    /// It cannot be loaded.
    Error,
    /// Another one was wanted before it was loaded.
    Replaced,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Revision {
    pub(crate) number: u32,
    pub(crate) id: RevisionId,
    pub(crate) language: String,
    pub(crate) layer: Option<String>,
    pub(crate) because: Because,
    pub(crate) at: Timestamp,
    pub(crate) fate: Fate,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Fate {
    Loading,
    Loaded,
    Failed(String),
    Replaced,
}

/// The revisions of a function that are kept, by number, and how its runs are divided.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Revisions {
    kept: Vec<Revision>,
    number: u32,
    pub(crate) shares: Vec<Share>,
}

impl Revisions {
    pub(crate) fn begin(&mut self, revision: Revision) {
        self.settle(&Fate::Replaced);
        self.number = revision.number;
        self.kept.push(revision);
    }

    /// Notes what came of the one that is being loaded.
    pub(crate) fn settle(&mut self, fate: &Fate) {
        for revision in &mut self.kept {
            if revision.fate == Fate::Loading {
                revision.fate = fate.clone();
            }
        }
        self.prune();
    }

    pub(crate) fn route(&mut self, shares: &[Share]) {
        self.shares = shares.to_vec();
        self.prune();
    }

    /// The number of the newest one, loaded or not.
    pub(crate) fn newest(&self) -> u32 {
        self.number
    }

    /// What is to be said of a function whose newest revision is loaded; word for word as the
    /// engine says it.
    pub(crate) fn remarks(&self, name: &str) -> Vec<String> {
        if self.shares.is_empty() {
            return Vec::new();
        }
        let part = |share: &Share| format!("{} % to revision {}", share.percent, share.revision);
        let parts: Vec<String> = self.shares.iter().map(part).collect();
        let mut lines = vec![format!("runs are routed: {}", parts.join(", "))];
        let newest = self.number;
        if self.shares.iter().all(|share| share.revision != newest) {
            lines.push(format!(
                "revision {newest} is loaded and gets no runs; `dispatch route function {name} \
                 --latest` sends it all"
            ));
        }
        lines
    }

    /// What people see, the newest first.
    pub(crate) fn documents(self, function: &str) -> Vec<Value> {
        let newest_first = self.kept.iter().rev();
        newest_first
            .map(|revision| json(&self.document(function, revision)))
            .collect()
    }

    fn document(&self, function: &str, revision: &Revision) -> RevisionDocument {
        let (status, reason) = match &revision.fate {
            Fate::Loading => (RevisionStatus::Creating, None),
            Fate::Loaded => (RevisionStatus::Ready, None),
            Fate::Failed(reason) => (RevisionStatus::Error, Some(reason.clone())),
            Fate::Replaced => {
                let why = "another one was wanted before it was loaded".to_owned();
                (RevisionStatus::Replaced, Some(why))
            }
        };
        RevisionDocument {
            because: revision.because.to_string(),
            created_time: revision.at.unix_seconds(),
            function: function.to_owned(),
            id: revision.id,
            kind: "Revision".into(),
            language: revision.language.clone(),
            layer: revision.layer.clone(),
            reason: reasons(reason),
            revision: revision.number,
            rollback_to: match revision.because {
                Because::RolledBack { to } => Some(to),
                Because::Created
                | Because::Updated
                | Because::Image
                | Because::Services
                | Because::Retried => None,
            },
            status,
            traffic: self.traffic(revision.number),
        }
    }

    fn traffic(&self, number: u32) -> u8 {
        if self.shares.is_empty() {
            let mut newest_first = self.kept.iter().rev();
            let serving = newest_first.find(|revision| revision.fate == Fate::Loaded);
            let serves = serving.is_some_and(|revision| revision.number == number);
            return if serves { 100 } else { 0 };
        }
        let mut shares = self.shares.iter();
        let own = shares.find(|share| share.revision == number);
        own.map_or(0, |share| share.percent)
    }

    /// Forgets what the engine forgets.
    fn prune(&mut self) {
        let routed: BTreeSet<u32> = self.shares.iter().map(|share| share.revision).collect();
        let (mut loaded, mut unloaded) = (0, 0);
        let keep = |revision: &Revision| match revision.fate {
            _ if routed.contains(&revision.number) => true,
            Fate::Loading => true,
            Fate::Loaded => {
                loaded += 1;
                loaded <= LOADED_KEPT
            }
            Fate::Failed(_) | Fate::Replaced => {
                unloaded += 1;
                unloaded <= UNLOADED_KEPT
            }
        };
        self.kept.reverse();
        self.kept.retain(keep);
        self.kept.reverse();
    }
}
