//! A secret: a sealed map. A key that nothing is sealed under any more is left to be erased.

use engine_model::{ResourceId, Sealed, SecretEvent};

use super::{Illegal, Leftover, Scene};

/// A sealed map.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Secret {
    pub(crate) id: ResourceId,
    pub(crate) sealed: Sealed,
    /// Whether it goes as soon as its users are gone.
    pub(crate) deleting: bool,
}

impl Secret {
    pub(crate) fn evolve(
        state: Option<Self>,
        event: &SecretEvent,
        scene: &mut Scene<'_>,
    ) -> Result<Option<Self>, Illegal> {
        match (state, event) {
            (None, SecretEvent::Created { id, sealed, .. }) => Ok(Some(Self {
                id: *id,
                sealed: sealed.clone(),
                deleting: false,
            })),
            (Some(state), SecretEvent::Updated { sealed, .. }) => {
                if sealed.key != state.sealed.key {
                    scene.leftovers.push(Leftover::Key(state.sealed.key));
                }
                Ok(Some(Self {
                    id: state.id,
                    sealed: sealed.clone(),
                    deleting: state.deleting,
                }))
            }
            (Some(state), SecretEvent::DeleteRequested) => Ok(Some(Self {
                deleting: true,
                ..state
            })),
            (Some(state), SecretEvent::Deleted) => {
                scene.leftovers.push(Leftover::Key(state.sealed.key));
                Ok(None)
            }
            (Some(_), SecretEvent::Created { .. })
            | (
                None,
                SecretEvent::Updated { .. } | SecretEvent::DeleteRequested | SecretEvent::Deleted,
            ) => Err(()),
        }
    }
}
