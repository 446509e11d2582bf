//! Holds the runs that wait for their turn to the limits that their functions have now: those that
//! they came with may be others.

use std::convert::Infallible;
use std::sync::Arc;

use engine_core::plan_run;
use engine_model::{Kind, RunId};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use super::Bench;
use super::conduct::limits;

/// Follows what changes until `stop`.
pub(crate) async fn work(bench: Arc<Bench>, stop: CancellationToken) -> Result<(), Infallible> {
    let mut changes = bench.fold.changes();
    loop {
        let changed = tokio::select! {
            changed = changes.recv() => changed,
            () = stop.cancelled() => return Ok(()),
        };
        match changed {
            Ok(key) if key.kind != Kind::Function => {}
            // Few functions have runs that wait, and each is looked at.
            Ok(_) | Err(RecvError::Lagged(_)) => adjust(&bench),
            Err(RecvError::Closed) => return Ok(()),
        }
    }
}

fn adjust(bench: &Bench) {
    for (org, function) in bench.gate.waiting() {
        let id = RunId::derived(format_args!("limits"));
        let plan = bench
            .fold
            .read(|world| plan_run(world, &org, &function, &[], id, None));
        // What cannot be begun is told so when its turn has come.
        let limits = plan.map_or_else(
            |_| super::gate::Limits::default(),
            |plan| limits(bench, &plan),
        );
        bench.gate.adjust(&org, &function, limits);
    }
}
