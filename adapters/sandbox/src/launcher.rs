//! The engine's end: starts the helper process, and asks it for sandboxes.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::process::{Process, Sandboxed};
use crate::spec::Bindings;
use crate::wire::{self, Hello, PACKET_BYTES_MAX, Status};
use crate::{Capabilities, Error, Network, Queue, Spec, sys};

/// The helper probes the machine first; on a loaded machine that takes tens of milliseconds.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// A spawn takes milliseconds; after this the set-up hangs, say on a dead network file system.
const SPAWN_TIMEOUT: Duration = Duration::from_secs(10);
/// What the helper may take to kill its sandboxes and end; then it is killed, and they with it.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// How to start the helper process.
#[derive(Clone, Debug)]
pub struct LauncherConfig {
    /// A program and its arguments that run [`launcher_main`](crate::launcher_main).
    pub command: Vec<String>,
}

impl LauncherConfig {
    /// A configuration with that command.
    pub fn new(command: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            command: command.into_iter().map(Into::into).collect(),
        }
    }
}

/// A handle on the helper process; clones share it. When the last is dropped, the helper ends and
/// every sandbox with it.
#[derive(Clone, Debug)]
pub struct Launcher {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    control: OwnedFd,
    capabilities: Capabilities,
    child: Mutex<Child>,
}

impl Launcher {
    /// Starts the helper process and waits until it has probed the machine.
    ///
    /// # Errors
    /// `StartHelper` when the command does not run, `Unsupported` when this machine allows no
    /// sandbox; the reason says what is missing.
    pub fn start(config: LauncherConfig) -> Result<Self, Error> {
        let [program, args @ ..] = config.command.as_slice() else {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "the command is empty");
            return Err(Error::StartHelper { source });
        };
        let (control, theirs) = wire::pair().map_err(Error::io("make the helper's socket"))?;
        let mut child = Command::new(program)
            .args(args)
            // The helper's memory is copied into every sandbox's first process; it is to hold nothing.
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .spawn()
            .map_err(|source| Error::StartHelper { source })?;
        match hello(&control) {
            Ok(capabilities) => {
                let child = Mutex::new(child);
                Ok(Self {
                    shared: Arc::new(Shared {
                        control,
                        capabilities,
                        child,
                    }),
                })
            }
            Err(error) => {
                drop(control);
                stop(&mut child);
                Err(error)
            }
        }
    }

    /// What is in force on this machine.
    pub fn capabilities(&self) -> Capabilities {
        self.shared.capabilities.clone()
    }

    /// The helper's process id, for operators and tests.
    pub fn pid(&self) -> u32 {
        self.shared
            .child
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .id()
    }

    /// Starts a sandbox and returns when its program runs. Blocks for about a millisecond.
    ///
    /// # Errors
    /// `InvalidSpec` and `SpecTooLarge` for the caller's mistakes, `Setup` when a step failed (a
    /// mount's source that is absent, a program that is not there), `HelperGone`, `TimedOut`.
    /// Nothing is left running after an error.
    pub fn spawn(&self, spec: &Spec) -> Result<Sandboxed, Error> {
        spec.validate()?;
        let request = serde_json::to_vec(spec).map_err(|error| Error::InvalidSpec {
            reason: format!("a path is not unicode ({error})"),
        })?;
        if request.len() > PACKET_BYTES_MAX {
            return Err(Error::SpecTooLarge {
                bytes: request.len(),
                bytes_max: PACKET_BYTES_MAX,
            });
        }
        let pipe = || io::pipe().map_err(Error::io("make a pipe"));
        let (channel, channel_inside) =
            UnixStream::pair().map_err(Error::io("make the channel"))?;
        let ((stdout, stdout_inside), (stderr, stderr_inside)) = (pipe()?, pipe()?);
        let (status, status_inside) = wire::pair().map_err(Error::io("make a status socket"))?;
        let (report, report_inside) = wire::pair().map_err(Error::io("make an exit socket"))?;
        let queue = spec.queue.then(Queue::new).transpose();
        let queue = queue.map_err(Error::io("make a queue"))?;
        let mut fds = vec![
            channel_inside.as_fd(),
            stdout_inside.as_fd(),
            stderr_inside.as_fd(),
            status_inside.as_fd(),
            report_inside.as_fd(),
        ];
        fds.extend(queue.iter().map(Queue::inside));
        wire::send_bytes(&self.shared.control, &request, &fds).map_err(gone)?;
        drop((
            channel_inside,
            stdout_inside,
            stderr_inside,
            status_inside,
            report_inside,
        ));

        let (process, listening) = started(&status, report)?;
        let listeners = match &spec.network {
            Network::None | Network::Host => Vec::new(),
            Network::Relay(endpoints) => Bindings::of(endpoints)
                .endpoints
                .into_iter()
                .zip(listening)
                .collect(),
        };
        Ok(Sandboxed {
            channel,
            queue,
            stdout: stdout.into(),
            stderr: stderr.into(),
            listeners,
            process,
        })
    }
}

/// Waits for the helper's first words.
fn hello(control: &OwnedFd) -> Result<Capabilities, Error> {
    let timeout_ms = START_TIMEOUT.as_millis() as i32;
    let ready = sys::poll([control.as_fd()], timeout_ms).map_err(Error::io("await the helper"))?;
    if ready.is_none() {
        return Err(Error::TimedOut {
            waited: START_TIMEOUT,
        });
    }
    match wire::recv::<Hello>(control).map_err(gone)? {
        Some((Hello::Ready(capabilities), _)) => Ok(capabilities),
        Some((Hello::Unsupported(reason), _)) => Err(Error::Unsupported { reason }),
        None => Err(Error::HelperGone),
    }
}

/// Follows the set-up to the status socket's end, which is the program's start.
fn started(status: &OwnedFd, report: OwnedFd) -> Result<(Process, Vec<OwnedFd>), Error> {
    let deadline = Instant::now() + SPAWN_TIMEOUT;
    let mut report = Some(report);
    let mut process = None;
    let mut listening = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let ready = sys::poll([status.as_fd()], left.as_millis() as i32)
            .map_err(Error::io("await a sandbox"))?;
        if ready.is_none() {
            return Err(Error::TimedOut {
                waited: SPAWN_TIMEOUT,
            });
        }
        match wire::recv::<Status>(status).map_err(gone)? {
            Some((Status::Cloned { pid }, mut fds)) => {
                let pidfd = fds.pop().ok_or(Error::HelperGone)?;
                let report = report.take().ok_or(Error::HelperGone)?;
                process = Some(Process::new(pid, pidfd, report));
            }
            Some((Status::Listening, fds)) => listening = fds,
            Some((Status::Failed { step, errno }, _)) => {
                return Err(Error::Setup {
                    step,
                    source: io::Error::from_raw_os_error(errno),
                });
            }
            // The end without a process: the helper died with the request in its hands.
            None => return Ok((process.ok_or(Error::HelperGone)?, listening)),
        }
    }
}

/// A broken connection to the helper says that it is gone; anything else is kept as it is.
fn gone(source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Error::HelperGone,
        _ => Error::Io {
            doing: "talk to the launcher's helper process",
            source,
        },
    }
}

/// Waits for a helper whose socket has been closed, and kills it when it does not end.
fn stop(child: &mut Child) {
    let deadline = Instant::now() + STOP_TIMEOUT;
    while let Ok(None) = child.try_wait() {
        if Instant::now() >= deadline {
            tracing::warn!(
                pid = child.id(),
                "the sandbox launcher did not end and is killed"
            );
            if child.kill().and_then(|()| child.wait()).is_err() {
                return;
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // The helper takes a shut-down socket for the engine's end, as it would the engine's death.
        if let Err(error) = sys::shut_down(&self.control) {
            tracing::warn!(%error, "the sandbox launcher could not be told to end");
        }
        stop(
            self.child
                .get_mut()
                .unwrap_or_else(|poisoned| poisoned.into_inner()),
        );
    }
}
