//! Performs effects: a word to another resource through the ledger, a timer through the log,
//! everything else through the adapter that knows how.

use std::sync::Arc;
use std::time::Duration;

use adapter_kit::{Later, Performer, Vault};
use engine_core::next_poll;
use engine_model::{Actor, Cause, Due, Effect, EffectId, ResourceKey};
use engine_stream::{Error, Log};
use tracing::{debug, info, warn};

use crate::clock::now;
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
        hold::at("before", what).await;
        let Some(outcome) = performer.perform(id, &ctx.key, effect).await? else {
            return Ok(());
        };
        hold::at("after", what).await;
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

/// What distinguishes the effects of one resource that may be wanted twice at once.
fn fingerprint(effect: &Effect) -> String {
    let which = match effect {
        Effect::Provision { call, .. }
        | Effect::FetchInstance { call, .. }
        | Effect::UpdateInstance { call, .. }
        | Effect::PollInstance { call, .. }
        | Effect::Deprovision { call, .. }
        | Effect::Bind { call, .. }
        | Effect::PollBinding { call, .. }
        | Effect::Unbind { call, .. } => call.request.to_string(),
        Effect::PrepareBaseImage { generation, .. } | Effect::ServeApi { generation } => {
            generation.to_string()
        }
        Effect::BuildImage(build) => build.build.to_string(),
        Effect::LoadFunction(load) => load.revision.to_string(),
        Effect::RetireRevision(revision) => revision.to_string(),
        Effect::ReadCatalog { .. }
        | Effect::Proceed(_)
        | Effect::CreateBinding { .. }
        | Effect::DeleteBinding(_)
        | Effect::AbandonBinding { .. }
        | Effect::RefreshCatalog(_)
        | Effect::Delete(_)
        | Effect::Timer(_)
        | Effect::EraseKey(_) => String::new(),
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
