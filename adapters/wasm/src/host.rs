//! What an instance is granted: clocks, randomness, its own output, and as much memory as its
//! function may have; sockets lead wherever the sandbox lets them. No files, no environment.

use std::io::{self, Write};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime::ResourceLimiter;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

/// What a component may hand over at once.
const WRITE_BYTES_MAX: usize = 64 << 10;
/// What of the end of standard error is kept, to tell a trap's reason.
const SAID_BYTES: usize = 16 << 10;
/// Elements of all tables; every function that can be called by a pointer is one.
const TABLE_ELEMENTS_MAX: usize = 1 << 20;

/// The state of one instance.
pub(crate) struct Host {
    wasi: WasiCtx,
    resources: ResourceTable,
    pub(crate) memory: Memory,
    said: Said,
}

impl Host {
    pub(crate) fn new(bytes_max: usize) -> Self {
        let said = Said::default();
        let mut wasi = WasiCtxBuilder::new();
        wasi.stdout(Printed { to: To::Stdout })
            .stderr(Printed {
                to: To::Stderr(said.clone()),
            })
            .allow_blocking_current_thread(true)
            // The sandbox has a network namespace of its own, with only what was granted in it.
            .inherit_network()
            .allow_tcp(true)
            .allow_udp(true)
            .allow_ip_name_lookup(true);
        Self {
            wasi: wasi.build(),
            resources: ResourceTable::new(),
            memory: Memory {
                bytes: 0,
                bytes_max,
                denied: false,
            },
            said,
        }
    }

    /// Why it ended, as far as it said so on its standard error.
    pub(crate) fn last_words(&self) -> Option<LastWords> {
        LastWords::find(&String::from_utf8_lossy(&self.said.lock()))
    }
}

/// A panic or an exception as a program tells it before it traps.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LastWords {
    pub(crate) message: String,
    pub(crate) trace: Vec<String>,
}

impl LastWords {
    fn find(said: &str) -> Option<Self> {
        let lines = said.lines().map(str::trim_end);
        let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
        let panic = lines
            .iter()
            .rposition(|line| line.starts_with("thread '") && line.contains(" panicked at "));
        // An interpreter's own panic comes after the exception that it is for.
        let before = &lines[..panic.unwrap_or(lines.len())];
        let trace = before
            .iter()
            .rposition(|line| line.starts_with("Traceback (most recent call last)"));
        if let (Some(from), Some(last)) = (trace, before.last()) {
            return Some(Self {
                message: (*last).to_owned(),
                trace: before[from..]
                    .iter()
                    .map(|line| (*line).to_owned())
                    .collect(),
            });
        }
        let message = match panic {
            Some(at) => lines.get(at + 1).or(lines.get(at)),
            None => lines.last(),
        };
        message.map(|message| Self {
            message: (*message).to_owned(),
            trace: Vec::new(),
        })
    }
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.resources,
        }
    }
}

/// Counts the linear memories of an instance together.
pub(crate) struct Memory {
    bytes: usize,
    pub(crate) bytes_max: usize,
    /// It wanted more.
    pub(crate) denied: bool,
}

impl ResourceLimiter for Memory {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let wanted = self.bytes + desired.saturating_sub(current);
        let fits = wanted <= self.bytes_max && maximum.is_none_or(|max| desired <= max);
        if fits {
            self.bytes = wanted;
        }
        self.denied |= wanted > self.bytes_max;
        Ok(fits)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS_MAX)
    }
}

#[derive(Debug, Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl Said {
    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, bytes: &[u8]) {
        let mut said = self.lock();
        said.extend_from_slice(bytes);
        let over = said.len().saturating_sub(SAID_BYTES);
        said.drain(..over);
    }
}

#[derive(Debug, Clone)]
enum To {
    Stdout,
    Stderr(Said),
}

/// A stream of an instance, which is the process's own.
#[derive(Debug, Clone)]
struct Printed {
    to: To,
}

impl Printed {
    fn put(&self, bytes: &[u8]) -> io::Result<()> {
        match &self.to {
            To::Stdout => io::stdout().write_all(bytes),
            To::Stderr(said) => {
                said.add(bytes);
                io::stderr().write_all(bytes)
            }
        }
    }

    fn settle(&self) -> io::Result<()> {
        match self.to {
            To::Stdout => io::stdout().flush(),
            To::Stderr(_) => io::stderr().flush(),
        }
    }
}

impl IsTerminal for Printed {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Printed {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for Printed {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.put(&bytes).map_err(|_| StreamError::Closed)
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.settle().map_err(|_| StreamError::Closed)
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Printed {
    async fn ready(&mut self) {}
}

impl AsyncWrite for Printed {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(self.put(bytes).map(|()| bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.settle())
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_trap_is_found_in_what_was_printed() {
        let python = "noise\nTraceback (most recent call last):\n  File \"app.py\", line 3, in handle\n\
                      KeyError: 'broke'\n\nthread '<unnamed>' (1) panicked at src/lib.rs:9:1:\n\
                      Python function threw\nnote: run with `RUST_BACKTRACE=1`\n";
        let words = LastWords::find(python).expect("there are some");
        assert_eq!(words.message, "KeyError: 'broke'");
        assert_eq!(words.trace.len(), 3, "{words:?}");
        let rust =
            "a log\n\nthread 'main' panicked at src/lib.rs:9:1:\nindex out of bounds\nnote: x\n";
        let words = LastWords::find(rust).expect("there are some");
        assert_eq!(
            (&*words.message, words.trace.len()),
            ("index out of bounds", 0)
        );
        let c = LastWords::find("Assertion failed: x\n").expect("there are some");
        assert_eq!(c.message, "Assertion failed: x");
        assert_eq!(LastWords::find("\n"), None);
    }
}
