//! Where requests are served: threads of their own for the gateway and the workers of functions.

use anyhow::{Context as _, Result};
use tokio::runtime::{Builder, Handle, Runtime};

/// A runtime beside the engine's. What decides, projects and answers queries cannot hold up a request
/// here; and it has fewer threads than there are processors, because the clients' connections and the
/// workers' channels are passed from hand to hand: with as many threads as processors, these would wake
/// one another for every request and have nowhere to run.
pub(super) struct Serving(Option<Runtime>);

impl Serving {
    pub(super) fn start() -> Result<Self> {
        let processors = std::thread::available_parallelism().map_or(2, usize::from);
        let runtime = Builder::new_multi_thread()
            .worker_threads((processors / 2).max(1))
            .thread_name("serving")
            .enable_all()
            .build();
        Ok(Self(Some(runtime.context("cannot start threads")?)))
    }

    pub(super) fn handle(&self) -> &Handle {
        let runtime = self.0.as_ref();
        runtime.expect("only dropping takes it out").handle()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // It is dropped on a thread of another runtime, which must not wait.
            runtime.shutdown_background();
        }
    }
}
