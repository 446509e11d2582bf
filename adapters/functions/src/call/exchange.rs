//! One exchange with a worker: the order, the wait, and what is made of the answer.

use std::sync::Arc;
use std::time::Duration;

use adapter_kit::LineSink;
use engine_model::spec::Isolation;
use engine_model::{LogStream, RunTimings};
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::call::bindings::Bindings;
use crate::call::run::{CANCELLED, us};
use crate::call::trace;
use crate::error::RunError;
use crate::revision::Prepared;
use crate::workers::ahead::Given;
use crate::workers::desk::{Desk, Handed};
use crate::workers::frame::{self, Reply};
use crate::workers::live::Live;
use crate::workers::logs::{Capture, Logs};
use crate::workers::pool::{Lease, Pool};
use crate::workers::worker::{Broken, Captured, Conduct, Worker};

/// A call that is cancelled where other orders lie behind it has so long to end by itself: calls are
/// short there, and killing it would end those that the worker came to meanwhile.
const GRACE: Duration = Duration::from_millis(200);

/// What a call has of a worker.
pub(crate) enum Hold {
    /// All of it.
    Worker(Lease),
    /// Its order lies on the desk of one that is busy.
    Place(Given),
}

/// A call that is to be carried out.
pub(crate) struct Exchange {
    pub(crate) pool: Arc<Pool>,
    pub(crate) context: Value,
    pub(crate) bindings: Arc<Bindings>,
    pub(crate) input: Value,
    /// What it may take once a worker has begun it.
    pub(crate) timeout: Duration,
    /// When nobody waits for it any more.
    pub(crate) until: Option<Instant>,
    /// Whether other calls' orders may lie behind its own.
    pub(crate) ahead: bool,
    pub(crate) cancel: CancellationToken,
    pub(crate) lines: Option<Arc<dyn LineSink>>,
    pub(crate) timings: RunTimings,
}

/// What came of an exchange.
pub(crate) struct Exchanged {
    pub(crate) result: Result<Value, RunError>,
    pub(crate) logs: Logs,
    pub(crate) timings: RunTimings,
}

/// How the worker is to have the order.
enum Order {
    /// It is written when the worker is there for it alone.
    Write(Vec<u8>),
    /// It lies on the desk.
    OnDesk,
}

impl Exchange {
    /// The result; or, when no worker began the call, context and input back, for another.
    pub(crate) async fn perform(mut self, hold: Hold) -> Result<Exchanged, (Value, Value)> {
        let begun = Instant::now();
        match hold {
            Hold::Worker(mut lease) => {
                let (id, order) = self.order(lease.worker());
                self.converse(lease, id, order, begun).await
            }
            Hold::Place(given) => {
                let id = given.id;
                match given.handed(&self.cancel).await {
                    Handed::Worker(lease) => {
                        let handed = Instant::now();
                        self.timings.queue_us += us(handed.duration_since(begun));
                        self.converse(lease, id, Order::OnDesk, handed).await
                    }
                    Handed::Back => Err((self.context, self.input)),
                    Handed::Lost => {
                        let why = "the function's process ended with the call before this one";
                        Ok(Exchanged {
                            result: Err(RunError::system(why)),
                            logs: Logs::default(),
                            timings: self.timings,
                        })
                    }
                }
            }
        }
    }

    /// The order for a worker that has no other, and its id. Where others may follow it, it is on the
    /// worker's desk by now.
    fn order(&self, worker: &mut Worker) -> (u64, Order) {
        let (id, order) = worker.desk.compose(self.bindings.digest(), |id, fresh| {
            let files = fresh.then(|| self.bindings.files());
            frame::call(id, &self.context, &self.input, files)
        });
        if !self.ahead || !self.pool.ahead.is_wise() {
            return (id, Order::Write(order));
        }
        worker.hush();
        let order = worker.desk.open(id, order);
        (id, order.map_or_else(Order::Write, |()| Order::OnDesk))
    }

    async fn converse(
        mut self,
        mut lease: Lease,
        id: u64,
        order: Order,
        begun: Instant,
    ) -> Result<Exchanged, (Value, Value)> {
        let end = begun + self.timeout;
        let end = self.until.map_or(end, |until| until.min(end));
        let capture = |stream| {
            let live = self.lines.clone().map(|lines| Live::new(lines, stream));
            Capture::new(self.pool.revision.output_bytes, live)
        };
        let mut captured = Captured {
            stdout: capture(LogStream::Stdout),
            stderr: capture(LogStream::Stderr),
        };
        let worker = lease.worker();
        let answer = match order {
            Order::Write(order) => tokio::select! {
                answer = worker.exchange(&order, end, &mut captured) => Some(answer),
                () = self.cancel.cancelled() => None,
            },
            Order::OnDesk => {
                let desk = Arc::clone(&worker.desk);
                tokio::select! {
                    // An answer that is there is taken, however late this task comes to look.
                    biased;
                    answer = worker.answer(id, end, &mut captured) => Some(answer),
                    () = cancelled_in_vain(&self.cancel, desk) => None,
                }
            }
        };
        let Some(answer) = answer else {
            worker.lost = true;
            worker.unfit = true;
            // The worker is killed before anybody hears of the end.
            drop(lease);
            return Ok(self.ended(Err(RunError::system(CANCELLED)), captured));
        };
        let answered = Instant::now();
        let delivered = worker.delivered.take().unwrap_or(answered);
        self.timings.injection_us = us(delivered.duration_since(begun));
        self.timings.handler_us = us(answered.duration_since(delivered));
        let printed = !captured.is_empty();
        self.pool.ahead.note(answered - delivered, printed);
        let result = match self.result(worker, answer, id).await {
            Ok(result) => result,
            Err(Undelivered) => return Err((self.context, self.input)),
        };
        let judged = self.timings.validation_us + us(answered.elapsed());
        self.timings.validation_us = judged;
        lease.worker().unfit |= match self.pool.revision.isolation {
            Isolation::Shared => false,
            Isolation::Error => result.is_err(),
            Isolation::Call => !self.pool.revision.forks(),
        };
        // The worker is back in its pool before the caller hears of it.
        drop(lease);
        Ok(self.ended(result, captured))
    }

    fn ended(self, result: Result<Value, RunError>, captured: Captured) -> Exchanged {
        Exchanged {
            result,
            logs: captured.into_logs(),
            timings: self.timings,
        }
    }

    /// What the answer says, and what it makes of its worker.
    async fn result(
        &self,
        worker: &mut Worker,
        answer: Result<Vec<u8>, Broken>,
        id: u64,
    ) -> Result<Result<Value, RunError>, Undelivered> {
        let late = matches!(answer, Err(Broken::Deadline));
        let result = match answer {
            Ok(line) => match Reply::parse(&line, id) {
                Ok(reply) => {
                    worker.unfit |= reply.left > 0;
                    judge(&reply, &self.pool.revision)
                }
                Err(why) => {
                    worker.lost = true;
                    worker.unfit = true;
                    let text = format!("the function's reply cannot be read: {why}");
                    Err(RunError::system(text))
                }
            },
            Err(Broken::Undelivered) => return Err(Undelivered),
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
        // One that runs out of time, or waits for what never comes, does no harm to others.
        worker.conduct = match (late, worker.unfit) {
            (true, _) => None,
            (false, true) => Some(Conduct::Bad),
            (false, false) => Some(Conduct::Good),
        };
        Ok(result)
    }
}

/// The worker was dead before it heard of the call.
struct Undelivered;

/// Waits until a call is cancelled, and its order does not come back, and it does not end by itself.
async fn cancelled_in_vain(cancel: &CancellationToken, desk: Arc<Desk>) {
    cancel.cancelled().await;
    drop(tokio::task::spawn_blocking(move || desk.recall()));
    tokio::time::sleep(GRACE).await;
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
