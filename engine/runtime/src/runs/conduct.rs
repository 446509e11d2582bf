//! Takes one run from where it stands to its end, or to where it has to wait.

use std::time::Duration;

use adapter_kit::Digest;
use engine_core::{Refused, RunPlan, plan_run};
use engine_model::spec::RunPolicy;
use engine_model::{
    Actor, Code, Due, Name, Rejection, RevisionId, RunEnvelope, RunErrorKind, RunEvent, RunReply,
    RunResult, Seq, TimerRequest, Timestamp,
};
use engine_stream::{AppendError, Error};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::call::{carry_out, failed, light, refusal};
use super::cancel::cancelled;
use super::fit::{BYTES_MAX, cut, fit, too_large};
use super::gate::{Entry, Limits, Pass};
use super::standing::{Standing, Start, standing};
use super::waiting::is_put_aside;
use super::{AGAIN, Bench, Room, append, retry};
use crate::clock::now;

/// Attempts at one run that are lost with their worker: a run that kills its node must not kill
/// every node.
const LOST_MAX: u32 = 3;

/// Waits up to this are the server's to keep with the message itself; it counts those, and beyond
/// some thousands of them delivers nothing new. Longer waits become timers.
pub(super) const NAK_MAX: Duration = Duration::from_secs(2);

/// How often who repeats a request that is under way elsewhere is looked after, at most.
const ELSEWHERE_MAX: Duration = Duration::from_secs(1);

/// The same at first; it grows with each look.
const ELSEWHERE: Duration = Duration::from_millis(50);

/// A timer may come so much before its moment as this node's clock tells it.
const EARLY_MAX: Duration = Duration::from_secs(60);

/// How long a run waits for the fold to read up when its function is not there.
const READ_UP: Duration = Duration::from_secs(2);

/// A run command that was delivered.
pub(super) struct Taken<'a> {
    pub(super) envelope: &'a RunEnvelope,
    /// Its position in the stream.
    pub(super) command: Seq,
    /// How often it was delivered, from 1.
    pub(super) deliveries: u32,
    /// Whether something may be on record of it.
    pub(super) look: bool,
    pub(super) room: Room,
    /// The digest of its input, when an idempotency key names the run.
    pub(super) digest: Option<String>,
    /// Cancelled when the run is to end.
    pub(super) cancel: CancellationToken,
}

/// What becomes of a delivery.
#[derive(Debug)]
pub(super) enum Ended {
    /// The run has ended.
    Run(RunReply),
    /// The request is refused; the run, if there is one, goes its way.
    Refused(Rejection),
    /// A timer, or another message, brings the run on.
    Parked,
    /// It is to be put aside until there is room; the position is that of the last event of its
    /// log.
    Over { after: Seq },
    /// This message is to come again.
    Again(Duration),
    /// Another node has the same message: its is the answer, and the last word on the message.
    TakenOver,
}

/// The digest of a run's input, when an idempotency key names it: the same whether the input came
/// in the message or in the blob store.
pub(super) fn digest(envelope: &RunEnvelope) -> Option<String> {
    let command = &envelope.command;
    command.idempotency_key.as_ref()?;
    Some(match &command.input_blob {
        Some(blob) => blob.clone(),
        None => Digest::of(command.input.to_string().as_bytes()).to_string(),
    })
}

/// Takes a run from where it stands to its end, or to where it waits.
pub(super) async fn conduct(bench: &Bench, taken: &Taken<'_>) -> Result<Ended, Error> {
    let mut start = Start::default();
    let mut look = taken.look;
    let mut fresh = taken.deliveries > 1;
    loop {
        if look {
            if bench.stop.is_cancelled() {
                // Another node goes on from where it stands.
                return Ok(Ended::Again(AGAIN));
            }
            match stand(bench, taken, fresh).await? {
                Ok(found) => start = found,
                Err(ended) => return Ok(ended),
            }
            fresh = false;
        }
        match attempt(bench, taken, &start).await {
            Ok(Some(ended)) => return Ok(ended),
            Ok(None) | Err(AppendError::Clash) => look = true,
            Err(AppendError::Log(error)) => return Err(error),
            Err(error @ AppendError::TooLarge { .. }) => {
                return Err(Error::Refused(error.to_string()));
            }
        }
    }
}

/// Reads where a run stands: how it goes on, or what becomes of this delivery. Only the first look
/// of a message that was delivered again, a `fresh` one, tells that a worker is lost: whoever
/// begins later, under the same message, has taken it over.
async fn stand(
    bench: &Bench,
    taken: &Taken<'_>,
    fresh: bool,
) -> Result<Result<Start, Ended>, Error> {
    let envelope = taken.envelope;
    let (org, function, run) = (&envelope.org, &envelope.function, envelope.id);
    let last = bench.log.last_run_event(org, function, run).await?;
    let first = last.as_ref().and_then(|(_, event)| event.digest());
    if let (Some(own), Some(first)) = (&taken.digest, first)
        && own != first
    {
        let key = envelope.command.idempotency_key.as_deref();
        let text = format!(
            "the idempotency key '{}' was used for run {run} of {function}, with another input",
            key.unwrap_or_default()
        );
        let rejection = Rejection::new(Code::IdempotencyConflict, text);
        return Ok(Err(Ended::Refused(rejection)));
    }
    let over = |expected, result| async move {
        match finish(bench, taken, expected, None, None, result).await {
            Ok(ended) => Ok(Err(ended)),
            // Someone else was at it: it is looked at once more.
            Err(AppendError::Clash) => Ok(Err(Ended::Again(Duration::ZERO))),
            Err(AppendError::Log(error)) => Err(error),
            Err(error @ AppendError::TooLarge { .. }) => Err(Error::Refused(error.to_string())),
        }
    };
    match standing(last, taken.command, now()) {
        Standing::Ready(start) => Ok(Ok(start)),
        Standing::Waits {
            until,
            mine: true,
            expected,
        } => park(bench, taken, until, expected).await.map(Err),
        // The timer is the other message's, and remembers who waits for it.
        Standing::Waits { until, .. } => {
            let wait = until_ms(until);
            let parked = envelope.reply_to.is_none() && wait > EARLY_MAX;
            Ok(Err(match parked {
                true => Ended::Parked,
                false => Ended::Again(wait.min(ELSEWHERE_MAX)),
            }))
        }
        Standing::Lost { .. } if !fresh => Ok(Err(Ended::TakenOver)),
        Standing::Lost {
            start,
            at_most_once: true,
        } => {
            let text = "the node that carried it out was lost; it may have been carried out, and \
                        is not begun again";
            over(start.expected, failed(RunErrorKind::SystemError, text)).await
        }
        Standing::Lost { start, .. } if start.lost >= LOST_MAX => {
            let text = format!("the worker ended during each of {LOST_MAX} attempts");
            over(start.expected, failed(RunErrorKind::SystemError, text)).await
        }
        Standing::Lost { start, .. } => Ok(Ok(start)),
        Standing::Elsewhere if envelope.reply_to.is_none() => Ok(Err(Ended::Parked)),
        Standing::Elsewhere => {
            let wait = ELSEWHERE.saturating_mul(taken.deliveries);
            Ok(Err(Ended::Again(wait.min(ELSEWHERE_MAX))))
        }
        Standing::Cancelled { expected, by } => over(expected, cancelled(&by)).await,
        Standing::Ended { seq, result, at } => Ok(Err(Ended::Run(RunReply {
            run,
            seq,
            started: None,
            rejection: refusal(&result),
            result,
            finished_at: at,
        }))),
    }
}

fn until_ms(until: Timestamp) -> Duration {
    let ms = until.since_ms(now());
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

/// Has the run come again at its moment. What waits for long is a timer's, so that it takes the
/// place of nothing that could be begun.
async fn park(
    bench: &Bench,
    taken: &Taken<'_>,
    until: Timestamp,
    after: Seq,
) -> Result<Ended, Error> {
    let wait = until_ms(until);
    if wait <= NAK_MAX {
        return Ok(Ended::Again(wait));
    }
    let due = Due::wake(light(bench, taken.envelope, after).await?);
    bench
        .log
        .set_timer(&TimerRequest { due, at: until })
        .await?;
    Ok(Ended::Parked)
}

/// One attempt; none when the run goes on at once.
async fn attempt(
    bench: &Bench,
    taken: &Taken<'_>,
    start: &Start,
) -> Result<Option<Ended>, AppendError> {
    let envelope = taken.envelope;
    if let Some(until) = envelope.command.not_before
        && start.before == 0
        && until > now()
    {
        if let Some(why) = beyond_keeping(until, bench.log.runs_kept()) {
            let result = failed(RunErrorKind::InputError, why.message.clone());
            let ended = finish(bench, taken, start.expected, None, Some(why), result).await?;
            return Ok(Some(ended));
        }
        let delayed = RunEvent::Delayed {
            until,
            at: now(),
            command: taken.command,
            digest: taken.digest.clone(),
        };
        let seq = append(bench, envelope, delayed, start.expected).await?;
        return Ok(park(bench, taken, until, seq).await.map(Some)?);
    }
    let (plan, _pass) = match admit(bench, taken, start).await? {
        Admitted::In(plan, pass) => (plan, pass),
        Admitted::Refused(Refused::Error(error)) => {
            let result = RunResult {
                error: Some(error),
                ..RunResult::default()
            };
            let ended = finish(bench, taken, start.expected, None, None, result).await?;
            return Ok(Some(ended));
        }
        // Nothing was begun, so that the key is free for when the function is there and ready.
        Admitted::Refused(Refused::Rejection(rejection))
            if taken.digest.is_some() && start.expected == Seq(0) =>
        {
            return Ok(Some(Ended::Refused(rejection)));
        }
        Admitted::Refused(Refused::Rejection(rejection)) => {
            let result = failed(RunErrorKind::InputError, rejection.message.clone());
            let why = Some(rejection);
            let ended = finish(bench, taken, start.expected, None, why, result).await?;
            return Ok(Some(ended));
        }
        Admitted::Full(waiting) => return full(bench, taken, start, waiting).await.map(Some),
        Admitted::Unasked => return Ok(Some(Ended::Again(Duration::ZERO))),
        Admitted::Left => return Ok(None),
    };
    let policy = plan.load.spec.runs.clone();
    let begun = Begun {
        attempt: start.before + 1,
        lost: start.lost,
        revision: plan.revision,
    };
    let started = RunEvent::Started {
        function: plan.function,
        revision: plan.revision,
        secrets: plan.secrets.iter().map(|(name, _)| name.clone()).collect(),
        services: plan.services.iter().map(|used| used.name.clone()).collect(),
        attempt: begun.attempt,
        at: now(),
        command: taken.command,
        lost: begun.lost,
        nonce: Uuid::new_v4().as_fields().0,
        at_most_once: policy.at_most_once,
        digest: taken.digest.clone(),
    };
    let seq = append(bench, envelope, started.clone(), start.expected).await?;
    let result = carry_out(bench, taken, plan).await;
    conclude(bench, taken, seq, started, begun, &policy, result).await
}

/// Why a run cannot be put off until then: it would be forgotten before it begins.
fn beyond_keeping(until: Timestamp, kept: Duration) -> Option<Rejection> {
    (until_ms(until) >= kept).then(|| {
        let hours = kept.as_secs() / 3600;
        let text = format!(
            "a run is kept for {hours} hours (runs.keepHours), and cannot be put off for as long"
        );
        Rejection::new(Code::InvalidField, text)
    })
}

/// What an attempt was.
struct Begun {
    attempt: u32,
    lost: u32,
    revision: RevisionId,
}

/// Writes down what came of an attempt: the end, or that there will be another one.
async fn conclude(
    bench: &Bench,
    taken: &Taken<'_>,
    seq: Seq,
    started: RunEvent,
    begun: Begun,
    policy: &RunPolicy,
    result: RunResult,
) -> Result<Option<Ended>, AppendError> {
    let envelope = taken.envelope;
    let failures = begun.attempt - begun.lost;
    let wait = result
        .error
        .as_ref()
        .and_then(|error| retry::wait(policy, envelope.id, failures, error.kind));
    let written = match (wait, &result.error) {
        (Some(wait), Some(error)) => {
            let at = now();
            let next_at = at.plus_ms(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX));
            let next_at = next_at.min(Timestamp::MAX);
            let event = RunEvent::AttemptFailed {
                attempt: begun.attempt,
                lost: begun.lost,
                revision: begun.revision,
                error: cut(error.clone()),
                at,
                next_at,
                command: taken.command,
                digest: taken.digest.clone(),
            };
            match append(bench, envelope, event, seq).await {
                Ok(seq) => return Ok(park(bench, taken, next_at, seq).await.map(Some)?),
                Err(error) => Err(error),
            }
        }
        _ => {
            let started = Some(started.clone());
            let ended = finish(bench, taken, seq, started, None, result.clone()).await;
            ended.map(Some)
        }
    };
    if !matches!(written, Err(AppendError::Clash)) {
        return written;
    }
    // Someone asked for its end, or another node took it over.
    let (org, function, run) = (&envelope.org, &envelope.function, envelope.id);
    let last = bench.log.last_run_event(org, function, run).await?;
    let (expected, by) = match last {
        Some((expected, RunEvent::CancelRequested { by, command, .. }))
            if command == taken.command =>
        {
            (expected, by)
        }
        Some((_, RunEvent::Finished { .. })) => return Ok(None),
        Some(_) | None => return Ok(Some(Ended::TakenOver)),
    };
    let result = after_all(result, &by);
    let ended = finish(bench, taken, expected, Some(started), None, result).await?;
    Ok(Some(ended))
}

/// What is written of a run whose end someone asked for: what it did if it was done, and otherwise
/// that it was ended, with what it had printed.
fn after_all(result: RunResult, by: &Actor) -> RunResult {
    match result.error {
        None => result,
        Some(_) => RunResult {
            logs: result.logs,
            ..cancelled(by)
        },
    }
}

/// How a run comes to be carried out.
enum Admitted {
    In(RunPlan, Option<Pass>),
    Refused(Refused),
    /// So many of its kind wait already.
    Full(usize),
    /// Its moment has come since it was delivered: it is to ask for a place first.
    Unasked,
    /// It was cancelled while it waited.
    Left,
}

/// Plans the run, and waits for its turn where there is a limit.
async fn admit(bench: &Bench, taken: &Taken<'_>, start: &Start) -> Result<Admitted, AppendError> {
    let envelope = taken.envelope;
    let begun_on = start.begun_on;
    let plan = match plan(bench, envelope, begun_on).await? {
        Ok(plan) => plan,
        Err(refused) => return Ok(Admitted::Refused(refused)),
    };
    // What was begun under this message must be carried on under it.
    match taken.room {
        Room::None if !start.resumed => {
            let key = (envelope.org.clone(), envelope.function.clone());
            return Ok(Admitted::Full(bench.intake.in_hand(&key)));
        }
        Room::Unasked if !start.resumed => return Ok(Admitted::Unasked),
        Room::Taken | Room::None | Room::Unasked => {}
    }
    let limits = limits(bench, &plan);
    if limits == Limits::default() {
        return Ok(Admitted::In(plan, None));
    }
    let entered = match bench.gate.enter(&envelope.org, &envelope.function, limits) {
        Entry::Now(pass) => return Ok(Admitted::In(plan, Some(pass))),
        Entry::Full(waiting) => return Ok(Admitted::Full(waiting)),
        Entry::Later(entered) => entered,
    };
    // What it was to be given may be another by the time that it enters.
    drop(plan);
    let pass = tokio::select! {
        pass = entered => pass.ok(),
        () = taken.cancel.cancelled() => return Ok(Admitted::Left),
        // It has not begun, and comes again elsewhere.
        () = bench.stop.cancelled() => return Ok(Admitted::Full(0)),
    };
    let Some(pass) = pass else {
        return Ok(Admitted::Left);
    };
    Ok(match self::plan(bench, envelope, begun_on).await? {
        Ok(plan) => Admitted::In(plan, Some(pass)),
        Err(refused) => Admitted::Refused(refused),
    })
}

/// What limits the runs of a function on this node.
pub(super) fn limits(bench: &Bench, plan: &RunPlan) -> Limits {
    Limits {
        function: usize::try_from(plan.load.spec.runs.concurrent).unwrap_or(usize::MAX),
        org: bench.runs_per_org,
    }
}

/// Why a run is refused when so many wait already.
pub(super) fn crowded(function: &Name, waiting: usize) -> Rejection {
    let text =
        format!("{waiting} runs of function {function} wait for their turn already; try again");
    Rejection::new(Code::Busy, text)
}

/// A run for which there is no room: whoever waits for it hears so, and otherwise it is put aside.
/// A key says that its sender means this one run, so that it is put aside as well.
async fn full(
    bench: &Bench,
    taken: &Taken<'_>,
    start: &Start,
    waiting: usize,
) -> Result<Ended, AppendError> {
    let envelope = taken.envelope;
    if bench.stop.is_cancelled() || start.resumed || is_put_aside(taken.command) {
        return Ok(Ended::Again(AGAIN.saturating_mul(2)));
    }
    if start.before > 0 || envelope.reply_to.is_none() || taken.digest.is_some() {
        return Ok(Ended::Over {
            after: start.expected,
        });
    }
    let why = crowded(&envelope.function, waiting);
    let result = failed(RunErrorKind::SystemError, why.message.clone());
    finish(bench, taken, start.expected, None, Some(why), result).await
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

async fn finish(
    bench: &Bench,
    taken: &Taken<'_>,
    expected: Seq,
    started: Option<RunEvent>,
    rejection: Option<Rejection>,
    result: RunResult,
) -> Result<Ended, AppendError> {
    let envelope = taken.envelope;
    let finished_at = now();
    let finished = |result: &RunResult| RunEvent::Finished {
        result: result.clone(),
        at: finished_at,
        digest: taken.digest.clone(),
    };
    let mut result = fit(result, BYTES_MAX);
    if let Some(why) = &rejection {
        // A repeat of the request hears the same.
        result.refused = Some(why.code);
    }
    let mut appended = append(bench, envelope, finished(&result), expected).await;
    if let Err(AppendError::TooLarge { bytes }) = appended {
        // This server takes smaller messages than most.
        result = too_large(bytes);
        appended = append(bench, envelope, finished(&result), expected).await;
    }
    Ok(Ended::Run(RunReply {
        run: envelope.id,
        seq: appended?,
        started,
        rejection: rejection.or_else(|| refusal(&result)),
        result,
        finished_at,
    }))
}
