//! What happened, line by line, when someone wants to read it.

use engine_model::Timestamp;

/// The moment at which every simulation begins.
pub(super) const START: Timestamp = Timestamp(1_800_000_000_000);

/// The lines of a run; none are made while nobody reads them.
#[derive(Debug, Default)]
pub(super) struct Trace {
    wanted: bool,
    pub(super) lines: Vec<String>,
}

impl Trace {
    pub(super) fn new(wanted: bool) -> Self {
        Self {
            wanted,
            lines: Vec::new(),
        }
    }

    pub(super) fn say(&mut self, now: Timestamp, line: impl FnOnce() -> String) {
        if self.wanted {
            let ms = now.since_ms(START);
            self.lines
                .push(format!("{:>9}.{:03} {}", ms / 1000, ms % 1000, line()));
        }
    }
}
