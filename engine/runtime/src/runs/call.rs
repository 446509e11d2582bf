//! One call: opens what the function may see, calls it, and keeps what it gave back.

use std::sync::Arc;

use adapter_kit::{BlobError, Digest, LineSink, RunCall, ServiceFacts, VaultError};
use engine_core::{BoundService, RunPlan};
use engine_model::{
    LogLine, Name, OrgName, Rejection, RunCommand, RunEnvelope, RunError, RunErrorKind, RunId,
    RunResult, RunWake, Sealed, Seq,
};
use engine_stream::{Error, Log};
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::Bench;
use super::conduct::Taken;
use crate::clock::now;

/// What a message carries itself; what is larger goes to the blob store (design, section 3).
const INLINE_BYTES_MAX: usize = 64 * 1024;

/// Calls the function, and puts aside what its run cannot hold. Whatever goes wrong is a result.
pub(super) async fn carry_out(bench: &Bench, taken: &Taken<'_>, plan: RunPlan) -> RunResult {
    let mut result = invoke(bench, taken.envelope.clone(), plan, true, &taken.cancel).await;
    // What was killed because someone asked for it is nobody's fault.
    if let (Some(error), true) = (&mut result.error, taken.cancel.is_cancelled()) {
        error.kind = RunErrorKind::Cancelled;
    }
    if let Err(message) = put_aside(bench, &mut result).await {
        return failed(RunErrorKind::SystemError, message);
    }
    result
}

/// Calls the function with all that it may see.
pub(super) async fn invoke(
    bench: &Bench,
    mut envelope: RunEnvelope,
    plan: RunPlan,
    on_record: bool,
    cancel: &CancellationToken,
) -> RunResult {
    let input = match input(bench, &mut envelope.command).await {
        Ok(input) => input,
        Err(message) => return failed(RunErrorKind::SystemError, message),
    };
    let http_context = std::mem::take(&mut envelope.command.http_context);
    let context = match context(bench, http_context, &plan).await {
        Ok(context) => context,
        Err(message) => return failed(RunErrorKind::SystemError, message),
    };
    let call = RunCall {
        run: envelope.id,
        load: plan.load,
        services: plan.services.into_iter().map(facts).collect(),
        context,
        input,
        timeout_ms: plan.timeout_ms,
        blocking: envelope.command.blocking,
        on_record,
        timings: envelope.command.timings,
        lines: Some(Arc::new(Lines::of(bench, envelope))),
        cancel: cancel.clone(),
    };
    bench.runner.run(call).await
}

/// Tells whoever listens what one run prints.
struct Lines {
    log: Arc<dyn Log>,
    org: OrgName,
    function: Name,
    run: RunId,
}

impl Lines {
    fn of(bench: &Bench, envelope: RunEnvelope) -> Self {
        Self {
            log: bench.log.clone(),
            org: envelope.org,
            function: envelope.function,
            run: envelope.id,
        }
    }
}

impl LineSink for Lines {
    fn line(&self, line: LogLine) -> bool {
        self.log
            .tell_line(&self.org, &self.function, self.run, &line)
    }
}

/// Why a run was not even begun, for a sender that can do something about it.
pub(super) fn refusal(result: &RunResult) -> Option<Rejection> {
    let message = result.error.as_ref().map(|error| error.message.clone());
    let refused = result.refused?;
    Some(Rejection::new(refused, message.unwrap_or_default()))
}

/// A run that failed before or beside its function.
pub(super) fn failed(kind: RunErrorKind, message: impl Into<String>) -> RunResult {
    let error = RunError {
        kind,
        message: message.into(),
        stacktrace: Vec::new(),
    };
    RunResult {
        error: Some(error),
        ..RunResult::default()
    }
}

/// What is kept of a run that waits. A large input goes to the blob store, so that it fits into any
/// message however it is written.
pub(super) async fn light(
    bench: &Bench,
    envelope: &RunEnvelope,
    after: Seq,
) -> Result<RunWake, Error> {
    let mut wake = envelope.wake(after);
    let input = serde_json::to_vec(&wake.command.input)
        .expect("maps have string keys and writing to memory works");
    if input.len() > INLINE_BYTES_MAX {
        let stored = bench.blobs.put(input.into()).await;
        let digest = stored.map_err(|error| Error::Unavailable(error.to_string()))?;
        wake.command.input = Value::Null;
        wake.command.input_blob = Some(digest.to_string());
    }
    Ok(wake)
}

async fn input(bench: &Bench, command: &mut RunCommand) -> Result<Value, String> {
    let Some(blob) = &command.input_blob else {
        return Ok(std::mem::take(&mut command.input));
    };
    let digest = Digest::parse(blob).ok_or("the input's digest is not 64 hexadecimal digits")?;
    let bytes = bench
        .blobs
        .get(&digest)
        .await
        .map_err(|error| error.to_string())?;
    serde_json::from_slice(&bytes).map_err(|error| format!("the input is not JSON: {error}"))
}

fn facts(used: BoundService) -> ServiceFacts {
    ServiceFacts {
        name: used.name,
        class: used.class,
        provider: used.broker,
    }
}

/// The handler's first argument (Dispatch's context object).
async fn context(
    bench: &Bench,
    http_context: Map<String, Value>,
    plan: &RunPlan,
) -> Result<Value, String> {
    let mut secrets = Map::new();
    for (name, sealed) in &plan.secrets {
        secrets.extend(open(bench, name, sealed).await?);
    }
    let mut bindings = Map::new();
    for used in &plan.services {
        let credentials = open(bench, &used.name, &used.bound.credentials).await?;
        bindings.insert(used.name.to_string(), Value::Object(credentials));
    }
    let mut context = json!({ "secrets": secrets, "serviceBindings": bindings });
    if !http_context.is_empty() {
        context["httpContext"] = Value::Object(http_context);
    }
    if plan.timeout_ms > 0 {
        let ms = i64::try_from(plan.timeout_ms).unwrap_or(i64::MAX);
        context["timeout"] = json!(plan.timeout_ms);
        context["deadline"] = json!(now().plus_ms(ms).rfc3339());
    }
    Ok(context)
}

async fn open(bench: &Bench, name: &Name, sealed: &Sealed) -> Result<Map<String, Value>, String> {
    let plain = bench
        .vault
        .open(sealed)
        .await
        .map_err(|error: VaultError| format!("the secret '{name}' cannot be opened: {error}"))?;
    // The parser's own text could quote the secret.
    serde_json::from_slice(plain.expose()).map_err(|_| format!("the secret '{name}' is no map"))
}

/// Puts a large output into the blob store.
async fn put_aside(bench: &Bench, result: &mut RunResult) -> Result<(), String> {
    if result.output.is_null() {
        return Ok(());
    }
    let bytes = serde_json::to_vec(&result.output).map_err(|error| error.to_string())?;
    if bytes.len() <= INLINE_BYTES_MAX {
        return Ok(());
    }
    let stored = bench.blobs.put(bytes.into()).await;
    let digest = stored.map_err(|error: BlobError| error.to_string())?;
    result.output = Value::Null;
    result.output_blob = Some(digest.to_string());
    Ok(())
}
