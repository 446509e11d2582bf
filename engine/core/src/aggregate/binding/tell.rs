//! Between the events of a binding and what happens in its lives.

use engine_model::{BindingEvent, BindingId, RequestId, Timestamp};

use super::{BindingChange, Scene, Which};
use crate::life::{Attempt, Change};

/// The request that an event is about.
pub(super) fn request(event: &BindingEvent) -> Option<RequestId> {
    match event {
        BindingEvent::OperationAccepted { request, .. }
        | BindingEvent::OperationProgressed { request, .. }
        | BindingEvent::OperationDelayed { request, .. }
        | BindingEvent::Bound { request, .. }
        | BindingEvent::BindFailed { request, .. }
        | BindingEvent::UnbindFailed { request, .. }
        | BindingEvent::OrphanRemoved { request }
        | BindingEvent::Unbound { request, .. } => Some(*request),
        BindingEvent::Created { .. }
        | BindingEvent::BindRequested { .. }
        | BindingEvent::RotateRequested { .. }
        | BindingEvent::Rotated { .. }
        | BindingEvent::RotateFailed { .. }
        | BindingEvent::DeleteRequested
        | BindingEvent::UnbindRequested { .. }
        | BindingEvent::OrphanAbandoned { .. }
        | BindingEvent::Deleted
        | BindingEvent::Abandoned { .. } => None,
    }
}

/// The event as something that happens in a life; none for its beginning.
pub(super) fn change(event: &BindingEvent, scene: &Scene<'_>) -> Option<BindingChange> {
    Some(match event.clone() {
        BindingEvent::Created { .. }
        | BindingEvent::RotateRequested { .. }
        | BindingEvent::Rotated { .. }
        | BindingEvent::RotateFailed { .. } => return None,
        BindingEvent::OrphanAbandoned { reason } => Change::OrphanAbandoned { reason },
        BindingEvent::BindRequested {
            request,
            binding,
            attempt,
            deadline,
        } => Change::Requested(Attempt {
            request,
            number: attempt,
            limit_ms: deadline.since_ms(scene.at),
            existing: false,
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
            stale_catalog: false,
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
            again,
        } => Change::Failed {
            request,
            reason,
            orphan,
            again,
        },
        BindingEvent::DeleteRequested => Change::DeleteRequested,
        BindingEvent::UnbindRequested {
            request, attempt, ..
        } => Change::RemovalRequested {
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
        BindingEvent::Unbound { request, .. } => Change::Removed { request },
        BindingEvent::Deleted => Change::Deleted,
        BindingEvent::Abandoned { reason } => Change::Abandoned { reason },
    })
}

/// What a change to one of its lives needs besides, to be an event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Telling {
    pub(crate) which: Which,
    /// The binding at the broker that the life is about.
    pub(crate) binding: BindingId,
    /// The binding that a new one takes the place of, if the plan can rotate.
    pub(crate) predecessor: Option<BindingId>,
    /// When nobody uses the old one any more.
    pub(crate) drained_at: Timestamp,
    /// How often a rotation failed before.
    pub(crate) failures: u32,
    /// When a rotation that fails now is tried again.
    pub(crate) again_at: Timestamp,
    pub(crate) now: Timestamp,
}

/// The event of something that happens in one of a binding's lives.
pub(crate) fn event(change: BindingChange, telling: Telling) -> BindingEvent {
    let Telling { which, now, .. } = telling;
    let replaced = matches!(which, Which::Replaced(_)).then_some(telling.binding);
    match change {
        Change::Requested(attempt) if which == Which::Next => BindingEvent::RotateRequested {
            request: attempt.request,
            binding: attempt.what,
            predecessor: telling.predecessor,
            attempt: attempt.number,
            deadline: now.plus_ms(attempt.limit_ms),
        },
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
            ..
        } => BindingEvent::OperationDelayed {
            request,
            reason,
            delays,
            next_at,
        },
        Change::Made { request, made } if which == Which::Next => BindingEvent::Rotated {
            request,
            bound: *made,
            drained_at: telling.drained_at,
        },
        Change::Made { request, made } => BindingEvent::Bound {
            request,
            bound: *made,
        },
        Change::Failed {
            request,
            reason,
            orphan,
            ..
        } if which == Which::Next => BindingEvent::RotateFailed {
            request,
            reason,
            orphan,
            failures: telling.failures + 1,
            next_at: telling.again_at,
        },
        Change::Failed {
            request,
            reason,
            orphan,
            again,
        } => BindingEvent::BindFailed {
            request,
            reason,
            orphan,
            again,
        },
        Change::DeleteRequested => BindingEvent::DeleteRequested,
        Change::RemovalRequested { request, number } => BindingEvent::UnbindRequested {
            request,
            replaced,
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
        Change::Removed { request } => BindingEvent::Unbound { request, replaced },
        Change::Deleted => BindingEvent::Deleted,
        Change::OrphanAbandoned { reason } => BindingEvent::OrphanAbandoned { reason },
        Change::Abandoned { reason } => BindingEvent::Abandoned { reason },
    }
}
