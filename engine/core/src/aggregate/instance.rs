//! A service instance: a life at a broker.

use std::sync::Arc;

use engine_model::spec::InstanceSpec;
use engine_model::{InstanceEvent, InstanceId, Kind, Name, OrgName, RequestId, ResourceKey};
use serde_json::Value;

use super::update::{self, Proposal, Update};
use super::wish::{Packed, Wish};
use super::{Illegal, Scene};
use crate::life::{Attempt, Change, Life};
use crate::operation::{Operation, Step};

/// What the broker was asked for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ordered {
    /// The instance at the broker; another one in each attempt.
    pub(crate) instance: InstanceId,
    pub(crate) broker: Name,
    /// The broker's organization, when it is another one.
    pub(crate) broker_org: Option<Box<OrgName>>,
    pub(crate) service_id: Box<str>,
    pub(crate) plan_id: Box<str>,
    pub(crate) bindable: bool,
    pub(crate) maintenance: Option<Box<str>>,
}

impl Ordered {
    /// The broker, for an instance of organization `org`.
    pub(crate) fn broker_key(&self, org: &OrgName) -> ResourceKey {
        let org = self.broker_org.as_deref().unwrap_or(org);
        ResourceKey::new(org.clone(), Kind::ServiceBroker, self.broker.clone())
    }
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
    pub(crate) update: Option<Box<Update>>,
    /// How often the broker was asked to update it.
    pub(crate) updates: u32,
}

impl Instance {
    pub(crate) fn evolve(
        state: Option<Self>,
        event: &InstanceEvent,
        scene: &mut Scene<'_>,
    ) -> Result<Option<Self>, Illegal> {
        let Some(mut state) = state else {
            let InstanceEvent::Created { id, spec } = event else {
                return Err(());
            };
            return Ok(Some(Self {
                id: *id,
                wish: Arc::new(Wish::of(spec)),
                dashboard_url: None,
                life: Life::new(),
                update: None,
                updates: 0,
            }));
        };
        let dashboard_url = match event {
            InstanceEvent::OperationAccepted { dashboard_url, .. }
            | InstanceEvent::Updated { dashboard_url, .. }
            | InstanceEvent::Provisioned { dashboard_url, .. } => {
                dashboard_url.as_deref().map(Box::from)
            }
            _ => None,
        };
        state.dashboard_url = dashboard_url.or(state.dashboard_url);
        if state.updating(event, scene)? {
            return Ok(Some(state));
        }
        let change = change(state.id, event, scene).ok_or(())?;
        let life = state.life.evolve(change, scene.at)?;
        Ok(life.map(|life| Self { life, ..state }))
    }

    /// Applies what concerns the update; `false` when the event concerns the life.
    fn updating(&mut self, event: &InstanceEvent, scene: &Scene<'_>) -> Result<bool, Illegal> {
        let of_update = |request: &RequestId| {
            let op = self.update.as_ref().and_then(|update| update.op());
            op.is_some_and(|op| op.request == *request)
        };
        match event {
            InstanceEvent::UpdateProposed {
                plan,
                parameters,
                secret_parameters,
                maintenance_version,
            } => {
                if self.in_hand_of_update() || !self.life.is_made() {
                    return Err(());
                }
                self.update = Some(Box::new(Update {
                    proposal: Proposal {
                        plan: plan.as_deref().map(Box::from),
                        parameters: Packed::of(parameters),
                        secrets: secret_parameters.clone().into(),
                        maintenance: maintenance_version.as_deref().map(Box::from),
                    },
                    stage: update::Stage::Proposed,
                }));
            }
            InstanceEvent::UpdateRequested {
                request,
                attempt,
                plan_id,
                bindable,
                deadline,
            } => {
                if self.in_hand_of_update() || !self.life.is_made() {
                    return Err(());
                }
                let update = self.update.as_mut().ok_or(())?;
                update.stage = update::Stage::Asked {
                    op: Operation::asked(*request, scene.at),
                    limit_ms: deadline.since_ms(scene.at),
                    plan_id: plan_id.as_deref().map(Box::from),
                    bindable: *bindable,
                };
                self.updates = *attempt;
            }
            InstanceEvent::Updated { request, .. } => {
                if !of_update(request) {
                    return Err(());
                }
                self.become_updated();
            }
            InstanceEvent::UpdateFailed {
                request,
                reason,
                instance_usable,
                update_repeatable,
            } => {
                if !of_update(request) {
                    return Err(());
                }
                let update = self.update.as_mut().ok_or(())?;
                update.stage = update::Stage::Failed {
                    reason: reason.as_str().into(),
                    aftermath: engine_model::broker::Aftermath {
                        instance_usable: *instance_usable,
                        update_repeatable: *update_repeatable,
                    },
                };
            }
            InstanceEvent::OperationAccepted {
                request,
                operation,
                next_at,
                ..
            } if of_update(request) => {
                let op = self.update.as_mut().and_then(|update| update.op_mut());
                let fits = op.is_some_and(|op| op.accept(operation.clone(), scene.at, *next_at));
                return if fits { Ok(true) } else { Err(()) };
            }
            InstanceEvent::OperationProgressed {
                request,
                description,
                polls,
                next_at,
            } if of_update(request) => {
                let op = self.update.as_mut().and_then(|update| update.op_mut());
                let fits = op.is_some_and(|op| op.progress(description.clone(), *polls, *next_at));
                return if fits { Ok(true) } else { Err(()) };
            }
            InstanceEvent::OperationDelayed {
                request,
                reason,
                delays,
                next_at,
                ..
            } if of_update(request) => {
                let op = self.update.as_mut().and_then(|update| update.op_mut());
                let fits = op.is_some_and(|op| op.delay(reason.clone(), *delays, *next_at));
                return if fits { Ok(true) } else { Err(()) };
            }
            InstanceEvent::Relabelled { spec } => self.relabel(spec),
            InstanceEvent::DeleteRequested => {
                // Only what the broker may have in hand is still waited for.
                let op = self.update.as_ref().and_then(|update| update.op());
                let in_hand =
                    |op: &Operation| matches!(op.step, Step::Asked | Step::Polling { .. });
                if !op.is_some_and(in_hand) {
                    self.update = None;
                }
                return Ok(false);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn in_hand_of_update(&self) -> bool {
        let op = self.update.as_ref().and_then(|update| update.op());
        op.is_some_and(|op| !matches!(op.step, Step::Failed { .. }))
    }

    fn become_updated(&mut self) {
        let Some(update) = self.update.take() else {
            return;
        };
        let Proposal {
            plan,
            parameters,
            secrets,
            maintenance,
        } = update.proposal;
        let wish = self
            .wish
            .updated(plan.as_deref(), &parameters.value(), &secrets);
        self.wish = Arc::new(wish);
        if let update::Stage::Asked {
            plan_id, bindable, ..
        } = update.stage
            && let Some(attempt) = self.life.attempt_mut()
        {
            if let Some(plan_id) = plan_id {
                attempt.what.plan_id = plan_id;
                attempt.what.bindable = bindable;
            }
            if maintenance.is_some() {
                attempt.what.maintenance = maintenance;
            }
        }
    }

    fn relabel(&mut self, spec: &InstanceSpec) {
        let fresh = Wish::of(spec);
        let wish = Wish {
            binding: fresh.binding,
            labelled: fresh.labelled,
            ..(*self.wish).clone()
        };
        self.wish = Arc::new(wish);
    }

    /// The request about the instance that is under way.
    pub(crate) fn current(&self) -> Option<&Operation> {
        let of_update = || self.update.as_ref().and_then(|update| update.op());
        self.life.current().or_else(of_update)
    }

    /// Whether the broker has a request about the instance itself in hand.
    pub(crate) fn is_in_hand(&self) -> bool {
        let of_update = self.update.as_ref().and_then(|update| update.op());
        let asked = |op: &Operation| matches!(op.step, Step::Asked | Step::Polling { .. });
        self.life.is_in_hand() || of_update.is_some_and(asked)
    }

    /// The update that the broker works on while the removal is refused for that reason.
    pub(crate) fn unfinished_update(&self) -> Option<&Operation> {
        let refused = self.life.is_going()
            && self
                .life
                .current()
                .is_some_and(|op| matches!(op.step, Step::Delayed { .. }));
        let op = self.update.as_ref().and_then(|update| update.op());
        op.filter(|op| refused && matches!(op.step, Step::Polling { .. }))
    }

    /// Whether new bindings may be asked for (section Updating a Service Instance).
    pub(crate) fn is_usable(&self) -> bool {
        self.life.is_made() && self.update.as_ref().is_none_or(|update| update.is_usable())
    }

    /// Its id at the broker, once it was asked for.
    pub(crate) fn at_broker(&self) -> Option<InstanceId> {
        self.life.attempt().map(|attempt| attempt.what.instance)
    }

    /// Parameters as they are on record.
    pub(crate) fn parameters(&self) -> Value {
        self.wish.parameters.value()
    }
}

/// The event as something that happens in a life; none for its beginning.
fn change(
    id: InstanceId,
    event: &InstanceEvent,
    scene: &Scene<'_>,
) -> Option<Change<Ordered, There>> {
    Some(match event.clone() {
        InstanceEvent::Created { .. }
        | InstanceEvent::UpdateProposed { .. }
        | InstanceEvent::UpdateRequested { .. }
        | InstanceEvent::Updated { .. }
        | InstanceEvent::UpdateFailed { .. }
        | InstanceEvent::Relabelled { .. } => return None,
        InstanceEvent::ProvisionRequested {
            request,
            attempt,
            instance,
            broker,
            broker_org,
            service_id,
            plan_id,
            bindable,
            maintenance_version,
            deadline,
        } => Change::Requested(Attempt {
            request,
            number: attempt,
            limit_ms: deadline.since_ms(scene.at),
            existing: false,
            what: Ordered {
                instance: instance.unwrap_or(id),
                broker,
                broker_org: broker_org.map(Box::new),
                service_id: service_id.into(),
                plan_id: plan_id.into(),
                bindable,
                maintenance: maintenance_version.map(Into::into),
            },
        }),
        InstanceEvent::AdoptRequested {
            request,
            attempt,
            instance,
            broker,
            broker_org,
            service_id,
            plan_id,
            bindable,
            deadline,
        } => Change::Requested(Attempt {
            request,
            number: attempt,
            limit_ms: deadline.since_ms(scene.at),
            existing: true,
            what: Ordered {
                instance,
                broker,
                broker_org: broker_org.map(Box::new),
                service_id: service_id.into(),
                plan_id: plan_id.into(),
                bindable,
                maintenance: None,
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
            stale_catalog,
            next_at,
        } => Change::Delayed {
            request,
            reason,
            delays,
            stale_catalog,
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
            again: false,
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
    id: InstanceId,
    change: Change<Ordered, There>,
    dashboard: Option<String>,
    now: engine_model::Timestamp,
) -> InstanceEvent {
    match change {
        Change::Requested(attempt) if attempt.existing => InstanceEvent::AdoptRequested {
            request: attempt.request,
            attempt: attempt.number,
            instance: attempt.what.instance,
            broker: attempt.what.broker,
            broker_org: attempt.what.broker_org.map(|org| *org),
            service_id: attempt.what.service_id.into(),
            plan_id: attempt.what.plan_id.into(),
            bindable: attempt.what.bindable,
            deadline: now.plus_ms(attempt.limit_ms),
        },
        Change::Requested(attempt) => InstanceEvent::ProvisionRequested {
            request: attempt.request,
            attempt: attempt.number,
            instance: Some(attempt.what.instance).filter(|at_broker| *at_broker != id),
            broker_org: attempt.what.broker_org.map(|org| *org),
            maintenance_version: attempt.what.maintenance.map(Into::into),
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
            stale_catalog,
            next_at,
        } => InstanceEvent::OperationDelayed {
            request,
            reason,
            delays,
            stale_catalog,
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
            ..
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
        Change::OrphanAbandoned { reason } | Change::Abandoned { reason } => {
            InstanceEvent::Abandoned { reason }
        }
    }
}
