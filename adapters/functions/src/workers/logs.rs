//! What one run printed: bounded bytes while it runs, lines afterwards.

use serde::{Deserialize, Serialize};

use crate::workers::live::Live;

/// Kept of each stream of a run that sets no bound: half from its beginning, half from its end.
/// Both streams and the output have to fit into one message of 1 MiB.
pub(crate) const KEPT_BYTES: usize = 1 << 18;
/// The most that a function may set, for the same reason.
pub(crate) const KEPT_BYTES_MAX: usize = 400 << 10;

/// The lines that a run printed, in the shape that Dispatch's API shows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logs {
    /// Standard output.
    pub stdout: Vec<String>,
    /// Standard error.
    pub stderr: Vec<String>,
}

/// One stream while the run goes on. However much is printed, it holds little more than its bound.
#[derive(Debug)]
pub(crate) struct Capture {
    head: Vec<u8>,
    tail: Vec<u8>,
    dropped: usize,
    half: usize,
    live: Option<Live>,
}

impl Default for Capture {
    fn default() -> Self {
        Self::new(KEPT_BYTES, None)
    }
}

impl Capture {
    /// Keeps up to `kept_bytes`, and tells `live` of each line at once.
    pub(crate) fn new(kept_bytes: usize, live: Option<Live>) -> Self {
        Self {
            head: Vec::new(),
            tail: Vec::new(),
            dropped: 0,
            half: kept_bytes.min(KEPT_BYTES_MAX) / 2,
            live,
        }
    }

    /// Whether nothing was printed.
    pub(crate) fn is_empty(&self) -> bool {
        self.head.is_empty()
    }

    /// Whether more was printed than is kept.
    pub(crate) fn overflows(&self) -> bool {
        self.dropped > 0
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if let Some(live) = &mut self.live {
            live.push(bytes);
        }
        let fits = bytes.len().min(self.half - self.head.len());
        let (head, rest) = bytes.split_at(fits);
        self.head.extend_from_slice(head);
        self.tail.extend_from_slice(rest);
        // Cut only now and then, so that each byte is moved once on average.
        if self.tail.len() > 2 * self.half {
            self.cut();
        }
    }

    fn cut(&mut self) {
        let excess = self.tail.len().saturating_sub(self.half);
        self.tail.drain(..excess);
        self.dropped += excess;
    }

    /// The lines; where bytes were dropped, a line that says how many stands in their place.
    pub(crate) fn into_lines(mut self) -> Vec<String> {
        if let Some(live) = self.live.take() {
            live.finish();
        }
        self.cut();
        if self.dropped == 0 {
            self.head.append(&mut self.tail);
            return lines(&self.head);
        }
        let mut all = lines(&self.head);
        all.push(format!(
            "[truncated: {} bytes are left out here]",
            self.dropped
        ));
        all.extend(lines(&self.tail));
        all
    }

    /// The last line that is not blank, for a message.
    pub(crate) fn last_line(&self) -> Option<String> {
        let newest = if self.tail.is_empty() {
            &self.head
        } else {
            &self.tail
        };
        lines(newest)
            .into_iter()
            .rev()
            .find(|line| !line.trim().is_empty())
    }
}

fn lines(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    text.lines().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captured(parts: &[&[u8]]) -> Vec<String> {
        let mut capture = Capture::default();
        for part in parts {
            capture.push(part);
        }
        capture.into_lines()
    }

    #[test]
    fn output_is_split_by_line_wherever_it_was_cut_on_the_way() {
        assert_eq!(
            captured(&[b"one\ntw", b"o\n", b"\nlast"]),
            ["one", "two", "", "last"]
        );
        assert!(captured(&[]).is_empty());
    }

    #[test]
    fn too_much_output_keeps_its_beginning_and_its_end_and_says_so() {
        let mut capture = Capture::default();
        capture.push(b"first\n");
        for _ in 0..100 {
            capture.push(&[b'x'; 100_000]);
        }
        capture.push(b"\nlast\n");
        assert!(capture.head.len() + capture.tail.len() <= 3 * KEPT_BYTES / 2);
        let lines = capture.into_lines();
        assert_eq!(lines.first().map(String::as_str), Some("first"));
        assert_eq!(lines.last().map(String::as_str), Some("last"));
        let kept: usize = lines.iter().map(String::len).sum();
        assert!(kept <= KEPT_BYTES + 100, "{kept}");
        let dropped = 10_000_012 - KEPT_BYTES;
        assert!(lines.contains(&format!("[truncated: {dropped} bytes are left out here]")));
    }

    #[test]
    fn a_bound_of_ones_own_is_kept_to() {
        let mut capture = Capture::new(1024, None);
        for n in 0..1000 {
            capture.push(format!("line {n}\n").as_bytes());
        }
        let lines = capture.into_lines();
        let kept: usize = lines.iter().map(String::len).sum();
        assert!(kept <= 1024 + 50, "{kept}");
        assert!(lines.iter().any(|line| line.starts_with("[truncated: ")));
    }

    #[test]
    fn bytes_that_are_no_text_are_still_a_line() {
        assert_eq!(captured(&[b"a\xff\xfeb\n"]), ["a\u{fffd}\u{fffd}b"]);
    }
}
