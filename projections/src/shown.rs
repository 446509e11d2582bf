//! What queries see of a stream's views: which tree answers, and how far it has folded.

use std::sync::Arc;
use std::time::Duration;

use engine_model::{AsOf, Code, Rejection, Seq};
use tokio::sync::watch;

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
    match tokio::time::timeout(patience, reached).await {
        Ok(Ok(reached)) => return Ok(reached.clone()),
        // The sender lives as long as the views; whoever asks them holds them.
        Ok(Err(_)) | Err(_) => {}
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
