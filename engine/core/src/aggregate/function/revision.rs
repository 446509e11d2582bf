//! The revisions of a function that are kept, and which of them a run takes.

use std::collections::BTreeSet;
use std::sync::Arc;

use engine_model::{
    Because, FunctionLoad, LOADED_KEPT, RevisionId, RunId, Share, Timestamp, UNLOADED_KEPT,
};

use super::{Function, Stage};

/// A revision, and what came of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Revision {
    pub(crate) number: u32,
    pub(crate) load: Arc<FunctionLoad>,
    pub(crate) because: Because,
    /// When it was asked for.
    pub(crate) at: Timestamp,
    pub(crate) fate: Fate,
}

/// What came of a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// A worker loads it.
    Loading,
    /// It can be called.
    Loaded,
    /// It cannot be loaded.
    Failed,
    /// Another one was wanted before it was loaded.
    Replaced,
}

impl Function {
    /// The revisions that can be called, the oldest first.
    pub(crate) fn loaded(&self) -> impl DoubleEndedIterator<Item = &Revision> {
        let loaded = |revision: &&Revision| revision.fate == Fate::Loaded;
        self.revisions.iter().filter(loaded)
    }

    /// A revision that can be called, by its number.
    pub(crate) fn loaded_as(&self, number: u32) -> Option<&Revision> {
        self.loaded().find(|revision| revision.number == number)
    }

    /// The revisions that runs are routed to; none when the newest loaded one takes them all.
    pub(crate) fn routed(&self) -> impl Iterator<Item = &Revision> {
        let numbers = self.shares.iter().map(|share| share.revision);
        numbers.filter_map(|number| self.loaded_as(number))
    }

    /// What runs may be given now.
    pub(crate) fn with_traffic(&self) -> Vec<&Arc<FunctionLoad>> {
        if self.shares.is_empty() {
            return self.serving.iter().collect();
        }
        self.routed().map(|revision| &revision.load).collect()
    }

    /// Whether workers of a revision are of use: it has traffic, is loaded, or is the newest.
    pub(crate) fn is_active(&self, revision: RevisionId) -> bool {
        self.active().contains(&revision)
    }

    /// The revisions whose workers are of use, by id.
    pub(crate) fn active(&self) -> BTreeSet<RevisionId> {
        self.of_use().map(|load| load.revision).collect()
    }

    /// The revisions whose workers are of use; one may come twice.
    pub(crate) fn of_use(&self) -> impl Iterator<Item = &Arc<FunctionLoad>> {
        let loading = match &self.stage {
            Stage::Loading { load, .. } => Some(load),
            Stage::Waiting | Stage::Loaded | Stage::Failed { .. } => None,
        };
        let routed = self.routed().map(|revision| &revision.load);
        self.serving.iter().chain(loading).chain(routed)
    }

    /// The revision that a run takes: the one that it was begun on, or else the one whose share of
    /// all runs it falls into. A repeat of a run falls into the same one.
    pub(crate) fn of_run(
        &self,
        run: RunId,
        begun_on: Option<RevisionId>,
    ) -> Option<&Arc<FunctionLoad>> {
        let begun = begun_on.and_then(|id| {
            let mut loaded = self.loaded();
            loaded.find(|revision| revision.load.revision == id)
        });
        if let Some(revision) = begun {
            return Some(&revision.load);
        }
        let routed = self.share_of(run).and_then(|number| self.loaded_as(number));
        routed
            .map(|revision| &revision.load)
            .or(self.serving.as_ref())
    }

    fn share_of(&self, run: RunId) -> Option<u32> {
        let place = hundredth(run);
        let mut end = 0;
        let found = self.shares.iter().find(|share| {
            end += u64::from(share.percent);
            place < end
        });
        found.map(|share| share.revision)
    }

    /// Whether a way to divide runs names revisions that can be called, and all of the runs.
    pub(super) fn can_route(&self, shares: &[Share]) -> bool {
        let known = |share: &Share| self.loaded_as(share.revision).is_some();
        shares.is_empty() || (makes_up_all(shares) && shares.iter().all(known))
    }

    /// Notes what came of the revision that is being loaded.
    pub(super) fn settle(&mut self, fate: Fate) {
        let loading = |revision: &&mut Revision| revision.fate == Fate::Loading;
        for revision in self.revisions.iter_mut().filter(loading) {
            revision.fate = fate;
        }
    }

    /// Forgets the oldest revisions that nothing refers to.
    pub(super) fn prune(&mut self) {
        let routed: BTreeSet<u32> = self.shares.iter().map(|share| share.revision).collect();
        let (mut loaded, mut unloaded) = (0, 0);
        let mut kept: Vec<Revision> = Vec::with_capacity(self.revisions.len());
        for revision in self.revisions.drain(..).rev() {
            let keep = match revision.fate {
                _ if routed.contains(&revision.number) => true,
                Fate::Loading => true,
                Fate::Loaded => {
                    loaded += 1;
                    loaded <= LOADED_KEPT
                }
                Fate::Failed | Fate::Replaced => {
                    unloaded += 1;
                    unloaded <= UNLOADED_KEPT
                }
            };
            if keep {
                kept.push(revision);
            }
        }
        kept.reverse();
        self.revisions = kept;
    }
}

/// Whether shares are for different revisions and make up all runs.
pub(crate) fn makes_up_all(shares: &[Share]) -> bool {
    let numbers: BTreeSet<u32> = shares.iter().map(|share| share.revision).collect();
    let sum: u32 = shares.iter().map(|share| u32::from(share.percent)).sum();
    let any = shares.iter().all(|share| share.percent > 0);
    numbers.len() == shares.len() && sum == 100 && any
}

/// Where a run lies among a hundred. Ids of one moment differ in a few bits only, so these are
/// spread (the finalizer of SplitMix64).
fn hundredth(run: RunId) -> u64 {
    let (high, low) = run.0.as_u64_pair();
    let mut hash = high ^ low.rotate_left(32);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (hash ^ (hash >> 31)) % 100
}
