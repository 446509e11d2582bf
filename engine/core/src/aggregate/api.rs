//! An HTTP endpoint in front of a function.

use engine_model::spec::ApiSpec;
use engine_model::{ApiEvent, ResourceId, Timestamp};

use super::{Illegal, Scene};

/// An endpoint.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Api {
    pub(crate) id: ResourceId,
    pub(crate) spec: ApiSpec,
    /// Counts the changes that gateways were told of.
    pub(crate) generation: u32,
    /// Whether a gateway has ever served it.
    pub(crate) served_once: bool,
    pub(crate) stage: Stage,
}

/// How far it has come.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Stage {
    /// It waits for its function.
    Waiting,
    /// A gateway is to serve it.
    Requested { since: Timestamp },
    /// It is served.
    Served,
    /// It cannot be served.
    Failed { reason: String },
}

impl Api {
    pub(crate) fn evolve(
        state: Option<Self>,
        event: &ApiEvent,
        scene: &mut Scene<'_>,
    ) -> Result<Option<Self>, Illegal> {
        let Some(mut state) = state else {
            let ApiEvent::Created { id, spec } = event else {
                return Err(());
            };
            return Ok(Some(Self {
                id: *id,
                spec: spec.clone(),
                generation: 0,
                served_once: false,
                stage: Stage::Waiting,
            }));
        };
        match event {
            ApiEvent::Created { .. } => return Err(()),
            ApiEvent::Updated { spec } => {
                state.spec = spec.clone();
                state.stage = Stage::Waiting;
            }
            ApiEvent::ServeRequested { generation } if *generation > state.generation => {
                state.generation = *generation;
                state.stage = Stage::Requested { since: scene.at };
            }
            ApiEvent::Served { generation } if state.awaits(*generation) => {
                state.served_once = true;
                state.stage = Stage::Served;
            }
            ApiEvent::ServeFailed { generation, reason } if state.awaits(*generation) => {
                state.stage = Stage::Failed {
                    reason: reason.clone(),
                };
            }
            ApiEvent::ServeRequested { .. }
            | ApiEvent::Served { .. }
            | ApiEvent::ServeFailed { .. } => return Err(()),
            ApiEvent::Deleted => return Ok(None),
        }
        Ok(Some(state))
    }

    /// Whether the outcome of this change is still waited for.
    pub(crate) fn awaits(&self, generation: u32) -> bool {
        self.generation == generation && matches!(self.stage, Stage::Requested { .. })
    }
}
