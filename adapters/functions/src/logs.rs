//! What one run printed: bounded bytes while it runs, lines afterwards.

use serde::{Deserialize, Serialize};

/// Kept of each stream of a run: half from its beginning, half from its end. Both streams and the
/// output have to fit into one message of 1 MiB.
const KEPT_BYTES: usize = 1 << 18;
const HALF: usize = KEPT_BYTES / 2;

/// The lines that a run printed, in the shape that Dispatch's API shows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logs {
    /// Standard output.
    pub stdout: Vec<String>,
    /// Standard error.
    pub stderr: Vec<String>,
}

/// One stream while the run goes on. However much is printed, it holds a little over 256 KiB.
#[derive(Debug, Default)]
pub(crate) struct Capture {
    head: Vec<u8>,
    tail: Vec<u8>,
    dropped: usize,
}

impl Capture {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let fits = bytes.len().min(HALF - self.head.len());
        let (head, rest) = bytes.split_at(fits);
        self.head.extend_from_slice(head);
        self.tail.extend_from_slice(rest);
        // Cut only now and then, so that each byte is moved once on average.
        if self.tail.len() > 2 * HALF {
            self.cut();
        }
    }

    fn cut(&mut self) {
        let excess = self.tail.len().saturating_sub(HALF);
        self.tail.drain(..excess);
        self.dropped += excess;
    }

    /// The lines; where bytes were dropped, a line that says how many stands in their place.
    pub(crate) fn into_lines(mut self) -> Vec<String> {
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
        assert!(capture.head.len() + capture.tail.len() <= 3 * HALF);
        let lines = capture.into_lines();
        assert_eq!(lines.first().map(String::as_str), Some("first"));
        assert_eq!(lines.last().map(String::as_str), Some("last"));
        let kept: usize = lines.iter().map(String::len).sum();
        assert!(kept <= KEPT_BYTES + 100, "{kept}");
        let dropped = 10_000_012 - KEPT_BYTES;
        assert!(lines.contains(&format!("[truncated: {dropped} bytes are left out here]")));
    }

    #[test]
    fn bytes_that_are_no_text_are_still_a_line() {
        assert_eq!(captured(&[b"a\xff\xfeb\n"]), ["a\u{fffd}\u{fffd}b"]);
    }
}
