//! Holds the runs that wait for their turn to the limits that their functions have now: those that
//! they came with may be others.

use std::convert::Infallible;
use std::sync::Arc;

use engine_core::plan_run;
use engine_model::{Kind, Name, OrgName, RunId};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use super::Bench;
use super::conduct::limits;
use super::gate::{Gate, Limits};

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
    adjust_to(&bench.gate, |org, function| {
        let id = RunId::derived(format_args!("limits"));
        let plan = bench
            .fold
            .read(|world| plan_run(world, org, function, &[], id, None));
        plan.ok().map(|plan| limits(bench, &plan))
    });
}

/// Of a function that cannot be begun at this moment, the limits are not known: its runs keep
/// theirs, and each is told so when its turn has come.
fn adjust_to(gate: &Gate, limits: impl Fn(&OrgName, &Name) -> Option<Limits>) {
    for (org, function) in gate.waiting() {
        if let Some(limits) = limits(&org, &function) {
            gate.adjust(&org, &function, limits);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::gate::Entry;
    use super::*;

    #[test]
    fn runs_of_a_function_that_is_not_ready_for_a_moment_keep_their_limits() {
        let gate = Gate::default();
        let (a, f) = (OrgName::new("a").unwrap(), Name::new("f").unwrap());
        let one = Limits {
            function: 1,
            org: 0,
        };
        let held = gate.enter(&a, &f, one);
        assert!(matches!(held, Entry::Now(_)), "{held:?}");
        let Entry::Later(mut second) = gate.enter(&a, &f, one) else {
            panic!("one at a time");
        };
        adjust_to(&gate, |_, _| None);
        assert!(second.try_recv().is_err(), "one at a time");
        adjust_to(&gate, |_, _| Some(Limits { function: 2, ..one }));
        assert!(second.try_recv().is_ok());
    }
}
