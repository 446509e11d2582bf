//! A base image: an interpreter that a node makes ready.

use engine_model::spec::{BaseImageSpec, Root};
use engine_model::{BaseImageEvent, ResourceId, Timestamp};

use super::{Illegal, Scene};

/// An interpreter and its root.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BaseImage {
    pub(crate) id: ResourceId,
    pub(crate) spec: BaseImageSpec,
    /// Counts the preparations.
    pub(crate) generation: u32,
    pub(crate) stage: Stage,
}

/// How far its preparation has come.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Stage {
    /// A node is to prepare it.
    Preparing { since: Timestamp },
    /// It can be used: with this root, or with the node's own interpreter.
    Prepared { root: Option<Root> },
    /// It cannot be used.
    Failed { reason: String },
}

impl BaseImage {
    pub(crate) fn evolve(
        state: Option<Self>,
        event: &BaseImageEvent,
        scene: &mut Scene<'_>,
    ) -> Result<Option<Self>, Illegal> {
        let preparing = Stage::Preparing { since: scene.at };
        match (state, event) {
            (None, BaseImageEvent::Created { id, spec }) => Ok(Some(Self {
                id: *id,
                spec: spec.clone(),
                generation: 1,
                stage: preparing,
            })),
            (Some(state), BaseImageEvent::Updated { spec }) => Ok(Some(Self {
                id: state.id,
                spec: spec.clone(),
                generation: state.generation + 1,
                stage: preparing,
            })),
            (
                Some(state),
                BaseImageEvent::Prepared {
                    generation, digest, ..
                },
            ) if state.awaits(*generation) => {
                let root = digest.as_ref().map(|digest| Root {
                    url: state.spec.docker_url.clone(),
                    digest: digest.clone(),
                });
                Ok(Some(Self {
                    stage: Stage::Prepared { root },
                    ..state
                }))
            }
            (Some(state), BaseImageEvent::PrepareFailed { generation, reason })
                if state.awaits(*generation) =>
            {
                Ok(Some(Self {
                    stage: Stage::Failed {
                        reason: reason.clone(),
                    },
                    ..state
                }))
            }
            (Some(_), BaseImageEvent::Deleted) => Ok(None),
            (Some(_), _)
            | (
                None,
                BaseImageEvent::Updated { .. }
                | BaseImageEvent::Prepared { .. }
                | BaseImageEvent::PrepareFailed { .. }
                | BaseImageEvent::Deleted,
            ) => Err(()),
        }
    }

    /// Whether the outcome of this preparation is still waited for.
    pub(crate) fn awaits(&self, generation: u32) -> bool {
        self.generation == generation && matches!(self.stage, Stage::Preparing { .. })
    }
}
