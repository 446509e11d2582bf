//! The engine's ends of a worker's descriptors: awaited, but always read from the kernel itself.
//!
//! tokio's own streams answer "nothing there" from memory when they have not heard of new bytes
//! yet. What a run printed is attributed by emptying the pipes right after its reply was read, so
//! here every read asks the kernel.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use tokio::io::Interest;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};
use tokio::net::unix::pipe;

use crate::workers::logs::Capture;

/// What is read at once; the size of a pipe.
const CHUNK_BYTES: usize = 64 << 10;

/// The reading end of a worker's standard output or error.
#[derive(Debug)]
pub(crate) struct Pipe(Option<AsyncFd<File>>);

impl Pipe {
    pub(crate) fn new(end: OwnedFd) -> io::Result<Self> {
        let end = pipe::Receiver::from_owned_fd(end)?.into_nonblocking_fd()?;
        Ok(Self(Some(awaited(File::from(end), Interest::READABLE)?)))
    }

    /// Waits until there may be something to read; for ever once the worker closed its end.
    pub(crate) async fn readable(&self) {
        match &self.0 {
            Some(fd) if fd.readable().await.is_ok() => {}
            _ => std::future::pending().await,
        }
    }

    /// What to ask the kernel about; nothing once the worker closed its end.
    pub(crate) fn end(&self) -> Option<BorrowedFd<'_>> {
        self.0.as_ref().map(|fd| fd.get_ref().as_fd())
    }

    /// Whether the worker closed its end.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.is_none()
    }

    /// Takes what is there now, at most `chunks` reads of it.
    pub(crate) fn drain(&mut self, into: &mut Capture, scratch: &mut Vec<u8>, chunks: usize) {
        let Some(fd) = &self.0 else { return };
        scratch.resize(CHUNK_BYTES, 0);
        for _ in 0..chunks {
            let known = now(fd.readable());
            match fd.get_ref().read(scratch) {
                Ok(0) => return self.0 = None,
                Ok(count) => into.push(&scratch[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return forget(known),
                Err(_) => return self.0 = None,
            }
        }
    }
}

/// The engine's end of a worker's channel.
#[derive(Debug)]
pub(crate) struct Channel(AsyncFd<UnixStream>);

impl Channel {
    pub(crate) fn new(end: UnixStream) -> io::Result<Self> {
        end.set_nonblocking(true)?;
        // Only readability is watched: the kernel says "writable" each time the worker has read,
        // and every order would wake a thread for nothing.
        Ok(Self(awaited(end, Interest::READABLE)?))
    }

    pub(crate) async fn readable(&self) {
        if self.0.readable().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until there is room again after a write that did not fit.
    pub(crate) async fn writable(&self) {
        let other = self.0.get_ref().try_clone();
        let watched = other.and_then(|end| awaited(end, Interest::WRITABLE));
        if let Ok(end) = watched
            && end.writable().await.is_ok()
        {
            return;
        }
        std::future::pending::<()>().await;
    }

    pub(crate) fn end(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }

    /// Reads what is there now onto the end of `into`. `Ok(None)`: nothing yet; `Ok(Some(0))`: the
    /// other end is closed.
    pub(crate) fn read(
        &self,
        into: &mut Vec<u8>,
        scratch: &mut Vec<u8>,
    ) -> io::Result<Option<usize>> {
        scratch.resize(CHUNK_BYTES, 0);
        let known = now(self.0.readable());
        match retry(|| self.0.get_ref().read(scratch)) {
            Ok(count) => {
                into.extend_from_slice(&scratch[..count]);
                // Less than was asked for: all is taken, and what comes next is told anew.
                if 0 < count && count < scratch.len() {
                    forget(known);
                }
                Ok(Some(count))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                forget(known);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Writes as much as fits now.
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match retry(|| self.0.get_ref().write(bytes)) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            written => written,
        }
    }
}

/// Has tokio watch a descriptor.
#[expect(
    deprecated,
    reason = "its successor is unsafe, for owners whose descriptor may change"
)]
pub(crate) fn awaited<T: AsFd + AsRawFd>(owner: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(owner, interest)
}

fn retry(mut act: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match act() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

type Known<'a, T> = Option<io::Result<AsyncFdReadyGuard<'a, T>>>;

/// Forgets a readiness that turned out to be past. It was asked for before the attempt, so one that
/// came up since is not forgotten with it.
fn forget<T: AsRawFd>(known: Known<'_, T>) {
    if let Some(Ok(mut guard)) = known {
        guard.clear_ready();
    }
}

/// What a future has at once, if anything.
fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    futures::FutureExt::now_or_never(future)
}
