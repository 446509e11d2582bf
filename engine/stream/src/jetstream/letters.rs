//! Dead letters: what could not be processed is kept with the message itself, so that it can be
//! put back even when its stream has it no more.

use async_nats::HeaderMap;
use async_nats::jetstream::message::StreamMessage;
use bytes::Bytes;
use engine_model::{Seq, header, subject};

use super::read;
use crate::link::{Fault, Link, unavailable};
use crate::message::{COMMAND_ID, LETTER, ORIGIN, map, one_line, plain_headers};
use crate::port::{DeadLetter, Error};
use crate::streams;

/// Longest reason that is kept: it travels in a header.
const REASON_CHARS_MAX: usize = 2000;

/// The stream that a letter's word names.
pub(crate) fn stream_of(word: &str) -> Option<&'static str> {
    match word {
        "commands" => Some(streams::COMMANDS),
        "events" => Some(streams::EVENTS),
        "runs" => Some(streams::RUNS),
        "timers" => Some(streams::TIMERS),
        _ => None,
    }
}

/// Keeps a letter, and a copy of the message where its own stream may drop that. Burying it again
/// replaces it.
pub(super) async fn bury(link: &Link, letter: &DeadLetter) -> Result<(), Error> {
    let original = match stream_of(&letter.stream) {
        Some(streams::EVENTS) | None => None,
        Some(stream) => read::message_at(link, stream, letter.origin).await?,
    };
    let kept = DeadLetter {
        seq: Seq(0),
        reason: letter.reason.chars().take(REASON_CHARS_MAX).collect(),
        ..letter.clone()
    };
    let id = format!("{}/{}", letter.stream, letter.origin);
    let mut headers = map(plain_headers(id, "dispatch.dead", letter.at));
    if let Some(original) = &original {
        copy_headers(original, &mut headers);
    }
    let text = serde_json::to_string(&kept).map_err(|error| Error::Refused(error.to_string()))?;
    headers.insert(LETTER, one_line(&text));
    let subject = subject::dead(letter.org.as_ref(), &letter.stream, letter.origin.0);
    let body = original.map_or_else(Bytes::new, |original| original.payload);
    match link
        .publish_patiently(&subject, headers.clone(), body)
        .await
    {
        // With the letter's own lines it is too long: the letter alone then, without the means to
        // revive it if its stream has dropped it.
        Err(Fault::TooLarge) => {
            link.publish_patiently(&subject, headers, Bytes::new())
                .await?
        }
        other => other?,
    };
    Ok(())
}

/// The original's headers, but for what the server acts on.
fn copy_headers(original: &StreamMessage, headers: &mut HeaderMap) {
    for (name, values) in original.headers.iter() {
        let name: &str = name.as_ref();
        if let Some(value) = values.first()
            && !name.starts_with("Nats-")
        {
            headers.insert(name, value.as_str());
        }
    }
    if original.headers.get(COMMAND_ID).is_none()
        && let Some(id) = original.headers.get(header::MSG_ID)
    {
        headers.insert(COMMAND_ID, id.as_str());
    }
}

/// The letters, oldest first.
pub(super) async fn list(link: &Link, limit: usize) -> Result<Vec<DeadLetter>, Error> {
    let found = read::by_subject(link, streams::DEADLETTERS, subject::DEAD, limit).await?;
    found
        .iter()
        .map(|(seq, message)| letter(*seq, message.headers.as_ref()))
        .collect()
}

fn letter(seq: Seq, headers: Option<&HeaderMap>) -> Result<DeadLetter, Error> {
    let corrupt = |reason: String| Error::Corrupt {
        stream: "deadletters",
        seq,
        reason,
    };
    let text = headers
        .and_then(|headers| headers.get(LETTER))
        .ok_or_else(|| corrupt("it has no letter".into()))?;
    let letter: DeadLetter =
        serde_json::from_str(text.as_str()).map_err(|error| corrupt(error.to_string()))?;
    Ok(DeadLetter { seq, ..letter })
}

/// Puts the message back, then removes the letter. After a crash between the two, reviving it
/// again puts nothing back twice.
pub(super) async fn revive(link: &Link, seq: Seq) -> Result<(), Error> {
    let kept = read::message_at(link, streams::DEADLETTERS, seq).await?;
    let Some(kept) = kept else {
        return Err(Error::Refused(format!("there is no dead letter {seq}")));
    };
    let letter = letter(seq, Some(&kept.headers))?;
    let mut headers = HeaderMap::new();
    copy_headers(&kept, &mut headers);
    headers.insert(
        header::MSG_ID,
        format!("revived-{}-{}-{seq}", letter.stream, letter.origin),
    );
    let (subject, body) = if letter.stream == "events" {
        headers.insert(ORIGIN, letter.origin.to_string());
        let commit = read::message_at(link, streams::EVENTS, letter.origin).await?;
        let body = commit.map(|commit| commit.payload).unwrap_or_default();
        (format!("{}.{}", streams::REDO_PREFIX, letter.origin), body)
    } else {
        (letter.subject.clone(), kept.payload)
    };
    if body.is_empty() {
        return Err(Error::Refused(format!(
            "the message of dead letter {seq} was too large to keep and is gone from its stream"
        )));
    }
    link.publish_patiently(&subject, headers, body).await?;
    remove(link, seq).await
}

async fn remove(link: &Link, seq: Seq) -> Result<(), Error> {
    let stream = link
        .jetstream
        .get_stream_no_info(streams::DEADLETTERS)
        .await
        .map_err(unavailable)?;
    match stream.delete_message(seq.0).await {
        Ok(_) => Ok(()),
        Err(error) => match read::message_at(link, streams::DEADLETTERS, seq).await? {
            None => Ok(()),
            Some(_) => Err(unavailable(error)),
        },
    }
}
