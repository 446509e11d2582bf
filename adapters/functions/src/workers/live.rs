//! What a run prints, told line by line while it runs.
//!
//! Whoever listens gets what there is room for: the run never waits. Lines that were left out are
//! counted, and the next one that is told says how many they were.

use std::sync::Arc;
use std::time::{Duration, Instant};

use adapter_kit::LineSink;
use engine_model::{LogLine, LogStream};

/// A longer line is cut; its rest counts as told.
const LINE_BYTES_MAX: usize = 4096;
/// Lines told in one second; a person cannot read as many, and a handler that prints without end
/// must not fill the network.
const LINES_PER_SECOND_MAX: u32 = 2000;

/// One stream of one run.
pub(crate) struct Live {
    sink: Arc<dyn LineSink>,
    stream: LogStream,
    partial: Vec<u8>,
    lost: u64,
    window: Option<Instant>,
    told: u32,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live")
            .field("stream", &self.stream)
            .field("lost", &self.lost)
            .finish_non_exhaustive()
    }
}

impl Live {
    pub(crate) fn new(sink: Arc<dyn LineSink>, stream: LogStream) -> Self {
        Self {
            sink,
            stream,
            partial: Vec::new(),
            lost: 0,
            window: None,
            told: 0,
        }
    }

    /// Takes in what was printed, and tells the lines that are whole.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            self.keep(&rest[..end]);
            self.tell();
            rest = &rest[end + 1..];
        }
        self.keep(rest);
    }

    /// Tells the last line if it had no end, and how many were left out if nobody heard of it yet.
    pub(crate) fn finish(mut self) {
        if !self.partial.is_empty() {
            self.tell();
        }
        if self.lost > 0 {
            let lost = std::mem::take(&mut self.lost);
            let text = String::new();
            let stream = self.stream;
            self.sink.line(LogLine { stream, text, lost });
        }
    }

    /// One byte more than a line may have tells that it was longer.
    fn keep(&mut self, bytes: &[u8]) {
        let room = (LINE_BYTES_MAX + 1).saturating_sub(self.partial.len());
        self.partial
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn tell(&mut self) {
        let mut line = std::mem::take(&mut self.partial);
        if !self.has_room() {
            self.lost += 1;
            return;
        }
        let cut = line.len() > LINE_BYTES_MAX;
        line.truncate(LINE_BYTES_MAX);
        let mut text = String::from_utf8_lossy(&line).into_owned();
        if text.ends_with('\r') {
            text.pop();
        }
        if cut {
            text.push_str(" [truncated: the line is longer]");
        }
        let told = self.sink.line(LogLine {
            stream: self.stream,
            text,
            lost: self.lost,
        });
        self.lost = if told { 0 } else { self.lost + 1 };
    }

    fn has_room(&mut self) -> bool {
        let now = Instant::now();
        let open = self
            .window
            .is_some_and(|since| now.duration_since(since) < Duration::from_secs(1));
        if !open {
            self.window = Some(now);
            self.told = 0;
        }
        self.told += 1;
        self.told <= LINES_PER_SECOND_MAX
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Heard(Mutex<Vec<LogLine>>, Mutex<bool>);

    impl LineSink for Heard {
        fn line(&self, line: LogLine) -> bool {
            if *self.1.lock().unwrap() {
                return false;
            }
            self.0.lock().unwrap().push(line);
            true
        }
    }

    fn live(heard: &Arc<Heard>) -> Live {
        Live::new(Arc::clone(heard) as _, LogStream::Stdout)
    }

    fn texts(heard: &Heard) -> Vec<(String, u64)> {
        let lines = heard.0.lock().unwrap();
        lines.iter().map(|l| (l.text.clone(), l.lost)).collect()
    }

    #[test]
    fn lines_are_told_whole_wherever_they_were_cut_on_the_way() {
        let heard = Arc::default();
        let mut live = live(&heard);
        for part in ["on", "e\ntwo\r\n\nth", "ree"] {
            live.push(part.as_bytes());
        }
        live.finish();
        let expected = ["one", "two", "", "three"].map(|text| (text.to_owned(), 0));
        assert_eq!(texts(&heard), expected);
    }

    #[test]
    fn lines_that_nobody_had_room_for_are_counted_by_the_next() {
        let heard = Arc::default();
        let mut live = live(&heard);
        live.push(b"one\n");
        *heard.1.lock().unwrap() = true;
        live.push(b"two\nthree\n");
        *heard.1.lock().unwrap() = false;
        live.push(b"four\n");
        live.finish();
        assert_eq!(texts(&heard), [("one".into(), 0), ("four".into(), 2)]);
    }

    #[test]
    fn more_than_a_person_can_read_is_left_out_and_counted() {
        let heard = Arc::default();
        let mut live = live(&heard);
        let begun = Instant::now();
        live.push("x\n".repeat(5000).as_bytes());
        live.finish();
        let told = texts(&heard);
        if begun.elapsed() < Duration::from_secs(1) {
            assert_eq!(told.len(), LINES_PER_SECOND_MAX as usize + 1);
        }
        let lost: u64 = told.iter().map(|(_, lost)| lost).sum();
        let lines = told.iter().filter(|(text, _)| !text.is_empty()).count();
        assert_eq!(lost + lines as u64, 5000);
    }

    #[test]
    fn a_long_line_is_cut_and_marked() {
        let heard = Arc::default();
        let mut live = live(&heard);
        live.push(&[b'x'; 10_000]);
        live.push(b"\nnext\n");
        live.finish();
        let told = texts(&heard);
        assert!(told[0].0.ends_with("x [truncated: the line is longer]"));
        assert!(told[0].0.len() < LINE_BYTES_MAX + 50);
        assert_eq!(told[1].0, "next");
    }
}
