//! The alarm loop: what a timer asks to be looked at is looked at now.

use std::sync::Arc;
use std::time::Duration;

use adapter_kit::Later;
use engine_core::alarm;
use engine_model::{Actor, Alarm, Cause, Due, EffectId, RunWake, Seq};
use engine_stream::{Delivery, Error, Log};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::clock::now;
use crate::fold::Fold;
use crate::hands::{Context, Hands};
use crate::pull::{self, RECONNECT};
use crate::schedules::Schedules;

/// Alarms pulled at once.
const PULL_MAX: usize = 512;

/// Alarms that are being looked at at once.
const UNDERWAY_MAX: usize = 4096;

/// How often an alarm whose effects are slow tells that it is alive.
const ALIVE: Duration = Duration::from_secs(5);

/// Looks at alarms until `stop`.
pub(crate) async fn work(
    log: Arc<dyn Log>,
    fold: Arc<Fold>,
    hands: Arc<Hands>,
    schedules: Arc<Schedules>,
    stop: CancellationToken,
) -> Result<(), Error> {
    let mut inbox = log.alarms().await?;
    let mut underway = JoinSet::new();
    loop {
        let pulled = pull::next(inbox.as_mut(), PULL_MAX, "timer stream", &stop).await?;
        let Some(deliveries) = pulled else {
            break;
        };
        for delivery in deliveries {
            while underway.len() >= UNDERWAY_MAX {
                underway.join_next().await;
            }
            let (log, fold, hands) = (log.clone(), fold.clone(), hands.clone());
            let schedules = schedules.clone();
            underway.spawn(async move {
                handle(log.as_ref(), &fold, &hands, &schedules, delivery).await;
            });
        }
        while underway.try_join_next().is_some() {}
    }
    underway.abort_all();
    Ok(())
}

async fn handle(
    log: &dyn Log,
    fold: &Fold,
    hands: &Hands,
    schedules: &Schedules,
    delivery: Delivery<Due>,
) {
    let Delivery { item: due, ack, .. } = delivery;
    let looked = async {
        match (&due.run, due.alarm) {
            (Some(run), _) => wake(log, run).await,
            (None, Alarm::Occur) => schedules.look(&due.key).await,
            (None, _) => look(fold, hands, &due).await,
        }
    };
    tokio::pin!(looked);
    let result = loop {
        tokio::select! {
            result = &mut looked => break result,
            () = tokio::time::sleep(ALIVE) => {
                if let Err(error) = ack.progress().await {
                    debug!(%error, "alarm could not be prolonged");
                }
            }
        }
    };
    let ended = match result {
        Ok(()) => ack.ack().await,
        Err(later) => {
            debug!(resource = %due.key, reason = %later.reason, "alarm comes again");
            ack.again(later.delay).await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "alarm was not ended and comes again");
    }
}

/// Asks for a run whose moment has come.
async fn wake(log: &dyn Log, run: &RunWake) -> Result<(), Later> {
    let later = |error: Error| Later {
        reason: error.to_string(),
        delay: RECONNECT,
    };
    if run.after > Seq(0) {
        let last = log.last_run_event(&run.org, &run.function, run.id).await;
        if last.map_err(later)?.is_none() {
            // Whether it was cancelled, nobody knows any more.
            debug!(run.id = %run.id, "run is not kept any more, and not begun again");
            return Ok(());
        }
    }
    log.ask_run(run).await.map(drop).map_err(later)
}

/// Performs what the alarm asks for, if the state still wants it.
pub(crate) async fn look(fold: &Fold, hands: &Hands, due: &Due) -> Result<(), Later> {
    let (effects, seq) = fold.read(|world| (alarm(world, due, now()), world.last_seq(&due.key)));
    let ctx = Context {
        key: due.key.clone(),
        actor: Actor::engine(),
        correlation: due.key.to_string(),
        cause: Cause::Alarm,
        repeat: false,
    };
    if effects.is_empty() {
        return hands.due(due, &ctx).await;
    }
    for (index, effect) in (0..).zip(&effects) {
        hands.perform(EffectId { seq, index }, effect, &ctx).await?;
    }
    Ok(())
}
