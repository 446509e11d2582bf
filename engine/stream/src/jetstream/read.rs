//! Reading messages back, by subject and by position.

use std::time::Duration;

use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::LastRawMessageErrorKind;
use async_nats::{HeaderMap, Message, StatusCode};
use bytes::Bytes;
use engine_model::{
    CommandEnvelope, Commit, Due, Recorded, ResourceKey, RunEnvelope, Seq, Timestamp, subject,
};
use futures::StreamExt as _;
use tokio::time::timeout;

use super::pull::Pulled;
use crate::decode::{self, Incoming};
use crate::link::{Link, unavailable};
use crate::message::ORIGIN;
use crate::port::{Error, Unreadable};
use crate::streams;

/// Messages of one answer to a batched read.
pub(super) const READ_BATCH: usize = 1000;
/// Bytes of one answer to a batched read.
const READ_BYTES: usize = 16 << 20;
/// How long the next message of an answer is awaited. Finding an old subject among millions of
/// messages takes the server a few hundred milliseconds.
const READ_WAIT: Duration = Duration::from_secs(5);

pub(super) async fn last(link: &Link, key: &ResourceKey) -> Result<Option<Recorded>, Error> {
    let last = last_message(link, streams::EVENTS, &subject::event(key)).await?;
    last.map(|message| recorded(Seq(message.sequence), &message.payload))
        .transpose()
}

/// The last message of a subject, as the stream's leader has it: a replica may be behind.
pub(super) async fn last_message(
    link: &Link,
    stream: &str,
    subject: &str,
) -> Result<Option<StreamMessage>, Error> {
    let stream = link
        .jetstream
        .get_stream_no_info(stream)
        .await
        .map_err(unavailable)?;
    match stream.get_last_raw_message_by_subject(subject).await {
        Ok(message) => Ok(Some(message)),
        Err(error) => match error.kind() {
            LastRawMessageErrorKind::NoMessageFound => Ok(None),
            LastRawMessageErrorKind::InvalidSubject => Err(Error::Refused(error.to_string())),
            LastRawMessageErrorKind::JetStream(_) | LastRawMessageErrorKind::Other => {
                Err(unavailable(error))
            }
        },
    }
}

/// The message at a position; `None` when it is there no more.
pub(super) async fn message_at(
    link: &Link,
    stream: &str,
    seq: Seq,
) -> Result<Option<StreamMessage>, Error> {
    let stream = link
        .jetstream
        .get_stream_no_info(stream)
        .await
        .map_err(unavailable)?;
    match stream.get_raw_message(seq.0).await {
        Ok(message) => Ok(Some(message)),
        Err(error) => match error.kind() {
            LastRawMessageErrorKind::NoMessageFound => Ok(None),
            _ => Err(unavailable(error)),
        },
    }
}

pub(super) async fn head(link: &Link, stream: &str) -> Result<Seq, Error> {
    let stream = link
        .jetstream
        .get_stream_no_info(stream)
        .await
        .map_err(unavailable)?;
    let info = stream.get_info().await.map_err(unavailable)?;
    Ok(Seq(info.state.last_sequence))
}

/// The time of a stream's first message, when it is not the first that there ever was.
pub(super) async fn since(link: &Link, stream: &str) -> Result<Option<Timestamp>, Error> {
    let stream = link
        .jetstream
        .get_stream_no_info(stream)
        .await
        .map_err(unavailable)?;
    let state = stream.get_info().await.map_err(unavailable)?.state;
    let dropped = state.messages > 0 && state.first_sequence > 1;
    Ok(dropped.then(|| Timestamp(state.first_timestamp.timestamp_millis())))
}

pub(super) async fn history(link: &Link, key: &ResourceKey) -> Result<Vec<Recorded>, Error> {
    let found = by_subject(link, streams::EVENTS, &subject::event(key), usize::MAX).await?;
    found
        .iter()
        .map(|(seq, message)| recorded(*seq, &message.payload))
        .collect()
}

/// The messages of a subject or pattern, oldest first, at most `limit`: one request per thousand.
pub(super) async fn by_subject(
    link: &Link,
    stream: &str,
    pattern: &str,
    limit: usize,
) -> Result<Vec<(Seq, Message)>, Error> {
    let mut found = Vec::new();
    let mut from = 1;
    while found.len() < limit {
        let batch = READ_BATCH.min(limit - found.len());
        let (more, next) = one_answer(link, stream, pattern, from, batch, &mut found).await?;
        if !more {
            break;
        }
        from = next;
    }
    Ok(found)
}

/// Adds one answer's messages to `found`. Whether there are more, and from where on.
pub(super) async fn one_answer(
    link: &Link,
    stream: &str,
    pattern: &str,
    from: u64,
    batch: usize,
    found: &mut Vec<(Seq, Message)>,
) -> Result<(bool, u64), Error> {
    let inbox = link.client.new_inbox();
    let mut answers = link
        .client
        .subscribe(inbox.clone())
        .await
        .map_err(unavailable)?;
    let request = serde_json::json!({
        "batch": batch, "max_bytes": READ_BYTES, "seq": from, "next_by_subj": pattern,
    });
    let to = format!("$JS.API.DIRECT.GET.{stream}");
    let sent = link
        .client
        .publish_with_reply(to, inbox, Bytes::from(request.to_string()))
        .await;
    sent.map_err(unavailable)?;
    let mut next = from;
    loop {
        let answer = timeout(READ_WAIT, answers.next()).await;
        let message = match answer {
            Ok(Some(message)) => message,
            Ok(None) | Err(_) => return Err(Error::Unavailable("a read had no answer".into())),
        };
        match message.status {
            None | Some(StatusCode::OK) => {
                let seq = header_number(message.headers.as_ref(), "Nats-Sequence")
                    .ok_or_else(|| Error::Unavailable("an answer without a position".into()))?;
                next = seq + 1;
                found.push((Seq(seq), message));
            }
            Some(StatusCode::NOT_FOUND) => return Ok((false, next)),
            Some(status) if status.as_u16() == 204 => {
                let pending = header_number(message.headers.as_ref(), "Nats-Num-Pending");
                return Ok((pending.is_some_and(|count| count > 0), next));
            }
            Some(StatusCode::NO_RESPONDERS) => {
                return Err(Error::Unavailable("nobody serves the stream".into()));
            }
            Some(status) => {
                let text = message.description.unwrap_or_default();
                return Err(Error::Refused(format!("{status} {text}")));
            }
        }
    }
}

pub(super) fn header_number(headers: Option<&HeaderMap>, name: &str) -> Option<u64> {
    headers?.get(name)?.as_str().parse().ok()
}

pub(super) fn recorded(seq: Seq, body: &[u8]) -> Result<Recorded, Error> {
    let commit: Commit =
        serde_json::from_slice(body).map_err(|error| corrupt("events", seq, &error))?;
    Ok(Recorded { seq, commit })
}

pub(super) fn corrupt(stream: &'static str, seq: Seq, error: &serde_json::Error) -> Error {
    Error::Corrupt {
        stream,
        seq,
        reason: decode::without_values(error),
    }
}

/// Reads a delivered commit, or one that is delivered once more.
pub(super) fn commit(pulled: &Pulled) -> Result<Recorded, Error> {
    let again = header_number(pulled.message.headers.as_ref(), ORIGIN).map(Seq);
    recorded(again.unwrap_or(pulled.place.seq), &pulled.message.payload)
}

/// Reads a delivered command.
pub(super) fn command(pulled: &Pulled) -> Result<Result<CommandEnvelope, Unreadable>, Error> {
    Ok(decode::command(&incoming(pulled, &|name| {
        header(pulled, name)
    })))
}

/// Reads a delivered run command.
pub(super) fn run_command(pulled: &Pulled) -> Result<Result<RunEnvelope, Unreadable>, Error> {
    Ok(decode::run(&incoming(pulled, &|name| header(pulled, name))))
}

/// Reads an alarm.
pub(super) fn due(pulled: &Pulled) -> Result<Due, Error> {
    serde_json::from_slice(&pulled.message.payload)
        .map_err(|error| corrupt("timers", pulled.place.seq, &error))
}

fn header<'a>(pulled: &'a Pulled, name: &str) -> Option<&'a str> {
    pulled
        .message
        .headers
        .as_ref()?
        .get(name)
        .map(async_nats::HeaderValue::as_str)
}

fn incoming<'a>(pulled: &'a Pulled, header: &'a dyn Fn(&str) -> Option<&'a str>) -> Incoming<'a> {
    Incoming {
        subject: pulled.message.subject.as_str(),
        header,
        body: &pulled.message.payload,
        seq: pulled.place.seq,
        at: pulled.place.at,
    }
}

/// Reads a message of the run stream as its follower sees it.
pub(super) fn run_envelope(pulled: &Pulled) -> Option<RunEnvelope> {
    run_command(pulled).ok()?.ok()
}
