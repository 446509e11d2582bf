//! A line to a broker: a client that speaks the broker's version, held for one request's turn.

use adapter_kit::Standing;
use engine_model::broker as model;
use engine_model::{Actor, OrgName, RequestId, ResourceId, ServiceCall, ServiceTarget};

use super::gate::{Gate, Turn};
use super::lane::Wish;
use super::parameters::Merged;
use super::reach::Obstacle;
use super::{Asked, Services, translate, version};
use crate::call::{Call, Originator};
use crate::client::Client;
use crate::endpoint::ApiVersion;
use crate::verdict::{Answer, Progress};
use crate::wire::{Context, Offer};

/// A client, and the right to use it.
pub(super) struct Line {
    pub(super) client: Client,
    version: ApiVersion,
    /// The place in the broker's lane; none where requests do not wait.
    _turn: Option<Turn>,
}

impl Line {
    /// The value of what is done, or the engine's word for anything else.
    pub(super) fn settle<T, U>(&self, answer: Answer<T>) -> Result<T, model::Verdict<U>> {
        translate::settle(version::named(answer, self.version))
    }

    /// How far an operation has come.
    pub(super) fn progress(&self, told: Progress) -> model::Progress {
        translate::progress(version::named_poll(told, self.version))
    }
}

impl Services {
    /// Waits for a turn of a request about an instance.
    pub(super) async fn line(
        &self,
        target: &ServiceTarget,
        call: &ServiceCall,
        changes: bool,
    ) -> Result<Line, Obstacle> {
        let wish = Wish {
            org: call.org.clone(),
            background: call.background,
            changes: changes.then_some(call.instance),
        };
        let version = version::announced(target.api_version.as_deref());
        self.line_of(target, wish, version).await
    }

    /// Waits for a turn of a request that removes something, if it is still waited for then.
    pub(super) async fn removing(
        &self,
        target: &ServiceTarget,
        call: &ServiceCall,
        standing: &dyn Standing,
    ) -> Result<Line, Obstacle> {
        let line = self.line(target, call, true).await?;
        standing.confirm().await.map_err(Obstacle::Later)?;
        Ok(line)
    }

    /// Waits for a turn of any request.
    pub(super) async fn line_of(
        &self,
        target: &ServiceTarget,
        wish: Wish,
        version: ApiVersion,
    ) -> Result<Line, Obstacle> {
        let turn = match &self.gate {
            Some(gate) => Some(Gate::turn(gate, target, wish).await?),
            None => None,
        };
        let client = self.clients.reach(self.vault.as_ref(), target).await?;
        let client = client.speaking(version);
        Ok(Line {
            client: match &turn {
                Some(turn) => client.watched_by(turn.watch()),
                None => client,
            },
            version,
            _turn: turn,
        })
    }

    /// Everything that a request with parameters needs before the first byte leaves.
    pub(super) async fn ready(&self, asked: &Asked<'_>) -> Result<(Line, Merged), Obstacle> {
        let line = self.line(asked.target, asked.call, true).await?;
        let merged = Merged::new(
            self.vault.as_ref(),
            asked.parameters,
            asked.secret_parameters,
        );
        let merged = merged.await?;
        merged.check(asked.schema).map_err(Obstacle::Refused)?;
        asked.standing.confirm().await.map_err(Obstacle::Later)?;
        Ok((line, merged))
    }
}

/// The headers of a request about an instance.
pub(super) fn call(call: &ServiceCall, request: RequestId) -> Call {
    let made = Call::new(request.0);
    // What the engine does on its own, like cleaning up, has no user.
    if call.background || call.actor == Actor::engine() {
        return made;
    }
    made.on_behalf_of(Originator::user(&call.actor.0))
}

pub(super) fn offer(call: &ServiceCall) -> Offer {
    Offer {
        service_id: call.service_id.clone(),
        plan_id: call.plan_id.clone(),
    }
}

/// Brokers expect a GUID for an organization, and the same one for ever.
pub(super) fn context(org: &OrgName) -> Context {
    let guid = ResourceId::derived(format_args!("organization {org}")).to_string();
    Context::of_organization(&guid, org.as_str())
}
