//! Calls that leave nothing on record: from a gateway straight to the workers of its own node.

use std::sync::Arc;

use engine_core::{Refused, plan_run};
use engine_model::{
    Actor, Name, OrgName, Rejection, RunCommand, RunEnvelope, RunId, RunResult, Timestamp,
};
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use super::Bench;
use super::call::{invoke, refusal};
use super::conduct::{crowded, limits};
use super::gate::{Entry, Limits};

/// Calls functions without a run. What was called is forgotten when its caller has been answered,
/// and lost with the node.
#[derive(Clone)]
pub struct Caller {
    bench: Arc<Bench>,
}

impl Caller {
    pub(crate) fn new(bench: Arc<Bench>) -> Self {
        Self { bench }
    }

    /// Calls the revision that the call's share falls to, and waits for its end. `id` names the call in
    /// logs.
    ///
    /// # Errors
    /// `Rejection` when the function is not there, not ready, or called too often.
    pub async fn call(
        &self,
        id: RunId,
        org: &OrgName,
        function: &Name,
        input: Value,
        http_context: Map<String, Value>,
    ) -> Result<RunResult, Rejection> {
        let plan = || {
            let world = &self.bench.fold;
            world.read(|world| plan_run(world, org, function, &[], id, None))
        };
        let mut planned = plan();
        let limits = planned
            .as_ref()
            .map_or_else(|_| Limits::default(), |plan| limits(&self.bench, plan));
        let _pass = match limits == Limits::default() {
            true => None,
            false => match self.bench.gate.enter(org, function, limits) {
                Entry::Now(pass) => Some(pass),
                Entry::Full(waiting) => return Err(crowded(function, waiting)),
                Entry::Later(entered) => {
                    let pass = entered.await.ok();
                    // What it was to be given may be another by now.
                    planned = plan();
                    pass
                }
            },
        };
        let plan = match planned {
            Ok(plan) => plan,
            Err(Refused::Rejection(rejection)) => return Err(rejection),
            Err(Refused::Error(error)) => {
                return Ok(RunResult {
                    error: Some(error),
                    ..RunResult::default()
                });
            }
        };
        let envelope = RunEnvelope {
            id,
            org: org.clone(),
            function: function.clone(),
            command: RunCommand {
                input,
                blocking: true,
                http_context,
                ..RunCommand::default()
            },
            actor: Actor::engine(),
            reply_to: None,
            at: Timestamp(0),
        };
        // A caller that leaves gives up its place, so that what it called ends as well.
        let left = CancellationToken::new();
        let guard = left.clone().drop_guard();
        let result = invoke(&self.bench, envelope, plan, false, &left).await;
        guard.disarm();
        refusal(&result).map_or(Ok(result), Err)
    }
}
