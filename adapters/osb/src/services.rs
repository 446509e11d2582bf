//! The performer of the service effects: opens what is sealed, asks the broker, says what came of
//! it in the engine's words, and seals what the broker gives.
//!
//! It keeps nothing but connections. Whatever is performed again is sent again, unchanged.

mod catalog;
mod endpoints;
mod parameters;
mod reach;
mod translate;

use std::sync::Arc;
use std::time::Duration;

use adapter_kit::{Later, Performer, Plain, Vault};
use async_trait::async_trait;
use engine_model::broker::{self as model, BoundCredentials};
use engine_model::{
    Actor, BindingId, BindingOutcome, BrokerOutcome, Effect, EffectId, InstanceOutcome, OrgName,
    Outcome, RequestId, ResourceId, ResourceKey, Sealed, ServiceCall, ServiceTarget, Timestamp,
};
use serde_json::{Map, Value};

use crate::call::{Call, Originator};
use crate::client::{Client, Transport};
use crate::verdict::{Answer, Fetched, Polled};
use crate::wire::{BindRequest, Binding, Context, Hidden, Id, Offer, ProvisionRequest};
use parameters::Merged;
use reach::{Clients, Obstacle};
use translate::{progress, settle, verdict_without};

/// The largest map of credentials that is kept: it has to fit into an event.
const CREDENTIALS_BYTES_MAX: usize = 128 * 1024;

/// How long to leave a key store alone that did not answer.
const STORE_DELAY: Duration = Duration::from_secs(1);

/// Performs the effects on service brokers.
pub struct Services {
    vault: Arc<dyn Vault>,
    clients: Clients,
}

impl Services {
    /// Asks brokers with the usual deadline of a request.
    #[must_use]
    pub fn new(vault: Arc<dyn Vault>) -> Self {
        Self::with_timeout(vault, crate::endpoint::TIMEOUT_DEFAULT)
    }

    /// Asks brokers with this deadline of a request.
    #[must_use]
    pub fn with_timeout(vault: Arc<dyn Vault>, timeout: Duration) -> Self {
        Self {
            vault,
            clients: Clients::new(timeout),
        }
    }

    /// Asks brokers through `transport`, which keeps the deadlines.
    #[must_use]
    pub fn over(vault: Arc<dyn Vault>, transport: Arc<dyn Transport>) -> Self {
        let timeout = crate::endpoint::TIMEOUT_DEFAULT;
        Self {
            vault,
            clients: Clients::over(transport, timeout),
        }
    }
}

impl std::fmt::Debug for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Services").finish_non_exhaustive()
    }
}

#[async_trait]
impl Performer for Services {
    fn performs(&self, effect: &Effect) -> bool {
        matches!(
            effect,
            Effect::ReadCatalog { .. }
                | Effect::Provision { .. }
                | Effect::PollInstance { .. }
                | Effect::Deprovision { .. }
                | Effect::Bind { .. }
                | Effect::PollBinding { .. }
                | Effect::Unbind { .. }
        )
    }

    async fn perform(
        &self,
        id: EffectId,
        _key: &ResourceKey,
        effect: &Effect,
    ) -> Result<Option<Outcome>, Later> {
        let outcome = match effect {
            Effect::ReadCatalog { target, etag } => {
                Outcome::Broker(self.read_catalog(id, target, etag.as_deref()).await?)
            }
            Effect::Provision {
                target,
                call,
                parameters,
                secret_parameters,
                schema,
                maintenance_version: _,
            } => {
                let asked = Asked {
                    target,
                    call,
                    parameters,
                    secret_parameters,
                    schema,
                };
                let verdict = self.provision(asked).await?;
                let request = call.request;
                Outcome::Instance(InstanceOutcome::ProvisionAnswered { request, verdict })
            }
            Effect::PollInstance {
                target,
                call,
                operation,
            } => {
                let progress = self
                    .poll_instance(id, target, call, operation.as_deref())
                    .await?;
                let request = call.request;
                Outcome::Instance(InstanceOutcome::Polled {
                    request,
                    progress,
                    aftermath: model::Aftermath::default(),
                })
            }
            Effect::Deprovision { target, call } => {
                let verdict = self.deprovision(target, call).await?;
                let request = call.request;
                Outcome::Instance(InstanceOutcome::DeprovisionAnswered { request, verdict })
            }
            Effect::Bind {
                target,
                call,
                binding,
                predecessor: _,
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
                };
                let verdict = self.bind(asked, *binding).await?;
                let request = call.request;
                Outcome::Binding(BindingOutcome::BindAnswered { request, verdict })
            }
            Effect::PollBinding {
                target,
                call,
                binding,
                operation,
                unbinding,
            } => {
                let poll = BindingPoll {
                    id,
                    target,
                    call,
                    binding: *binding,
                    operation: operation.as_deref(),
                    unbinding: *unbinding,
                };
                Outcome::Binding(self.poll_binding(poll).await?)
            }
            Effect::Unbind {
                target,
                call,
                binding,
            } => {
                let verdict = self.unbind(target, call, *binding).await?;
                let request = call.request;
                Outcome::Binding(BindingOutcome::UnbindAnswered { request, verdict })
            }
            _ => return Ok(None),
        };
        Ok(Some(outcome))
    }
}

/// What a provision and a bind have in common.
struct Asked<'a> {
    target: &'a ServiceTarget,
    call: &'a ServiceCall,
    parameters: &'a Value,
    secret_parameters: &'a [Sealed],
    schema: &'a Value,
}

struct BindingPoll<'a> {
    id: EffectId,
    target: &'a ServiceTarget,
    call: &'a ServiceCall,
    binding: BindingId,
    operation: Option<&'a str>,
    unbinding: bool,
}

impl Services {
    async fn client(&self, target: &ServiceTarget) -> Result<Client, Obstacle> {
        self.clients.reach(self.vault.as_ref(), target).await
    }

    async fn read_catalog(
        &self,
        id: EffectId,
        target: &ServiceTarget,
        etag: Option<&str>,
    ) -> Result<BrokerOutcome, Later> {
        let client = match self.client(target).await {
            Ok(client) => client,
            Err(obstacle) => {
                return Ok(BrokerOutcome::Failed {
                    reason: obstacle.reason()?,
                });
            }
        };
        // No user causes it, so none is named.
        let answer = client.catalog(&Call::new(of_effect(id)), etag).await;
        Ok(match settle::<_, ()>(answer) {
            Ok(Fetched::NotModified) => BrokerOutcome::Unchanged,
            Ok(Fetched::Catalog { etag, catalog }) => {
                let (offerings, refused) = catalog::offerings(catalog);
                BrokerOutcome::Read {
                    etag,
                    offerings,
                    refused,
                    api_version: None,
                }
            }
            Err(verdict) => BrokerOutcome::Failed {
                reason: translate::reason(verdict),
            },
        })
    }

    async fn provision(
        &self,
        asked: Asked<'_>,
    ) -> Result<model::Verdict<model::Provisioned>, Later> {
        let (client, merged) = match self.ready(&asked).await {
            Ok(ready) => ready,
            Err(obstacle) => return obstacle.verdict(),
        };
        let (service, plan) = (&asked.call.service_id, &asked.call.plan_id);
        let context = context(&asked.call.org).with_instance_name(asked.call.name.as_str());
        let mut request = ProvisionRequest::new(service, plan, context);
        request.parameters = merged.parameters;
        let call = call(asked.call, asked.call.request).hiding(merged.secrets);
        let instance = Id::from(asked.call.instance.0);
        let answer = client.provision(&call, &instance, &request, true).await;
        Ok(match settle(answer) {
            Ok(done) => model::Verdict::Done(model::Provisioned {
                dashboard_url: done.dashboard_url.and_then(translate::url),
            }),
            Err(verdict) => verdict,
        })
    }

    /// Everything that a provision or a bind needs before the first byte leaves.
    async fn ready(&self, asked: &Asked<'_>) -> Result<(Client, Merged), Obstacle> {
        let client = self.client(asked.target).await?;
        let merged = Merged::new(
            self.vault.as_ref(),
            asked.parameters,
            asked.secret_parameters,
        );
        let merged = merged.await?;
        merged.check(asked.schema).map_err(Obstacle::Refused)?;
        Ok((client, merged))
    }

    async fn poll_instance(
        &self,
        id: EffectId,
        target: &ServiceTarget,
        call: &ServiceCall,
        operation: Option<&str>,
    ) -> Result<model::Progress, Later> {
        let client = match self.client(target).await {
            Ok(client) => client,
            Err(obstacle) => return obstacle.progress(),
        };
        let (polling, instance) = (self::call(call, of_poll(id)), Id::from(call.instance.0));
        // The effect does not say which operation it is. Polled as a delete, an absent instance
        // is told from an answer that makes no sense, and the engine knows which of them it is.
        let polled = Polled::Deprovision;
        let offer = offer(call);
        let told = client
            .last_operation_instance(&polling, &instance, &offer, operation, polled)
            .await;
        Ok(progress(told))
    }

    async fn deprovision(
        &self,
        target: &ServiceTarget,
        call: &ServiceCall,
    ) -> Result<model::Verdict<()>, Later> {
        let client = match self.client(target).await {
            Ok(client) => client,
            Err(obstacle) => return obstacle.verdict(),
        };
        let instance = Id::from(call.instance.0);
        let asking = self::call(call, call.request);
        let answer = client
            .deprovision(&asking, &instance, &offer(call), true)
            .await;
        Ok(verdict_without(answer))
    }

    async fn bind(
        &self,
        asked: Asked<'_>,
        binding: BindingId,
    ) -> Result<model::Verdict<BoundCredentials>, Later> {
        let (client, merged) = match self.ready(&asked).await {
            Ok(ready) => ready,
            Err(obstacle) => return obstacle.verdict(),
        };
        let mut request = BindRequest::new(&asked.call.service_id, &asked.call.plan_id);
        request.context = Some(context(&asked.call.org));
        request.parameters = merged.parameters;
        let call = call(asked.call, asked.call.request).hiding(merged.secrets);
        let (instance, id) = (Id::from(asked.call.instance.0), Id::from(binding.0));
        match settle(client.bind(&call, &instance, &id, &request, true).await) {
            Ok(bound) => self.keep(binding, &bound).await,
            Err(verdict) => Ok(verdict),
        }
    }

    async fn poll_binding(&self, poll: BindingPoll<'_>) -> Result<BindingOutcome, Later> {
        let request = poll.call.request;
        let polled = |progress| BindingOutcome::Polled { request, progress };
        let client = match self.client(poll.target).await {
            Ok(client) => client,
            Err(obstacle) => return obstacle.progress().map(polled),
        };
        let (instance, binding) = (Id::from(poll.call.instance.0), Id::from(poll.binding.0));
        let polling = call(poll.call, of_poll(poll.id));
        let operation = if poll.unbinding {
            Polled::Unbind
        } else {
            Polled::Bind
        };
        let (ids, offer) = ((&instance, &binding), offer(poll.call));
        let told = client
            .last_operation_binding(&polling, ids, &offer, poll.operation, operation)
            .await;
        let told = progress(told);
        if poll.unbinding || told != model::Progress::Succeeded {
            return Ok(polled(told));
        }
        let fetching = call(poll.call, of_fetch(poll.id));
        match client
            .fetch_binding(&fetching, &instance, &binding, &offer)
            .await
        {
            Answer::Done(bound) => {
                let verdict = self.keep(poll.binding, &bound).await?;
                Ok(BindingOutcome::BindAnswered { request, verdict })
            }
            // The bind is done, so its credentials are only a matter of asking again.
            other => Ok(polled(translate::not_fetched(other))),
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
        let endpoints = endpoints::of(bound);
        Ok(model::Verdict::Done(BoundCredentials {
            credentials: sealed,
            endpoints,
            expires_at: bound.metadata.expires_at.map(moment),
            renew_before: bound.metadata.renew_before.map(moment),
            extras: model::BoundExtras::default(),
        }))
    }

    async fn unbind(
        &self,
        target: &ServiceTarget,
        call: &ServiceCall,
        binding: BindingId,
    ) -> Result<model::Verdict<()>, Later> {
        let client = match self.client(target).await {
            Ok(client) => client,
            Err(obstacle) => return obstacle.verdict(),
        };
        let (instance, binding) = (Id::from(call.instance.0), Id::from(binding.0));
        let asking = self::call(call, call.request);
        let answer = client
            .unbind(&asking, &instance, &binding, &offer(call), true)
            .await;
        Ok(verdict_without(answer))
    }
}

fn moment(at: chrono::DateTime<chrono::Utc>) -> Timestamp {
    Timestamp(at.timestamp_millis())
}

fn later(error: &adapter_kit::VaultError) -> Later {
    Later {
        reason: error.to_string(),
        delay: STORE_DELAY,
    }
}

/// A function's context holds strings, so what is no string becomes JSON text.
fn as_strings(credentials: &Map<String, Value>) -> Vec<u8> {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let strings: std::collections::BTreeMap<_, _> = credentials
        .iter()
        .map(|(name, value)| (name, text(value)))
        .collect();
    serde_json::to_vec(&strings).expect("a map of strings has a JSON form")
}

fn call(call: &ServiceCall, request: RequestId) -> Call {
    let made = Call::new(request.0);
    // What the engine does on its own, like cleaning up, has no user.
    if call.actor == Actor::engine() {
        return made;
    }
    made.on_behalf_of(Originator::user(&call.actor.0))
}

fn offer(call: &ServiceCall) -> Offer {
    Offer {
        service_id: call.service_id.clone(),
        plan_id: call.plan_id.clone(),
    }
}

/// Brokers expect a GUID for an organization, and the same one for ever.
fn context(org: &OrgName) -> Context {
    let guid = ResourceId::derived(format_args!("organization {org}")).to_string();
    Context::of_organization(&guid, org.as_str())
}

fn of_effect(id: EffectId) -> uuid::Uuid {
    RequestId::derived(format_args!("effect {id}")).0
}

/// A poll is a request of its own, whichever operation it asks about.
fn of_poll(id: EffectId) -> RequestId {
    RequestId(of_effect(id))
}

fn of_fetch(id: EffectId) -> RequestId {
    RequestId::derived(format_args!("effect {id} fetch"))
}
