//! What the engine and a worker say to each other: one JSON value a line, both ways.
//!
//! ```text
//! worker  {"ready":1,"version":"3.11.2","queue":1}      once, when it may be given a function
//! engine  {"init":{"files":[[path,text,base64?]],"dir":..,"handler":..,"layer":..,"code":..}}
//! worker  {"ready":1,"code":..} | {"fail":"one reason"}
//! engine  {"call":7,"bindings":[[path,text,false]],"context":{..},"payload":..}
//! worker  {"ok":7,"payload":..} | {"err":7,"type":..,"message":..,"stacktrace":[..]}
//! ```
//!
//! `code` is what the first worker of a function compiled, for the next ones, in whatever form the
//! wrapper likes. `bindings`, the files of the function's services, come when they are others than
//! with the call before. With `queue`, a call is one line on the channel or one packet on descriptor 4,
//! where more than one may lie; the answers are in the same order. `"left":1` beside an answer says that processes of the function still run. JSON never holds a
//! raw newline, so a line is a frame. A frame that is anything else ends the worker.

use std::borrow::Cow;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::error::ErrorType;
use crate::packs::source::File;

/// The longest frame a worker may answer with.
pub(crate) const REPLY_BYTES_MAX: usize = 6 << 20;

/// The first line of a worker, and its answer to `init`.
#[derive(Debug, Deserialize)]
pub(crate) struct Ready {
    #[serde(default)]
    pub(crate) ready: u8,
    #[serde(default)]
    pub(crate) version: String,
    /// 1 when it takes orders from its queue as well.
    #[serde(default)]
    pub(crate) queue: u8,
    #[serde(default)]
    pub(crate) fail: Option<String>,
    #[serde(default)]
    pub(crate) code: Option<String>,
}

/// The function that a worker is to become.
#[derive(Debug, Serialize)]
pub(crate) struct Init<'a> {
    pub(crate) files: &'a [File],
    pub(crate) dir: &'a str,
    pub(crate) handler: &'a str,
    pub(crate) layer: Option<&'a str>,
    pub(crate) code: Option<&'a str>,
    /// Whether each call is to have a process of its own.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) fork: bool,
    /// Whether it is only to be compiled, and not loaded.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) compile: bool,
}

/// The frame of an `init`.
pub(crate) fn init(init: &Init<'_>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Order<'a> {
        init: &'a Init<'a>,
    }
    line(&Order { init })
}

/// The frame of a call.
pub(crate) fn call(
    id: u64,
    context: &Value,
    payload: &Value,
    bindings: Option<&[File]>,
) -> Vec<u8> {
    #[derive(Serialize)]
    struct Order<'a> {
        call: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        bindings: Option<&'a [File]>,
        context: &'a Value,
        payload: &'a Value,
    }
    line(&Order {
        call: id,
        bindings,
        context,
        payload,
    })
}

fn line(order: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(512);
    serde_json::to_writer(&mut bytes, order).expect("strings and JSON values always serialise");
    bytes.push(b'\n');
    bytes
}

/// A worker's answer to a call.
#[derive(Debug, Deserialize)]
pub(crate) struct Reply<'a> {
    #[serde(default)]
    ok: Option<u64>,
    #[serde(default)]
    err: Option<u64>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(crate) payload: Option<&'a RawValue>,
    #[serde(rename = "type", default)]
    pub(crate) kind: Option<ErrorType>,
    #[serde(borrow, default)]
    pub(crate) message: Lossy<'a>,
    #[serde(borrow, default)]
    pub(crate) stacktrace: Vec<Lossy<'a>>,
    #[serde(default)]
    pub(crate) left: u8,
}

/// Text that a person is to read: what of it is no Unicode, such as half a surrogate pair, is
/// replaced and does not make the rest unreadable.
#[derive(Debug, Default)]
pub(crate) struct Lossy<'a>(Cow<'a, str>);

impl AsRef<str> for Lossy<'_> {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Lossy<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        // As bytes, which JSON's reader does not ask to be Unicode.
        from.deserialize_bytes(LossyVisitor).map(Lossy)
    }
}

struct LossyVisitor;

impl<'de> Visitor<'de> for LossyVisitor {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a text")
    }

    fn visit_borrowed_bytes<E: Error>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
        Ok(String::from_utf8_lossy(bytes))
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        Ok(String::from_utf8_lossy(bytes).into_owned().into())
    }
}

/// A payload of null is a payload.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(from: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&'a RawValue>::deserialize(from).map(Some)
}

impl<'a> Reply<'a> {
    /// Whether it is an answer, and to a call of another id.
    pub(crate) fn is_of_another(frame: &'a [u8], id: u64) -> bool {
        serde_json::from_slice::<Self>(frame)
            .ok()
            .and_then(|reply| reply.ok.or(reply.err))
            .is_some_and(|answered| answered != id)
    }

    /// Reads the answer to the call of that id; whatever else it is, is said in the error.
    pub(crate) fn parse(frame: &'a [u8], id: u64) -> Result<Self, &'static str> {
        let reply: Self = serde_json::from_slice(frame).map_err(|_| "it is not a reply")?;
        match (reply.ok, reply.err) {
            (Some(answered), None) if answered == id && reply.payload.is_some() => Ok(reply),
            (None, Some(answered)) if answered == id && reply.kind.is_some() => Ok(reply),
            (Some(answered), None) | (None, Some(answered)) if answered != id => {
                Err("it answers another call")
            }
            _ => Err("it is not a reply"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_answer_to_this_very_call_is_taken() {
        assert!(Reply::parse(br#"{"ok":7,"payload":null}"#, 7).is_ok());
        assert!(Reply::parse(br#"{"err":7,"type":"InputError","message":"m"}"#, 7).is_ok());
        for frame in [
            &br#"{"ok":6,"payload":1}"#[..],
            br#"{"ok":7}"#,
            br#"{"err":7,"message":"m"}"#,
            br#"{"ok":7,"err":7,"payload":1}"#,
            br#"{"ready":1}"#,
            br#"7"#,
            b"hello",
            b"\xff\xfe",
            b"",
        ] {
            assert!(
                Reply::parse(frame, 7).is_err(),
                "{}",
                String::from_utf8_lossy(frame)
            );
        }
    }

    #[test]
    fn a_frame_is_one_line_whatever_the_payload_holds() {
        let frame = call(1, &json!({}), &json!("a\nb\u{2028}"), None);
        assert_eq!(frame.iter().filter(|&&b| b == b'\n').count(), 1);
        assert_eq!(frame.last(), Some(&b'\n'));
    }
}
