//! The effects on instances.

use adapter_kit::{Later, Standing};
use engine_model::Effect;
use engine_model::broker::{self as model, Aftermath, FetchedInstance};
use engine_model::{EffectId, InstanceOutcome, ServiceCall, ServiceTarget, UpdateCall};
use serde_json::Value;

use super::line::{call as named, context, offer};
use super::translate::{self, verdict_without};
use super::{Asked, Services, of_effect};
use crate::verdict::Polled;
use crate::wire::{
    Hidden, Id, Instance, MaintenanceVersion, PreviousValues, ProvisionRequest, UpdateRequest,
};

/// The largest parameters of a fetched instance that are kept: they have to fit into an event.
const PARAMETERS_BYTES_MAX: usize = 128 * 1024;

impl Services {
    pub(super) async fn instance(
        &self,
        id: EffectId,
        effect: &Effect,
        standing: &dyn Standing,
    ) -> Result<InstanceOutcome, Later> {
        Ok(match effect {
            Effect::Provision {
                target,
                call,
                parameters,
                secret_parameters,
                schema,
                maintenance_version,
            } => {
                let asked = Asked {
                    target,
                    call,
                    parameters,
                    secret_parameters,
                    schema,
                    standing,
                };
                let verdict = self
                    .provision(asked, maintenance_version.as_deref())
                    .await?;
                let request = call.request;
                InstanceOutcome::ProvisionAnswered { request, verdict }
            }
            Effect::FetchInstance { target, call } => InstanceOutcome::Fetched {
                request: call.request,
                verdict: self.fetch_instance(target, call).await?,
            },
            Effect::UpdateInstance {
                target,
                call,
                update,
            } => {
                let asked = Asked {
                    target,
                    call,
                    parameters: &update.parameters,
                    secret_parameters: &update.secret_parameters,
                    schema: &update.schema,
                    standing,
                };
                let (verdict, aftermath) = self.update(asked, update).await?;
                InstanceOutcome::UpdateAnswered {
                    request: call.request,
                    verdict,
                    aftermath,
                }
            }
            Effect::PollInstance {
                target,
                call,
                operation,
            } => {
                let (progress, aftermath) = self
                    .poll_instance(id, target, call, operation.as_deref())
                    .await?;
                InstanceOutcome::Polled {
                    request: call.request,
                    progress,
                    aftermath,
                }
            }
            Effect::Deprovision { target, call } => InstanceOutcome::DeprovisionAnswered {
                request: call.request,
                verdict: self.deprovision(target, call, standing).await?,
            },
            _ => unreachable!("only effects on instances come here"),
        })
    }

    async fn provision(
        &self,
        asked: Asked<'_>,
        maintenance: Option<&str>,
    ) -> Result<model::Verdict<model::Provisioned>, Later> {
        let (line, merged) = match self.ready(&asked).await {
            Ok(ready) => ready,
            Err(obstacle) => return obstacle.verdict(),
        };
        let (service, plan) = (&asked.call.service_id, &asked.call.plan_id);
        let context = context(&asked.call.org).with_instance_name(asked.call.name.as_str());
        let mut request = ProvisionRequest::new(service, plan, context);
        request.parameters = merged.parameters;
        request.maintenance_info = maintenance.map(version);
        let call = named(asked.call, asked.call.request).hiding(merged.secrets);
        let instance = Id::from(asked.call.instance.0);
        let answer = line
            .client
            .provision(&call, &instance, &request, true)
            .await;
        Ok(match line.settle(answer) {
            Ok(done) => model::Verdict::Done(provisioned(done)),
            Err(verdict) => verdict,
        })
    }

    async fn update(
        &self,
        asked: Asked<'_>,
        update: &UpdateCall,
    ) -> Result<(model::Verdict<model::Provisioned>, Aftermath), Later> {
        let call = asked.call;
        let (line, merged) = match self.ready(&asked).await {
            Ok(ready) => ready,
            Err(obstacle) => return Ok((obstacle.verdict()?, Aftermath::default())),
        };
        let context = context(&call.org).with_instance_name(call.name.as_str());
        let request = UpdateRequest {
            service_id: call.service_id.clone(),
            plan_id: update.plan_id.clone(),
            parameters: merged.parameters,
            previous_values: Some(PreviousValues {
                service_id: call.service_id.clone(),
                plan_id: call.plan_id.clone(),
                organization_id: context.organization_guid.clone(),
                space_id: context.space_guid.clone(),
                maintenance_info: update.previous_maintenance_version.as_deref().map(version),
            }),
            context: Some(context),
            maintenance_info: update.maintenance_version.as_deref().map(version),
        };
        let asking = named(call, call.request).hiding(merged.secrets);
        let instance = Id::from(call.instance.0);
        let answer = line.client.update(&asking, &instance, &request, true).await;
        let aftermath = translate::aftermath(&answer);
        let verdict = match line.settle(answer) {
            Ok(done) => model::Verdict::Done(provisioned(done)),
            // Whatever came of an update, nothing is removed because of it.
            Err(model::Verdict::Unknown { reason, .. }) => model::Verdict::Unknown {
                reason,
                orphan: false,
            },
            Err(verdict) => verdict,
        };
        Ok((verdict, aftermath))
    }

    async fn fetch_instance(
        &self,
        target: &ServiceTarget,
        call: &ServiceCall,
    ) -> Result<model::Verdict<FetchedInstance>, Later> {
        let line = match self.line(target, call, false).await {
            Ok(line) => line,
            Err(obstacle) => return obstacle.verdict(),
        };
        let asking = named(call, call.request);
        let instance = Id::from(call.instance.0);
        let answer = line
            .client
            .fetch_instance(&asking, &instance, &offer(call))
            .await;
        Ok(match line.settle(answer) {
            Ok(instance) => model::Verdict::Done(fetched(instance)),
            Err(verdict) => verdict,
        })
    }

    async fn poll_instance(
        &self,
        id: EffectId,
        target: &ServiceTarget,
        call: &ServiceCall,
        operation: Option<&str>,
    ) -> Result<(model::Progress, Aftermath), Later> {
        let line = match self.line(target, call, false).await {
            Ok(line) => line,
            Err(obstacle) => return Ok((obstacle.progress()?, Aftermath::default())),
        };
        // A poll is a request of its own, whichever operation it asks about.
        let (polling, instance) = (named(call, of_effect(id)), Id::from(call.instance.0));
        // The effect does not say which operation it is; the engine knows.
        let told = line
            .client
            .last_operation_instance(
                &polling,
                &instance,
                &offer(call),
                operation,
                Polled::Instance,
            )
            .await;
        let aftermath = translate::aftermath_of(&told);
        Ok((line.progress(told), aftermath))
    }

    async fn deprovision(
        &self,
        target: &ServiceTarget,
        call: &ServiceCall,
        standing: &dyn Standing,
    ) -> Result<model::Verdict<()>, Later> {
        let line = match self.removing(target, call, standing).await {
            Ok(line) => line,
            Err(obstacle) => return obstacle.verdict(),
        };
        let instance = Id::from(call.instance.0);
        let asking = named(call, call.request);
        let answer = line
            .client
            .deprovision(&asking, &instance, &offer(call), true)
            .await;
        Ok(verdict_without(line.settle(answer)))
    }
}

fn version(version: &str) -> MaintenanceVersion {
    MaintenanceVersion {
        version: version.to_owned(),
    }
}

fn provisioned(done: crate::wire::Provisioned) -> model::Provisioned {
    model::Provisioned {
        dashboard_url: done.dashboard_url.and_then(translate::url),
    }
}

/// Parameters that are no object, or too large for an event, count as withheld.
fn fetched(instance: Instance) -> FetchedInstance {
    let fits = |value: &Value| value.is_object() && value.to_string().len() <= PARAMETERS_BYTES_MAX;
    FetchedInstance {
        service_id: instance.service_id,
        plan_id: instance.plan_id,
        dashboard_url: instance.dashboard_url.and_then(translate::url),
        parameters: instance
            .parameters
            .map(Hidden::into_revealed)
            .filter(fits)
            .unwrap_or_default(),
        maintenance_version: instance.maintenance_info.map(|info| info.version),
    }
}
