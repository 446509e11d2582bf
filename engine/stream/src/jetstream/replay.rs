//! Reading the event stream's past fast.
//!
//! ```text
//! server ─► bodies of a batch, checked ─► decoded by a task of its own ─► the follower's channel
//! ```
//! A consumer's message costs more for its dozen headers than for its body, on both sides. The
//! server's batched read leaves them out when asked to, positions included; but the event stream
//! is never purged and nothing in it is ever deleted, so its positions have no gaps, and the end
//! of each answer says which position was its last. An answer that does not add up is thrown away,
//! and the consumer reads on from there.

use std::time::Duration;

use async_nats::StatusCode;
use bytes::Bytes;
use engine_model::{Recorded, Seq};
use futures::StreamExt as _;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::read;
use super::tail::Chunks;
use crate::link::{Link, Pauses, unavailable};
use crate::port::Error;
use crate::streams::EVENTS;

/// From how many commits on it is worth its while.
pub(super) const REPLAY_FROM: u64 = 2000;

/// Commits of one answer.
const BATCH: usize = 5000;
/// Bytes of one answer; the server cuts a connection for which it holds 64 MiB.
const BATCH_BYTES: usize = 16 << 20;
/// How long the next message of an answer is awaited.
const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// Batches between the reading and the decoding task.
const BATCHES_WAITING: usize = 2;

/// Bodies that follow each other without a gap.
struct Batch {
    first: u64,
    bodies: Vec<Bytes>,
}

/// Hands over what is there after a position, and returns the last position that was handed over.
/// Tries for as long as somebody reads.
pub(super) async fn run(link: &Link, after: Seq, chunks: &Chunks<Recorded>) -> Seq {
    let (batches, received) = mpsc::channel(BATCHES_WAITING);
    let decoder = AbortOnDropHandle::new(tokio::spawn(decode(received, chunks.clone())));
    let mut seen = after;
    let mut pauses = Pauses::endless();
    loop {
        match one_batch(link, seen).await {
            Ok(Some(batch)) => {
                seen = Seq(seen.0 + batch.bodies.len() as u64);
                if batches.send(batch).await.is_err() {
                    break;
                }
                pauses = Pauses::endless();
            }
            Ok(None) => break,
            Err(error) => {
                tracing::debug!(%error, %seen, "replay waits for the server");
                pauses.pause().await;
            }
        }
        if chunks.is_closed() {
            break;
        }
    }
    drop(batches);
    // What was read is handed over before what comes next.
    let _ = decoder.await;
    seen
}

async fn decode(mut batches: mpsc::Receiver<Batch>, chunks: Chunks<Recorded>) {
    while let Some(batch) = batches.recv().await {
        let decoded = (batch.first..).zip(&batch.bodies);
        let chunk = decoded
            .map(|(seq, body)| read::recorded(Seq(seq), body))
            .collect();
        if chunks.send(chunk).await.is_err() {
            return;
        }
    }
}

/// The next batch after a position; none when there is nothing more, or when the answer does not
/// add up.
async fn one_batch(link: &Link, after: Seq) -> Result<Option<Batch>, Error> {
    let inbox = link.client.new_inbox();
    let mut answer = link
        .client
        .subscribe(inbox.clone())
        .await
        .map_err(unavailable)?;
    let first = after.0 + 1;
    let request = serde_json::json!({
        "batch": BATCH, "max_bytes": BATCH_BYTES, "seq": first, "next_by_subj": ">",
        "no_hdr": true,
    });
    let to = format!("$JS.API.DIRECT.GET.{EVENTS}");
    let sent = link
        .client
        .publish_with_reply(to, inbox, Bytes::from(request.to_string()));
    sent.await.map_err(unavailable)?;
    let mut bodies = Vec::with_capacity(BATCH);
    loop {
        let message = match timeout(ANSWER_WAIT, answer.next()).await {
            Ok(Some(message)) => message,
            Ok(None) | Err(_) => return Err(Error::Unavailable("no answer".into())),
        };
        match message.status {
            None | Some(StatusCode::OK) => bodies.push(message.payload),
            Some(StatusCode::NOT_FOUND) => return Ok(None),
            Some(StatusCode::NO_RESPONDERS) => {
                return Err(Error::Unavailable("nobody serves the stream".into()));
            }
            Some(status) => {
                let last = read::header_number(message.headers.as_ref(), "Nats-Last-Sequence");
                let adds_up = last == Some(after.0 + bodies.len() as u64) && !bodies.is_empty();
                if adds_up {
                    return Ok(Some(Batch { first, bodies }));
                }
                let read = bodies.len();
                tracing::warn!(%status, ?last, first, read, "a batched read does not add up");
                return Ok(None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use engine_model::{
        Actor, ApplicationEvent, Cause, Commit, Event, Kind, Name, OrgName, ResourceKey, Timestamp,
    };

    use super::*;
    use crate::jetstream::JetStream;
    use crate::port::Log as _;
    use crate::settings::Settings;
    use crate::testing::TestServer;

    /// Were it not for this test, a server that answers otherwise would only make it slow.
    #[tokio::test]
    async fn answers_without_headers_add_up() {
        let server = TestServer::start();
        let log = JetStream::open(&server.connection(), Settings::default())
            .await
            .unwrap();
        let group: Vec<_> = (0..6001)
            .map(|n| {
                let org = OrgName::new("acme").unwrap();
                let name = Name::new(format!("a{n}")).unwrap();
                let key = ResourceKey::new(org, Kind::Application, name);
                let commit = Commit {
                    id: Commit::id_for(&key, Seq(0), Cause::Alarm),
                    key,
                    events: vec![Event::Application(ApplicationEvent::Deleted)],
                    at: Timestamp(n),
                    actor: Actor::engine(),
                    cause: Cause::Alarm,
                    correlation: String::new(),
                };
                (commit, Seq(0))
            })
            .collect();
        log.append_group(&group).await;

        let batch = one_batch(log.link(), Seq(1))
            .await
            .unwrap()
            .expect("it adds up");
        assert_eq!((batch.first, batch.bodies.len()), (2, BATCH));
        let (chunks, mut received) = mpsc::channel(8);
        assert_eq!(run(log.link(), Seq(1), &chunks).await, Seq(6001));
        drop(chunks);
        let mut next = 2;
        while let Some(chunk) = received.recv().await {
            for recorded in chunk {
                let recorded = recorded.unwrap();
                assert_eq!(recorded.seq, Seq(next));
                assert_eq!(recorded.commit.at, Timestamp(next as i64 - 1));
                next += 1;
            }
        }
        assert_eq!(next, 6002);
    }
}
