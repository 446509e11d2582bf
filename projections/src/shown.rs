//! What queries see of a stream's views: which tree answers, and how far it has folded.

use std::sync::Arc;
use std::time::Duration;

use engine_model::{AsOf, Code, Rejection, Seq};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::store::Stream;

/// What queries see.
#[derive(Clone)]
pub(crate) struct Shown {
    /// The tree that answers.
    pub(crate) tree: sled::Tree,
    /// It shows this position, and possibly some of what comes after.
    pub(crate) as_of: AsOf,
    /// Why it does not go on, while it does not.
    pub(crate) trouble: Option<Arc<str>>,
}

/// Waits, at most `patience`, until `seq` is shown.
pub(crate) async fn at_least(
    stream: Stream,
    mut shown: watch::Receiver<Shown>,
    seq: Seq,
    patience: Duration,
) -> Result<Shown, Rejection> {
    let reached = shown.wait_for(|shown| shown.as_of.seq >= seq);
    // The sender lives as long as the views, which whoever asks holds: only time can end it.
    if let Ok(Ok(reached)) = timeout(patience, reached).await {
        return Ok(reached.clone());
    }
    let now = shown.borrow();
    let trouble = match &now.trouble {
        Some(trouble) => format!(": {trouble}"),
        None => String::new(),
    };
    let message = format!(
        "the view of {} stands at {} and did not reach {seq} within {patience:?}{trouble}",
        stream.as_str(),
        now.as_of.seq,
    );
    Err(Rejection::new(Code::Unavailable, message))
}
