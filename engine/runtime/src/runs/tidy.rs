//! Ends the workers of revisions that are no longer called. The word to retire a revision reaches
//! one node, and a run that began on an old revision may have it loaded again, so that each node
//! looks for itself now and then.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use engine_core::active;
use tokio_util::sync::CancellationToken;

use super::Bench;

/// Pause between two looks: idle workers cost memory and nothing else.
const PAUSE: Duration = Duration::from_secs(10);

/// Looks until `stop`.
pub(crate) async fn work(bench: Arc<Bench>, stop: CancellationToken) -> Result<(), Infallible> {
    loop {
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = stop.cancelled() => return Ok(()),
        }
        bench.runner.keep(&bench.fold.read(active));
    }
}
