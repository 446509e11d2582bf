//! The end of a run that someone asks for.
//!
//! What is not being carried out ends at once. What is, gets a `CancelRequested` in its log, so
//! that a node which takes it over ends it; and a signal goes to all nodes, so that the one that
//! carries it out kills it now. That node then writes the end.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine_model::{
    Actor, Code, Due, Rejection, RunEnvelope, RunErrorKind, RunEvent, RunId, RunReply, RunResult,
    Seq, TimerRequest, Timestamp,
};
use engine_stream::{Ack, AppendError, Delivery, Error, Unreadable};
use futures::StreamExt as _;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::call::failed;
use super::{AGAIN, Bench, answer, append, refuse};
use crate::clock::now;
use crate::pull::{self, RECONNECT};

/// Requests to end runs that are decided at once. Each is a few messages, and needs no worker.
const UNDERWAY_MAX: usize = 64;

/// How often the request is decided anew when the run moves on meanwhile.
const CLASHES_MAX: u32 = 16;

/// The runs that this node has in hand, and how to end each.
#[derive(Debug, Default)]
pub(crate) struct InHand(Mutex<HashMap<RunId, CancellationToken>>);

/// Held while this node has a run in hand.
pub(super) struct Held<'a> {
    all: &'a InHand,
    run: RunId,
    pub(super) cancel: CancellationToken,
}

impl InHand {
    /// Takes a run in hand; none while this node has it already.
    pub(super) fn take(&self, run: RunId) -> Option<Held<'_>> {
        match self.lock().entry(run) {
            Entry::Occupied(_) => None,
            Entry::Vacant(vacant) => Some(Held {
                all: self,
                run,
                cancel: vacant.insert(CancellationToken::new()).clone(),
            }),
        }
    }

    fn cancel(&self, run: RunId) {
        if let Some(token) = self.lock().get(&run) {
            token.cancel();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RunId, CancellationToken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.all.lock().remove(&self.run);
    }
}

/// Hears of runs that are to end, until `stop`.
pub(crate) async fn listen(bench: Arc<Bench>, stop: CancellationToken) -> Result<(), Infallible> {
    while !stop.is_cancelled() {
        match bench.log.cancel_signals().await {
            Ok(mut signals) => loop {
                let signal = tokio::select! {
                    signal = signals.next() => signal,
                    () = stop.cancelled() => return Ok(()),
                };
                match signal {
                    Some(run) => bench.in_hand.cancel(run),
                    None => break,
                }
            },
            Err(error) => warn!(%error, "requests to end runs cannot be heard"),
        }
        tokio::select! {
            () = tokio::time::sleep(RECONNECT) => {}
            () = stop.cancelled() => {}
        }
    }
    Ok(())
}

/// Takes requests to end runs until `stop`, however many runs this node has in hand.
pub(crate) async fn work(bench: Arc<Bench>, stop: CancellationToken) -> Result<(), Error> {
    let mut inbox = bench.log.run_cancels().await?;
    let mut underway = JoinSet::new();
    loop {
        while underway.len() >= UNDERWAY_MAX {
            underway.join_next().await;
        }
        let room = UNDERWAY_MAX - underway.len();
        let pulled = pull::next(inbox.as_mut(), room, "run stream", &stop).await?;
        let Some(deliveries) = pulled else {
            break;
        };
        for delivery in deliveries {
            let bench = bench.clone();
            underway.spawn(async move { handle(&bench, delivery).await });
        }
        while underway.try_join_next().is_some() {}
    }
    while underway.join_next().await.is_some() {}
    Ok(())
}

async fn handle(bench: &Bench, delivery: Delivery<Result<RunEnvelope, Unreadable>>) {
    let envelope = match delivery.item {
        Ok(envelope) => envelope,
        Err(unreadable) => return refuse(bench, unreadable, delivery.ack.as_ref()).await,
    };
    if let Err(error) = take(bench, &envelope, delivery.ack.as_ref()).await {
        debug!(run.id = %envelope.id, %error, "request to end a run comes again");
    }
}

/// Decides a request to end a run, and tells its sender.
pub(super) async fn take(
    bench: &Bench,
    envelope: &RunEnvelope,
    ack: &dyn Ack,
) -> Result<(), Error> {
    match decide(bench, envelope).await {
        Ok(decided) => {
            debug!(run.id = %envelope.id, "request to end a run decided");
            answer(bench, envelope, decided).await?;
            ack.ack().await
        }
        Err(error) => {
            warn!(run.id = %envelope.id, %error, "request to end a run comes again");
            ack.again(AGAIN).await
        }
    }
}

/// How a run ends that someone asked to.
pub(super) fn cancelled(by: &Actor) -> RunResult {
    failed(RunErrorKind::Cancelled, format!("cancelled by {}", by.0))
}

/// Decides a request to end a run: the position at which it is on record, or why not.
async fn decide(bench: &Bench, envelope: &RunEnvelope) -> Result<Result<Seq, Rejection>, Error> {
    let (org, function, run) = (&envelope.org, &envelope.function, envelope.id);
    for _ in 0..CLASHES_MAX {
        let last = bench.log.last_run_event(org, function, run).await?;
        let (expected, event) = match last {
            None => (Seq(0), end(envelope, None)),
            Some((seq, event)) => match event {
                RunEvent::Finished { result, .. } => return Ok(ended(run, seq, &result)),
                RunEvent::CancelRequested { .. } => {
                    // The signal may have been missed.
                    signal(bench, run).await;
                    return Ok(Ok(seq));
                }
                RunEvent::Started {
                    command, digest, ..
                } => {
                    let request = RunEvent::CancelRequested {
                        by: envelope.actor.clone(),
                        at: now(),
                        command,
                        digest,
                    };
                    (seq, request)
                }
                RunEvent::Delayed { digest, .. } | RunEvent::AttemptFailed { digest, .. } => {
                    (seq, end(envelope, digest))
                }
            },
        };
        match append(bench, envelope, event.clone(), expected).await {
            Ok(seq) => {
                signal(bench, run).await;
                if let RunEvent::Finished { result, at, .. } = event {
                    tell_waiting(bench, envelope, seq, result, at).await;
                }
                return Ok(Ok(seq));
            }
            Err(AppendError::Clash) => {}
            Err(AppendError::Log(error)) => return Err(error),
            Err(error @ AppendError::TooLarge { .. }) => {
                return Err(Error::Refused(error.to_string()));
            }
        }
    }
    let text = format!("run {run} changes too fast; try again");
    Ok(Err(Rejection::new(Code::Busy, text)))
}

/// Tells who waits for a run that was never begun, or not again: those that its last request and
/// its timer name. The timer, which alone may know of some, is taken back last, and set again when
/// they could not be told. Whatever else fails here is made good when the timer rings or the message
/// comes again.
async fn tell_waiting(
    bench: &Bench,
    envelope: &RunEnvelope,
    seq: Seq,
    result: RunResult,
    finished_at: Timestamp,
) {
    let (org, function, run) = (&envelope.org, &envelope.function, envelope.id);
    let reply = RunReply {
        run,
        seq,
        started: None,
        rejection: None,
        result,
        finished_at,
    };
    let asked = match bench.log.last_request(org, function, run).await {
        Ok(asked) => asked.and_then(|(_, asked)| asked.reply_to),
        Err(error) => {
            debug!(%error, run.id = %run, "who asked for a run is not known");
            None
        }
    };
    if let Some(inbox) = &asked
        && let Err(error) = bench.log.answer_run(inbox, &reply).await
    {
        debug!(%error, run.id = %run, "who waits for a run was not told of its end");
        // Nor would be who is named by the timer, which tells them later.
        return;
    }
    let due = match bench.log.drop_timer(&Due::of_run(org, run)).await {
        Ok(due) => due,
        Err(error) => {
            return debug!(%error, run.id = %run, "the timer of a run was not taken back");
        }
    };
    let waiting = due
        .as_ref()
        .and_then(|due| due.run.as_ref()?.reply_to.clone());
    let Some((due, inbox)) = due
        .zip(waiting)
        .filter(|(_, inbox)| Some(inbox) != asked.as_ref())
    else {
        return;
    };
    if let Err(error) = bench.log.answer_run(&inbox, &reply).await {
        debug!(%error, run.id = %run, "who waits for a run is told of its end later");
        let at = now();
        if let Err(error) = bench.log.set_timer(&TimerRequest { due, at }).await {
            warn!(%error, run.id = %run, "who waits for a run was not told of its end");
        }
    }
}

fn end(envelope: &RunEnvelope, digest: Option<String>) -> RunEvent {
    RunEvent::Finished {
        result: cancelled(&envelope.actor),
        at: now(),
        digest,
    }
}

fn ended(run: RunId, seq: Seq, result: &RunResult) -> Result<Seq, Rejection> {
    match &result.error {
        Some(error) if error.kind == RunErrorKind::Cancelled => Ok(seq),
        Some(_) | None => Err(Rejection::new(
            Code::AlreadyEnded,
            format!("run {run} has ended already"),
        )),
    }
}

/// Here and everywhere else.
async fn signal(bench: &Bench, run: RunId) {
    bench.in_hand.cancel(run);
    if let Err(error) = bench.log.signal_cancel(run).await {
        // Whoever carries it out looks into its log now and then.
        debug!(%error, run.id = %run, "the end of a run was not signalled");
    }
}
