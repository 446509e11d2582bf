//! One run: input schema, worker, handler, output schema, in this order.
//!
//! | what happened | type | message |
//! |---|---|---|
//! | input against `schema.in` | InputError | `Input invalid against schema: …` |
//! | handler raised ValueError, TypeError | InputError | its own |
//! | handler raised anything else | FunctionError | its own |
//! | result is not JSON, or too large | FunctionError | `the result …` |
//! | output against `schema.out` | FunctionError | `Output invalid against schema: …` |
//! | someone asked for its end | SystemError | `the run was cancelled` |
//! | timeout | FunctionError | `Function execution exceeded the timeout` |
//! | no worker before the deadline | FunctionError | `Did not invoke, already exceeded timeout` |
//! | process exited, crashed, out of memory | FunctionError | `the function's process …` |
//! | wrote on the worker's own descriptor | SystemError | `the function's reply cannot be read: …` |
//! | too many waiting calls, no worker to be had | SystemError | … |
//!
//! A process that ends is the function's doing: this node's own part in it has no way to fail
//! alone. A reply that is no reply is a SystemError, as it was in Dispatch. A handler's own error
//! wins over the output schema, which then has nothing to be said about.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use adapter_kit::{LineSink, ServiceFacts};
use adapter_sandbox::Queue;
use chrono::{DateTime, SecondsFormat, Utc};
use engine_model::RunTimings;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::call::bindings::Bindings;
use crate::call::carried::Carried;
use crate::call::exchange::{Exchange, Exchanged, Hold};
use crate::error::RunError;
use crate::revision::Prepared;
use crate::workers::ahead::Which;
use crate::workers::floor::Floor;
use crate::workers::frame;
use crate::workers::logs::Logs;
use crate::workers::pool::{NoWorker, Pool};

/// What is said of a call that someone asked to end.
pub(crate) const CANCELLED: &str = "the run was cancelled";

/// A call is given to so many workers at most that do not begin it, most of which were dead.
const DELIVERIES_MAX: usize = 4;

/// A call of a function. `Debug` shows only the run's id: the rest may hold secrets.
#[derive(Clone)]
pub struct Call {
    /// The run's id, for logs.
    pub run_id: String,
    /// What the handler gets as its context; `secrets`, `serviceBindings`, `timeout` and
    /// `deadline` are added where they are missing.
    pub context: Value,
    /// What is to be said of the services whose credentials are in `serviceBindings`.
    pub services: Vec<ServiceFacts>,
    /// What the handler gets as its payload.
    pub input: Value,
    /// When the caller stops being interested, if that is before the function's own timeout.
    pub deadline: Option<std::time::Instant>,
    /// Whether it waits its turn however many calls wait already.
    pub patient: bool,
    /// Whether its order may lie before a worker that is still busy with another call, where calls are
    /// short. Two calls that print at the same time may then be told under each other's name.
    pub ahead: bool,
    /// Who is told what it prints while it runs.
    pub lines: Option<Arc<dyn LineSink>>,
    /// Cancelled when the call is to end: its worker is killed with all that it started.
    pub cancel: CancellationToken,
}

impl Call {
    /// A call with this payload, and an empty context.
    #[must_use]
    pub fn new(run_id: impl Into<String>, input: Value) -> Self {
        Self {
            run_id: run_id.into(),
            context: json!({}),
            services: Vec::new(),
            input,
            deadline: None,
            patient: false,
            ahead: false,
            lines: None,
            cancel: CancellationToken::new(),
        }
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("run_id", &self.run_id)
            .finish_non_exhaustive()
    }
}

/// What came of a call.
#[derive(Debug, Clone)]
pub struct Completion {
    /// What the handler returned; null when it failed.
    pub output: Value,
    /// What went wrong, if anything did.
    pub error: Option<RunError>,
    /// What the handler printed, also when it failed.
    pub logs: Logs,
    /// When the handler was called; when the call was refused, if it was not.
    pub started: SystemTime,
    /// When its answer was complete.
    pub finished: SystemTime,
    /// Whether it was refused because too many calls wait already.
    pub busy: bool,
    /// How long each stage took.
    pub timings: RunTimings,
}

impl Completion {
    /// A call that never reached the handler.
    pub(crate) fn refused(error: RunError) -> Self {
        let now = SystemTime::now();
        Self {
            output: Value::Null,
            error: Some(error),
            logs: Logs::default(),
            started: now,
            finished: now,
            busy: false,
            timings: RunTimings::default(),
        }
    }
}

/// Carries out one call. The part that holds a worker goes on by itself when it is dropped, so a
/// caller that goes away leaves neither a worker in the middle of a conversation nor a run without an end.
pub(crate) async fn run(pool: &Arc<Pool>, floor: &Arc<Floor>, mut call: Call) -> Completion {
    let begun = Instant::now();
    let mut timings = RunTimings::default();
    let schema = pool.revision.schema_in.as_ref();
    let checked = schema.map_or(Ok(()), |schema| schema.check(&call.input));
    timings.validation_us = us(begun.elapsed());
    if let Err(error) = checked {
        return Completion::refused(RunError::input(format!(
            "Input invalid against schema: {error}"
        )));
    }
    let until = call.deadline.map(Instant::from_std);
    let call_max = floor.settings.call_max;
    let timeout = pool.revision.timeout(call_max);
    let started = SystemTime::now();
    let wait_end = until
        .unwrap_or_else(|| Instant::now() + call_max)
        .min(Instant::now() + timeout);
    let bindings = Arc::new(Bindings::new(
        &call.context["serviceBindings"],
        &call.services,
    ));
    let sets_deadline = complete(&mut call.context, &pool.revision);
    for _ in 0..DELIVERIES_MAX {
        let hold = match hold(
            pool,
            &mut call,
            &bindings,
            wait_end,
            &mut timings,
            |context| {
                let now = Instant::now();
                let end = until.map_or(now + timeout, |until| until.min(now + timeout));
                if sets_deadline {
                    set_deadline(context, end);
                }
                now < end
            },
        )
        .await
        {
            Ok(hold) => hold,
            Err(refused) => return *refused,
        };
        let exchange = Exchange {
            pool: Arc::clone(pool),
            context: std::mem::take(&mut call.context),
            bindings: Arc::clone(&bindings),
            input: std::mem::take(&mut call.input),
            timeout,
            until,
            ahead: call.ahead,
            cancel: call.cancel.clone(),
            lines: call.lines.clone(),
            timings,
        };
        // What comes back has waited already.
        call.ahead = false;
        call.patient = true;
        let performed = exchange.perform(hold);
        match Carried::new(performed, &floor.tasks, &floor.reaper.runtime).await {
            Ok(Exchanged {
                result,
                logs,
                timings,
            }) => {
                let (output, error) = match result {
                    Ok(output) => (output, None),
                    Err(error) => (Value::Null, Some(error)),
                };
                return Completion {
                    output,
                    error,
                    logs,
                    started,
                    finished: SystemTime::now(),
                    busy: false,
                    timings,
                };
            }
            Err(undelivered) => {
                tracing::debug!(run.id = %call.run_id, "no worker began the call");
                (call.context, call.input) = undelivered;
            }
        }
    }
    Completion::refused(RunError::system(
        "the function's workers end before they can be called",
    ))
}

/// A worker for the call, or a place on the desk of one; or what is said of the call when there is
/// neither. `ready` makes its context what it is to be now, and says whether there is time left.
async fn hold(
    pool: &Arc<Pool>,
    call: &mut Call,
    bindings: &Bindings,
    wait_end: Instant,
    timings: &mut RunTimings,
    ready: impl Fn(&mut Value) -> bool,
) -> Result<Hold, Box<Completion>> {
    let refused = |none| {
        let busy = matches!(none, NoWorker::Crowded(_));
        let refused = Completion::refused(explain(none));
        Box::new(Completion { busy, ..refused })
    };
    let late = || refused(NoWorker::Deadline);
    // It may come back from a desk for that reason.
    if call.cancel.is_cancelled() {
        return Err(Box::new(Completion::refused(RunError::system(CANCELLED))));
    }
    if call.ahead {
        if !ready(&mut call.context) {
            return Err(late());
        }
        let too_long = Cell::new(false);
        let give = |which| {
            if too_long.get() {
                return None;
            }
            pool.give(which, bindings.digest(), |id, fresh| {
                let files = fresh.then(|| bindings.files());
                let order = frame::call(id, &call.context, &call.input, files);
                too_long.set(order.len() > Queue::PACKET_BYTES_MAX);
                order
            })
        };
        if let Some(given) = give(Which::Soon) {
            return Ok(Hold::Place(given));
        }
        if let Some(lease) = pool.lease_idle() {
            return Ok(Hold::Worker(lease));
        }
        if let Some(given) = give(Which::Emptiest) {
            return Ok(Hold::Place(given));
        }
    }
    let asked = Instant::now();
    let lease = tokio::select! {
        lease = pool.lease(wait_end, call.patient) => lease,
        () = call.cancel.cancelled() => {
            return Err(Box::new(Completion::refused(RunError::system(CANCELLED))));
        }
    };
    let mut lease = lease.map_err(refused)?;
    let waited = asked.elapsed();
    // Only the call that waited while its worker was started had to wait for that.
    let hired = lease.worker().hired.take().unwrap_or_default();
    timings.start_us += us(hired.min(waited));
    timings.queue_us += us(waited.saturating_sub(hired));
    if !ready(&mut call.context) {
        return Err(late());
    }
    Ok(Hold::Worker(lease))
}

/// Whole microseconds; what is longer than half a million years is cut to that.
pub(crate) fn us(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn explain(none: NoWorker) -> RunError {
    match none {
        NoWorker::Crowded(waiting) => RunError::system(format!(
            "{waiting} calls of this function wait for a worker already"
        )),
        NoWorker::Deadline => RunError::function("Did not invoke, already exceeded timeout"),
        NoWorker::Gone => {
            RunError::system("this revision of the function is no longer served here")
        }
        NoWorker::Failed(failure) if failure.transient => RunError::system(failure.reason),
        NoWorker::Failed(failure) => RunError::function(failure.reason),
    }
}

/// Adds the keys that a handler may rely on; whether the deadline is to be added as well, once it is
/// known.
fn complete(context: &mut Value, revision: &Prepared) -> bool {
    if !context.is_object() {
        *context = json!({});
    }
    let Value::Object(keys) = context else {
        unreachable!("it was made one")
    };
    for key in ["secrets", "serviceBindings"] {
        if keys.get(key).is_none_or(Value::is_null) {
            keys.insert(key.to_owned(), json!({}));
        }
    }
    keys.entry("timeout")
        .or_insert_with(|| revision.timeout_ms.into());
    revision.timeout_ms > 0 && !keys.contains_key("deadline")
}

fn set_deadline(context: &mut Value, end: Instant) {
    let at = DateTime::<Utc>::from(SystemTime::now() + end.duration_since(Instant::now()));
    context["deadline"] = at.to_rfc3339_opts(SecondsFormat::Millis, true).into();
}
