//! The run loop of a worker: takes run commands, and writes each run's own little log.
//!
//! A run is delivered until it has ended. Whoever takes it says so first (`Started`, with the
//! attempt), so that a takeover after a crash is visible, and the first `Finished` wins.

use std::sync::Arc;
use std::time::Duration;

use adapter_kit::{Blobs, Runner, Vault};
use engine_model::{CommandId, Rejection, Reply, RunEnvelope, RunEvent, Seq};
use engine_stream::{Ack, AppendError, Delivery, Error, Log, RunAppend, Unreadable};
use futures::StreamExt as _;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::clock::now;
use crate::fold::Fold;
use crate::pull;
use crate::runs::call::light;
use crate::runs::conduct::{Ended, Taken, conduct};
use crate::runs::intake::Place;

mod call;
pub(crate) mod cancel;
mod conduct;
mod direct;
mod fit;
mod gate;
mod intake;
mod lanes;
pub(crate) mod limits;
pub(crate) mod overdue;
mod retry;
mod standing;
pub(crate) mod tidy;
pub(crate) mod waiting;

pub(crate) use cancel::InHand;
pub(crate) use gate::Gate;
pub(crate) use intake::Intake;

pub use direct::Caller;

/// Runs that wait for a slot besides those that have one, per slot.
const QUEUED_PER_SLOT: usize = 32;

/// For how long at most the runs of one pull wait for others to end before they are put aside.
const LINGER: Duration = Duration::from_millis(20);

/// Logs of runs that are looked at at once before runs are put aside.
const LOOKS_AT_ONCE: usize = 64;

/// How often a long run tells that it is alive.
const ALIVE: Duration = Duration::from_secs(5);

/// Wait before a run that met a fault of our own comes again.
const AGAIN: Duration = Duration::from_millis(500);

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
    pub(crate) intake: Intake,
    pub(crate) stop: CancellationToken,
}

/// Runs that a node with so many slots has in hand at most.
fn underway_max(slots: usize) -> usize {
    slots.max(1) * (1 + QUEUED_PER_SLOT)
}

/// How many runs a node with so many slots takes in.
pub(crate) fn intake(slots: usize) -> Intake {
    Intake::new(slots.max(1), underway_max(slots))
}

/// A run command, or what was sent in its place.
type RunDelivery = Delivery<Result<RunEnvelope, Unreadable>>;

/// Runs functions until `stop`.
pub(crate) async fn work(bench: Arc<Bench>, stop: CancellationToken) -> Result<(), Error> {
    let mut inbox = bench.log.run_commands().await?;
    let underway_max = underway_max(bench.runner.slots());
    let mut underway = JoinSet::new();
    loop {
        while underway.len() >= underway_max {
            underway.join_next().await;
        }
        let room = underway_max - underway.len();
        let pulled = pull::next(inbox.as_mut(), room, "run stream", &stop).await?;
        let Some(deliveries) = pulled else {
            break;
        };
        let over = begin(&bench, deliveries, &mut underway).await;
        put_aside(&bench, over, &mut underway).await;
        while underway.try_join_next().is_some() {}
    }
    // Calls that are under way end; those that are not begun come again elsewhere.
    while underway.join_next().await.is_some() {}
    Ok(())
}

/// Begins what there is room for, and returns the rest, in order.
async fn begin(
    bench: &Arc<Bench>,
    deliveries: Vec<RunDelivery>,
    underway: &mut JoinSet<()>,
) -> Vec<(RunEnvelope, RunDelivery)> {
    let until = Instant::now() + LINGER;
    let mut over = Vec::new();
    for delivery in deliveries {
        let envelope = match &delivery.item {
            Ok(envelope) if needs_room(envelope) => envelope.clone(),
            Ok(_) | Err(_) => {
                spawn(bench, underway, delivery, Asked::No, false);
                continue;
            }
        };
        let key = (envelope.org.clone(), envelope.function.clone());
        let somebody_waits = envelope.reply_to.is_some();
        let mut place = bench.intake.enter(&key, somebody_waits);
        if place.is_none() && !somebody_waits && !bench.intake.is_behind(&key) {
            // What ends soon makes room sooner than a detour through the stream.
            if timeout_at(until, bench.intake.room(&key)).await.is_ok() {
                place = bench.intake.enter(&key, false);
            }
        }
        match place {
            None if !somebody_waits => {
                bench.intake.fall_behind(&key);
                over.push((envelope, delivery));
            }
            place => spawn(bench, underway, delivery, Asked::Yes(place), false),
        }
    }
    over
}

/// Whether it is a run that may begin now.
fn needs_room(envelope: &RunEnvelope) -> bool {
    let command = &envelope.command;
    !command.cancel && command.not_before.is_none_or(|moment| moment <= now())
}

/// Puts runs aside for which there is no room, in order. One of which something is on record
/// belongs to this message perhaps, and is looked at first.
async fn put_aside(
    bench: &Arc<Bench>,
    over: Vec<(RunEnvelope, RunDelivery)>,
    underway: &mut JoinSet<()>,
) {
    if over.is_empty() {
        return;
    }
    let looked = futures::stream::iter(over).map(|(envelope, delivery)| async move {
        let (org, function) = (&envelope.org, &envelope.function);
        let last = bench.log.last_run_event(org, function, envelope.id).await;
        let wake = match last {
            Ok(None) => light(bench, &envelope, Seq(0)).await.ok(),
            Ok(Some(_)) | Err(_) => None,
        };
        (wake, delivery)
    });
    let looked: Vec<_> = looked.buffered(LOOKS_AT_ONCE).collect().await;
    let (mut runs, mut waiting) = (Vec::new(), Vec::new());
    for (wake, delivery) in looked {
        match wake {
            Some(wake) => {
                runs.push((wake, delivery.seq));
                waiting.push(delivery.ack);
            }
            None => spawn(bench, underway, delivery, Asked::Yes(None), true),
        }
    }
    let results = bench.log.put_aside(&runs).await;
    for (ack, result) in waiting.into_iter().zip(results) {
        let ended = match result {
            Ok(()) => ack.ack().await,
            Err(error) => {
                debug!(%error, "a run could not be put aside, and comes again");
                ack.again(AGAIN.saturating_mul(2)).await
            }
        };
        if let Err(error) = ended {
            debug!(%error, "run was not acknowledged and comes again");
        }
    }
}

fn spawn(
    bench: &Arc<Bench>,
    underway: &mut JoinSet<()>,
    delivery: RunDelivery,
    asked: Asked,
    look: bool,
) {
    let bench = bench.clone();
    underway.spawn(async move { handle(&bench, delivery, asked, look).await });
}

async fn handle(bench: &Bench, delivery: RunDelivery, asked: Asked, look: bool) {
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
    if envelope.command.cancel {
        if let Err(error) = cancel::take(bench, &envelope, deliveries, ack.as_ref()).await {
            debug!(run.id = %envelope.id, %error, "request to end a run comes again");
        }
        return;
    }
    let begun = Begun {
        command: seq,
        deliveries,
        look: look || deliveries > 1,
        room: asked.room(),
    };
    carry(bench, &envelope, begun, ack.as_ref()).await;
}

/// How a run came to this node.
#[derive(Debug, Clone, Copy)]
struct Begun {
    /// What its log calls the message.
    command: Seq,
    /// How often that was delivered, from 1.
    deliveries: u32,
    /// Whether something may be on record of it.
    look: bool,
    room: Room,
}

/// Whether a run was taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    /// It has a place.
    Taken,
    /// There was none: it is put aside, or refused.
    None,
    /// Nobody asked for one, since its moment had not come.
    Unasked,
}

/// Whether a place was asked for, and what came of it.
enum Asked {
    No,
    Yes(Option<Place>),
}

impl Asked {
    fn room(&self) -> Room {
        match self {
            Self::Yes(Some(_)) => Room::Taken,
            Self::Yes(None) => Room::None,
            Self::No => Room::Unasked,
        }
    }
}

/// Carries a run on, and ends its delivery.
async fn carry(bench: &Bench, envelope: &RunEnvelope, begun: Begun, ack: &dyn Ack) {
    let ended = take(bench, envelope, begun, ack).await;
    if let Err(error) = tell(bench, envelope, begun.command, ended, ack).await {
        debug!(run.id = %envelope.id, %error, "run was not acknowledged and comes again");
    }
}

/// Conducts a run, and says meanwhile that it is alive.
async fn take(
    bench: &Bench,
    envelope: &RunEnvelope,
    begun: Begun,
    ack: &dyn Ack,
) -> Result<Ended, Error> {
    let Some(held) = bench.in_hand.take(envelope.id) else {
        // A repeat of what this node is at.
        return Ok(Ended::Again(AGAIN));
    };
    let taken = Taken {
        envelope,
        command: begun.command,
        deliveries: begun.deliveries,
        look: begun.look,
        room: begun.room,
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
    command: Seq,
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
        Ok(Ended::Over { after }) => {
            let wake = light(bench, envelope, after).await?;
            let key = (wake.org.clone(), wake.function.clone());
            bench.intake.fall_behind(&key);
            match bench.log.put_aside(&[(wake, command)]).await.pop() {
                Some(Ok(())) => ack.ack().await,
                Some(Err(_)) | None => ack.again(AGAIN.saturating_mul(2)).await,
            }
        }
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
