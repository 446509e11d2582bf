//! A function and its revisions. The last loaded revision serves until a newer one is loaded,
//! unless runs are routed to others.
//!
//! ```text
//!             all that it names is there
//!  Waiting ─────────────────────────────► Loading ──► Loaded | Failed
//!     ▲  update, rollback                    ▲             │ what it names changed
//!     └──────────────────────────────────────┴─────────────┘
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use engine_model::spec::{FunctionSpec, ServiceUse};
use engine_model::{
    Because, FunctionEvent, FunctionId, FunctionLoad, RevisionId, Share, Timestamp,
};

use super::{Illegal, Leftover, Scene};
pub(crate) use revision::{Fate, Revision, makes_up_all};

mod revision;

/// Something to run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Function {
    pub(crate) id: FunctionId,
    pub(crate) spec: Arc<FunctionSpec>,
    /// Counts the revisions.
    pub(crate) number: u32,
    /// The newest revision that was loaded: the one that is called, unless runs are divided.
    pub(crate) serving: Option<Arc<FunctionLoad>>,
    pub(crate) stage: Stage,
    /// Why the document is as it is.
    pub(crate) because: Because,
    /// Those that are kept, by number.
    pub(crate) revisions: Vec<Revision>,
    /// How runs are divided; empty when the newest loaded revision takes them all.
    pub(crate) shares: Vec<Share>,
}

/// How far the newest revision has come.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Stage {
    /// The document is not yet a revision: something that it names is not there.
    Waiting,
    /// A worker loads the revision.
    Loading {
        load: Arc<FunctionLoad>,
        since: Timestamp,
    },
    /// The newest revision serves.
    Loaded,
    /// The newest revision cannot be loaded.
    Failed {
        load: Arc<FunctionLoad>,
        reason: String,
    },
}

impl Function {
    /// The instances that it uses, as it is and as it is to be.
    pub(crate) fn uses(&self) -> impl Iterator<Item = &ServiceUse> {
        let serving = self.serving.iter().flat_map(|load| &load.spec.services);
        let routed = self.routed().flat_map(|own| &own.load.spec.services);
        self.spec.services.iter().chain(serving).chain(routed)
    }

    pub(crate) fn evolve(
        state: Option<Self>,
        event: &FunctionEvent,
        scene: &mut Scene<'_>,
    ) -> Result<Option<Self>, Illegal> {
        let Some(mut state) = state else {
            let FunctionEvent::Created { id, spec } = event else {
                return Err(());
            };
            return Ok(Some(Self {
                id: *id,
                spec: Arc::new(spec.clone()),
                number: 0,
                serving: None,
                stage: Stage::Waiting,
                because: Because::Created,
                revisions: Vec::new(),
                shares: Vec::new(),
            }));
        };
        let before = state.active();
        let gone = match event {
            FunctionEvent::Created { .. } => return Err(()),
            FunctionEvent::Deleted => true,
            FunctionEvent::Updated { .. }
            | FunctionEvent::RolledBack { .. }
            | FunctionEvent::Routed { .. }
            | FunctionEvent::LoadRequested { .. }
            | FunctionEvent::Loaded { .. }
            | FunctionEvent::LoadFailed { .. } => {
                state.change(event, scene.at)?;
                state.prune();
                false
            }
        };
        let active = if gone {
            BTreeSet::new()
        } else {
            state.active()
        };
        let idle = before.difference(&active).copied();
        scene.leftovers.extend(idle.map(Leftover::Revision));
        Ok((!gone).then_some(state))
    }

    fn change(&mut self, event: &FunctionEvent, at: Timestamp) -> Result<(), Illegal> {
        match event {
            FunctionEvent::Updated { spec } => self.update(spec),
            FunctionEvent::RolledBack { to, spec } => {
                self.spec = Arc::new(spec.clone());
                self.because = Because::RolledBack { to: *to };
                self.wait();
            }
            FunctionEvent::Routed { shares } => {
                if !self.can_route(shares) {
                    return Err(());
                }
                self.shares.clone_from(shares);
            }
            FunctionEvent::LoadRequested {
                revision,
                number,
                language,
                layer,
                root,
                endpoints,
                because,
            } if *number > self.number => {
                self.settle(Fate::Replaced);
                self.number = *number;
                let load = Arc::new(FunctionLoad {
                    revision: *revision,
                    language: language.clone(),
                    layer: layer.clone(),
                    root: root.clone(),
                    spec: self.spec.clone(),
                    endpoints: endpoints.clone(),
                });
                self.revisions.push(Revision {
                    number: *number,
                    load: load.clone(),
                    because: *because,
                    at,
                    fate: Fate::Loading,
                });
                self.stage = Stage::Loading { load, since: at };
            }
            FunctionEvent::Loaded { revision } => {
                let load = self.awaited(*revision).ok_or(())?;
                self.settle(Fate::Loaded);
                self.serving = Some(load);
                self.stage = Stage::Loaded;
            }
            FunctionEvent::LoadFailed { revision, reason } => {
                let load = self.awaited(*revision).ok_or(())?;
                self.settle(Fate::Failed);
                self.stage = Stage::Failed {
                    load,
                    reason: reason.clone(),
                };
            }
            FunctionEvent::Created { .. }
            | FunctionEvent::LoadRequested { .. }
            | FunctionEvent::Deleted => return Err(()),
        }
        Ok(())
    }

    fn update(&mut self, spec: &FunctionSpec) {
        let covered = self.covers(spec);
        self.spec = Arc::new(spec.clone());
        if covered {
            return;
        }
        if self.number > 0 {
            self.because = Because::Updated;
        }
        self.wait();
    }

    /// Whether the newest revision has this document, and is loaded or being loaded.
    pub(crate) fn covers(&self, spec: &FunctionSpec) -> bool {
        match &self.stage {
            Stage::Loading { load, .. } => *load.spec == *spec,
            Stage::Loaded => self
                .serving
                .as_ref()
                .is_some_and(|load| *load.spec == *spec),
            // The document was sent again so that it is tried again.
            Stage::Waiting | Stage::Failed { .. } => false,
        }
    }

    /// The document is another one now.
    fn wait(&mut self) {
        self.settle(Fate::Replaced);
        self.stage = Stage::Waiting;
    }

    /// The revision, if its outcome is still waited for.
    pub(crate) fn awaited(&self, revision: RevisionId) -> Option<Arc<FunctionLoad>> {
        match &self.stage {
            Stage::Loading { load, .. } if load.revision == revision => Some(load.clone()),
            Stage::Loading { .. } | Stage::Waiting | Stage::Loaded | Stage::Failed { .. } => None,
        }
    }

    /// The newest revision that was asked for, unless the document has changed since.
    pub(crate) fn newest(&self) -> Option<&Arc<FunctionLoad>> {
        match &self.stage {
            Stage::Waiting => None,
            Stage::Loading { load, .. } | Stage::Failed { load, .. } => Some(load),
            Stage::Loaded => self.serving.as_ref(),
        }
    }
}
