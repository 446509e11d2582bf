//! Ends the workers of revisions that are no longer called. The word to retire a revision reaches
//! one node, and a run that began on an old revision may have it loaded again, so that each node
//! looks for itself now and then.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use engine_core::{active, used};
use tokio_util::sync::CancellationToken;

use super::Bench;

/// Pause between two looks: idle workers cost memory and nothing else.
const PAUSE: Duration = Duration::from_secs(10);

/// Every so many looks, what no resource is made of any more is removed from the disk.
const LOOKS_PER_CLEARING: u32 = 60;

/// Looks until `stop`.
pub(crate) async fn work(bench: Arc<Bench>, stop: CancellationToken) -> Result<(), Infallible> {
    let mut looks = 0;
    loop {
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = stop.cancelled() => return Ok(()),
        }
        bench.runner.keep(&bench.fold.read(active));
        looks += 1;
        if looks == LOOKS_PER_CLEARING {
            looks = 0;
            // Nobody waits for this, and it can be broken off anywhere.
            tokio::select! {
                () = bench.runner.clear(bench.fold.read(used)) => {}
                () = stop.cancelled() => return Ok(()),
            }
        }
    }
}
