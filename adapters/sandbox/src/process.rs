//! A running sandbox as the engine holds it.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::wire::Ended;
use crate::{Endpoint, Error, Queue, sys, wire};

/// A running sandbox. Dropping its `process` kills it.
#[derive(Debug)]
pub struct Sandboxed {
    /// The engine's end of a socket pair; the program has the other as descriptor 3.
    pub channel: UnixStream,
    /// For a spec with a queue: the program has the other end as descriptor 4.
    pub queue: Option<Queue>,
    /// What the program writes to descriptor 1.
    pub stdout: OwnedFd,
    /// What the program writes to descriptor 2.
    pub stderr: OwnedFd,
    /// For `Network::Relay`: a (blocking) listening TCP socket of the sandbox's network for each
    /// distinct endpoint, in the order asked for.
    pub listeners: Vec<(Endpoint, OwnedFd)>,
    /// The processes of the sandbox, as one.
    pub process: Process,
}

/// All processes of one sandbox.
///
/// As a descriptor it becomes readable when `try_wait` has an answer, so it can be awaited.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    pidfd: OwnedFd,
    report: OwnedFd,
    exit: OnceLock<Exit>,
}

/// How a sandbox's program ended. Exactly one of `code` and `signal` is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// What the program exited with.
    pub code: Option<i32>,
    /// The signal that ended it; SIGKILL also when the sandbox was killed or its helper died.
    pub signal: Option<i32>,
    /// The kernel killed a process of this sandbox for want of memory. Known with a cgroup only.
    pub oom: bool,
}

impl Process {
    pub(crate) fn new(pid: u32, pidfd: OwnedFd, report: OwnedFd) -> Self {
        Self {
            pid,
            pidfd,
            report,
            exit: OnceLock::new(),
        }
    }

    /// The host's number of the sandbox's first process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Kills every process of the sandbox: the first with SIGKILL, the others by the kernel as
    /// their pid namespace ends. Safe to repeat; `wait` tells when all are gone.
    ///
    /// # Errors
    /// When the system refuses, which it has no reason to.
    pub fn kill(&self) -> Result<(), Error> {
        sys::kill(&self.pidfd).map_err(Error::io("kill a sandbox"))
    }

    /// Waits until no process of the sandbox is left.
    ///
    /// # Errors
    /// When the helper's report cannot be read.
    pub fn wait(&self) -> Result<Exit, Error> {
        loop {
            sys::poll([self.report.as_fd()], -1).map_err(Error::io("wait for a sandbox"))?;
            if let Some(exit) = self.try_wait()? {
                return Ok(exit);
            }
        }
    }

    /// How the sandbox ended, if it has.
    ///
    /// # Errors
    /// When the helper's report cannot be read.
    pub fn try_wait(&self) -> Result<Option<Exit>, Error> {
        if let Some(&exit) = self.exit.get() {
            return Ok(Some(exit));
        }
        let readable = sys::poll([self.report.as_fd()], 0).map_err(Error::io("ask for an exit"))?;
        if readable.is_none() {
            return Ok(None);
        }
        let exit = match wire::recv::<Ended>(&self.report).map_err(Error::io("read an exit"))? {
            Some((Ended { code, signal, oom }, _)) => Exit { code, signal, oom },
            None => {
                // The helper is gone, and the kernel is ending the sandbox for that.
                sys::poll([self.pidfd.as_fd()], -1).map_err(Error::io("wait for a sandbox"))?;
                Exit {
                    code: None,
                    signal: Some(libc::SIGKILL),
                    oom: false,
                }
            }
        };
        Ok(Some(*self.exit.get_or_init(|| exit)))
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.report.as_fd()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.exit.get().is_none()
            && let Err(error) = sys::kill(&self.pidfd)
        {
            tracing::warn!(pid = self.pid, %error, "a sandbox could not be killed");
        }
    }
}

impl Exit {
    /// Whether the program ended by itself with 0.
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, "exited with {code}")?,
            (None, Some(signal)) => write!(f, "ended by signal {signal}")?,
            (None, None) => f.write_str("ended")?,
        }
        if self.oom {
            f.write_str(", out of memory")
        } else {
            Ok(())
        }
    }
}
