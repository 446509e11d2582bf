//! Performs effects: a word to another resource through the ledger, a timer through the log,
//! everything else through the adapter that knows how.

use std::sync::Arc;
use std::time::Duration;

use adapter_kit::{Later, Performer, Vault};
use engine_core::next_poll;
use engine_model::{Actor, Cause, Due, Effect, EffectId, Outcome, ResourceKey};
use engine_stream::{Error, Log};
use tracing::{debug, info, warn};

use crate::clock::now;
use crate::confirm::ByTheLog;
use crate::fold::Fold;
use crate::hold;
use crate::ledger::{Ask, Ledger, LedgerError, Request};
use crate::polls::Polls;
use crate::underway::{Held, Underway};

/// Wait before an effect that met a fault of our own is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// On whose behalf an effect is performed, and what it came of.
#[derive(Debug, Clone)]
pub struct Context {
    /// The resource.
    pub key: ResourceKey,
    /// Who began it.
    pub actor: Actor,
    /// Ties it to the request that began it.
    pub correlation: String,
    /// What its outcome is recorded as an outcome of.
    pub cause: Cause,
    /// Whether it may have been performed before, by a node that died over it.
    pub repeat: bool,
}

/// What a node can do.
pub struct Hands {
    log: Arc<dyn Log>,
    ledger: Ledger,
    vault: Arc<dyn Vault>,
    performers: Vec<Arc<dyn Performer>>,
    underway: Underway,
    fold: Arc<Fold>,
    polls: Polls,
}

impl Hands {
    /// Hands with these adapters.
    #[must_use]
    pub(crate) fn new(
        log: Arc<dyn Log>,
        ledger: Ledger,
        vault: Arc<dyn Vault>,
        performers: Vec<Arc<dyn Performer>>,
        fold: Arc<Fold>,
        polls: Polls,
    ) -> Self {
        Self {
            fold,
            polls,
            log,
            ledger,
            vault,
            performers,
            underway: Underway::default(),
        }
    }

    /// Performs an effect and records its outcome.
    ///
    /// # Errors
    /// `Later` when it could not be tried, or its outcome could not be recorded: it is repeated
    /// under the same id.
    pub async fn perform(&self, id: EffectId, effect: &Effect, ctx: &Context) -> Result<(), Later> {
        match effect {
            Effect::Proceed(key)
            | Effect::DeleteBinding(key)
            | Effect::Delete(key)
            | Effect::CreateBinding { key, .. }
            | Effect::RefreshCatalog(key)
            | Effect::AbandonBinding { key, .. } => {
                let ask = Ask::Nudge(Box::new(effect.clone()));
                self.record(key.clone(), ask, ctx).await
            }
            Effect::Timer(timer) => self.log.set_timer(timer).await.map_err(from_log),
            Effect::EraseKey(key) => self.vault.erase(key).await.map_err(|error| later(&error)),
            Effect::ReadCatalog { .. }
            | Effect::Provision { .. }
            | Effect::FetchInstance { .. }
            | Effect::UpdateInstance { .. }
            | Effect::PollInstance { .. }
            | Effect::Deprovision { .. }
            | Effect::Bind { .. }
            | Effect::PollBinding { .. }
            | Effect::Unbind { .. }
            | Effect::PrepareBaseImage { .. }
            | Effect::BuildImage(_)
            | Effect::LoadFunction(_)
            | Effect::RetireRevision(_)
            | Effect::ServeApi { .. } => self.reach_out(id, effect, ctx).await,
        }
    }

    /// Has an alarm decided that asks for no effect.
    ///
    /// # Errors
    /// `Later` when it could not be recorded.
    pub async fn due(&self, due: &Due, ctx: &Context) -> Result<(), Later> {
        self.record(due.key.clone(), Ask::Due(due.alarm), ctx).await
    }

    async fn reach_out(&self, id: EffectId, effect: &Effect, ctx: &Context) -> Result<(), Later> {
        let Some(performer) = self
            .performers
            .iter()
            .find(|adapter| adapter.performs(effect))
        else {
            return Err(Later {
                reason: format!("this node has no adapter for effect {id}"),
                delay: AGAIN,
            });
        };
        // Not a success: were this delivery acknowledged, a crash would lose the one under way.
        let Some(_held) = self.begin(effect, ctx) else {
            debug!(effect.id = %id, resource = %ctx.key, "effect is under way already");
            return Err(Later {
                reason: "it is under way already".into(),
                delay: AGAIN,
            });
        };
        let what = word(effect);
        let told = ctx.repeat.then(|| repeated(effect)).flatten();
        let effect = told.as_ref().unwrap_or(effect);
        hold::at("before", what).await;
        let standing = ByTheLog {
            log: self.log.as_ref(),
            fold: &self.fold,
            key: &ctx.key,
            effect,
        };
        let performed = performer.perform(id, &ctx.key, effect, &standing).await;
        let recorded = match performed {
            Ok(Some(outcome)) => {
                hold::at("after", what).await;
                self.conclude(effect, outcome, ctx).await
            }
            Ok(None) => Ok(()),
            Err(later) => Err(later),
        };
        self.remark(performer.as_ref(), ctx).await;
        recorded
    }

    /// Records an outcome, and polls on where a poll said nothing that is worth recording.
    async fn conclude(
        &self,
        effect: &Effect,
        outcome: Outcome,
        ctx: &Context,
    ) -> Result<(), Later> {
        let polled = matches!(
            effect,
            Effect::PollInstance { .. } | Effect::PollBinding { .. }
        );
        let said = polled.then(|| outcome.clone());
        self.record(ctx.key.clone(), Ask::Outcome(Box::new(outcome)), ctx)
            .await?;
        if let Some(said) = said {
            let next = self
                .fold
                .read(|world| next_poll(world, &ctx.key, &said, now()));
            if let Some((request, at)) = next {
                self.polls.again(&ctx.key, request, at);
            }
        }
        Ok(())
    }

    /// Records what a performer learnt on the way. What cannot be recorded now comes again.
    async fn remark(&self, performer: &dyn Performer, ctx: &Context) {
        for (key, outcome) in performer.remarks() {
            let ctx = Context {
                key: key.clone(),
                actor: Actor::engine(),
                ..ctx.clone()
            };
            let ask = Ask::Outcome(Box::new(outcome));
            if let Err(later) = self.record(key, ask, &ctx).await {
                warn!(resource = %ctx.key, reason = %later.reason, "remark is dropped");
            }
        }
    }

    /// A delivery that came twice, an alarm and the sweep may want the same effect at once: only
    /// one of them performs it.
    fn begin(&self, effect: &Effect, ctx: &Context) -> Option<Held<'_>> {
        self.underway
            .begin(format!("{}#{}", ctx.key, fingerprint(effect)))
    }

    async fn record(&self, key: ResourceKey, ask: Ask, ctx: &Context) -> Result<(), Later> {
        let request = Request {
            key,
            ask,
            actor: ctx.actor.clone(),
            cause: ctx.cause,
            correlation: ctx.correlation.clone(),
        };
        match self.ledger.decide(request).await {
            Ok(_) => Ok(()),
            Err(LedgerError::Rejected(rejection)) => {
                // An expected refusal ends the effect: the resource is past caring.
                info!(resource = %ctx.key, code = %rejection.code, reason = %rejection.message,
                    "outcome refused");
                Ok(())
            }
            Err(LedgerError::Log(error)) => Err(from_log(error)),
            Err(error @ LedgerError::Stopping) => Err(later(&error)),
        }
    }
}

/// The effect, if it bears that it may have been performed before.
fn repeated(effect: &Effect) -> Option<Effect> {
    let mut told = effect.clone();
    match &mut told {
        Effect::Bind { repeat, .. } => {
            *repeat = true;
            Some(told)
        }
        _ => None,
    }
}

/// What distinguishes the effects of one resource that may be wanted twice at once.
fn fingerprint(effect: &Effect) -> String {
    let which = match effect {
        Effect::PrepareBaseImage { generation, .. } | Effect::ServeApi { generation } => {
            generation.to_string()
        }
        Effect::BuildImage(build) => build.build.to_string(),
        Effect::LoadFunction(load) => load.revision.to_string(),
        Effect::RetireRevision(revision) => revision.to_string(),
        other => other
            .request()
            .map_or_else(String::new, |request| request.to_string()),
    };
    format!("{} {which}", word(effect))
}

/// The effect in a word.
fn word(effect: &Effect) -> &'static str {
    match effect {
        Effect::Proceed(_) => "proceed",
        Effect::CreateBinding { .. } => "create binding",
        Effect::DeleteBinding(_) => "delete binding",
        Effect::AbandonBinding { .. } => "abandon binding",
        Effect::RefreshCatalog(_) => "refresh catalog",
        Effect::FetchInstance { .. } => "fetch instance",
        Effect::UpdateInstance { .. } => "update instance",
        Effect::Delete(_) => "delete",
        Effect::Timer(_) => "timer",
        Effect::EraseKey(_) => "erase key",
        Effect::ReadCatalog { .. } => "read catalog",
        Effect::Provision { .. } => "provision",
        Effect::PollInstance { .. } => "poll instance",
        Effect::Deprovision { .. } => "deprovision",
        Effect::Bind { .. } => "bind",
        Effect::PollBinding { .. } => "poll binding",
        Effect::Unbind { .. } => "unbind",
        Effect::PrepareBaseImage { .. } => "prepare base image",
        Effect::BuildImage(_) => "build image",
        Effect::LoadFunction(_) => "load function",
        Effect::RetireRevision(_) => "retire revision",
        Effect::ServeApi { .. } => "serve api",
    }
}

fn from_log(error: Error) -> Later {
    warn!(%error, "log failed an effect");
    later(&error)
}

fn later(error: &dyn std::error::Error) -> Later {
    Later {
        reason: error.to_string(),
        delay: AGAIN,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use adapter_kit::{Plain, Standing, VaultError};
    use async_trait::async_trait;
    use engine_model::spec::{BrokerLimits, BrokerSpec, Scope, Spec, Tags};
    use engine_model::{
        BrokerEvent, BrokerOutcome, ClientSealed, Command, CommandId, Event, KeyId, Kind, Name,
        OrgName, Sealed, Seq, ServiceTarget,
    };
    use engine_stream::Memory;
    use tokio_util::sync::CancellationToken;

    use super::*;

    /// Finds every broker unwell, whatever it is asked to do, which it cannot.
    struct Gloomy(ResourceKey, AtomicBool);

    #[async_trait]
    impl Performer for Gloomy {
        fn performs(&self, _: &Effect) -> bool {
            true
        }

        async fn perform(
            &self,
            _: EffectId,
            _: &ResourceKey,
            _: &Effect,
            _: &dyn Standing,
        ) -> Result<Option<Outcome>, Later> {
            self.1.store(true, Ordering::Relaxed);
            Err(Later {
                reason: "not now".into(),
                delay: AGAIN,
            })
        }

        fn remarks(&self) -> Vec<(ResourceKey, Outcome)> {
            let unwell = BrokerOutcome::Unwell {
                reason: "refused".into(),
                failures: 5,
            };
            let performed = self.1.swap(false, Ordering::Relaxed);
            let remark = (self.0.clone(), Outcome::Broker(unwell));
            performed.then_some(remark).into_iter().collect()
        }
    }

    struct Closed;

    #[async_trait]
    impl Vault for Closed {
        fn public_key(&self) -> String {
            String::new()
        }

        async fn seal(&self, _: &KeyId, _: &Plain) -> Result<Sealed, VaultError> {
            Err(VaultError::Unreadable)
        }

        fn open_client(&self, _: &ClientSealed) -> Result<Plain, VaultError> {
            Err(VaultError::Unreadable)
        }

        async fn open(&self, _: &Sealed) -> Result<Plain, VaultError> {
            Err(VaultError::Unreadable)
        }

        async fn erase(&self, _: &KeyId) -> Result<(), VaultError> {
            Err(VaultError::Unreadable)
        }
    }

    fn sealed() -> Sealed {
        Sealed {
            key: KeyId("k".into()),
            nonce: String::new(),
            ciphertext: String::new(),
        }
    }

    fn register(key: &ResourceKey) -> Request {
        let spec = BrokerSpec {
            url: "http://127.0.0.1:1".into(),
            credentials: ClientSealed {
                key: String::new(),
                encapsulated: String::new(),
                ciphertext: String::new(),
            },
            ca: String::new(),
            scope: Scope::default(),
            limits: BrokerLimits::default(),
            tags: Tags::default(),
        };
        Request {
            key: key.clone(),
            ask: Ask::Command {
                id: CommandId(uuid::Uuid::now_v7()),
                command: Box::new(Command::Create(Spec::ServiceBroker(spec))),
                sealed: Some(sealed()),
            },
            actor: Actor("alice".into()),
            cause: Cause::Alarm,
            correlation: String::new(),
        }
    }

    #[tokio::test]
    async fn a_remark_is_recorded_though_the_effect_comes_again() {
        let org = OrgName::new("demo").unwrap();
        let broker = ResourceKey::new(org, Kind::ServiceBroker, Name::new("b").unwrap());
        let log: Arc<dyn Log> = Arc::new(Memory::default());
        let stop = CancellationToken::new();
        let fold = Arc::new(Fold::default());
        let (ledger, desk) = Ledger::new(log.clone(), fold.clone(), stop.clone());
        let desk = tokio::spawn(desk);
        ledger.decide(register(&broker)).await.unwrap();
        let performer = Gloomy(broker.clone(), AtomicBool::new(false));
        let hands = Hands::new(
            log.clone(),
            ledger,
            Arc::new(Closed),
            vec![Arc::new(performer)],
            fold,
            crate::polls::queue().0,
        );
        let effect = Effect::ReadCatalog {
            target: ServiceTarget {
                broker: broker.clone(),
                url: String::new(),
                credentials: sealed(),
                ca: String::new(),
                api_version: None,
                limits: BrokerLimits::default(),
                paused_until: None,
            },
            etag: None,
        };
        let ctx = Context {
            key: broker.clone(),
            actor: Actor("alice".into()),
            correlation: String::new(),
            cause: Cause::Alarm,
            repeat: false,
        };
        let id = EffectId {
            seq: Seq(1),
            index: 0,
        };
        let later = hands.perform(id, &effect, &ctx).await.unwrap_err();
        assert_eq!(later.reason, "not now");
        let history = log.history(&broker).await.unwrap();
        let last = &history.last().unwrap().commit;
        assert!(
            matches!(
                &last.events[..],
                [Event::ServiceBroker(BrokerEvent::CircuitOpened {
                    failures: 5,
                    ..
                })]
            ),
            "{last:?}"
        );
        assert_eq!(last.actor, Actor::engine());
        stop.cancel();
        desk.await.unwrap().unwrap();
    }
}
