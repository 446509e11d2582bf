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
    /// Plans that the catalog has no more, as they last were.
    pub(crate) gone: Vec<Plan>,
    /// Whether the catalog still has it.
    pub(crate) offered: bool,
}

impl Class {
    pub(crate) fn evolve(state: Option<Self>, event: &ClassEvent) -> Result<Option<Self>, Illegal> {
        match (state, event) {
            (
                state @ (None | Some(Self { offered: false, .. })),
                ClassEvent::Offered {
                    id,
                    broker,
                    offering,
                },
            ) => {
                // What another broker offered under this name is no plan of this one.
                let known = state.filter(|known| known.broker == *broker);
                Ok(Some(Self {
                    id: *id,
                    broker: broker.clone(),
                    gone: known.map_or_else(Vec::new, |known| known.plans_gone(offering)),
                    offering: Arc::new(offering.clone()),
                    offered: true,
                }))
            }
            (Some(state), ClassEvent::Changed { offering, .. }) if state.offered => {
                Ok(Some(Self {
                    gone: state.plans_gone(offering),
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

    /// The plans that were known and that `offering` does not have, by the broker's ids.
    fn plans_gone(&self, offering: &Offering) -> Vec<Plan> {
        let known = self.gone.iter().chain(&self.offering.plans);
        let offered = |id: &str| offering.plans.iter().any(|plan| plan.id == id);
        known.filter(|plan| !offered(&plan.id)).cloned().collect()
    }

    /// The plan of this id, also one that the catalog has no more.
    pub(crate) fn plan_by_id(&self, id: &str) -> Option<&Plan> {
        let mut plans = self.offering.plans.iter().chain(&self.gone);
        plans.find(|plan| plan.id == id)
    }

    /// The plan of this name.
    pub(crate) fn plan(&self, name: &str) -> Option<&Plan> {
        self.offering.plans.iter().find(|plan| plan.name == name)
    }
}
