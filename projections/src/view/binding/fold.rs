//! How a binding's row goes on by what happens. Which of its lives at the broker an event is about
//! is told by the request.

use engine_model::{BindingEvent, BindingId, RequestId, Timestamp};

use super::{Given, Lived, Replaced, RotationFailed, Row, Turnover};
use crate::view::life::Life;
use crate::view::operation::{Operation, Work};

/// What becomes of the row of a binding.
pub(super) fn evolve(row: Option<Row>, at: Timestamp, event: &BindingEvent) -> Option<Row> {
    use BindingEvent as E;
    if let E::Created {
        id,
        instance,
        owner,
        function,
        tags,
        spec,
    } = event
    {
        return Some(Row {
            id: *id,
            instance: *instance,
            owner: owner.clone(),
            function: function.clone(),
            tags: tags.clone(),
            created: at,
            changed: at,
            spec: spec.clone(),
            in_use: Lived::new(),
            turnover: None,
        });
    }
    let mut row = row?;
    row.changed = at;
    match event {
        E::Unbound { replaced: None, .. } | E::Deleted | E::Abandoned { .. } => return None,
        E::RotateRequested { .. } | E::Rotated { .. } | E::RotateFailed { .. } => {
            row.turn(at, event);
        }
        E::UnbindRequested {
            request,
            replaced: Some(which),
            attempt,
        } => row.unbind_replaced(*which, *request, *attempt, at),
        E::Unbound {
            replaced: Some(which),
            ..
        } => {
            if let Some(turnover) = &mut row.turnover {
                let is_other = |other: &Replaced| other.lived.binding != Some(*which);
                turnover.replaced.retain(is_other);
            }
        }
        E::OperationAccepted { request, .. }
        | E::OperationProgressed { request, .. }
        | E::OperationDelayed { request, .. }
        | E::Bound { request, .. }
        | E::BindFailed { request, .. }
        | E::UnbindFailed { request, .. }
        | E::OrphanRemoved { request } => row.live(Some(*request), at, event),
        E::Created { .. }
        | E::BindRequested { .. }
        | E::DeleteRequested
        | E::UnbindRequested { .. }
        | E::OrphanAbandoned { .. } => row.live(None, at, event),
    }
    Some(row)
}

impl Lived {
    fn new() -> Self {
        Self {
            binding: None,
            life: Life::new(),
            given: Given::default(),
        }
    }

    fn map(&mut self, change: impl FnOnce(Life) -> Life) {
        let life = std::mem::replace(&mut self.life, Life::new());
        self.life = change(life);
    }
}

impl Row {
    /// The life that a request belongs to.
    fn lived(&mut self, request: Option<RequestId>) -> &mut Lived {
        let Some(request) = request.filter(|request| !self.in_use.life.knows(*request)) else {
            return &mut self.in_use;
        };
        let beside = self.turnover.iter_mut().flat_map(|turnover| {
            let replaced = turnover.replaced.iter_mut();
            let replaced = replaced.map(|other| &mut other.lived);
            turnover.next.iter_mut().chain(replaced)
        });
        beside
            .into_iter()
            .find(|lived| lived.life.knows(request))
            .unwrap_or(&mut self.in_use)
    }

    fn live(&mut self, request: Option<RequestId>, at: Timestamp, event: &BindingEvent) {
        use BindingEvent as E;
        if let (Some(request), Some(turnover)) = (request, &mut self.turnover) {
            turnover.note(request, event);
        }
        let lived = self.lived(request);
        match event {
            E::BindRequested {
                request, binding, ..
            } => {
                lived.binding = Some(*binding);
                lived.map(|life| life.requested(Work::Bind, *request, at));
            }
            E::Bound { bound, .. } => {
                lived.given = Given::of(bound);
                lived.map(Life::made);
            }
            E::BindFailed { reason, .. } => lived.map(|life| life.failed(reason, false)),
            E::OperationAccepted { next_at, .. } => lived.map(|life| life.accepted(*next_at)),
            E::OperationProgressed {
                description,
                polls,
                next_at,
                ..
            } => lived.map(|life| {
                life.operate(|op| op.underway(description.clone(), *next_at).polled(*polls))
            }),
            E::OperationDelayed {
                reason, next_at, ..
            } => lived.map(|life| life.delayed(reason, *next_at)),
            E::DeleteRequested => lived.map(|life| life.delete_requested(false, at)),
            E::UnbindRequested {
                request, attempt, ..
            } => lived.map(|life| life.removal_requested(Work::Unbind, *request, *attempt, at)),
            E::UnbindFailed {
                reason, next_at, ..
            } => lived.map(|life| life.removal_failed(reason, *next_at)),
            E::OrphanRemoved { .. } | E::OrphanAbandoned { .. } => lived.map(Life::orphan_removed),
            E::Created { .. }
            | E::RotateRequested { .. }
            | E::Rotated { .. }
            | E::RotateFailed { .. }
            | E::Unbound { .. }
            | E::Deleted
            | E::Abandoned { .. } => {}
        }
    }

    /// Its credentials are being replaced.
    fn turn(&mut self, at: Timestamp, event: &BindingEvent) {
        use BindingEvent as E;
        let turnover = self.turnover.get_or_insert_default();
        match event {
            E::RotateRequested {
                request, binding, ..
            } => {
                turnover.operation = Some(Operation::asked(Work::Rotate, *request, at));
                turnover.next = Some(Lived {
                    binding: Some(*binding),
                    life: Life::new().requested(Work::Rotate, *request, at),
                    given: Given::default(),
                });
            }
            E::Rotated {
                bound, drained_at, ..
            } => {
                turnover.operation = turnover.operation.take().map(Operation::succeeded);
                turnover.failed = None;
                let Some(mut next) = turnover.next.take() else {
                    return;
                };
                next.given = Given::of(bound);
                next.map(Life::made);
                // Its end was asked for meanwhile: then the new one has to go as well.
                let (lived, drained_at) = if self.in_use.life.is_going() {
                    (next, at)
                } else {
                    turnover.last = Some(at);
                    (std::mem::replace(&mut self.in_use, next), *drained_at)
                };
                turnover.replaced.push(Replaced { lived, drained_at });
            }
            E::RotateFailed {
                reason,
                orphan,
                failures,
                next_at,
                ..
            } => {
                let failed = |op: Operation| op.failed(reason, Some(*next_at));
                turnover.operation = turnover.operation.take().map(failed);
                turnover.failed = Some(RotationFailed {
                    reason: reason.clone(),
                    failures: *failures,
                    next_at: *next_at,
                });
                if let Some(mut next) = turnover.next.take()
                    && *orphan
                {
                    next.map(|life| life.failed(reason, false));
                    turnover.replaced.push(Replaced {
                        lived: next,
                        drained_at: at,
                    });
                }
            }
            _ => {}
        }
    }

    fn unbind_replaced(
        &mut self,
        which: BindingId,
        request: RequestId,
        attempt: u32,
        at: Timestamp,
    ) {
        let replaced = self
            .turnover
            .iter_mut()
            .flat_map(|turnover| &mut turnover.replaced);
        for other in replaced.filter(|other| other.lived.binding == Some(which)) {
            other.lived.map(|life| {
                life.delete_requested(false, at).removal_requested(
                    Work::Unbind,
                    request,
                    attempt,
                    at,
                )
            });
        }
    }
}

impl Turnover {
    /// The request for new credentials goes on.
    fn note(&mut self, request: RequestId, event: &BindingEvent) {
        use BindingEvent as E;
        let change = |op: Operation| match event {
            _ if !op.is(request) => op,
            E::OperationAccepted { next_at, .. } => op.underway(None, *next_at),
            E::OperationProgressed {
                description,
                polls,
                next_at,
                ..
            } => op.underway(description.clone(), *next_at).polled(*polls),
            E::OperationDelayed {
                reason, next_at, ..
            } => op.delayed(reason, *next_at),
            _ => op,
        };
        self.operation = self.operation.take().map(change);
    }
}
