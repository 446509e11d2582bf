//! Descriptor 3: one JSON value a line, both ways.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::{FromRawFd, OwnedFd};

/// The worker's own descriptor.
const DESCRIPTOR: i32 = 3;

/// The socket that is shared with the node and with nobody else.
#[derive(Debug)]
pub(crate) struct Channel {
    input: BufReader<File>,
    output: File,
}

impl Channel {
    /// Takes descriptor 3, which it was started with.
    pub(crate) fn take() -> io::Result<Self> {
        // SAFETY: whoever starts a worker gives it this descriptor, nothing else in this program
        // names it, and this runs once, before anything else was opened.
        let descriptor = unsafe { OwnedFd::from_raw_fd(DESCRIPTOR) };
        let output = File::from(descriptor);
        let input = BufReader::with_capacity(64 << 10, output.try_clone()?);
        Ok(Self { input, output })
    }

    /// The next line, or nothing when the node has gone.
    pub(crate) fn receive(&mut self) -> io::Result<Option<String>> {
        let mut line = String::new();
        let count = self.input.read_line(&mut line)?;
        Ok((count > 0).then_some(line))
    }

    /// Sends one line.
    pub(crate) fn send(&mut self, mut line: String) -> io::Result<()> {
        line.push('\n');
        self.output.write_all(line.as_bytes())
    }
}
