//! The reactor loop of a role: performs what a commit asks for, and acknowledges last.
//!
//! A delivery is only a hint that something may be outstanding. Before anything is done,
//! `react` asks the folded state, so that a repeated delivery of what is long done does nothing.

use std::sync::Arc;
use std::time::Duration;

use adapter_kit::Later;
use engine_core::react;
use engine_model::{Cause, Effect, EffectId, Recorded, Role};
use engine_stream::{Delivery, Error, Log};
use futures::future::join_all;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::fold::Fold;
use crate::hands::{Context, Hands};
use crate::pull;

/// Commits pulled at once.
const PULL_MAX: usize = 512;

/// Commits whose effects are under way at once; slow brokers hold theirs for up to a minute.
const UNDERWAY_MAX: usize = 4096;

/// How often a delivery whose effects are slow tells that it is alive. The consumer's
/// acknowledgement wait is several times longer.
const ALIVE: Duration = Duration::from_secs(5);

/// Reacts to commits until `stop`.
pub(crate) async fn work(
    role: Role,
    log: Arc<dyn Log>,
    fold: Arc<Fold>,
    hands: Arc<Hands>,
    stop: CancellationToken,
) -> Result<(), Error> {
    let mut inbox = log.reactions(role).await?;
    let mut underway = JoinSet::new();
    loop {
        let pulled = pull::next(inbox.as_mut(), PULL_MAX, "event stream", &stop).await?;
        let Some(deliveries) = pulled else {
            break;
        };
        for delivery in deliveries {
            while underway.len() >= UNDERWAY_MAX {
                underway.join_next().await;
            }
            let (fold, hands) = (fold.clone(), hands.clone());
            underway.spawn(async move { handle(role, &fold, &hands, delivery).await });
        }
        while underway.try_join_next().is_some() {}
    }
    // What is under way is not awaited: it is repeated under its id by whoever comes next.
    underway.abort_all();
    Ok(())
}

async fn handle(role: Role, fold: &Fold, hands: &Hands, delivery: Delivery<Recorded>) {
    let Delivery {
        item: recorded,
        ack,
        deliveries,
        ..
    } = delivery;
    let repeat = deliveries > 1;
    let outstanding = async {
        // All up to here, not only this resource: what it waits for may have changed on another
        // node just before, and each of two reactors must not leave the word to the other.
        fold.reached(recorded.seq).await;
        let effects = fold.read(|world| react(world, &recorded));
        let mine = effects
            .into_iter()
            .filter(|(_, effect)| effect.role() == role);
        join_all(mine.map(|(id, effect)| one(hands, &recorded, id, effect, repeat))).await
    };
    tokio::pin!(outstanding);
    let results = loop {
        tokio::select! {
            results = &mut outstanding => break results,
            () = tokio::time::sleep(ALIVE) => {
                if let Err(error) = ack.progress().await {
                    debug!(%error, "delivery could not be prolonged");
                }
            }
        }
    };
    let ended = match results.into_iter().find_map(Result::err) {
        None => ack.ack().await,
        Some(later) => {
            warn!(role = role.as_str(), seq = %recorded.seq, resource = %recorded.commit.key,
                reason = %later.reason, "effect comes again");
            ack.again(later.delay).await
        }
    };
    if let Err(error) = ended {
        debug!(%error, seq = %recorded.seq, "delivery was not ended and comes again");
    }
}

async fn one(
    hands: &Hands,
    recorded: &Recorded,
    id: EffectId,
    effect: Effect,
    repeat: bool,
) -> Result<(), Later> {
    let ctx = Context {
        key: recorded.commit.key.clone(),
        actor: recorded.commit.actor.clone(),
        correlation: recorded.commit.correlation.clone(),
        cause: Cause::Effect {
            seq: id.seq,
            index: id.index,
        },
        repeat,
    };
    hands.perform(id, &effect, &ctx).await
}
