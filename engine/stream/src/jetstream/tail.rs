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
use engine_model::Seq;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::pull::{Interrupted, Pulled, Puller};
use crate::link::{Link, Pauses};
use crate::port::Error;

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

/// Follows `stream` after a position. An `Err` ends it.
pub(crate) async fn follow<T: Send + 'static>(
    link: Link,
    stream: &'static str,
    after: Seq,
    read: Reader<T>,
) -> Result<BoxStream<'static, Result<T, Error>>, Error> {
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
    let task = AbortOnDropHandle::new(tokio::spawn(follower.run(puller)));
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
    Ok(until_error.into_stream().boxed())
}

struct Follower<T> {
    link: Link,
    stream: &'static str,
    /// The last message that was seen.
    after: Seq,
    /// The consumer's count of the last delivery.
    delivery: u64,
    read: Reader<T>,
    chunks: mpsc::Sender<Vec<Result<T, Error>>>,
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

    async fn run(mut self, mut puller: Puller) {
        loop {
            let interrupted = match self.pass_on(&mut puller).await {
                Ok(()) => return,
                Err(interrupted) => interrupted,
            };
            tracing::debug!(stream = self.stream, after = %self.after, %interrupted, "following anew");
            puller = match self.begin_again(interrupted).await {
                Ok(puller) => puller,
                Err(error) => {
                    let _ = self.chunks.send(vec![Err(error)]).await;
                    return;
                }
            };
        }
    }

    /// Tries for as long as somebody reads.
    async fn begin_again(&mut self, interrupted: Interrupted) -> Result<Puller, Error> {
        if interrupted == Interrupted::Closed {
            return Err(Error::Unavailable(interrupted.to_string()));
        }
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
