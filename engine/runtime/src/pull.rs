//! The way of every loop to its deliveries.

use std::time::Duration;

use engine_stream::{Delivery, Error, Inbox};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Wait after the log was away.
pub(crate) const RECONNECT: Duration = Duration::from_millis(200);

/// The next deliveries, at most `max`, however long the log is away meanwhile; none when it is time
/// to `stop`. `what` names the stream in the log of this node.
///
/// # Errors
/// What waiting does not mend.
pub(crate) async fn next<T>(
    inbox: &mut dyn Inbox<T>,
    max: usize,
    what: &str,
    stop: &CancellationToken,
) -> Result<Option<Vec<Delivery<T>>>, Error> {
    let pulled = async {
        loop {
            match inbox.pull(max).await {
                Err(Error::Unavailable(reason)) => {
                    warn!(%reason, "{what} unavailable");
                    tokio::time::sleep(RECONNECT).await;
                }
                pulled => return pulled,
            }
        }
    };
    stop.run_until_cancelled(pulled).await.transpose()
}
