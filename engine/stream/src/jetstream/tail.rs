//! Following a stream from a position on: a fast replay, and then each message as it comes.
//!
//! ```text
//! server ─► connection's task (headers) ─► this task (bodies) ─► bounded channel ─► reader
//! ```
//! The consumer lives in the server's memory and needs no acks. It is made anew, after the last
//! message that was seen, whenever the server was away or a delivery is missing.

use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::stream::{ConsumerError, ConsumerErrorKind};
use engine_model::{Recorded, Seq};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;

use super::pull::{Interrupted, Pulled, Puller};
use super::{read, replay};
use crate::link::{Link, Pauses};
use crate::port::Error;
use crate::streams;

/// Messages asked for at a time: large enough that the server is never idle between requests.
const BATCH: usize = 5000;
/// Messages handed over at a time, so that the channel is not felt.
const CHUNK: usize = 512;
/// Chunks that wait for a slow reader; beyond it the server waits.
const CHUNKS_WAITING: usize = 8;
/// How long the server keeps a consumer that nobody pulls from.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30);

/// Reads a message of the followed stream.
pub(crate) type Reader<T> = fn(&Pulled) -> Result<T, Error>;

/// Where what was read is handed over.
pub(super) type Chunks<T> = mpsc::Sender<Vec<Result<T, Error>>>;

type Items<T> = BoxStream<'static, Result<T, Error>>;

/// Follows `stream` after a position. An `Err` ends it.
pub(crate) async fn follow<T: Send + 'static>(
    link: Link,
    stream: &'static str,
    after: Seq,
    read: Reader<T>,
) -> Result<Items<T>, Error> {
    let (chunks, received) = mpsc::channel(CHUNKS_WAITING);
    let mut follower = Follower {
        link,
        stream,
        after,
        delivery: 0,
        read,
        chunks,
    };
    let puller = follower.begin().await?;
    Ok(items(received, tokio::spawn(follower.run(puller))))
}

/// Follows the event stream after a position: its past by the fast way. An `Err` ends it.
pub(crate) async fn follow_commits(link: Link, after: Seq) -> Result<Items<Recorded>, Error> {
    let head = read::head(&link, streams::EVENTS).await?;
    if head.0 < after.0 + replay::REPLAY_FROM {
        return follow(link, streams::EVENTS, after, read::commit).await;
    }
    let (chunks, received) = mpsc::channel(CHUNKS_WAITING);
    let task = tokio::spawn(async move {
        let after = replay::run(&link, after, &chunks).await;
        let (stream, read) = (streams::EVENTS, read::commit);
        let follower = Follower {
            link,
            stream,
            after,
            delivery: 0,
            read,
            chunks,
        };
        follower.begin_and_run().await;
    });
    Ok(items(received, task))
}

/// What a task hands over, up to the first error; the task ends with it.
fn items<T: Send + 'static>(
    received: mpsc::Receiver<Vec<Result<T, Error>>>,
    task: JoinHandle<()>,
) -> Items<T> {
    let task = AbortOnDropHandle::new(task);
    let chunks = stream::unfold((received, task), |(mut received, task)| async move {
        let chunk: Vec<Result<T, Error>> = received.recv().await?;
        Some((stream::iter(chunk), (received, task)))
    });
    let mut ended = false;
    let until_error = chunks.flatten().take_while(move |item| {
        let before = !ended;
        ended |= item.is_err();
        futures::future::ready(before)
    });
    until_error.boxed()
}

struct Follower<T> {
    link: Link,
    stream: &'static str,
    /// The last message that was seen.
    after: Seq,
    /// The consumer's count of the last delivery.
    delivery: u64,
    read: Reader<T>,
    chunks: Chunks<T>,
}

impl<T: Send + 'static> Follower<T> {
    /// Makes a consumer that begins after what was seen.
    async fn begin(&mut self) -> Result<Puller, Error> {
        let config = pull::Config {
            deliver_policy: DeliverPolicy::ByStartSequence {
                start_sequence: self.after.0 + 1,
            },
            ack_policy: AckPolicy::None,
            memory_storage: true,
            num_replicas: 1,
            inactive_threshold: FORGOTTEN_AFTER,
            ..pull::Config::default()
        };
        let consumer = self
            .link
            .jetstream
            .create_consumer_on_stream(config, self.stream)
            .await;
        let consumer = consumer.map_err(|error| consumer_error(&error))?;
        self.delivery = 0;
        Puller::new(&self.link, &[(self.stream, &consumer.cached_info().name)]).await
    }

    async fn begin_and_run(mut self) {
        match self.begin_patiently().await {
            Ok(puller) => self.run(puller).await,
            Err(error) => self.end(error).await,
        }
    }

    async fn run(mut self, mut puller: Puller) {
        loop {
            let interrupted = match self.pass_on(&mut puller).await {
                Ok(()) => return,
                Err(interrupted) => interrupted,
            };
            let after = self.after;
            tracing::debug!(stream = self.stream, %after, %interrupted, "following anew");
            if interrupted == Interrupted::Closed {
                return self.end(Error::Unavailable(interrupted.to_string())).await;
            }
            puller = match self.begin_patiently().await {
                Ok(puller) => puller,
                Err(error) => return self.end(error).await,
            };
        }
    }

    async fn end(&self, error: Error) {
        // Who reads no more needs no reason.
        let _ = self.chunks.send(vec![Err(error)]).await;
    }

    /// Tries for as long as somebody reads.
    async fn begin_patiently(&mut self) -> Result<Puller, Error> {
        let mut pauses = Pauses::endless();
        loop {
            match self.begin().await {
                Err(Error::Unavailable(reason)) => {
                    tracing::debug!(stream = self.stream, reason, "server is away");
                    pauses.pause().await;
                }
                other => return other,
            }
        }
    }

    /// Passes messages on until the reader is gone (`Ok`) or the consumer is.
    async fn pass_on(&mut self, puller: &mut Puller) -> Result<(), Interrupted> {
        loop {
            let mut next = Some(puller.next(BATCH).await?);
            let mut chunk = Vec::new();
            while let Some(pulled) = next {
                if pulled.place.delivery != self.delivery + 1 {
                    // One was lost on the way: what was read so far is good.
                    let _ = self.chunks.send(chunk).await;
                    return Err(Interrupted::Gone);
                }
                self.delivery += 1;
                self.after = pulled.place.seq;
                let item = (self.read)(&pulled);
                let bad = item.is_err();
                chunk.push(item);
                if bad {
                    let _ = self.chunks.send(chunk).await;
                    return Ok(());
                }
                next = if chunk.len() < CHUNK {
                    puller.ready()
                } else {
                    None
                };
            }
            if self.chunks.send(chunk).await.is_err() {
                return Ok(());
            }
        }
    }
}

fn consumer_error(error: &ConsumerError) -> Error {
    match error.kind() {
        ConsumerErrorKind::JetStream(e) if e.error_code() == ErrorCode::STREAM_NOT_FOUND => {
            Error::Refused(error.to_string())
        }
        _ => Error::Unavailable(error.to_string()),
    }
}
