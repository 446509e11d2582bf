//! Answers what people ask of brokers beside the record: how an instance is there now, and what may
//! have been left there.

use std::sync::Arc;

use adapter_kit::{Performer, Unquestioned};
use adapter_osb::Services;
use engine_core::{Orphan, drift, live_request, orphans};
use engine_model::broker::{FetchedInstance, Verdict};
use engine_model::{
    Actor, Code, EffectId, InstanceOutcome, Kind, Name, OrgName, Outcome, Rejection, RequestId,
    ResourceKey, Seq,
};
use engine_runtime::Fold;
use serde_json::{Value, json};

/// What the node knows of brokers, and how it reaches them.
#[derive(Clone)]
pub(crate) struct Brokers {
    pub(crate) fold: Arc<Fold>,
    pub(crate) services: Arc<Services>,
}

impl Brokers {
    /// What its broker says of an instance now, beside what is on record. Nothing is recorded.
    pub(crate) async fn live(&self, org: &OrgName, name: &Name) -> Result<Value, Rejection> {
        // A query bears no name of who asks it, and looking changes nothing.
        let actor = Actor::engine();
        let request = RequestId(uuid::Uuid::now_v7());
        let effect = self
            .fold
            .read(|world| live_request(world, org, name, actor, request))?;
        let key = ResourceKey::new(org.clone(), Kind::ServiceInstance, name.clone());
        let id = EffectId {
            seq: Seq(0),
            index: 0,
        };
        let looked = self.services.perform(id, &key, &effect, &Unquestioned);
        let unavailable = |reason: String| Rejection::new(Code::Unavailable, reason);
        match looked.await.map_err(|later| unavailable(later.reason))? {
            Some(Outcome::Instance(InstanceOutcome::Fetched { verdict, .. })) => {
                let found = found(&key, verdict)?;
                let drift = self.fold.read(|world| drift(world, org, name, &found));
                Ok(json!({ "name": name, "live": found, "drift": drift }))
            }
            _ => Err(unavailable(format!("{key} cannot be looked at"))),
        }
    }

    /// What may have been left at brokers, the longest waiting first.
    pub(crate) fn orphans(&self, org: &OrgName) -> Vec<Value> {
        let found = self.fold.read(|world| orphans(world, org));
        found.iter().map(document).collect()
    }
}

fn found(
    key: &ResourceKey,
    verdict: Verdict<FetchedInstance>,
) -> Result<FetchedInstance, Rejection> {
    let why = match verdict {
        Verdict::Done(found) => return Ok(found),
        Verdict::Gone => "the broker does not have it: it was deleted there".to_owned(),
        Verdict::Accepted { .. } => "the broker's answer makes no sense".to_owned(),
        Verdict::Rejected { reason }
        | Verdict::Busy { reason, .. }
        | Verdict::Again { reason, .. }
        | Verdict::Doubt { reason }
        | Verdict::NotSent { reason }
        | Verdict::Unknown { reason, .. } => reason,
    };
    Err(Rejection::new(Code::Unavailable, format!("{key}: {why}")))
}

fn document(orphan: &Orphan) -> Value {
    json!({
        "kind": orphan.key.kind,
        "name": orphan.key.name,
        "broker": orphan.broker.name,
        "instanceId": orphan.instance,
        "bindingId": orphan.binding,
        "reason": orphan.reason,
        "since": orphan.since.unix_seconds(),
        "removals": orphan.removals,
        "last": orphan.last,
        "nextAt": orphan.next_at.map(engine_model::Timestamp::unix_seconds),
    })
}
