//! Texts from a broker, made fit to be shown and stored: bounded, printable, without credentials.

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::wire::Hidden;

/// The longest text that is kept of what a broker said.
pub const TEXT_CHARS_MAX: usize = 512;

/// A shorter secret would blank out half of every text, and protects nothing.
const SECRET_CHARS_MIN: usize = 4;

const COVER: &str = "(hidden)";

/// Values that no text may show.
#[derive(Clone, Default)]
pub struct Hide(Arc<[Hidden<String>]>);

impl Hide {
    /// Hides these values, longest first, so that one that holds another is hidden whole.
    #[must_use]
    pub fn new(values: impl IntoIterator<Item = Hidden<String>>) -> Self {
        let long_enough = |v: &Hidden<String>| v.reveal().chars().count() >= SECRET_CHARS_MIN;
        let mut values: Vec<_> = values.into_iter().filter(long_enough).collect();
        values.sort_by_key(|v| std::cmp::Reverse(v.reveal().len()));
        Self(values.into())
    }

    /// These values, and those of a call.
    pub(crate) fn and(&self, more: &[Hidden<String>]) -> Self {
        if more.is_empty() {
            return self.clone();
        }
        Self::new(self.0.iter().chain(more).cloned())
    }

    /// `text`, bounded, on one line, and without the hidden values.
    #[must_use]
    pub fn shown(&self, text: &str) -> String {
        let covered = self.0.iter().fold(text.to_owned(), |text, secret| {
            let escaped = Value::from(secret.reveal().as_str()).to_string();
            // Inside its quotes: that is how JSON that is shown as it came has it.
            text.replace(&escaped[1..escaped.len() - 1], COVER)
                .replace(secret.reveal(), COVER)
        });
        bounded(&covered)
    }

    /// What there is to show of an answer's body.
    pub(crate) fn body(&self, body: &[u8]) -> String {
        let text = String::from_utf8_lossy(body);
        let text = text.trim();
        if text.is_empty() {
            return "an empty body".to_owned();
        }
        if text.starts_with('<') {
            return self.page(text);
        }
        match serde_json::from_str::<Map<String, Value>>(text) {
            Ok(object) => match object.get("description").and_then(Value::as_str) {
                Some(description) if !description.trim().is_empty() => self.shown(description),
                _ => self.shown(text),
            },
            Err(_) => self.shown(text),
        }
    }

    /// Of a page of HTML or XML, its title at most.
    fn page(&self, text: &str) -> String {
        let lower = text.to_ascii_lowercase();
        let title = lower
            .find("<title>")
            .map(|at| at + "<title>".len())
            .and_then(|from| {
                let to = lower[from..].find('<')? + from;
                Some(self.shown(&text[from..to]))
            });
        match title {
            Some(title) if !title.is_empty() => format!("a page titled {title:?}"),
            _ => "a page of markup".to_owned(),
        }
    }
}

impl fmt::Debug for Hide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hide({})", self.0.len())
    }
}

/// Strips what could disturb a terminal or a log, folds white space, and cuts.
fn bounded(text: &str) -> String {
    let mut shown = String::new();
    let mut chars = 0;
    let mut gap = false;
    for c in text.chars() {
        if c.is_control() || c.is_whitespace() || reorders(c) {
            gap = chars > 0;
            continue;
        }
        if chars + usize::from(gap) + 1 >= TEXT_CHARS_MAX {
            shown.push('…');
            break;
        }
        if std::mem::take(&mut gap) {
            shown.push(' ');
            chars += 1;
        }
        shown.push(c);
        chars += 1;
    }
    shown
}

/// Invisible characters that change how the rest of a line is shown.
fn reorders(c: char) -> bool {
    matches!(c, '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hide(values: &[&str]) -> Hide {
        Hide::new(values.iter().map(|v| Hidden::new((*v).to_owned())))
    }

    #[test]
    fn a_text_is_bounded_and_printable() {
        let shown = hide(&[]).shown(&"x".repeat(2000));
        assert_eq!(shown.chars().count(), TEXT_CHARS_MAX);
        assert!(shown.ends_with('…'));
        assert_eq!(
            hide(&[]).shown(" a\u{1b}[31mb\r\n\tc\u{202e}d\0 "),
            "a [31mb c d"
        );
        assert_eq!(hide(&[]).shown("naïve 数据"), "naïve 数据");
    }

    #[test]
    fn a_description_is_preferred_and_markup_is_a_hint() {
        let hide = hide(&[]);
        assert_eq!(
            hide.body(br#"{"error":"X","description":"no room"}"#),
            "no room"
        );
        assert_eq!(hide.body(br#"{"message":"no"}"#), r#"{"message":"no"}"#);
        assert_eq!(
            hide.body(b"<html><head><TITLE>502 Bad\nGateway</TITLE><script>x</script>"),
            r#"a page titled "502 Bad Gateway""#
        );
        assert_eq!(hide.body(b"<!doctype html><title>"), "a page of markup");
        assert_eq!(hide.body(b" \n"), "an empty body");
        assert_eq!(hide.body(b"\xff\xfe oops"), "\u{fffd}\u{fffd} oops");
    }

    #[test]
    fn secrets_are_covered_even_across_the_cut_and_inside_json() {
        let hide = hide(&["canary", "canary-longer", "qu\"ote", "abc"]);
        assert_eq!(
            hide.shown("bad canary-longer, canary, abc"),
            "bad (hidden), (hidden), abc"
        );
        assert_eq!(
            hide.body(br#"{"message":"got qu\"ote"}"#),
            r#"{"message":"got (hidden)"}"#
        );
        let cut = format!("{}canary-longer", "x".repeat(TEXT_CHARS_MAX - 6));
        assert!(!hide.shown(&cut).contains("can"));
        assert!(!format!("{hide:?}").contains("canary"));
    }

    #[test]
    fn titles_with_characters_that_change_length_in_lower_case_do_no_harm() {
        assert_eq!(
            hide(&[]).body("<İ><title>İx</title>".as_bytes()),
            r#"a page titled "İx""#
        );
    }
}
