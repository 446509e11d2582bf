//! The port behind which functions run.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Map, Value};

/// One call of a function on behalf of a request.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// The organization that owns the function.
    pub org: String,
    /// The function's name.
    pub function: String,
    /// The API through which the request came.
    pub api: String,
    /// What the function gets as its payload.
    pub input: Value,
    /// What the function finds as `httpContext`; headers that bear credentials are not in it.
    pub http_context: Map<String, Value>,
    /// Whether the caller waits for the output. When not, answer [`Invoked::Accepted`].
    pub blocking: bool,
    /// Whether the call is to leave a run on record. One that is not blocking always does.
    pub record: bool,
    /// How long the caller waits. The gateway gives up a second later by itself.
    pub timeout: Duration,
}

/// What came of a call.
#[derive(Debug, Clone)]
pub enum Invoked {
    /// The function's output.
    Output(Value),
    /// The run is stored and will happen; nobody waits for it.
    Accepted {
        /// The run to ask for.
        run_id: String,
    },
    /// There is no output.
    Failed {
        /// Whose fault, and with it the status code.
        kind: Failure,
        /// What went wrong. Only the first line of an [`Failure::InputError`]'s is sent to the
        /// client: any other may hold what the function's owner did not mean to publish.
        message: String,
        /// The run, if there was one.
        run_id: Option<String>,
    },
}

/// Why there is no output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The function refused its input: 400.
    InputError,
    /// The function failed: 502.
    FunctionError,
    /// The platform failed: 500.
    SystemError,
    /// There is no such function: 404.
    NotFound,
    /// The function, its image or its services are not ready: 503.
    NotReady,
    /// Nobody who could run it is to be reached: 503.
    Unavailable,
    /// Too much is waiting already: 429.
    Busy,
    /// The request is more than a run takes: 413.
    TooLarge,
    /// The function took too long: 504.
    Timeout,
    /// Somebody cancelled the run: 502.
    Cancelled,
}

/// Runs functions.
#[async_trait]
pub trait Invoker: Send + Sync + 'static {
    /// Runs a function and waits for its output, or only until the run is stored when the
    /// invocation is not blocking.
    ///
    /// The future is dropped when the client hangs up or the gateway is cut off at the end of a
    /// drain. That ends the waiting; whether it also ends the run is the invoker's decision.
    async fn invoke(&self, invocation: Invocation) -> Invoked;
}
