//! The run loop of a worker: takes run commands, and writes each run's own little log.
//!
//! A run is delivered until it has ended. Whoever takes it says so first (`Started`, with the
//! attempt), so that a takeover after a crash is visible, and the first `Finished` wins.

use std::sync::Arc;
use std::time::Duration;

use adapter_kit::{Blobs, Runner, Vault};
use engine_model::{CommandId, Rejection, Reply, RunEnvelope, RunEvent, Seq};
use engine_stream::{Ack, AppendError, Delivery, Error, Log, RunAppend, Unreadable};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::fold::Fold;
use crate::runs::conduct::{Ended, Taken, conduct};

mod call;
pub(crate) mod cancel;
mod conduct;
mod direct;
mod fit;
mod gate;
mod retry;
mod standing;
pub(crate) mod tidy;

pub(crate) use cancel::InHand;
pub(crate) use gate::Gate;

pub use direct::Caller;

/// Runs that wait for a slot besides those that have one, per slot.
const QUEUED_PER_SLOT: usize = 32;

/// How often a long run tells that it is alive.
const ALIVE: Duration = Duration::from_secs(5);

/// Wait before a run that met a fault of our own comes again.
const AGAIN: Duration = Duration::from_millis(500);

/// Wait after the log was away.
const RECONNECT: Duration = Duration::from_millis(200);

/// What a run needs of its node.
pub(crate) struct Bench {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) fold: Arc<Fold>,
    pub(crate) vault: Arc<dyn Vault>,
    pub(crate) blobs: Arc<dyn Blobs>,
    pub(crate) runner: Arc<dyn Runner>,
    /// Runs of one organization at once; 0 is no limit.
    pub(crate) runs_per_org: usize,
    pub(crate) gate: Gate,
    pub(crate) in_hand: InHand,
    pub(crate) stop: CancellationToken,
}

/// Runs functions until `stop`.
pub(crate) async fn work(bench: Arc<Bench>, stop: CancellationToken) -> Result<(), Error> {
    let mut inbox = bench.log.run_commands().await?;
    let underway_max = bench.runner.slots().max(1) * (1 + QUEUED_PER_SLOT);
    let mut underway = JoinSet::new();
    loop {
        while underway.len() >= underway_max {
            underway.join_next().await;
        }
        let room = underway_max - underway.len();
        let pulled = tokio::select! {
            pulled = inbox.pull(room) => pulled,
            () = stop.cancelled() => break,
        };
        let deliveries = match pulled {
            Ok(deliveries) => deliveries,
            Err(Error::Unavailable(reason)) => {
                warn!(%reason, "run stream unavailable");
                tokio::time::sleep(RECONNECT).await;
                continue;
            }
            Err(error) => return Err(error),
        };
        for delivery in deliveries {
            let bench = bench.clone();
            underway.spawn(async move { handle(&bench, delivery).await });
        }
        while underway.try_join_next().is_some() {}
    }
    // Calls that are under way end; those that are not begun come again elsewhere.
    while underway.join_next().await.is_some() {}
    Ok(())
}

async fn handle(bench: &Bench, delivery: Delivery<Result<RunEnvelope, Unreadable>>) {
    let Delivery {
        item,
        seq,
        deliveries,
        ack,
    } = delivery;
    let envelope = match item {
        Ok(envelope) => envelope,
        Err(unreadable) => return refuse(bench, unreadable, ack.as_ref()).await,
    };
    let ended = if envelope.command.cancel {
        cancel::take(bench, &envelope, ack.as_ref()).await
    } else {
        let ended = take(bench, &envelope, seq, deliveries, ack.as_ref()).await;
        tell(bench, &envelope, ended, ack.as_ref()).await
    };
    if let Err(error) = ended {
        debug!(run.id = %envelope.id, %error, "run was not acknowledged and comes again");
    }
}

/// Conducts a run, and says meanwhile that it is alive.
async fn take(
    bench: &Bench,
    envelope: &RunEnvelope,
    command: Seq,
    deliveries: u32,
    ack: &dyn Ack,
) -> Result<Ended, Error> {
    let Some(held) = bench.in_hand.take(envelope.id) else {
        // A repeat of what this node is at.
        return Ok(Ended::Again(AGAIN));
    };
    let taken = Taken {
        envelope,
        command,
        deliveries,
        digest: conduct::digest(envelope),
        cancel: held.cancel.clone(),
    };
    let run = conduct(bench, &taken);
    tokio::pin!(run);
    loop {
        tokio::select! {
            ended = &mut run => return ended,
            () = tokio::time::sleep(ALIVE) => {
                if let Err(error) = ack.progress().await {
                    debug!(%error, "run could not be prolonged");
                }
                look_for_end(bench, &taken).await;
            }
        }
    }
}

/// The signal that a run is to end is missed while the connection is lost; its log is not.
async fn look_for_end(bench: &Bench, taken: &Taken<'_>) {
    let RunEnvelope {
        id, org, function, ..
    } = taken.envelope;
    let last = bench.log.last_run_event(org, function, *id).await;
    if let Ok(Some((_, RunEvent::CancelRequested { .. } | RunEvent::Finished { .. }))) = last {
        taken.cancel.cancel();
    }
}

/// Tells the sender what there is to tell, then ends the delivery.
async fn tell(
    bench: &Bench,
    envelope: &RunEnvelope,
    ended: Result<Ended, Error>,
    ack: &dyn Ack,
) -> Result<(), Error> {
    match ended {
        Ok(Ended::Run(reply)) => {
            if let Some(reply_to) = &envelope.reply_to {
                bench.log.answer_run(reply_to, &reply).await?;
            }
            ack.ack().await
        }
        Ok(Ended::Refused(rejection)) => {
            answer(bench, envelope, Err(rejection)).await?;
            ack.ack().await
        }
        Ok(Ended::Parked) => ack.ack().await,
        Ok(Ended::TakenOver) => {
            debug!(run.id = %envelope.id, "run was taken over by another node");
            Ok(())
        }
        Ok(Ended::Again(wait)) => ack.again(wait).await,
        Err(error) => {
            warn!(run.id = %envelope.id, %error, "run comes again");
            ack.again(AGAIN).await
        }
    }
}

async fn answer(
    bench: &Bench,
    envelope: &RunEnvelope,
    decided: Result<Seq, Rejection>,
) -> Result<(), Error> {
    let command = CommandId(envelope.id.0);
    let reply = match decided {
        Ok(seq) => Reply::Done { command, seq },
        Err(rejection) => Reply::Rejected { command, rejection },
    };
    let reply_to = envelope.reply_to.as_deref();
    bench
        .log
        .answer(Some(&envelope.org), reply_to, &reply)
        .await
}

async fn refuse(bench: &Bench, unreadable: Unreadable, ack: &dyn Ack) {
    let Unreadable {
        org,
        command,
        reply_to,
        rejection,
    } = unreadable;
    debug!(command.id = %command, code = %rejection.code, "unreadable run command refused");
    let reply = Reply::Rejected { command, rejection };
    let told = bench
        .log
        .answer(org.as_ref(), reply_to.as_deref(), &reply)
        .await;
    let ended = match told {
        Ok(()) => ack.ack().await,
        Err(_) => ack.again(AGAIN).await,
    };
    if let Err(error) = ended {
        debug!(%error, "run command was not acknowledged and comes again");
    }
}

async fn append(
    bench: &Bench,
    envelope: &RunEnvelope,
    event: RunEvent,
    expected: Seq,
) -> Result<Seq, AppendError> {
    let append = RunAppend {
        org: envelope.org.clone(),
        function: envelope.function.clone(),
        run: envelope.id,
        event,
        expected,
    };
    bench.log.append_run(append).await
}
