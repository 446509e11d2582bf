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
    Seq, Timestamp,
};
use engine_stream::{Ack, AppendError, Delivery, Error, Log, RunAppend, Unreadable};
use futures::StreamExt as _;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::call::failed;
use super::{AGAIN, Bench, answer, refuse};
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
    let (deliveries, ack) = (delivery.deliveries, delivery.ack.as_ref());
    if let Err(error) = take(bench, &envelope, deliveries, ack).await {
        debug!(run.id = %envelope.id, %error, "request to end a run comes again");
    }
}

/// Decides a request to end a run, and tells its sender.
pub(super) async fn take(
    bench: &Bench,
    envelope: &RunEnvelope,
    deliveries: u32,
    ack: &dyn Ack,
) -> Result<(), Error> {
    let again = deliveries > 1;
    match decide(bench.log.as_ref(), &bench.in_hand, envelope, again).await {
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
/// One that comes `again` may have been decided already.
async fn decide(
    log: &dyn Log,
    in_hand: &InHand,
    envelope: &RunEnvelope,
    again: bool,
) -> Result<Result<Seq, Rejection>, Error> {
    let (org, function, run) = (&envelope.org, &envelope.function, envelope.id);
    for _ in 0..CLASHES_MAX {
        let last = log.last_run_event(org, function, run).await?;
        let (expected, event) = match last {
            None => (Seq(0), end(envelope, None)),
            Some((seq, event)) => match event {
                RunEvent::Finished { result, at, .. } => {
                    let ended = ended(run, seq, &result);
                    if ended.is_ok() && again {
                        // Whoever had this request before may have died over it.
                        tell_waiting(log, envelope, seq, result, at).await?;
                    }
                    return Ok(ended);
                }
                RunEvent::CancelRequested { .. } => {
                    // The signal may have been missed.
                    signal(log, in_hand, run).await;
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
        let append = RunAppend {
            org: org.clone(),
            function: function.clone(),
            run,
            event: event.clone(),
            expected,
        };
        match log.append_run(append).await {
            Ok(seq) => {
                signal(log, in_hand, run).await;
                if let RunEvent::Finished { result, at, .. } = event {
                    tell_waiting(log, envelope, seq, result, at).await?;
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
/// its timer name. The timer, which alone may know of some, is taken back when they are told. Safe
/// to repeat: who is told twice hears the same.
async fn tell_waiting(
    log: &dyn Log,
    envelope: &RunEnvelope,
    seq: Seq,
    result: RunResult,
    finished_at: Timestamp,
) -> Result<(), Error> {
    let (org, function, run) = (&envelope.org, &envelope.function, envelope.id);
    let reply = RunReply {
        run,
        seq,
        started: None,
        rejection: None,
        result,
        finished_at,
    };
    let asked = log.last_request(org, function, run).await?;
    let asked = asked.and_then(|(_, asked)| asked.reply_to);
    let timer = match log.timer(&Due::of_run(org, run)).await {
        Err(error @ Error::Corrupt { .. }) => {
            warn!(%error, run.id = %run, "who waits for a run is not known");
            None
        }
        timer => timer?,
    };
    let waits = timer.as_ref().and_then(|due| due.run.as_ref());
    let waits = waits.and_then(|wake| wake.reply_to.clone());
    let other = waits.filter(|waits| Some(waits) != asked.as_ref());
    for inbox in asked.iter().chain(&other) {
        log.answer_run(inbox, &reply).await?;
    }
    if let Some(due) = timer {
        log.drop_timer(&due).await?;
    }
    Ok(())
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
async fn signal(log: &dyn Log, in_hand: &InHand, run: RunId) {
    in_hand.cancel(run);
    if let Err(error) = log.signal_cancel(run).await {
        // Whoever carries it out looks into its log now and then.
        debug!(%error, run.id = %run, "the end of a run was not signalled");
    }
}

#[cfg(test)]
mod tests;
