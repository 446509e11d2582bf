//! The disguises in which a text may lie somewhere, and the search for them.

use std::collections::HashSet;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::Value;

/// Texts in all their disguises.
pub(crate) struct Disguises(Vec<(String, Vec<u8>)>);

/// A disguise, and where it was found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    disguise: String,
    place: String,
}

impl Disguises {
    pub(crate) fn of(texts: &[&str]) -> Self {
        Self(texts.iter().flat_map(|text| disguises(text)).collect())
    }

    /// All that `bytes` hold; `place` says what they are.
    pub(crate) fn search(&self, place: &str, bytes: &[u8]) -> Vec<Found> {
        // Most bytes hold none: the first four of a disguise are looked up before all of it is.
        let starts: HashSet<[u8; 4]> = self.0.iter().map(|(_, text)| start(text)).collect();
        let mut hits = HashSet::new();
        for (at, four) in bytes.windows(4).enumerate() {
            if !starts.contains(four) {
                continue;
            }
            hits.extend(
                self.0
                    .iter()
                    .filter(|(_, t)| bytes[at..].starts_with(t))
                    .map(|(d, _)| d),
            );
        }
        let found = |disguise: &String| Found {
            disguise: disguise.clone(),
            place: place.to_owned(),
        };
        hits.into_iter().map(found).collect()
    }
}

fn start(text: &[u8]) -> [u8; 4] {
    text[..4]
        .try_into()
        .expect("a disguise has at least four bytes")
}

fn disguises(text: &str) -> Vec<(String, Vec<u8>)> {
    let json = Value::from(text).to_string();
    let ascii: String = json.chars().map(ascii_json).collect();
    let mut all = vec![
        ("plain".to_owned(), text.to_owned()),
        ("JSON".to_owned(), json[1..json.len() - 1].to_owned()),
        (
            "ASCII JSON".to_owned(),
            ascii[1..ascii.len() - 1].to_owned(),
        ),
        ("JSON in JSON".to_owned(), twice(&json)),
        ("percent-encoded".to_owned(), percent(text, "%20", true)),
        (
            "percent-encoded in lower case".to_owned(),
            percent(text, "%20", false),
        ),
        ("form-encoded".to_owned(), percent(text, "+", true)),
        ("Debug".to_owned(), debug(text)),
        (
            "hexadecimal".to_owned(),
            text.bytes().map(|byte| format!("{byte:02x}")).collect(),
        ),
    ];
    for (name, engine) in [("base64", STANDARD), ("URL-safe base64", URL_SAFE)] {
        for shift in 0..3 {
            all.push((format!("{name} from {shift}"), within(&engine, text, shift)));
        }
    }
    let named =
        |(name, disguised): (String, String)| (format!("{text} as {name}"), disguised.into_bytes());
    all.into_iter().map(named).collect()
}

/// Its base64 as part of a longer text, of which `shift` bytes modulo three come before.
fn within(engine: &impl base64::Engine, text: &str, shift: usize) -> String {
    let shifted = [&vec![0; shift], text.as_bytes()].concat();
    let whole = shifted.len() / 3 * 3;
    let encoded = engine.encode(&shifted[..whole]);
    let mixed = [0, 2, 3][shift];
    encoded[mixed..].to_owned()
}

fn ascii_json(c: char) -> String {
    if c.is_ascii() {
        c.to_string()
    } else {
        format!("\\u{:04x}", u32::from(c))
    }
}

fn twice(json: &str) -> String {
    let twice = Value::from(json).to_string();
    // Without the quotes of the outer text, and the escaped ones of the inner.
    twice[3..twice.len() - 3].to_owned()
}

fn debug(text: &str) -> String {
    let debug = format!("{text:?}");
    debug[1..debug.len() - 1].to_owned()
}

fn percent(text: &str, space: &str, upper: bool) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                encoded.push(char::from(byte));
            }
            b' ' => encoded.push_str(space),
            _ if upper => write!(encoded, "%{byte:02X}").expect("a string can be written"),
            _ => write!(encoded, "%{byte:02x}").expect("a string can be written"),
        }
    }
    encoded
}

#[test]
fn a_text_is_found_in_each_of_its_disguises() {
    let text = "say \"ü\" \\&/+=%";
    let disguises = Disguises::of(&[text]);
    let json = serde_json::json!({ "a": text }).to_string();
    let form = percent(text, "+", true);
    for place in [
        text.to_owned(),
        json.clone(),
        serde_json::json!({ "a": json }).to_string(),
        format!("{text:?}"),
        format!("https://u:{}@h/", percent(text, "%20", false)),
        format!("a=b&c={form}&d"),
        STANDARD.encode(text),
        STANDARD.encode(format!("u:{text}")),
        STANDARD.encode(format!("us:{text}|")),
        URL_SAFE.encode(format!("x{text}")),
    ] {
        let found = disguises.search("here", format!("..{place}..").as_bytes());
        assert!(!found.is_empty(), "{place}");
    }
    assert!(disguises.search("here", b"say something else").is_empty());
}
