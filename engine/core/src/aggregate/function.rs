//! A function and its revisions. The last loaded revision serves until a newer one is loaded.
//!
//! ```text
//!             all that it names is there
//!  Waiting ─────────────────────────────► Loading ──► Loaded | Failed
//!     ▲  update                              ▲             │ what it names changed
//!     └──────────────────────────────────────┴─────────────┘
//! ```

use std::sync::Arc;

use engine_model::spec::{FunctionSpec, ServiceUse};
use engine_model::{FunctionEvent, FunctionId, FunctionLoad, RevisionId, Timestamp};

use super::{Illegal, Leftover, Scene};

/// Something to run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Function {
    pub(crate) id: FunctionId,
    pub(crate) spec: Arc<FunctionSpec>,
    /// Counts the revisions.
    pub(crate) number: u32,
    /// The revision that is called.
    pub(crate) serving: Option<Arc<FunctionLoad>>,
    pub(crate) stage: Stage,
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
        self.spec.services.iter().chain(serving)
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
            }));
        };
        match event {
            FunctionEvent::Created { .. } => return Err(()),
            FunctionEvent::Updated { spec } => state.update(spec, scene),
            FunctionEvent::LoadRequested {
                revision,
                number,
                language,
                layer,
                endpoints,
            } if *number > state.number => {
                if let Stage::Loading { load, .. } = &state.stage {
                    scene.leftovers.push(Leftover::Revision(load.revision));
                }
                state.number = *number;
                state.stage = Stage::Loading {
                    load: Arc::new(FunctionLoad {
                        revision: *revision,
                        language: language.clone(),
                        layer: layer.clone(),
                        spec: (*state.spec).clone(),
                        endpoints: endpoints.clone(),
                    }),
                    since: scene.at,
                };
            }
            FunctionEvent::Loaded { revision } => {
                let load = state.awaited(*revision).ok_or(())?;
                if let Some(old) = state.serving.replace(load) {
                    scene.leftovers.push(Leftover::Revision(old.revision));
                }
                state.stage = Stage::Loaded;
            }
            FunctionEvent::LoadFailed { revision, reason } => {
                let load = state.awaited(*revision).ok_or(())?;
                scene.leftovers.push(Leftover::Revision(*revision));
                state.stage = Stage::Failed {
                    load,
                    reason: reason.clone(),
                };
            }
            FunctionEvent::LoadRequested { .. } => return Err(()),
            FunctionEvent::Deleted => {
                let revisions = state.revisions().map(|load| load.revision);
                scene.leftovers.extend(revisions.map(Leftover::Revision));
                return Ok(None);
            }
        }
        Ok(Some(state))
    }

    fn update(&mut self, spec: &FunctionSpec, scene: &mut Scene<'_>) {
        let covered = match &self.stage {
            Stage::Loading { load, .. } => load.spec == *spec,
            Stage::Loaded => self.serving.as_ref().is_some_and(|load| load.spec == *spec),
            // The document was sent again so that it is tried again.
            Stage::Waiting | Stage::Failed { .. } => false,
        };
        self.spec = Arc::new(spec.clone());
        if covered {
            return;
        }
        if let Stage::Loading { load, .. } = &self.stage {
            scene.leftovers.push(Leftover::Revision(load.revision));
        }
        self.stage = Stage::Waiting;
    }

    /// The revision, if its outcome is still waited for.
    pub(crate) fn awaited(&self, revision: RevisionId) -> Option<Arc<FunctionLoad>> {
        match &self.stage {
            Stage::Loading { load, .. } if load.revision == revision => Some(load.clone()),
            Stage::Loading { .. } | Stage::Waiting | Stage::Loaded | Stage::Failed { .. } => None,
        }
    }

    /// Revisions that workers may hold.
    fn revisions(&self) -> impl Iterator<Item = &Arc<FunctionLoad>> {
        let loading = match &self.stage {
            Stage::Loading { load, .. } => Some(load),
            Stage::Waiting | Stage::Loaded | Stage::Failed { .. } => None,
        };
        self.serving.iter().chain(loading)
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
