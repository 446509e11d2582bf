//! For tests: a real nats-server of one's own, and the suite that every log passes.

pub mod conformance;
mod server;

use engine_model::{Commit, Seq};

pub use server::TestServer;

use crate::jetstream::{JetStream, apart, as_batch};
use crate::port::AppendError;

/// Appends a group as one atomic batch, whatever its size up to 1000. The position of its last
/// commit, or none when it was refused.
pub async fn append_as_batch(log: &JetStream, group: &[(Commit, Seq)]) -> Option<Seq> {
    as_batch(log.link(), group).await.map(Seq)
}

/// Appends a group as so many publishes, sent together.
pub async fn append_apart(
    log: &JetStream,
    group: &[(Commit, Seq)],
) -> Vec<Result<Seq, AppendError>> {
    apart(log.link(), group).await
}
