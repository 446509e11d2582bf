//! A service instance: a life at a broker.

use std::sync::Arc;

use engine_model::{InstanceEvent, InstanceId, Name};

use super::wish::Wish;
use super::{Illegal, Scene};
use crate::life::{Attempt, Change, Life};

/// What the broker was asked for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ordered {
    pub(crate) broker: Name,
    pub(crate) service_id: Box<str>,
    pub(crate) plan_id: Box<str>,
    pub(crate) bindable: bool,
}

/// Nothing but its being there is known of a provisioned instance here.
pub(crate) type There = ();

/// An instance of a class.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Instance {
    pub(crate) id: InstanceId,
    pub(crate) wish: Arc<Wish>,
    pub(crate) dashboard_url: Option<Box<str>>,
    pub(crate) life: Life<Ordered, There>,
}

impl Instance {
    pub(crate) fn evolve(
        state: Option<Self>,
        event: &InstanceEvent,
        scene: &mut Scene<'_>,
    ) -> Result<Option<Self>, Illegal> {
        let Some(state) = state else {
            let InstanceEvent::Created { id, spec } = event else {
                return Err(());
            };
            return Ok(Some(Self {
                id: *id,
                wish: Arc::new(Wish::of(spec)),
                dashboard_url: None,
                life: Life::new(),
            }));
        };
        let dashboard_url = match event {
            InstanceEvent::OperationAccepted { dashboard_url, .. }
            | InstanceEvent::Provisioned { dashboard_url, .. } => {
                dashboard_url.as_deref().map(Box::from)
            }
            _ => None,
        };
        let change = change(event, scene).ok_or(())?;
        let life = state.life.evolve(change, scene.at)?;
        Ok(life.map(|life| Self {
            life,
            dashboard_url: dashboard_url.or(state.dashboard_url),
            ..state
        }))
    }
}

/// The event as something that happens in a life; none for its beginning.
fn change(event: &InstanceEvent, scene: &Scene<'_>) -> Option<Change<Ordered, There>> {
    Some(match event.clone() {
        InstanceEvent::Created { .. } => return None,
        InstanceEvent::ProvisionRequested {
            request,
            attempt,
            broker,
            service_id,
            plan_id,
            bindable,
            deadline,
        } => Change::Requested(Attempt {
            request,
            number: attempt,
            limit_ms: deadline.since_ms(scene.at),
            what: Ordered {
                broker,
                service_id: service_id.into(),
                plan_id: plan_id.into(),
                bindable,
            },
        }),
        InstanceEvent::OperationAccepted {
            request,
            operation,
            dashboard_url,
            next_at,
        } => Change::Accepted {
            request,
            operation,
            dashboard_url,
            next_at,
        },
        InstanceEvent::OperationProgressed {
            request,
            description,
            polls,
            next_at,
        } => Change::Progressed {
            request,
            description,
            polls,
            next_at,
        },
        InstanceEvent::OperationDelayed {
            request,
            reason,
            delays,
            next_at,
        } => Change::Delayed {
            request,
            reason,
            delays,
            next_at,
        },
        InstanceEvent::Provisioned { request, .. } => Change::Made { request, made: () },
        InstanceEvent::ProvisionFailed {
            request,
            reason,
            orphan,
        } => Change::Failed {
            request,
            reason,
            orphan,
        },
        InstanceEvent::DeleteRequested => Change::DeleteRequested,
        InstanceEvent::DeprovisionRequested { request, attempt } => Change::RemovalRequested {
            request,
            number: attempt,
        },
        InstanceEvent::DeprovisionFailed {
            request,
            reason,
            next_at,
        } => Change::RemovalFailed {
            request,
            reason,
            next_at,
        },
        InstanceEvent::OrphanRemoved { request } => Change::OrphanRemoved { request },
        InstanceEvent::Deprovisioned { request } => Change::Removed { request },
        InstanceEvent::Deleted => Change::Deleted,
        InstanceEvent::Abandoned { reason } => Change::Abandoned { reason },
    })
}

/// The event of something that happens in an instance's life.
pub(crate) fn event(
    change: Change<Ordered, There>,
    dashboard: Option<String>,
    now: engine_model::Timestamp,
) -> InstanceEvent {
    match change {
        Change::Requested(attempt) => InstanceEvent::ProvisionRequested {
            request: attempt.request,
            attempt: attempt.number,
            broker: attempt.what.broker,
            service_id: attempt.what.service_id.into(),
            plan_id: attempt.what.plan_id.into(),
            bindable: attempt.what.bindable,
            deadline: now.plus_ms(attempt.limit_ms),
        },
        Change::Accepted {
            request,
            operation,
            dashboard_url,
            next_at,
        } => InstanceEvent::OperationAccepted {
            request,
            operation,
            dashboard_url,
            next_at,
        },
        Change::Progressed {
            request,
            description,
            polls,
            next_at,
        } => InstanceEvent::OperationProgressed {
            request,
            description,
            polls,
            next_at,
        },
        Change::Delayed {
            request,
            reason,
            delays,
            next_at,
        } => InstanceEvent::OperationDelayed {
            request,
            reason,
            delays,
            next_at,
        },
        Change::Made { request, made: () } => InstanceEvent::Provisioned {
            request,
            dashboard_url: dashboard,
        },
        Change::Failed {
            request,
            reason,
            orphan,
        } => InstanceEvent::ProvisionFailed {
            request,
            reason,
            orphan,
        },
        Change::DeleteRequested => InstanceEvent::DeleteRequested,
        Change::RemovalRequested { request, number } => InstanceEvent::DeprovisionRequested {
            request,
            attempt: number,
        },
        Change::RemovalFailed {
            request,
            reason,
            next_at,
        } => InstanceEvent::DeprovisionFailed {
            request,
            reason,
            next_at,
        },
        Change::OrphanRemoved { request } => InstanceEvent::OrphanRemoved { request },
        Change::Removed { request } => InstanceEvent::Deprovisioned { request },
        Change::Deleted => InstanceEvent::Deleted,
        Change::Abandoned { reason } => InstanceEvent::Abandoned { reason },
    }
}
