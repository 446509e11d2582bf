//! How things are written as messages: CloudEvents 1.0 headers in NATS binary mode, and a body
//! of JSON. Reading what strangers wrote is in [`crate::decode`].

use async_nats::HeaderMap;
use bytes::Bytes;
use engine_model::{Commit, RunEvent, RunId, RunWake, Seq, Timestamp, header};

/// CloudEvents `source` of what the engine writes.
const SOURCE_ENGINE: &str = "/dispatch/engine";
/// CloudEvents `source` of what a client writes.
const SOURCE_CLIENT: &str = "/dispatch/client";

/// Names a command that is sent once more, where the message id must be another one so that the
/// server does not take it for a repeat.
pub(crate) const COMMAND_ID: &str = "Dispatch-Command";
/// The position of the commit that a message repeats.
pub(crate) const ORIGIN: &str = "Dispatch-Origin";
/// A dead letter, as JSON, in front of the message that it is about.
pub(crate) const LETTER: &str = "Dispatch-Dead-Letter";
/// Until when a run waits, in milliseconds since 1970.
pub(crate) const UNTIL: &str = "Dispatch-Until";
/// What the CloudEvents type of a run's end is.
pub(crate) const RUN_FINISHED: &str = "dispatch.run.Finished";
/// `<i>/<n>`: this is part i of n of an answer that did not fit one message.
pub(crate) const PART: &str = "Dispatch-Part";

/// Longest correlation that is kept, in bytes.
const CORRELATION_BYTES_MAX: usize = 128;

/// Headers, in the order in which they are written.
pub(crate) type Headers = Vec<(&'static str, String)>;

/// The headers of a commit, but for what the append itself adds.
pub(crate) fn commit_headers(commit: &Commit) -> Headers {
    let kind = commit.key.kind.token();
    let names: Vec<String> = commit
        .events
        .iter()
        .map(engine_model::Event::name)
        .collect();
    let id = commit.id.to_string();
    let mut headers = vec![
        (header::MSG_ID, id.clone()),
        (header::CE_SPECVERSION, "1.0".to_owned()),
        (header::CE_ID, id),
        (
            header::CE_TYPE,
            format!("dispatch.{kind}.{}", names.join("+")),
        ),
        (header::CE_SOURCE, SOURCE_ENGINE.to_owned()),
        (header::CE_SUBJECT, commit.key.to_string()),
        (header::CE_TIME, commit.at.rfc3339()),
        (header::ACTOR, one_line(&commit.actor.0)),
        (header::CORRELATION, one_line(&commit.correlation)),
        (header::CAUSATION, commit.cause.to_string()),
    ];
    if is_traceparent(&commit.correlation) {
        headers.push((header::TRACEPARENT, commit.correlation.clone()));
    }
    headers
}

/// The headers of a run event: only what CloudEvents demands, because there are thousands a
/// second. The subject says the rest.
pub(crate) fn run_headers(run: RunId, event: &RunEvent) -> Headers {
    let (name, part) = match event {
        RunEvent::Delayed { .. } => ("Delayed", "delayed".to_owned()),
        RunEvent::Started { attempt, .. } => ("Started", format!("started/{attempt}")),
        RunEvent::AttemptFailed { attempt, .. } => ("AttemptFailed", format!("failed/{attempt}")),
        RunEvent::CancelRequested { .. } => ("CancelRequested", "cancel".to_owned()),
        RunEvent::Finished { .. } => ("Finished", "finished".to_owned()),
    };
    let mut headers = vec![
        (header::CE_SPECVERSION, "1.0".to_owned()),
        (header::CE_ID, format!("{run}/{part}")),
        (header::CE_TYPE, format!("dispatch.run.{name}")),
        (header::CE_SOURCE, SOURCE_ENGINE.to_owned()),
    ];
    if let RunEvent::Delayed { until, .. } | RunEvent::AttemptFailed { next_at: until, .. } = event
    {
        headers.push((UNTIL, until.0.to_string()));
    }
    headers
}

/// Whether a run whose last event bears these headers has neither ended nor waits for a moment
/// after `before`. Older programs did not say until when.
pub(crate) fn is_open<'a>(header: impl Fn(&str) -> Option<&'a str>, before: Timestamp) -> bool {
    let until = header(UNTIL).and_then(|ms| ms.parse::<i64>().ok());
    header(header::CE_TYPE) != Some(RUN_FINISHED) && until.is_none_or(|ms| ms <= before.0)
}

/// The run of which a message of the waiting runs bears this id.
pub(crate) fn aside(id: &str) -> Option<RunId> {
    id.split('/').next()?.parse().ok()
}

/// The headers of a command or run command. `message` is what the server recognises a repeat by.
pub(crate) fn request_headers(
    message: String,
    id: &str,
    kind: String,
    actor: &str,
    reply_to: Option<String>,
) -> Headers {
    let mut headers = vec![
        (header::MSG_ID, message),
        (header::CE_SPECVERSION, "1.0".to_owned()),
        (header::CE_ID, id.to_owned()),
        (header::CE_TYPE, kind),
        (header::CE_SOURCE, SOURCE_CLIENT.to_owned()),
        (header::CE_TIME, wall_clock().rfc3339()),
        (header::ACTOR, one_line(actor)),
    ];
    headers.extend(reply_to.map(|inbox| (header::REPLY_TO, inbox)));
    headers
}

/// The headers of a run that is put aside, which the message at `origin` asked for.
pub(crate) fn waiting_headers(run: &RunWake, origin: Seq) -> Headers {
    let id = format!("{}/{origin}/{}", run.id, run.after);
    vec![
        (header::MSG_ID, id.clone()),
        (header::CE_SPECVERSION, "1.0".to_owned()),
        (header::CE_ID, id),
        (header::CE_TYPE, "dispatch.run.Waiting".to_owned()),
        (header::CE_SOURCE, SOURCE_ENGINE.to_owned()),
    ]
}

/// The headers of anything else that the engine writes.
pub(crate) fn plain_headers(id: String, kind: &str, at: Timestamp) -> Headers {
    vec![
        (header::CE_SPECVERSION, "1.0".to_owned()),
        (header::CE_ID, id),
        (header::CE_TYPE, kind.to_owned()),
        (header::CE_SOURCE, SOURCE_ENGINE.to_owned()),
        (header::CE_TIME, at.rfc3339()),
    ]
}

/// Headers as the client library takes them.
pub(crate) fn map(headers: Headers) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(name, value);
    }
    map
}

/// JSON of our own plain data.
pub(crate) fn json<T: serde::Serialize>(value: &T) -> Bytes {
    serde_json::to_vec(value)
        .expect("maps have string keys and writing to memory works")
        .into()
}

/// The text without what would end a header line.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// A correlation as a sender gave it, if it is one: printable and bounded.
pub(crate) fn correlation(text: &str) -> Option<String> {
    let fits =
        (1..=CORRELATION_BYTES_MAX).contains(&text.len()) && text.chars().all(|c| !c.is_control());
    fits.then(|| text.to_owned())
}

/// Whether the text is a W3C `traceparent`: `00-<32 hex>-<16 hex>-<2 hex>`.
pub(crate) fn is_traceparent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let hex = |part: &str, digits: usize| {
        part.len() == digits && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    matches!(parts[..], [version, trace, span, flags]
        if hex(version, 2) && hex(trace, 32) && hex(span, 16) && hex(flags, 2))
}

/// This moment.
pub(crate) fn wall_clock() -> Timestamp {
    Timestamp(chrono::Utc::now().timestamp_millis())
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine_model::{Actor, Cause, Event, Kind, Name, OrgName, ResourceKey, SecretEvent, Seq};

    #[test]
    fn a_commit_bears_its_facts_as_cloudevents() {
        let key = ResourceKey::new(
            OrgName::new("acme").unwrap(),
            Kind::Secret,
            Name::new("open-sesame").unwrap(),
        );
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let commit = Commit {
            id: Commit::id_for(&key, Seq(0), Cause::Alarm),
            key,
            events: vec![Event::Secret(SecretEvent::Deleted)],
            at: Timestamp(0),
            actor: Actor("user:a\nb".into()),
            cause: Cause::Alarm,
            correlation: trace.into(),
        };
        let headers = commit_headers(&commit);
        let of = |name| {
            headers
                .iter()
                .find(|(n, _)| *n == name)
                .map(|(_, v)| v.as_str())
        };
        assert_eq!(of(header::CE_TYPE), Some("dispatch.secret.Deleted"));
        assert_eq!(of(header::CE_SUBJECT), Some("acme/secret/open-sesame"));
        assert_eq!(of(header::CE_ID), of(header::MSG_ID));
        assert_eq!(of(header::CE_TIME), Some("1970-01-01T00:00:00.000Z"));
        assert_eq!(of(header::TRACEPARENT), Some(trace));
        assert_eq!(of(header::ACTOR), Some("user:ab"));
    }

    #[test]
    fn only_a_traceparent_is_one() {
        assert!(!is_traceparent("00-xyz-b7ad6b7169203331-01"));
        assert!(!is_traceparent("6d157a7c-4f0e-5c0b-9a7e-d15ba7c40001"));
    }
}
