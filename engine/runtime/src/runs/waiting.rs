//! Runs that were put aside: each function that has some has a lane, which takes them in again
//! when this node has room.
//!
//! A lane is opened by whoever puts a run aside, and by a sweep that looks at what the stream
//! holds, so that no run needs the node that put it aside.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use engine_model::{RunEnvelope, RunWake, Seq};
use engine_stream::{Delivery, Error};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::intake::Key;
use super::{Begun, Bench, RECONNECT, carry};
use crate::clock::now;

/// Pause between two looks at what the stream holds.
const PAUSE: Duration = Duration::from_secs(5);

/// A lane to which nothing comes for so long has caught up.
const IDLE: Duration = Duration::from_millis(50);

/// Runs that a lane asks for at once; lanes take turns at the room that there is.
const BATCH: usize = 16;

/// Functions whose waiting runs a node takes in at a time. Each is a consumer, of which a stream has
/// a thousand at most unless its server is told otherwise.
const LANES_MAX: usize = 256;

/// Positions of runs that were put aside are told from those of run commands by this bit: the two
/// streams count for themselves, and a run's log names the message that it belongs to.
const PUT_ASIDE: u64 = 1 << 52;

/// What a run's log calls the message at this position of the waiting runs.
pub(super) fn named(seq: Seq) -> Seq {
    Seq(seq.0 | PUT_ASIDE)
}

/// Whether a run's log calls a message of the waiting runs so.
pub(super) fn is_put_aside(command: Seq) -> bool {
    command.0 & PUT_ASIDE != 0
}

struct Lane {
    close: CancellationToken,
}

/// Keeps the lanes until `stop`.
pub(crate) async fn work(bench: Arc<Bench>, stop: CancellationToken) -> Result<(), Error> {
    let mut open: HashMap<Key, Lane> = HashMap::new();
    let mut lanes = JoinSet::new();
    loop {
        let sweep = tokio::select! {
            () = bench.intake.fell_behind() => false,
            () = tokio::time::sleep(PAUSE) => true,
            Some(closed) = lanes.join_next() => {
                if let Ok(key) = closed {
                    open.remove(&key);
                }
                // It may have fallen behind again meanwhile.
                false
            }
            () = stop.cancelled() => break,
        };
        if sweep {
            look(&bench, &mut open).await;
        }
        for key in bench.intake.behind() {
            if open.contains_key(&key) || open.len() >= LANES_MAX {
                continue;
            }
            let close = stop.child_token();
            lanes.spawn(lane(bench.clone(), key.clone(), close.clone()));
            open.insert(key, Lane { close });
        }
    }
    while lanes.join_next().await.is_some() {}
    Ok(())
}

/// Opens lanes for what waits, and closes those for which nothing does.
async fn look(bench: &Bench, open: &mut HashMap<Key, Lane>) {
    let counts = match bench.log.waiting().await {
        Ok(counts) => counts,
        Err(error) => return debug!(%error, "runs that wait could not be counted"),
    };
    let waiting: HashMap<Key, u64> = counts
        .into_iter()
        .map(|(org, function, count)| ((org, function), count))
        .collect();
    for key in waiting.keys().filter(|key| !open.contains_key(*key)) {
        bench.intake.fall_behind(key);
    }
    for (key, lane) in open.iter() {
        if !waiting.contains_key(key) && !bench.intake.is_behind(key) {
            lane.close.cancel();
        }
    }
}

/// Takes in the waiting runs of a function, in order, until it is closed.
async fn lane(bench: Arc<Bench>, key: Key, close: CancellationToken) -> Key {
    let mut underway = JoinSet::new();
    while !close.is_cancelled() {
        if let Err(error) = serve(&bench, &key, &close, &mut underway).await {
            warn!(function = %key.1, %error, "waiting runs cannot be had");
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = close.cancelled() => {}
            }
        }
    }
    // Those that are under way end; those that are not begun come again elsewhere.
    while underway.join_next().await.is_some() {}
    key
}

async fn serve(
    bench: &Arc<Bench>,
    key: &Key,
    close: &CancellationToken,
    underway: &mut JoinSet<()>,
) -> Result<(), Error> {
    let mut inbox = bench.log.waiting_runs(&key.0, &key.1).await?;
    loop {
        while underway.try_join_next().is_some() {}
        let room = tokio::select! {
            room = bench.intake.room(key) => room,
            () = close.cancelled() => return Ok(()),
        };
        let pulled = tokio::select! {
            pulled = inbox.pull(room.min(BATCH)) => pulled,
            () = tokio::time::sleep(IDLE), if bench.intake.is_behind(key) => {
                bench.intake.caught_up(key);
                continue;
            }
            () = close.cancelled() => return Ok(()),
        };
        let deliveries = match pulled {
            Ok(deliveries) => deliveries,
            Err(Error::Unavailable(reason)) => {
                warn!(%reason, "waiting runs unavailable");
                tokio::time::sleep(RECONNECT).await;
                continue;
            }
            Err(error) => return Err(error),
        };
        bench.intake.fall_behind(key);
        for delivery in deliveries {
            let (bench, place) = (bench.clone(), bench.intake.take(key));
            underway.spawn(async move {
                let _place = place;
                take_in(&bench, delivery).await;
            });
        }
    }
}

async fn take_in(bench: &Bench, delivery: Delivery<RunWake>) {
    let wake = delivery.item;
    let envelope = RunEnvelope {
        id: wake.id,
        org: wake.org,
        function: wake.function,
        command: wake.command,
        actor: wake.actor,
        reply_to: wake.reply_to,
        at: now(),
    };
    let begun = Begun {
        command: named(delivery.seq),
        deliveries: delivery.deliveries,
        // It may have been cancelled, or begun under the message that asked for it.
        look: true,
        room: true,
    };
    carry(bench, &envelope, begun, delivery.ack.as_ref()).await;
}
