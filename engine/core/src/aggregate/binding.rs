//! A service binding: a life at a broker, whose fruit is credentials.

use engine_model::broker::BoundCredentials;
use engine_model::{BindingEvent, BindingId, InstanceId, ResourceId, Timestamp};

use super::wish::BindingWish;
use super::{Illegal, Leftover, Scene};
use crate::life::{Attempt, Change, Life};

/// The credentials to use an instance.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Binding {
    pub(crate) id: ResourceId,
    pub(crate) instance: InstanceId,
    pub(crate) wish: BindingWish,
    pub(crate) life: Life<BindingId, Box<BoundCredentials>>,
}

type BindingChange = Change<BindingId, Box<BoundCredentials>>;

impl Binding {
    pub(crate) fn evolve(
        state: Option<Self>,
        event: &BindingEvent,
        scene: &mut Scene<'_>,
    ) -> Result<Option<Self>, Illegal> {
        let Some(state) = state else {
            let BindingEvent::Created { id, instance, spec } = event else {
                return Err(());
            };
            return Ok(Some(Self {
                id: *id,
                instance: *instance,
                wish: BindingWish::of(spec),
                life: Life::new(),
            }));
        };
        let change = change(event, scene).ok_or(())?;
        let old = state.life.made().map(|made| made.credentials.key.clone());
        let life = state.life.evolve(change, scene.at)?;
        let kept = life
            .as_ref()
            .and_then(Life::made)
            .map(|made| &made.credentials.key);
        if let Some(old) = old
            && kept != Some(&old)
        {
            scene.leftovers.push(Leftover::Key(old));
        }
        Ok(life.map(|life| Self { life, ..state }))
    }

    /// The credentials, if functions may use them.
    pub(crate) fn bound(&self) -> Option<&BoundCredentials> {
        if self.life.is_made() {
            self.life.made().map(AsRef::as_ref)
        } else {
            None
        }
    }
}

/// The event as something that happens in a life; none for its beginning.
fn change(event: &BindingEvent, scene: &Scene<'_>) -> Option<BindingChange> {
    Some(match event.clone() {
        BindingEvent::Created { .. } => return None,
        BindingEvent::BindRequested {
            request,
            binding,
            attempt,
            deadline,
        } => Change::Requested(Attempt {
            request,
            number: attempt,
            limit_ms: deadline.since_ms(scene.at),
            what: binding,
        }),
        BindingEvent::OperationAccepted {
            request,
            operation,
            next_at,
        } => Change::Accepted {
            request,
            operation,
            dashboard_url: None,
            next_at,
        },
        BindingEvent::OperationProgressed {
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
        BindingEvent::OperationDelayed {
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
        BindingEvent::Bound { request, bound } => Change::Made {
            request,
            made: Box::new(bound),
        },
        BindingEvent::BindFailed {
            request,
            reason,
            orphan,
        } => Change::Failed {
            request,
            reason,
            orphan,
        },
        BindingEvent::DeleteRequested => Change::DeleteRequested,
        BindingEvent::UnbindRequested { request, attempt } => Change::RemovalRequested {
            request,
            number: attempt,
        },
        BindingEvent::UnbindFailed {
            request,
            reason,
            next_at,
        } => Change::RemovalFailed {
            request,
            reason,
            next_at,
        },
        BindingEvent::OrphanRemoved { request } => Change::OrphanRemoved { request },
        BindingEvent::Unbound { request } => Change::Removed { request },
        BindingEvent::Deleted => Change::Deleted,
        BindingEvent::Abandoned { reason } => Change::Abandoned { reason },
    })
}

/// The event of something that happens in a binding's life.
pub(crate) fn event(change: BindingChange, now: Timestamp) -> BindingEvent {
    match change {
        Change::Requested(attempt) => BindingEvent::BindRequested {
            request: attempt.request,
            binding: attempt.what,
            attempt: attempt.number,
            deadline: now.plus_ms(attempt.limit_ms),
        },
        Change::Accepted {
            request,
            operation,
            next_at,
            ..
        } => BindingEvent::OperationAccepted {
            request,
            operation,
            next_at,
        },
        Change::Progressed {
            request,
            description,
            polls,
            next_at,
        } => BindingEvent::OperationProgressed {
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
        } => BindingEvent::OperationDelayed {
            request,
            reason,
            delays,
            next_at,
        },
        Change::Made { request, made } => BindingEvent::Bound {
            request,
            bound: *made,
        },
        Change::Failed {
            request,
            reason,
            orphan,
        } => BindingEvent::BindFailed {
            request,
            reason,
            orphan,
        },
        Change::DeleteRequested => BindingEvent::DeleteRequested,
        Change::RemovalRequested { request, number } => BindingEvent::UnbindRequested {
            request,
            attempt: number,
        },
        Change::RemovalFailed {
            request,
            reason,
            next_at,
        } => BindingEvent::UnbindFailed {
            request,
            reason,
            next_at,
        },
        Change::OrphanRemoved { request } => BindingEvent::OrphanRemoved { request },
        Change::Removed { request } => BindingEvent::Unbound { request },
        Change::Deleted => BindingEvent::Deleted,
        Change::Abandoned { reason } => BindingEvent::Abandoned { reason },
    }
}
