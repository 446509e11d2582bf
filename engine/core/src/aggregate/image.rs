//! An image: a base image and a layer of dependencies.
//!
//! ```text
//!  Waiting ──base image ready──► Building ──► Built | Failed
//!     ▲ └───────────── update ──────┴───────────┘
//! ```

use engine_model::spec::{ImageSpec, Root};
use engine_model::{ImageEvent, ResourceId, Timestamp};

use super::{Illegal, Scene};

/// A base image with dependencies.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Image {
    pub(crate) id: ResourceId,
    pub(crate) spec: ImageSpec,
    /// Counts the builds.
    pub(crate) build: u32,
    /// Whether it has ever been built.
    pub(crate) built_once: bool,
    pub(crate) stage: Stage,
}

/// What a layer is built on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Base {
    /// The language pack.
    pub(crate) language: String,
    /// Its root; none for the node's own interpreter.
    pub(crate) root: Option<Root>,
}

/// How far its build has come.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Stage {
    /// It waits for its base image.
    Waiting,
    /// A worker builds the layer.
    Building { base: Base, since: Timestamp },
    /// The layer is there.
    Built { base: Base, layer: Option<String> },
    /// The layer could not be built.
    Failed { base: Base, reason: String },
}

impl Image {
    pub(crate) fn evolve(
        state: Option<Self>,
        event: &ImageEvent,
        scene: &mut Scene<'_>,
    ) -> Result<Option<Self>, Illegal> {
        let Some(mut state) = state else {
            let ImageEvent::Created { id, spec } = event else {
                return Err(());
            };
            return Ok(Some(Self {
                id: *id,
                spec: spec.clone(),
                build: 0,
                built_once: false,
                stage: Stage::Waiting,
            }));
        };
        match event {
            ImageEvent::Created { .. } => return Err(()),
            ImageEvent::Updated { spec } => {
                state.spec = spec.clone();
                state.stage = Stage::Waiting;
            }
            ImageEvent::BuildRequested {
                build,
                language,
                root,
            } if *build > state.build => {
                state.build = *build;
                state.stage = Stage::Building {
                    base: Base {
                        language: language.clone(),
                        root: root.clone(),
                    },
                    since: scene.at,
                };
            }
            ImageEvent::Built { build, layer, .. } => {
                let base = state.awaited(*build).ok_or(())?;
                state.built_once = true;
                state.stage = Stage::Built {
                    base,
                    layer: layer.clone(),
                };
            }
            ImageEvent::BuildFailed { build, reason, .. } => {
                let base = state.awaited(*build).ok_or(())?;
                state.stage = Stage::Failed {
                    base,
                    reason: reason.clone(),
                };
            }
            ImageEvent::BuildRequested { .. } => return Err(()),
            ImageEvent::Deleted => return Ok(None),
        }
        Ok(Some(state))
    }

    /// What this build is on, if its outcome is still waited for.
    pub(crate) fn awaited(&self, build: u32) -> Option<Base> {
        match &self.stage {
            Stage::Building { base, .. } if self.build == build => Some(base.clone()),
            Stage::Building { .. }
            | Stage::Waiting
            | Stage::Built { .. }
            | Stage::Failed { .. } => None,
        }
    }
}
