//! The effects on bindings.

use std::collections::BTreeMap;

use adapter_kit::{Later, Plain, Standing};
use engine_model::broker::{self as model, BoundCredentials};
use engine_model::{
    BindingId, BindingOutcome, Effect, EffectId, RequestId, ServiceCall, ServiceTarget, Timestamp,
};
use serde_json::{Map, Value};

use super::line::{call as named, context, offer};
use super::translate::{self, verdict_without};
use super::{Asked, Services, endpoints, extras, later, of_effect, of_fetch};
use crate::verdict::Polled;
use crate::wire::{BindRequest, Binding, Hidden, Id};

/// The largest map of credentials that is kept: it has to fit into an event.
const CREDENTIALS_BYTES_MAX: usize = 128 * 1024;

struct Poll<'a> {
    id: EffectId,
    target: &'a ServiceTarget,
    call: &'a ServiceCall,
    binding: BindingId,
    operation: Option<&'a str>,
    unbinding: bool,
}

impl Services {
    pub(super) async fn binding(
        &self,
        id: EffectId,
        effect: &Effect,
        standing: &dyn Standing,
    ) -> Result<BindingOutcome, Later> {
        match effect {
            Effect::Bind {
                target,
                call,
                binding,
                predecessor,
                retrievable,
                repeat,
                parameters,
                secret_parameters,
                schema,
            } => {
                let asked = Asked {
                    target,
                    call,
                    parameters,
                    secret_parameters,
                    schema,
                    standing,
                };
                let mut verdict = self.bind(asked, *binding, *predecessor).await?;
                if *repeat && matches!(verdict, model::Verdict::Done(_)) {
                    verdict = self.doubt(target, call, *binding, *retrievable).await?;
                }
                let request = call.request;
                Ok(BindingOutcome::BindAnswered { request, verdict })
            }
            Effect::PollBinding {
                target,
                call,
                binding,
                operation,
                unbinding,
            } => {
                let poll = Poll {
                    id,
                    target,
                    call,
                    binding: *binding,
                    operation: operation.as_deref(),
                    unbinding: *unbinding,
                };
                self.poll_binding(poll).await
            }
            Effect::Unbind {
                target,
                call,
                binding,
            } => {
                let verdict = self.unbind(target, call, *binding, standing).await?;
                let request = call.request;
                Ok(BindingOutcome::UnbindAnswered { request, verdict })
            }
            _ => unreachable!("only effects on bindings come here"),
        }
    }

    async fn bind(
        &self,
        asked: Asked<'_>,
        binding: BindingId,
        predecessor: Option<BindingId>,
    ) -> Result<model::Verdict<BoundCredentials>, Later> {
        let (line, merged) = match self.ready(&asked).await {
            Ok(ready) => ready,
            Err(obstacle) => return obstacle.verdict(),
        };
        let mut request = BindRequest::new(&asked.call.service_id, &asked.call.plan_id);
        request.context = Some(context(&asked.call.org));
        request.parameters = merged.parameters;
        request.predecessor_binding_id = predecessor.map(|id| id.0.to_string());
        let call = named(asked.call, asked.call.request).hiding(merged.secrets);
        let (instance, id) = (Id::from(asked.call.instance.0), Id::from(binding.0));
        let answer = line
            .client
            .bind(&call, &instance, &id, &request, true)
            .await;
        let settled = line.settle(answer);
        drop(line);
        match settled {
            Ok(bound) => self.keep(binding, &bound).await,
            Err(verdict) => Ok(verdict),
        }
    }

    /// A repeat was answered with credentials: they need not be those of the binding that is
    /// there. What the broker says when it is asked for that one counts, if it can be asked.
    async fn doubt(
        &self,
        target: &ServiceTarget,
        call: &ServiceCall,
        binding: BindingId,
        retrievable: bool,
    ) -> Result<model::Verdict<BoundCredentials>, Later> {
        let doubt = |why: &str| model::Verdict::Doubt {
            reason: format!(
                "an earlier request may have been carried out and its answer lost, and {why}: it \
                 is unbound and bound anew"
            ),
        };
        if !retrievable {
            return Ok(doubt("the broker does not offer to look at bindings"));
        }
        let line = match self.line(target, call, false).await {
            Ok(line) => line,
            Err(obstacle) => return obstacle.verdict(),
        };
        let (instance, id) = (Id::from(call.instance.0), Id::from(binding.0));
        let fetching = RequestId::derived(format_args!("{} fetch", call.request));
        let answer = line
            .client
            .fetch_binding(&named(call, fetching), &instance, &id, &offer(call))
            .await;
        let settled = line.settle::<_, ()>(answer);
        drop(line);
        match settled {
            Ok(bound) => self.keep(binding, &bound).await,
            Err(_) => Ok(doubt("the broker does not show the binding")),
        }
    }

    async fn poll_binding(&self, poll: Poll<'_>) -> Result<BindingOutcome, Later> {
        let request = poll.call.request;
        let polled = |progress| BindingOutcome::Polled { request, progress };
        let line = match self.line(poll.target, poll.call, false).await {
            Ok(line) => line,
            Err(obstacle) => return obstacle.progress().map(polled),
        };
        let (instance, binding) = (Id::from(poll.call.instance.0), Id::from(poll.binding.0));
        let polling = named(poll.call, of_effect(poll.id));
        let operation = if poll.unbinding {
            Polled::Unbind
        } else {
            Polled::Bind
        };
        let (ids, offer) = ((&instance, &binding), offer(poll.call));
        let told = line
            .client
            .last_operation_binding(&polling, ids, &offer, poll.operation, operation)
            .await;
        let told = line.progress(told);
        drop(line);
        if poll.unbinding || told != model::Progress::Succeeded {
            return Ok(polled(told));
        }
        let line = match self.line(poll.target, poll.call, false).await {
            Ok(line) => line,
            Err(obstacle) => return obstacle.progress().map(polled),
        };
        let fetching = named(poll.call, of_fetch(poll.id));
        let answer = line
            .client
            .fetch_binding(&fetching, &instance, &binding, &offer)
            .await;
        let settled = line.settle(answer);
        drop(line);
        match settled {
            Ok(bound) => {
                let verdict = self.keep(poll.binding, &bound).await?;
                Ok(BindingOutcome::BindAnswered { request, verdict })
            }
            // The bind is done, so its credentials are only a matter of asking again.
            Err(verdict) => Ok(polled(translate::not_fetched(verdict))),
        }
    }

    /// Seals what a bind gave.
    async fn keep(
        &self,
        binding: BindingId,
        bound: &Binding,
    ) -> Result<model::Verdict<BoundCredentials>, Later> {
        let none = Hidden::new(Map::new());
        let credentials = bound.credentials.as_ref().unwrap_or(&none).reveal();
        let plain = Plain::new(as_strings(credentials));
        if plain.expose().len() > CREDENTIALS_BYTES_MAX {
            let reason = format!("the credentials are larger than {CREDENTIALS_BYTES_MAX} bytes");
            return Ok(model::Verdict::Unknown {
                reason,
                orphan: true,
            });
        }
        let key = binding.data_key();
        // A repeat of the bind is answered with the same credentials, so it is safe to come again.
        let sealed = self.vault.seal(&key, &plain).await.map_err(|e| later(&e))?;
        Ok(model::Verdict::Done(BoundCredentials {
            credentials: sealed,
            endpoints: endpoints::of(bound),
            expires_at: bound.metadata.expires_at.map(moment),
            renew_before: bound.metadata.renew_before.map(moment),
            extras: extras::of(bound),
        }))
    }

    async fn unbind(
        &self,
        target: &ServiceTarget,
        call: &ServiceCall,
        binding: BindingId,
        standing: &dyn Standing,
    ) -> Result<model::Verdict<()>, Later> {
        let line = match self.removing(target, call, standing).await {
            Ok(line) => line,
            Err(obstacle) => return obstacle.verdict(),
        };
        let (instance, binding) = (Id::from(call.instance.0), Id::from(binding.0));
        let asking = named(call, call.request);
        let answer = line
            .client
            .unbind(&asking, &instance, &binding, &offer(call), true)
            .await;
        Ok(verdict_without(line.settle(answer)))
    }
}

fn moment(at: chrono::DateTime<chrono::Utc>) -> Timestamp {
    Timestamp(at.timestamp_millis())
}

/// A function's context holds strings, so what is no string becomes JSON text.
fn as_strings(credentials: &Map<String, Value>) -> Vec<u8> {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let strings: BTreeMap<_, _> = credentials
        .iter()
        .map(|(name, value)| (name, text(value)))
        .collect();
    serde_json::to_vec(&strings).expect("a map of strings has a JSON form")
}
