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

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use adapter_kit::{LineSink, ServiceFacts};
use chrono::{DateTime, SecondsFormat, Utc};
use engine_model::spec::Isolation;
use engine_model::{LogStream, RunTimings};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::call::bindings::Bindings;
use crate::call::carried::Carried;
use crate::call::trace;
use crate::error::RunError;
use crate::revision::Prepared;
use crate::workers::floor::Floor;
use crate::workers::frame::{self, Reply};
use crate::workers::live::Live;
use crate::workers::logs::{Capture, Logs};
use crate::workers::pool::{Lease, NoWorker, Pool};
use crate::workers::worker::{Broken, Captured, Conduct};

/// What is said of a call that someone asked to end.
pub(crate) const CANCELLED: &str = "the run was cancelled";

/// Workers that die before they took the order are replaced so many times for one call.
const DELIVERIES_MAX: usize = 3;

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
    for _ in 0..DELIVERIES_MAX {
        let asked = Instant::now();
        let lease = tokio::select! {
            lease = pool.lease(wait_end, call.patient) => lease,
            () = call.cancel.cancelled() => {
                return Completion::refused(RunError::system(CANCELLED));
            }
        };
        let mut lease = match lease {
            Ok(lease) => lease,
            Err(none) => {
                let busy = matches!(none, NoWorker::Crowded(_));
                return Completion {
                    busy,
                    ..Completion::refused(explain(none))
                };
            }
        };
        let waited = asked.elapsed();
        // Only the call that waited while its worker was started had to wait for that.
        let hired = lease.worker().hired.take().unwrap_or_default();
        timings.start_us += us(hired.min(waited));
        timings.queue_us += us(waited.saturating_sub(hired));
        let end = Instant::now() + timeout;
        let end = until.map_or(end, |until| until.min(end));
        if end <= Instant::now() {
            return Completion::refused(explain(NoWorker::Deadline));
        }
        complete(&mut call.context, &pool.revision, end);
        let (context, input) = (
            std::mem::take(&mut call.context),
            std::mem::take(&mut call.input),
        );
        let exchange = Exchange {
            pool: Arc::clone(pool),
            lease,
            context,
            bindings: Arc::clone(&bindings),
            input,
            end,
            lines: call.lines.clone(),
            timings,
            cancel: call.cancel.clone(),
        };
        let performed = exchange.perform();
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
                tracing::debug!(run.id = %call.run_id, "a worker died before the call");
                (call.context, call.input) = undelivered;
            }
        }
    }
    Completion::refused(RunError::system(
        "the function's workers end before they can be called",
    ))
}

/// Whole microseconds; what is longer than half a million years is cut to that.
fn us(duration: Duration) -> u64 {
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

/// Adds the keys that a handler may rely on.
fn complete(context: &mut Value, revision: &Prepared, end: Instant) {
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
    if revision.timeout_ms > 0 {
        keys.entry("deadline").or_insert_with(|| {
            let at = DateTime::<Utc>::from(SystemTime::now() + end.duration_since(Instant::now()));
            at.to_rfc3339_opts(SecondsFormat::Millis, true).into()
        });
    }
}

struct Exchange {
    pool: Arc<Pool>,
    lease: Lease,
    context: Value,
    bindings: Arc<Bindings>,
    input: Value,
    end: Instant,
    cancel: CancellationToken,
    lines: Option<Arc<dyn LineSink>>,
    timings: RunTimings,
}

/// What came of an exchange.
struct Exchanged {
    result: Result<Value, RunError>,
    logs: Logs,
    timings: RunTimings,
}

impl Exchange {
    /// The result; or, when the worker was dead before it heard of the call, context and input
    /// back, for another worker.
    async fn perform(mut self) -> Result<Exchanged, (Value, Value)> {
        let begun = Instant::now();
        let capture = |stream| {
            let live = self.lines.clone().map(|lines| Live::new(lines, stream));
            Capture::new(self.pool.revision.output_bytes, live)
        };
        let mut captured = Captured {
            stdout: capture(LogStream::Stdout),
            stderr: capture(LogStream::Stderr),
        };
        let worker = self.lease.worker();
        let id = worker.next_id();
        // What a worker has been given before is not given again.
        let fresh = worker.bindings != *self.bindings.digest();
        let files = fresh.then(|| self.bindings.files());
        let order = frame::call(id, &self.context, &self.input, files);
        worker.bindings.clone_from(self.bindings.digest());
        let answer = tokio::select! {
            answer = worker.exchange(&order, self.end, &mut captured) => Some(answer),
            () = self.cancel.cancelled() => None,
        };
        let Some(answer) = answer else {
            worker.unfit = true;
            // The worker is killed before anybody hears of the end.
            drop(self.lease);
            return Ok(Exchanged {
                result: Err(RunError::system(CANCELLED)),
                logs: captured.into_logs(),
                timings: self.timings,
            });
        };
        let answered = Instant::now();
        let delivered = worker.delivered.take().unwrap_or(answered);
        self.timings.injection_us = us(delivered.duration_since(begun));
        self.timings.handler_us = us(answered.duration_since(delivered));
        let late = matches!(answer, Err(Broken::Deadline));
        let result = match answer {
            Ok(line) => match Reply::parse(&line, id) {
                Ok(reply) => {
                    worker.unfit |= reply.left > 0;
                    judge(&reply, &self.pool.revision)
                }
                Err(why) => {
                    worker.unfit = true;
                    let text = format!("the function's reply cannot be read: {why}");
                    Err(RunError::system(text))
                }
            },
            Err(Broken::Undelivered) => return Err((self.context, self.input)),
            Err(Broken::Deadline) => Err(RunError::function(
                "Function execution exceeded the timeout",
            )),
            Err(Broken::TooLarge) => Err(RunError::function(format!(
                "the result is larger than {} MiB",
                frame::REPLY_BYTES_MAX >> 20
            ))),
            Err(broken @ Broken::Gone) => {
                let half = if worker.broke_off() {
                    " in the middle of its reply"
                } else {
                    ""
                };
                let ended = worker.end(&broken).await;
                Err(RunError::function(format!(
                    "the function's process {ended}{half}"
                )))
            }
        };
        let worker = self.lease.worker();
        // One that runs out of time, or waits for what never comes, does no harm to others.
        worker.conduct = match (late, worker.unfit) {
            (true, _) => None,
            (false, true) => Some(Conduct::Bad),
            (false, false) => Some(Conduct::Good),
        };
        let judged = self.timings.validation_us + us(answered.elapsed());
        self.timings.validation_us = judged;
        self.lease.worker().unfit |= match self.pool.revision.isolation {
            Isolation::Shared => false,
            Isolation::Error => result.is_err(),
            Isolation::Call => !self.pool.revision.forks(),
        };
        // The worker is back in its pool before the caller hears of it.
        drop(self.lease);
        let logs = captured.into_logs();
        let timings = self.timings;
        Ok(Exchanged {
            result,
            logs,
            timings,
        })
    }
}

fn judge(reply: &Reply<'_>, revision: &Prepared) -> Result<Value, RunError> {
    if let Some(kind) = reply.kind {
        let mut error = RunError::new(kind, trace::relative(reply.message.as_ref()));
        error.stacktrace = trace::of_author(&reply.stacktrace);
        return Err(error);
    }
    let payload = reply.payload.map_or("null", |raw| raw.get());
    let output: Value = serde_json::from_str(payload)
        .map_err(|e| RunError::function(format!("the result cannot be read as JSON: {e}")))?;
    match revision
        .schema_out
        .as_ref()
        .map(|schema| schema.check(&output))
    {
        Some(Err(error)) => Err(RunError::function(format!(
            "Output invalid against schema: {error}"
        ))),
        Some(Ok(())) | None => Ok(output),
    }
}
