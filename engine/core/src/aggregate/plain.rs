//! Kinds that wait for nothing: organizations, service accounts and applications.

use engine_model::spec::{ApplicationSpec, OrganizationSpec, ServiceAccountSpec};
use engine_model::{ApplicationEvent, OrganizationEvent, ResourceId, ServiceAccountEvent};

use super::Illegal;

/// A tenant.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Organization {
    pub(crate) id: ResourceId,
    pub(crate) spec: OrganizationSpec,
    /// Whether it goes as soon as all that it owns is gone.
    pub(crate) deleting: bool,
}

impl Organization {
    pub(crate) fn evolve(
        state: Option<Self>,
        event: &OrganizationEvent,
    ) -> Result<Option<Self>, Illegal> {
        match (state, event) {
            (None, OrganizationEvent::Created { id, spec }) => Ok(Some(Self {
                id: *id,
                spec: spec.clone(),
                deleting: false,
            })),
            (Some(state), OrganizationEvent::DeleteRequested) => Ok(Some(Self {
                deleting: true,
                ..state
            })),
            (Some(_), OrganizationEvent::Deleted) => Ok(None),
            (Some(_), OrganizationEvent::Created { .. })
            | (None, OrganizationEvent::DeleteRequested | OrganizationEvent::Deleted) => Err(()),
        }
    }
}

/// A machine's way in.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ServiceAccount {
    pub(crate) id: ResourceId,
    pub(crate) spec: ServiceAccountSpec,
}

impl ServiceAccount {
    pub(crate) fn evolve(
        state: Option<Self>,
        event: &ServiceAccountEvent,
    ) -> Result<Option<Self>, Illegal> {
        match (state, event) {
            (None, ServiceAccountEvent::Created { id, spec }) => Ok(Some(Self {
                id: *id,
                spec: spec.clone(),
            })),
            (Some(state), ServiceAccountEvent::Updated { spec }) => Ok(Some(Self {
                spec: spec.clone(),
                ..state
            })),
            (Some(_), ServiceAccountEvent::Deleted) => Ok(None),
            (Some(_), ServiceAccountEvent::Created { .. })
            | (None, ServiceAccountEvent::Updated { .. } | ServiceAccountEvent::Deleted) => Err(()),
        }
    }
}

/// A label.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Application {
    pub(crate) id: ResourceId,
    pub(crate) spec: ApplicationSpec,
}

impl Application {
    pub(crate) fn evolve(
        state: Option<Self>,
        event: &ApplicationEvent,
    ) -> Result<Option<Self>, Illegal> {
        match (state, event) {
            (None, ApplicationEvent::Created { id, spec }) => Ok(Some(Self {
                id: *id,
                spec: spec.clone(),
            })),
            (Some(state), ApplicationEvent::Updated { spec }) => Ok(Some(Self {
                spec: spec.clone(),
                ..state
            })),
            (Some(_), ApplicationEvent::Deleted) => Ok(None),
            (Some(_), ApplicationEvent::Created { .. })
            | (None, ApplicationEvent::Updated { .. } | ApplicationEvent::Deleted) => Err(()),
        }
    }
}
