//! The run port: a worker calls a loaded revision of a function.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use engine_model::{FunctionLoad, LogLine, Name, RevisionId, RunId, RunResult, Used};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// One call of a function.
pub struct RunCall {
    /// The run.
    pub run: RunId,
    /// The revision; a runner that does not have it yet loads it.
    pub load: Arc<FunctionLoad>,
    /// The handler's first argument: `secrets`, `serviceBindings`, `httpContext`. It holds opened
    /// secrets and is never logged.
    pub context: Value,
    /// What is to be said of the services whose credentials are in `serviceBindings`.
    pub services: Vec<ServiceFacts>,
    /// The handler's second argument.
    pub input: Value,
    /// Milliseconds that the call may take; 0 for the runner's own limit.
    pub timeout_ms: u64,
    /// Whether somebody waits for the answer, who would rather hear soon that too many wait
    /// already. Otherwise the call waits its turn however long the queue is.
    pub blocking: bool,
    /// Whether what it prints is kept. When it is not, its order may lie before a worker that is still
    /// busy with another call.
    pub on_record: bool,
    /// Whether the result is to say how long each stage took.
    pub timings: bool,
    /// Who is told what the function prints while it runs.
    pub lines: Option<Arc<dyn LineSink>>,
    /// Cancelled when someone asks for the end of the run: what carries it out is killed at once,
    /// with all that it started, and the call ends with an error.
    pub cancel: CancellationToken,
}

/// Is told of each line that a run prints, while it runs.
pub trait LineSink: Send + Sync {
    /// Takes a line, or says `false` when there is no room for it now. Never waits.
    fn line(&self, line: LogLine) -> bool;
}

/// What kind of service a function is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceFacts {
    /// The instance, by name; a key of `serviceBindings`.
    pub name: Name,
    /// Its class.
    pub class: String,
    /// Its broker, by name.
    pub provider: String,
}

impl fmt::Debug for RunCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunCall")
            .field("run", &self.run)
            .field("revision", &self.load.revision)
            .field("timeout_ms", &self.timeout_ms)
            .finish_non_exhaustive()
    }
}

/// Runs functions. A failed run is a result, not an error: whatever happens, the call ends with one.
#[async_trait]
pub trait Runner: Send + Sync + 'static {
    /// Calls the function and waits for its end.
    async fn run(&self, call: RunCall) -> RunResult;

    /// How many calls this node may have under way at once.
    fn slots(&self) -> usize;

    /// Ends the workers of all revisions but these. Calls that are under way end as they would; what
    /// is called all the same is loaded again.
    fn keep(&self, active: &BTreeSet<RevisionId>);

    /// Removes what this node, or the blob store by its doing, has of images and layers that are
    /// not used, once that was so for some time.
    async fn clear(&self, used: Used);
}
