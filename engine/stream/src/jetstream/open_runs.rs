//! Which runs have not ended, and where they may be.
//!
//! The server picks the last message of each subject, and sends what it says of it in the headers:
//! a run that has ended costs no more than that.

use std::collections::HashSet;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull};
use async_nats::{HeaderMap, Message};
use engine_model::{RunId, Seq, Timestamp, header, subject};
use tokio::time::timeout;

use super::pull::{Pulled, Puller};
use super::read;
use crate::link::{Link, unavailable};
use crate::message::{aside as aside_id, is_open};
use crate::port::{Error, OpenRun};
use crate::streams;

/// Messages asked for at a time.
const BATCH: usize = 2000;

/// How long the next message is awaited.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// How long the server keeps a consumer that was not deleted.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30);

/// The runs that have not ended, whose last event is from before a moment, and which do not wait
/// for a later one.
pub(super) async fn open(
    link: &Link,
    before: Timestamp,
    limit: usize,
) -> Result<Vec<OpenRun>, Error> {
    let mut open = Vec::new();
    last_ones(link, subject::RUNS, |pulled| {
        if pulled.place.at > before {
            // So is all that comes after it.
            return false;
        }
        let headers = pulled.message.headers.as_ref();
        if is_open(|name| value(headers, name), before)
            && let Some((org, function, run)) = subject::parse_run(&pulled.message.subject)
        {
            let seq = pulled.place.seq;
            open.push(OpenRun {
                org,
                function,
                run,
                seq,
            });
        }
        open.len() < limit
    })
    .await?;
    Ok(open)
}

/// The runs that wait on a subject. A work queue takes no other consumer, so that they are read
/// whole.
pub(super) async fn aside(link: &Link, subject: &str) -> Result<HashSet<RunId>, Error> {
    let (mut found, mut from) = (HashSet::new(), 1);
    loop {
        let mut some = Vec::new();
        let (stream, batch) = (streams::WAITING, read::READ_BATCH);
        let (more, next) = read::one_answer(link, stream, subject, from, batch, &mut some).await?;
        let id = |message: &Message| aside_id(value(message.headers.as_ref(), header::CE_ID)?);
        found.extend(some.iter().filter_map(|(_, message)| id(message)));
        if !more {
            return Ok(found);
        }
        from = next;
    }
}

/// Up to where a consumer's messages are all ended.
pub(super) async fn ended(link: &Link, stream: &str, consumer: &str) -> Result<Seq, Error> {
    let found: Result<PullConsumer, _> = link
        .jetstream
        .get_consumer_from_stream(consumer, stream)
        .await;
    let info = found.map_err(unavailable)?;
    Ok(Seq(info.cached_info().ack_floor.stream_sequence))
}

fn value<'a>(headers: Option<&'a HeaderMap>, name: &str) -> Option<&'a str> {
    headers?.get(name).map(async_nats::HeaderValue::as_str)
}

/// Shows the last message of each subject of the run stream, without the bodies and in their order,
/// for as long as `see` says so.
async fn last_ones(
    link: &Link,
    subjects: &str,
    mut see: impl FnMut(&Pulled) -> bool,
) -> Result<(), Error> {
    let stream = streams::RUNS;
    let config = pull::Config {
        deliver_policy: DeliverPolicy::LastPerSubject,
        ack_policy: AckPolicy::None,
        filter_subject: subjects.to_owned(),
        headers_only: true,
        memory_storage: true,
        num_replicas: 1,
        inactive_threshold: FORGOTTEN_AFTER,
        ..pull::Config::default()
    };
    let consumer = link
        .jetstream
        .create_consumer_on_stream(config, stream)
        .await;
    let consumer = consumer.map_err(unavailable)?;
    let info = consumer.cached_info();
    let seen = match info.num_pending {
        0 => Ok(()),
        _ => all(link, stream, &info.name, &mut see).await,
    };
    // It is forgotten anyway.
    let deleted = link
        .jetstream
        .delete_consumer_from_stream(&info.name, stream)
        .await;
    if let Err(error) = deleted {
        tracing::debug!(%error, stream, "a consumer was not deleted");
    }
    seen
}

async fn all(
    link: &Link,
    stream: &str,
    consumer: &str,
    see: &mut impl FnMut(&Pulled) -> bool,
) -> Result<(), Error> {
    let mut puller = Puller::new(link, &[(stream, consumer)]).await?;
    loop {
        let next = timeout(ANSWER_WAIT, puller.next(BATCH)).await;
        let pulled = match next {
            Ok(pulled) => pulled.map_err(unavailable)?,
            Err(_) => return Err(Error::Unavailable("a read had no answer".into())),
        };
        if !see(&pulled) || pulled.place.pending == 0 {
            return Ok(());
        }
    }
}
