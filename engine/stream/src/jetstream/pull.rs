//! Continuous pulling from one or more consumers into one inbox.
//!
//! The client library's own stream prefetches what it likes; here the reader says how much it
//! will take soon, so that nothing lies in a buffer while its time to be acknowledged runs out.

use std::time::Duration;

use async_nats::{Message, StatusCode, Subscriber};
use bytes::Bytes;
use engine_model::{Seq, Timestamp};
use futures::{FutureExt as _, StreamExt as _};
use tokio::time::{Instant, sleep_until};

use crate::link::{Link, unavailable};
use crate::port::Error;

/// How long the server holds a request open.
const EXPIRES: Duration = Duration::from_secs(30);
/// How often the server says that it is still there while nothing comes.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Silence after which the consumer is looked for anew: two heartbeats and some grace.
const SILENCE_MAX: Duration = Duration::from_secs(12);
/// Most bytes that one request may bring. The server cuts a connection that has 64 MiB waiting
/// to be sent, and two requests may be open at a time.
const BYTES_MAX: u64 = 16 << 20;

/// Why pulling ended; the consumer is to be made or looked for anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Interrupted {
    /// Nobody serves the consumer: the server is starting, or a memory-only consumer died with it.
    #[error("the consumer is gone")]
    Gone,
    /// Not even heartbeats came.
    #[error("the server is silent")]
    Silent,
    /// The connection was closed for good.
    #[error("the connection is closed")]
    Closed,
}

/// A message and its place.
#[derive(Debug)]
pub(crate) struct Pulled {
    pub(crate) message: Message,
    pub(crate) place: Place,
}

/// Where a message comes from, read from its reply subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) seq: Seq,
    /// Counts the consumer's deliveries from 1.
    pub(crate) delivery: u64,
    /// How often this message was delivered.
    pub(crate) deliveries: u32,
    pub(crate) at: Timestamp,
    /// How many the consumer has not delivered yet.
    pub(crate) pending: u64,
}

impl Place {
    /// `$JS.ACK.[<domain>.<account>.]<stream>.<consumer>.<deliveries>.<seq>.<delivery>.<ns>.<pending>`
    /// and, with a domain, perhaps one token more.
    pub(crate) fn parse(reply: &str) -> Option<Self> {
        let rest = reply.strip_prefix("$JS.ACK.")?;
        let skipped = if rest.split('.').count() >= 9 { 4 } else { 2 };
        let mut tokens = rest.split('.').skip(skipped);
        let deliveries = tokens.next()?.parse().ok()?;
        let seq = Seq(tokens.next()?.parse().ok()?);
        let delivery = tokens.next()?.parse().ok()?;
        let nanos: i64 = tokens.next()?.parse().ok()?;
        Some(Self {
            seq,
            delivery,
            deliveries,
            at: Timestamp(nanos / 1_000_000),
            pending: tokens.next()?.parse().ok()?,
        })
    }
}

/// One consumer that is pulled.
struct Source {
    stream: String,
    request: String,
    /// Where its messages and statuses are sent: the inbox, and its number.
    reply: String,
    /// Messages that were asked for and have not come.
    open: usize,
}

/// Pulls from consumers.
pub(crate) struct Puller {
    link: Link,
    subscriber: Subscriber,
    sources: Vec<Source>,
    heard: Instant,
    /// Met while nobody waited; told to who waits next.
    interrupted: Option<Interrupted>,
}

impl Puller {
    /// Pulls from `(stream, consumer)` pairs; nothing is asked for yet.
    pub(crate) async fn new(link: &Link, consumers: &[(&str, &str)]) -> Result<Self, Error> {
        let mut link = link.clone();
        link.connects.mark_unchanged();
        let inbox = link.client.new_inbox();
        let subscriber = link
            .client
            .subscribe(format!("{inbox}.*"))
            .await
            .map_err(unavailable)?;
        let source = |(number, (stream, consumer)): (usize, &(&str, &str))| Source {
            stream: (*stream).to_owned(),
            request: format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"),
            reply: format!("{inbox}.{number}"),
            open: 0,
        };
        let sources = consumers.iter().enumerate().map(source).collect();
        Ok(Self {
            link,
            subscriber,
            sources,
            heard: Instant::now(),
            interrupted: None,
        })
    }

    /// Asks for more where at most half of `wanted` is still to come, so that few requests are
    /// open at a time.
    async fn ask(&mut self, wanted: usize) -> Result<(), Interrupted> {
        for source in &mut self.sources {
            if source.open > wanted / 2 {
                continue;
            }
            let batch = wanted - source.open;
            let request = format!(
                r#"{{"batch":{batch},"max_bytes":{BYTES_MAX},"expires":{},"idle_heartbeat":{}}}"#,
                EXPIRES.as_nanos(),
                HEARTBEAT.as_nanos(),
            );
            let sent = self.link.client.publish_with_reply(
                source.request.clone(),
                source.reply.clone(),
                Bytes::from(request),
            );
            sent.await.map_err(|_| Interrupted::Closed)?;
            source.open += batch;
            self.heard = Instant::now();
        }
        Ok(())
    }

    /// Waits for the next message, keeping up to `wanted` asked for. Cancelling it loses nothing.
    pub(crate) async fn next(&mut self, wanted: usize) -> Result<Pulled, Interrupted> {
        if let Some(interrupted) = self.interrupted.take() {
            return Err(interrupted);
        }
        loop {
            self.ask(wanted).await?;
            let deadline = self.heard + SILENCE_MAX;
            tokio::select! {
                // What has come counts before the silence that may lie between two calls.
                biased;
                message = self.subscriber.next() => {
                    let message = message.ok_or(Interrupted::Closed)?;
                    if let Some(pulled) = self.take(message)? {
                        return Ok(pulled);
                    }
                }
                // The server has forgotten the requests of the lost connection.
                changed = self.link.connects.changed() => {
                    changed.map_err(|_| Interrupted::Closed)?;
                    self.sources.iter_mut().for_each(|source| source.open = 0);
                }
                () = sleep_until(deadline) => return Err(Interrupted::Silent),
            }
        }
    }

    /// The next message that is here already.
    pub(crate) fn ready(&mut self) -> Option<Pulled> {
        loop {
            let message = self.subscriber.next().now_or_never()??;
            match self.take(message) {
                Ok(Some(pulled)) => return Some(pulled),
                Ok(None) => {}
                Err(interrupted) => {
                    self.interrupted = Some(interrupted);
                    return None;
                }
            }
        }
    }

    /// Tells a message from a status, and keeps the count of what is to come.
    fn take(&mut self, message: Message) -> Result<Option<Pulled>, Interrupted> {
        self.heard = Instant::now();
        match message.status {
            None | Some(StatusCode::OK) => {}
            Some(StatusCode::IDLE_HEARTBEAT) => return Ok(None),
            Some(StatusCode::NO_RESPONDERS) => return Err(Interrupted::Gone),
            Some(status) => return self.request_ended(status, &message),
        }
        let Some(place) = message.reply.as_ref().and_then(|reply| Place::parse(reply)) else {
            tracing::warn!(subject = %message.subject, "a message in the inbox is no delivery");
            return Ok(None);
        };
        if let Some(source) = self.source_of(&message) {
            source.open = source.open.saturating_sub(1);
        }
        Ok(Some(Pulled { message, place }))
    }

    /// A request has expired, was served in part, or was refused.
    fn request_ended(
        &mut self,
        status: StatusCode,
        message: &Message,
    ) -> Result<Option<Pulled>, Interrupted> {
        let text = message.description.as_deref().unwrap_or_default();
        // Each of its messages was counted.
        if text.contains("Batch Completed") {
            return Ok(None);
        }
        if text.contains("Consumer Deleted") || text.contains("Exceeded") {
            return Err(Interrupted::Gone);
        }
        let unserved = message
            .headers
            .as_ref()
            .and_then(|headers| headers.get("Nats-Pending-Messages"))
            .and_then(|count| count.as_str().parse::<usize>().ok());
        tracing::trace!(%status, text, ?unserved, "pull request ended");
        let reply = message.subject.as_str();
        if let Some(source) = self.sources.iter_mut().find(|source| source.reply == reply) {
            source.open = source.open.saturating_sub(unserved.unwrap_or(source.open));
        }
        Ok(None)
    }

    fn source_of(&mut self, message: &Message) -> Option<&mut Source> {
        if self.sources.len() == 1 {
            return self.sources.first_mut();
        }
        let reply = message.reply.as_ref()?.as_str();
        self.sources
            .iter_mut()
            .find(|source| reply.split('.').any(|token| token == source.stream))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_a_message_is_read_from_either_reply_subject() {
        let place = Place {
            seq: Seq(42),
            delivery: 7,
            deliveries: 2,
            at: Timestamp(1_700_000_000_000),
            pending: 5,
        };
        for reply in [
            "$JS.ACK.DISPATCH_EVENTS.engine.2.42.7.1700000000000000000.5",
            "$JS.ACK._.ACCHASH.DISPATCH_EVENTS.engine.2.42.7.1700000000000000000.5",
            "$JS.ACK.hub.ACCHASH.DISPATCH_EVENTS.engine.2.42.7.1700000000000000000.5.token",
        ] {
            assert_eq!(Place::parse(reply), Some(place), "{reply}");
        }
        assert_eq!(Place::parse("_INBOX.x"), None);
    }
}
