//! Appending commits: one by one, or a group as one atomic batch.

use std::collections::HashSet;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::header::{
    NATS_BATCH_COMMIT, NATS_BATCH_ID, NATS_BATCH_SEQUENCE, NATS_EXPECTED_LAST_SUBJECT_SEQUENCE,
};
use bytes::Bytes;
use engine_model::{Commit, Seq, header, subject};
use futures::future::join_all;
use tokio::time::sleep;
use uuid::Uuid;

use super::read;
use crate::link::{Fault, Link, PATIENCE, Pauses, unavailable};
use crate::message::{commit_headers, json, map};
use crate::port::AppendError;
use crate::streams;

/// From how many commits on a group is appended as one atomic batch.
///
/// On one file-backed server with `sync_interval: always` a publish is one fsync, whether it is
/// pipelined or not, and a batch a few whatever its size. Measured with `examples/measure.rs` on a
/// busy machine, p50 in milliseconds, apart and as a batch: 8 commits 2.7 and 4.3, 12 commits 4.7
/// and 3.6, 24 commits 6.7 and 4.2, 200 commits 52 and 12. On three replicas the server syncs
/// pipelined publishes together and a batch costs about two of them, so the number does no harm.
pub const BATCH_FROM: usize = 12;

/// Most messages that the server takes in one batch.
const BATCH_MAX: usize = 1000;

/// How often an append that was refused because another to the same subject was under way is
/// tried again before it is called a clash.
const UNSETTLED_TRIES: u32 = 5;

/// A commit, made ready to be sent any number of times.
struct Ready<'a> {
    commit: &'a Commit,
    subject: String,
    headers: HeaderMap,
    body: Bytes,
}

impl<'a> Ready<'a> {
    fn new(commit: &'a Commit, expected: Seq) -> Self {
        let mut headers = map(commit_headers(commit));
        headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, expected.to_string());
        Self {
            commit,
            subject: subject::event(&commit.key),
            headers,
            body: json(commit),
        }
    }
}

/// Appends one commit.
pub(super) async fn append(
    link: &Link,
    commit: &Commit,
    expected: Seq,
) -> Result<Seq, AppendError> {
    append_ready(link, &Ready::new(commit, expected)).await
}

async fn append_ready(link: &Link, ready: &Ready<'_>) -> Result<Seq, AppendError> {
    let mut pauses = Pauses::new(PATIENCE);
    let mut unsettled = 0;
    loop {
        let sent = link
            .publish(&ready.subject, ready.headers.clone(), ready.body.clone())
            .await;
        match sent {
            // Known by its id: an earlier try of this one, or what another node made of the same.
            Ok(ack) if ack.duplicate => return settle(link, ready).await,
            Ok(ack) => return Ok(Seq(ack.sequence)),
            Err(Fault::Expected { unsettled: false }) => return settle(link, ready).await,
            Err(Fault::Expected { unsettled: true }) => match settle(link, ready).await {
                // The other append, which may be an earlier try of this one, is not yet to be
                // seen.
                Err(AppendError::Clash) if unsettled < UNSETTLED_TRIES => {
                    unsettled += 1;
                    sleep(Duration::from_millis(20)).await;
                }
                settled => return settled,
            },
            Err(Fault::TooLarge) => {
                return Err(AppendError::TooLarge {
                    bytes: ready.body.len(),
                });
            }
            Err(Fault::Unavailable(reason)) => {
                tracing::debug!(key = %ready.commit.key, reason, "append is repeated");
                if !pauses.pause().await {
                    return Err(unavailable(reason).into());
                }
            }
            Err(fault @ Fault::Refused(_)) => {
                return Err(AppendError::Log(fault.into()));
            }
        }
    }
}

/// The subject has another last message than was expected: mine, if an earlier try was stored.
async fn settle(link: &Link, ready: &Ready<'_>) -> Result<Seq, AppendError> {
    let mut pauses = Pauses::new(PATIENCE);
    loop {
        match read::last_message(link, streams::EVENTS, &ready.subject).await {
            Ok(Some(last)) if is_mine(&last, ready) => return Ok(Seq(last.sequence)),
            Ok(_) => return Err(AppendError::Clash),
            Err(error) => {
                if !pauses.pause().await {
                    return Err(error.into());
                }
            }
        }
    }
}

/// Whether a stored message is this commit, to the letter: two nodes that decide the same at the
/// same position give it the same id, and may still differ in times.
fn is_mine(last: &async_nats::jetstream::message::StreamMessage, ready: &Ready<'_>) -> bool {
    let id = last
        .headers
        .get(header::MSG_ID)
        .map(async_nats::HeaderValue::as_str);
    id == Some(ready.commit.id.to_string().as_str()) && last.payload == ready.body
}

/// Appends a group, each commit on its own terms.
pub(super) async fn append_group(
    link: &Link,
    group: &[(Commit, Seq)],
) -> Vec<Result<Seq, AppendError>> {
    let ready = made_ready(group);
    let mut results = Vec::with_capacity(ready.len());
    for chunk in ready.chunks(BATCH_MAX) {
        let whole = if is_batch(chunk) {
            batch(link, chunk).await
        } else {
            None
        };
        match whole {
            Some(last) => results.extend(positions(last, chunk.len()).map(Ok)),
            // Sent all at once, acks awaited together.
            None => results.extend(join_all(chunk.iter().map(|one| append_ready(link, one))).await),
        }
    }
    results
}

/// Appends a group as one batch only; for measuring.
#[cfg(any(test, feature = "testing"))]
pub(crate) async fn as_batch(link: &Link, group: &[(Commit, Seq)]) -> Option<u64> {
    batch(link, &made_ready(group)).await
}

/// Appends a group as publishes only; for measuring.
#[cfg(any(test, feature = "testing"))]
pub(crate) async fn apart(link: &Link, group: &[(Commit, Seq)]) -> Vec<Result<Seq, AppendError>> {
    join_all(made_ready(group).iter().map(|one| append_ready(link, one))).await
}

fn made_ready(group: &[(Commit, Seq)]) -> Vec<Ready<'_>> {
    group
        .iter()
        .map(|(commit, expected)| Ready::new(commit, *expected))
        .collect()
}

/// A batch may name the expected position of a subject only once.
fn is_batch(chunk: &[Ready<'_>]) -> bool {
    let mut subjects = HashSet::new();
    chunk.len() >= BATCH_FROM
        && chunk
            .iter()
            .all(|one| subjects.insert(one.subject.as_str()))
}

fn positions(last: u64, count: usize) -> impl Iterator<Item = Seq> {
    let first = last + 1 - count as u64;
    (first..=last).map(Seq)
}

/// Appends all or nothing; the position of the last. `None` when it was refused, or its fate is
/// unknown: each commit on its own then finds out, because a repeat recognises itself.
async fn batch(link: &Link, chunk: &[Ready<'_>]) -> Option<u64> {
    let id = Uuid::new_v4().simple().to_string();
    let last = chunk.len() - 1;
    for (i, one) in chunk.iter().enumerate() {
        let mut headers = one.headers.clone();
        headers.insert(NATS_BATCH_ID, id.as_str());
        headers.insert(NATS_BATCH_SEQUENCE, (i + 1).to_string());
        if i < last {
            let sent =
                link.client
                    .publish_with_headers(one.subject.clone(), headers, one.body.clone());
            sent.await.ok()?;
            continue;
        }
        headers.insert(NATS_BATCH_COMMIT, "1");
        match link.publish(&one.subject, headers, one.body.clone()).await {
            Ok(ack) if ack.batch_size == Some(chunk.len() as u64) => return Some(ack.sequence),
            Ok(ack) => tracing::warn!(?ack, "the server did not take a batch as one"),
            Err(fault) => tracing::debug!(?fault, commits = chunk.len(), "batch is taken apart"),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_ends_at_the_acknowledged_position() {
        assert_eq!(
            positions(10, 3).collect::<Vec<_>>(),
            [Seq(8), Seq(9), Seq(10)]
        );
    }
}
