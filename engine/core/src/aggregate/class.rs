//! A service class and its plans, as its broker's catalog last had them. One that vanished from
//! the catalog is kept for those who use it.

use std::sync::Arc;

use engine_model::broker::{Offering, Plan};
use engine_model::{ClassEvent, Name, ResourceId};

use super::Illegal;

/// A service that a broker offers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Class {
    pub(crate) id: ResourceId,
    pub(crate) broker: Name,
    pub(crate) offering: Arc<Offering>,
    /// Whether the catalog still has it.
    pub(crate) offered: bool,
}

impl Class {
    pub(crate) fn evolve(state: Option<Self>, event: &ClassEvent) -> Result<Option<Self>, Illegal> {
        match (state, event) {
            (
                None | Some(Self { offered: false, .. }),
                ClassEvent::Offered {
                    id,
                    broker,
                    offering,
                },
            ) => Ok(Some(Self {
                id: *id,
                broker: broker.clone(),
                offering: Arc::new(offering.clone()),
                offered: true,
            })),
            (Some(state), ClassEvent::Changed { offering, .. }) if state.offered => {
                Ok(Some(Self {
                    offering: Arc::new(offering.clone()),
                    ..state
                }))
            }
            (Some(state), ClassEvent::Withdrawn) if state.offered => Ok(Some(Self {
                offered: false,
                ..state
            })),
            (Some(_), _) | (None, ClassEvent::Changed { .. } | ClassEvent::Withdrawn) => Err(()),
        }
    }

    /// The plan of this name.
    pub(crate) fn plan(&self, name: &str) -> Option<&Plan> {
        self.offering.plans.iter().find(|plan| plan.name == name)
    }
}
