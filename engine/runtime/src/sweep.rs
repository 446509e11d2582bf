//! The sweep: looks at the whole state, takes no hints, and finds what a lost timer or a lost
//! delivery would have missed.

use std::sync::Arc;
use std::time::Duration;

use engine_core::{Overdue, due, outstanding};
use engine_model::{Actor, Cause, Effect, EffectId, ResourceKey, Role};
use futures::StreamExt;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::alarms::look;
use crate::clock::now;
use crate::fold::Fold;
use crate::hands::{Context, Hands};

/// Pause between two sweeps.
const PAUSE: Duration = Duration::from_secs(5);

/// Overdue things handled by one sweep; the next one takes the rest.
const SWEEP_MAX: usize = 1024;

/// Overdue things handled at once.
const AT_ONCE: usize = 64;

/// Sweeps until `stop`.
pub(crate) async fn work(
    roles: Vec<Role>,
    fold: Arc<Fold>,
    hands: Arc<Hands>,
    stop: CancellationToken,
) -> Result<(), std::convert::Infallible> {
    loop {
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = stop.cancelled() => return Ok(()),
        }
        let mut overdue = fold.read(|world| due(world, now()));
        overdue.truncate(SWEEP_MAX);
        if overdue.is_empty() {
            continue;
        }
        info!(count = overdue.len(), "sweep found overdue work");
        let all = futures::stream::iter(overdue)
            .for_each_concurrent(AT_ONCE, |one| handle(&roles, &fold, &hands, one));
        tokio::select! {
            () = all => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
}

async fn handle(roles: &[Role], fold: &Fold, hands: &Hands, overdue: Overdue) {
    let result = match overdue {
        Overdue::Alarm(due) => look(fold, hands, &due).await,
        Overdue::Nudge(key) => perform(hands, &key, fold, vec![Effect::Proceed(key.clone())]).await,
        Overdue::Reaction(key) => {
            let effects = fold.read(|world| outstanding(world, &key));
            let mine = effects
                .into_iter()
                .filter(|effect| roles.contains(&effect.role()));
            perform(hands, &key, fold, mine.collect()).await
        }
    };
    if let Err(later) = result {
        debug!(reason = %later.reason, "overdue work is left to the next sweep");
    }
}

async fn perform(
    hands: &Hands,
    key: &ResourceKey,
    fold: &Fold,
    effects: Vec<Effect>,
) -> Result<(), adapter_kit::Later> {
    let ctx = Context {
        key: key.clone(),
        actor: Actor::engine(),
        correlation: key.to_string(),
        cause: Cause::Alarm,
        repeat: true,
    };
    let seq = fold.read(|world| world.last_seq(key));
    for (index, effect) in (0..).zip(&effects) {
        hands.perform(EffectId { seq, index }, effect, &ctx).await?;
    }
    Ok(())
}
