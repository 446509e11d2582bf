//! The run loop of a worker: takes run commands, and writes each run's own little log.
//!
//! A run is delivered until it has ended. Whoever takes it says so first (`Started`, with the
//! attempt), so that a takeover after a crash is visible, and the first `Finished` wins.

use std::sync::Arc;
use std::time::Duration;

use adapter_kit::{Blobs, Runner, Vault};
use engine_core::{Refused, RunPlan, plan_run};
use engine_model::{
    Rejection, RevisionId, RunEnvelope, RunError, RunErrorKind, RunEvent, RunReply, RunResult, Seq,
};
use engine_stream::{Ack, AppendError, Delivery, Error, Log, RunAppend, Unreadable};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::clock::now;
use crate::fold::Fold;
use crate::runs::call::{carry_out, failed, refusal};
use crate::runs::fit::{BYTES_MAX, fit, too_large};

mod call;
mod direct;
mod fit;
pub(crate) mod tidy;

pub use direct::Caller;

/// Runs that wait for a slot besides those that have one, per slot.
const QUEUED_PER_SLOT: usize = 32;

/// Attempts at one run: each takeover after a crash counts, and a run that kills its node must
/// not kill every node.
const ATTEMPTS_MAX: u32 = 3;

/// How often a long run tells that it is alive.
const ALIVE: Duration = Duration::from_secs(5);

/// Wait before a run that met a fault of our own comes again.
const AGAIN: Duration = Duration::from_millis(500);

/// Wait after the log was away.
const RECONNECT: Duration = Duration::from_millis(200);

/// How long a run waits for the fold to read up when its function is not there.
const READ_UP: Duration = Duration::from_secs(2);

/// What a run needs of its node.
pub(crate) struct Bench {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) fold: Arc<Fold>,
    pub(crate) vault: Arc<dyn Vault>,
    pub(crate) blobs: Arc<dyn Blobs>,
    pub(crate) runner: Arc<dyn Runner>,
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
        deliveries,
        ack,
        ..
    } = delivery;
    let envelope = match item {
        Ok(envelope) => envelope,
        Err(unreadable) => return refuse(bench, unreadable, ack.as_ref()).await,
    };
    let run = conduct(bench, &envelope, deliveries > 1);
    tokio::pin!(run);
    let reply = loop {
        tokio::select! {
            reply = &mut run => break reply,
            () = tokio::time::sleep(ALIVE) => {
                if let Err(error) = ack.progress().await {
                    debug!(%error, "run could not be prolonged");
                }
            }
        }
    };
    let ended = match reply {
        Ok(reply) => tell(bench, &envelope, &reply, ack.as_ref()).await,
        Err(error) => {
            warn!(run.id = %envelope.id, %error, "run comes again");
            ack.again(AGAIN).await
        }
    };
    if let Err(error) = ended {
        debug!(run.id = %envelope.id, %error, "run was not acknowledged and comes again");
    }
}

/// Tells the sender, then acknowledges.
async fn tell(
    bench: &Bench,
    envelope: &RunEnvelope,
    reply: &RunReply,
    ack: &dyn Ack,
) -> Result<(), Error> {
    if let Some(reply_to) = &envelope.reply_to {
        bench.log.answer_run(reply_to, reply).await?;
    }
    ack.ack().await
}

async fn refuse(bench: &Bench, unreadable: Unreadable, ack: &dyn Ack) {
    let Unreadable {
        org,
        command,
        reply_to,
        rejection,
    } = unreadable;
    debug!(command.id = %command, code = %rejection.code, "unreadable run command refused");
    let reply = engine_model::Reply::Rejected { command, rejection };
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

/// Where a run stands when it is taken.
struct Standing {
    expected: Seq,
    attempt: u32,
    /// The revision of the last attempt: the next one stays on it.
    begun_on: Option<RevisionId>,
}

/// Takes a run from where it stands to its end.
async fn conduct(
    bench: &Bench,
    envelope: &RunEnvelope,
    delivered_before: bool,
) -> Result<RunReply, Error> {
    let mut standing = Standing {
        expected: Seq(0),
        attempt: 1,
        begun_on: None,
    };
    let mut look = delivered_before;
    loop {
        if look {
            match stand(bench, envelope).await? {
                Ok(found) => standing = found,
                Err(reply) => return Ok(reply),
            }
        }
        match attempt(bench, envelope, &standing).await {
            Err(AppendError::Clash) => look = true,
            Err(AppendError::Log(error)) => return Err(error),
            Err(error @ AppendError::TooLarge { .. }) => {
                return Err(Error::Refused(error.to_string()));
            }
            Ok(reply) => return Ok(reply),
        }
    }
}

/// Reads where a run stands: what to do next, or how it ended.
async fn stand(bench: &Bench, envelope: &RunEnvelope) -> Result<Result<Standing, RunReply>, Error> {
    let last = bench
        .log
        .last_run_event(&envelope.org, &envelope.function, envelope.id)
        .await?;
    Ok(match last {
        None => Ok(Standing {
            expected: Seq(0),
            attempt: 1,
            begun_on: None,
        }),
        Some((
            seq,
            RunEvent::Started {
                attempt, revision, ..
            },
        )) => Ok(Standing {
            expected: seq,
            attempt: attempt + 1,
            begun_on: Some(revision),
        }),
        Some((seq, RunEvent::Finished { result, at })) => Err(RunReply {
            run: envelope.id,
            seq,
            started: None,
            rejection: None,
            result,
            finished_at: at,
        }),
    })
}

async fn attempt(
    bench: &Bench,
    envelope: &RunEnvelope,
    standing: &Standing,
) -> Result<RunReply, AppendError> {
    let plan = match plan(bench, envelope, standing.begun_on).await? {
        Ok(plan) => plan,
        Err(Refused::Error(error)) => {
            let result = RunResult {
                error: Some(error),
                ..RunResult::default()
            };
            return finish(bench, envelope, standing.expected, None, None, result).await;
        }
        Err(Refused::Rejection(rejection)) => {
            let error = RunError {
                kind: RunErrorKind::InputError,
                message: rejection.message.clone(),
                stacktrace: Vec::new(),
            };
            let result = RunResult {
                error: Some(error),
                ..RunResult::default()
            };
            let why = Some(rejection);
            return finish(bench, envelope, standing.expected, None, why, result).await;
        }
    };
    if standing.attempt > ATTEMPTS_MAX {
        let text = format!("the worker ended during each of {ATTEMPTS_MAX} attempts");
        let result = failed(RunErrorKind::SystemError, text);
        return finish(bench, envelope, standing.expected, None, None, result).await;
    }
    let started = RunEvent::Started {
        function: plan.function,
        revision: plan.revision,
        secrets: plan.secrets.iter().map(|(name, _)| name.clone()).collect(),
        services: plan.services.iter().map(|used| used.name.clone()).collect(),
        attempt: standing.attempt,
        at: now(),
    };
    let seq = append(bench, envelope, started.clone(), standing.expected).await?;
    let result = carry_out(bench, envelope, plan).await;
    finish(bench, envelope, seq, Some(started), None, result).await
}

/// Plans the run; a function that this node has not heard of may be further up the stream.
async fn plan(
    bench: &Bench,
    envelope: &RunEnvelope,
    begun_on: Option<RevisionId>,
) -> Result<Result<RunPlan, Refused>, AppendError> {
    let look = || {
        bench.fold.read(|world| {
            plan_run(
                world,
                &envelope.org,
                &envelope.function,
                &envelope.command.secrets,
                envelope.id,
                begun_on,
            )
        })
    };
    match look() {
        Err(Refused::Rejection(_)) => {}
        decided => return Ok(decided),
    }
    let head = bench.log.head().await?;
    if bench.fold.position() < head {
        let _ = tokio::time::timeout(READ_UP, bench.fold.reached(head)).await;
    }
    Ok(look())
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

async fn finish(
    bench: &Bench,
    envelope: &RunEnvelope,
    expected: Seq,
    started: Option<RunEvent>,
    rejection: Option<Rejection>,
    result: RunResult,
) -> Result<RunReply, AppendError> {
    let finished_at = now();
    let finished = |result: &RunResult| RunEvent::Finished {
        result: result.clone(),
        at: finished_at,
    };
    let mut result = fit(result, BYTES_MAX);
    let mut appended = append(bench, envelope, finished(&result), expected).await;
    if let Err(AppendError::TooLarge { bytes }) = appended {
        // This server takes smaller messages than most.
        result = too_large(bytes);
        appended = append(bench, envelope, finished(&result), expected).await;
    }
    Ok(RunReply {
        run: envelope.id,
        seq: appended?,
        started,
        rejection: rejection.or_else(|| refusal(&result)),
        result,
        finished_at,
    })
}
