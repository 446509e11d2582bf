//! Runs: each is a little log of its own, and the first end wins.

use async_nats::header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE;
use engine_model::{RunEnvelope, RunEvent, RunId, RunWake, Seq, subject};
use futures::StreamExt as _;
use futures::stream::BoxStream;

use super::pull::Pulled;
use super::read;
use crate::decode::{self, Incoming};
use crate::link::{Fault, Link, PATIENCE, Pauses, unavailable};
use crate::message::{json, map, request_headers, run_headers, wall_clock};
use crate::port::{AppendError, Error, RunAppend, RunRecorded};
use crate::streams;

/// Appends a run event. It bears no message id, because the server would remember thousands of
/// them a second: a repeat recognises itself by its content.
pub(super) async fn append(link: &Link, append: RunAppend) -> Result<Seq, AppendError> {
    let subject = subject::run(&append.org, &append.function, append.run);
    let mut headers = map(run_headers(append.run, &append.event));
    headers.insert(
        NATS_EXPECTED_LAST_SUBJECT_SEQUENCE,
        append.expected.to_string(),
    );
    let body = json(&append.event);
    let mut pauses = Pauses::new(PATIENCE);
    loop {
        match link.publish(&subject, headers.clone(), body.clone()).await {
            Ok(ack) => return Ok(Seq(ack.sequence)),
            Err(Fault::Expected { .. }) => return settle(link, &subject, &append).await,
            Err(Fault::TooLarge) => return Err(AppendError::TooLarge { bytes: body.len() }),
            Err(Fault::Unavailable(reason)) => {
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

/// Asks for a run once more. What is asked for again under the same moment is one request.
pub(super) async fn ask(link: &Link, wake: &RunWake) -> Result<Seq, Error> {
    let id = wake.id.to_string();
    let last = last(link, &subject::run(&wake.org, &wake.function, wake.id)).await?;
    let stands = last.map_or(Seq(0), |(seq, _)| seq);
    let headers = request_headers(
        format!("{id}/after/{stands}"),
        &id,
        "dispatch.run.Requested".into(),
        &wake.actor.0,
        wake.reply_to.clone(),
    );
    let subject = subject::run_command(&wake.org, &wake.function, wake.id);
    let ack = link
        .publish_patiently(&subject, map(headers), json(&wake.command))
        .await?;
    Ok(Seq(ack.sequence))
}

/// The runs that are to end.
pub(super) async fn cancel_signals(link: &Link) -> Result<BoxStream<'static, RunId>, Error> {
    let messages = link.client.subscribe(subject::CANCELS).await;
    let messages = messages.map_err(unavailable)?;
    // From when this returns on, nothing is missed.
    link.round_trip().await?;
    let run = |message: async_nats::Message| async move {
        std::str::from_utf8(&message.payload).ok()?.parse().ok()
    };
    Ok(messages.filter_map(run).boxed())
}

async fn settle(link: &Link, subject: &str, append: &RunAppend) -> Result<Seq, AppendError> {
    match last(link, subject).await? {
        Some((seq, event)) if seq > append.expected && event == append.event => Ok(seq),
        _ => Err(AppendError::Clash),
    }
}

/// The last event of a run's subject.
pub(super) async fn last(link: &Link, subject: &str) -> Result<Option<(Seq, RunEvent)>, Error> {
    let Some(message) = read::last_message(link, streams::RUNS, subject).await? else {
        return Ok(None);
    };
    let seq = Seq(message.sequence);
    let event = serde_json::from_slice(&message.payload)
        .map_err(|error| read::corrupt("runs", seq, &error))?;
    Ok(Some((seq, event)))
}

/// The last message of a run command's subject, if it can be read.
pub(super) async fn last_request(
    link: &Link,
    subject: &str,
) -> Result<Option<(Seq, RunEnvelope)>, Error> {
    let Some(message) = read::last_message(link, streams::RUNS, subject).await? else {
        return Ok(None);
    };
    let header = |name: &str| {
        let value = message.headers.get(name)?;
        Some(async_nats::HeaderValue::as_str(value))
    };
    let seq = Seq(message.sequence);
    let read = decode::run(&Incoming {
        subject,
        header: &header,
        body: &message.payload,
        seq,
        at: wall_clock(),
    });
    Ok(read.ok().map(|envelope| (seq, envelope)))
}

/// Reads a message of the run stream. What nobody can read is passed over: strangers may write
/// run commands.
pub(super) fn recorded(pulled: &Pulled) -> Result<RunRecorded, Error> {
    let seq = pulled.place.seq;
    let subject = pulled.message.subject.as_str();
    let known = if subject.starts_with("dispatch.run.") {
        happened(seq, subject, &pulled.message.payload)
    } else {
        read::run_envelope(pulled).map(|envelope| RunRecorded::Requested { seq, envelope })
    };
    Ok(known.unwrap_or(RunRecorded::Unreadable { seq }))
}

fn happened(seq: Seq, subject: &str, body: &[u8]) -> Option<RunRecorded> {
    let (org, function, run) = subject::parse_run(subject)?;
    let event = serde_json::from_slice(body).ok()?;
    Some(RunRecorded::Happened {
        seq,
        org,
        function,
        run,
        event,
    })
}
