//! One PostgreSQL server process: started, watched until it is ready, ended.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Child;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::{Error, QUIT_TIMEOUT, START_TIMEOUT, STOP_TIMEOUT, Yard, io_error};

/// How often a starting or ending server is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Lines of a server's log that are kept for the message when it fails.
const LOG_LINES: usize = 20;
/// Longer lines of the log are cut.
const LOG_LINE_BYTES: u64 = 1_000;

/// A running server that is our child.
#[derive(Debug)]
pub(super) struct Postmaster {
    child: Child,
    log: JoinHandle<VecDeque<String>>,
}

impl Postmaster {
    /// Starts a server and waits until it accepts connections.
    pub(super) async fn start(yard: &Yard, data: &Path) -> Result<Self, Error> {
        let mut child = yard
            .launcher
            .command(data, &yard.binaries.postgres)
            .spawn()
            .map_err(io_error(&yard.binaries.postgres))?;
        let stderr = child.stderr.take().expect("the command pipes it");
        let log = tokio::spawn(follow_log(stderr));
        let mut postmaster = Self { child, log };
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            if postmaster.is_ready(data) {
                return Ok(postmaster);
            }
            let ended = timeout(LOOK_EVERY, postmaster.ended()).await.is_ok();
            if yard.stopping.is_cancelled() {
                postmaster.stop().await?;
                return Err(Error::Stopping);
            }
            if ended || Instant::now() > deadline {
                postmaster.stop().await?;
                return Err(Error::NotReady {
                    log: postmaster.last_words().await,
                });
            }
        }
    }

    /// Waits until the process has ended.
    pub(super) async fn ended(&mut self) {
        if let Err(error) = self.child.wait().await {
            tracing::error!(error = %error, "waiting for PostgreSQL failed");
        }
    }

    /// Ends the process: fast shutdown, then immediate, then by force. Clients are disconnected.
    pub(super) async fn stop(&mut self) -> Result<(), Error> {
        let Some(pid) = self.pid() else { return Ok(()) };
        for (signal, patience) in [(Signal::INT, STOP_TIMEOUT), (Signal::QUIT, QUIT_TIMEOUT)] {
            // The process is our child and not yet waited for, so the id is still its own.
            let sent = rustix::process::kill_process(pid, signal);
            if sent.is_err() || timeout(patience, self.ended()).await.is_ok() {
                break;
            }
            tracing::warn!(pid = pid.as_raw_nonzero(), "PostgreSQL did not end in time");
        }
        if self.child.try_wait().is_ok_and(|status| status.is_some()) {
            return Ok(());
        }
        self.child.kill().await.map_err(|_| Error::NotEnding {
            pid: pid.as_raw_nonzero().get(),
        })
    }

    /// The end of the log of a server that has ended.
    pub(super) async fn last_words(&mut self) -> String {
        // A backend that outlives the postmaster for a moment holds the pipe open.
        match timeout(QUIT_TIMEOUT, &mut self.log).await {
            Ok(Ok(lines)) => lines.into_iter().collect::<Vec<_>>().join(" | "),
            _ => "it left no log".to_owned(),
        }
    }

    fn pid(&self) -> Option<Pid> {
        Pid::from_raw(self.child.id()?.try_into().ok()?)
    }

    fn is_ready(&self, data: &Path) -> bool {
        let text = std::fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
        let mut lines = text.lines();
        let pid = lines.next().and_then(|line| line.trim().parse().ok());
        pid.is_some() && pid == self.child.id() && lines.nth(6).map(str::trim) == Some("ready")
    }
}

/// Passes the log on and keeps its end. The pipe is always emptied, so the server never waits.
async fn follow_log(stderr: tokio::process::ChildStderr) -> VecDeque<String> {
    let mut last = VecDeque::with_capacity(LOG_LINES);
    let mut reader = BufReader::new(stderr);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut reader)
            .take(LOG_LINE_BYTES)
            .read_until(b'\n', &mut line)
            .await;
        if !matches!(read, Ok(length) if length > 0) {
            return last;
        }
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        tracing::debug!(target: "postgres", "{text}");
        if last.len() == LOG_LINES {
            last.pop_front();
        }
        last.push_back(text);
    }
}

/// Ends a server that an earlier broker left running, so that there is never a second one in the
/// directory. It is ours if it works in this directory: a process id alone may be another's by now.
pub(super) async fn stop_leftover(data: &Path) -> Result<(), Error> {
    let text = std::fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    let recorded = text
        .lines()
        .next()
        .and_then(|line| line.trim().parse().ok());
    let Some(pid) = recorded.and_then(Pid::from_raw) else {
        return Ok(());
    };
    // The descriptor names this very process for good, whatever becomes of the id.
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else {
        return Ok(());
    };
    if !works_in(pid, data) {
        return Ok(());
    }
    tracing::info!(
        pid = pid.as_raw_nonzero(),
        "ending a PostgreSQL server that was left running"
    );
    let steps = [
        (Signal::INT, STOP_TIMEOUT),
        (Signal::QUIT, QUIT_TIMEOUT),
        (Signal::KILL, QUIT_TIMEOUT),
    ];
    for (signal, patience) in steps {
        if pidfd_send_signal(&process, signal).is_err() {
            return Ok(());
        }
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if !works_in(pid, data) {
                return Ok(());
            }
            sleep(LOOK_EVERY).await;
        }
    }
    Err(Error::NotEnding {
        pid: pid.as_raw_nonzero().get(),
    })
}

/// Whether a process is alive and works in a directory. One that has ended works nowhere.
fn works_in(pid: Pid, data: &Path) -> bool {
    let link = std::fs::read_link(format!("/proc/{}/cwd", pid.as_raw_nonzero()));
    match (link, data.canonicalize()) {
        (Ok(works), Ok(data)) => works == data,
        _ => false,
    }
}
