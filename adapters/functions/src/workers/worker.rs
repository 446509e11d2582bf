//! One sandboxed interpreter: started generic, made into a function, then one call at a time.
//!
//! ```text
//! start ─► stem (ready, no function) ─ become ─► worker ─ exchange ─► reply, still a worker
//!                                                   └──── any Broken ──► unfit, to be dropped
//! ```
//!
//! A worker has one owner: a pool while idle, a task while it serves. Dropping it kills its
//! processes and reaps them in the background.

use std::sync::Arc;
use std::time::Duration;

use adapter_sandbox::{Exit, Process, Queue, Sandboxed};
use tokio::io::Interest;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::blueprint::Blueprint;
use crate::call::trace;
use crate::error::{Failure, chain};
use crate::workers::budget::Permit;
use crate::workers::desk::Desk;
use crate::workers::frame::{REPLY_BYTES_MAX, Ready, Reply};
use crate::workers::logs::{Capture, Logs};
use crate::workers::port::{Channel, Pipe, awaited};
use crate::workers::relay::Relays;

/// From the start of its process to its first line; three orders of magnitude above the usual.
const START_MAX: Duration = Duration::from_secs(20);
/// From the close of its channel to its exit; then it is killed.
const EXIT_MAX: Duration = Duration::from_secs(1);
/// Reads of a pipe before the reply is looked at again: a worker that prints without end must
/// not keep the deadline from being noticed.
const DRAIN_CHUNKS: usize = 16;
/// A longer order waits until the worker reads.
const EARLY_BYTES_MAX: usize = 64 << 10;
/// Between two looks at the output of a run that prints without measure.
const OVERFLOW_PAUSE: Duration = Duration::from_millis(1);
/// Enough to empty a pipe of any size that an ordinary user can set.
const DRAIN_CHUNKS_LAST: usize = 64;

/// A running worker.
#[derive(Debug)]
pub(crate) struct Worker {
    channel: Channel,
    inbox: Vec<u8>,
    stdout: Pipe,
    stderr: Pipe,
    scratch: Vec<u8>,
    /// So much of the order that makes it a function it has.
    ordered: usize,
    /// Until it has said whether it takes orders from there.
    queue: Option<Queue>,
    process: Option<Process>,
    permit: Option<Permit>,
    reaper: Reaper,
    _relays: Relays,
    pub(crate) desk: Arc<Desk>,
    pub(crate) version: String,
    /// It may not serve again.
    pub(crate) unfit: bool,
    /// It cannot even end what it has begun.
    pub(crate) lost: bool,
    /// It was not looked at after its last answer, because others were to follow.
    pub(crate) unchecked: bool,
    /// What its last call made of it, until its pool takes note of that.
    pub(crate) conduct: Option<Conduct>,
    /// It steps back behind all others.
    pub(crate) background: bool,
    /// When it was looked last, nothing lay in its pipes.
    silent: bool,
    /// What it took to start, until its first call was told so.
    pub(crate) hired: Option<Duration>,
    /// When it had the last order in full.
    pub(crate) delivered: Option<Instant>,
}

/// Where ended workers are waited for, so that shutting down can wait for all of them.
#[derive(Debug, Clone)]
pub(crate) struct Reaper {
    pub(crate) tasks: TaskTracker,
    /// A worker may be dropped on a thread that knows no runtime.
    pub(crate) runtime: tokio::runtime::Handle,
}

impl Reaper {
    pub(crate) fn spawn(&self, reap: impl FnOnce() + Send + 'static) {
        self.tasks.spawn_blocking_on(reap, &self.runtime);
    }
}

/// What a call made of its worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conduct {
    /// It is as good as before.
    Good,
    /// It died, left processes behind or said what it should not: it has to be replaced, which costs
    /// whoever else is on this machine.
    Bad,
}

/// What one run printed, while it goes on.
#[derive(Debug, Default)]
pub(crate) struct Captured {
    pub(crate) stdout: Capture,
    pub(crate) stderr: Capture,
}

impl Captured {
    /// Whether nothing was printed.
    pub(crate) fn is_empty(&self) -> bool {
        self.stdout.is_empty() && self.stderr.is_empty()
    }

    /// What was printed, line by line.
    pub(crate) fn into_logs(self) -> Logs {
        Logs {
            stdout: self.stdout.into_lines(),
            stderr: self.stderr.into_lines(),
        }
    }
}

/// Why an exchange has no reply. The worker is unfit after any of these.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The deadline passed.
    Deadline,
    /// The worker's end of the channel closed.
    Gone,
    /// The order could not be handed over, so nothing of it was acted on.
    Undelivered,
    /// The reply is longer than a frame may be.
    TooLarge,
}

enum Event {
    Channel,
    Writable,
    Stdout,
    Stderr,
    Deadline,
}

/// Waits until there is output to be taken in. A run that prints more than is kept of it waits a
/// little each time, so that taking it in leaves the processor to its neighbours.
async fn printed(pipe: &Pipe, so_far: &Capture) {
    if so_far.overflows() {
        tokio::time::sleep(OVERFLOW_PAUSE).await;
    }
    pipe.readable().await;
}

impl Worker {
    /// Starts a generic worker and waits until it says that it is ready. The order that makes it a
    /// function lies before it by then, if there is one and it is short: it spares the worker what it
    /// would do to be quick later, and one waking.
    pub(crate) async fn start(
        launcher: adapter_sandbox::Launcher,
        blueprint: &Blueprint,
        permit: Permit,
        reaper: Reaper,
        order: Option<&[u8]>,
    ) -> Result<Self, Failure> {
        let spec = blueprint.spec.clone();
        let spawned = tokio::task::spawn_blocking(move || launcher.spawn(&spec)).await;
        let sandboxed = spawned
            .map_err(|e| Failure::now(format!("failed to start a sandbox: {e}")))?
            .map_err(|e| Failure::now(format!("failed to {}", chain(&e))))?;
        let mut worker = Self::adopt(sandboxed, Some(permit), reaper)
            .map_err(|e| Failure::io("take over a sandbox's descriptors", &e))?;
        if let Some(order) = order.filter(|order| order.len() <= EARLY_BYTES_MAX) {
            // What does not fit follows later; a worker that is gone already is told of below.
            worker.ordered = worker.channel.write(order).unwrap_or_default();
        }
        let mut captured = Captured::default();
        let deadline = Instant::now() + START_MAX;
        match worker.receive(deadline, &mut captured).await {
            Ok(frame) => {
                let ready = serde_json::from_slice::<Ready>(&frame)
                    .ok()
                    .filter(|r| r.ready == 1);
                let ready = ready.ok_or_else(|| {
                    Failure::now(format!(
                        "the {} worker did not say ready",
                        blueprint.language.label()
                    ))
                })?;
                worker.version = ready.version;
                if ready.queue == 1 {
                    worker.desk = Arc::new(Desk::new(worker.queue.take()));
                }
                Ok(worker)
            }
            Err(broken) => {
                let ended = worker.end(&broken).await;
                let said = captured
                    .stderr
                    .last_line()
                    .map(|l| format!(": {l}"))
                    .unwrap_or_default();
                let language = blueprint.language.label();
                Err(Failure::now(format!(
                    "the {language} interpreter {ended}{said}"
                )))
            }
        }
    }

    fn adopt(
        sandboxed: Sandboxed,
        permit: Option<Permit>,
        reaper: Reaper,
    ) -> std::io::Result<Self> {
        // Whoever starts it, it is watched where its calls are carried out.
        let runtime = reaper.runtime.clone();
        let _entered = runtime.enter();
        Ok(Self {
            channel: Channel::new(sandboxed.channel)?,
            inbox: Vec::new(),
            stdout: Pipe::new(sandboxed.stdout)?,
            stderr: Pipe::new(sandboxed.stderr)?,
            scratch: Vec::new(),
            ordered: 0,
            queue: sandboxed.queue,
            process: Some(sandboxed.process),
            permit,
            reaper,
            _relays: Relays::start(sandboxed.listeners)?,
            desk: Arc::new(Desk::new(None)),
            version: String::new(),
            unfit: false,
            lost: false,
            unchecked: false,
            conduct: None,
            background: false,
            silent: false,
            hired: None,
            delivered: None,
        })
    }

    /// Gives the worker its function, and waits until the handler is loaded; the code that it had
    /// to compile for that, if any.
    ///
    /// `order` is what it was started with, if it was.
    pub(crate) async fn become_function(
        &mut self,
        order: &[u8],
        load_max: Duration,
    ) -> Result<Option<String>, Failure> {
        let mut captured = Captured::default();
        let deadline = Instant::now() + load_max;
        let invalid = |why: String| Failure::of(format!("Invalid function file or handler: {why}"));
        let ordered = std::mem::take(&mut self.ordered);
        let answer = if ordered == order.len() {
            let answer = self.receive(deadline, &mut captured).await;
            self.part(&answer, &mut captured);
            answer
        } else {
            let rest = &order[ordered..];
            self.exchange(rest, deadline, &mut captured).await
        };
        match answer {
            Ok(frame) => match serde_json::from_slice::<Ready>(&frame) {
                Ok(Ready {
                    ready: 1,
                    fail: None,
                    code,
                    ..
                }) if !self.unfit => Ok(code),
                Ok(Ready {
                    fail: Some(reason), ..
                }) => Err(invalid(one_line(&trace::relative(&reason)))),
                _ => Err(invalid(
                    "it wrote to the worker's own descriptor while it loaded".into(),
                )),
            },
            Err(Broken::Deadline) => Err(invalid(format!("it did not load within {load_max:?}"))),
            Err(broken) => {
                let ended = self.end(&broken).await;
                let said = captured
                    .stderr
                    .last_line()
                    .map(|l| format!(": {l}"))
                    .unwrap_or_default();
                Err(invalid(format!(
                    "its process {ended} while it loaded{said}"
                )))
            }
        }
    }

    /// Whether it began a line that it has not ended.
    pub(crate) fn broke_off(&self) -> bool {
        !self.inbox.is_empty()
    }

    /// Whether an idle worker is as it was left: alive, and silent on its channel.
    pub(crate) fn is_sound(&mut self) -> bool {
        let [spoke, printed] = self.heard();
        self.silent = !printed;
        // Only an answer or an end can be read from a channel on which nothing was asked.
        !self.unfit && self.inbox.is_empty() && !spoke
    }

    /// Whether there is something to be read from its channel, and from its output.
    fn heard(&self) -> [bool; 2] {
        let channel = self.channel.end();
        // A pipe that is closed says nothing any more.
        let stdout = self.stdout.end().unwrap_or(channel);
        let stderr = self.stderr.end().unwrap_or(channel);
        let [spoke, stdout, stderr] = adapter_sandbox::readable([channel, stdout, stderr]);
        let printed = (stdout && !self.stdout.is_closed()) || (stderr && !self.stderr.is_closed());
        [spoke, printed]
    }

    /// Sends one order and waits for its one-line answer, taking in what is printed meanwhile.
    pub(crate) async fn exchange(
        &mut self,
        order: &[u8],
        deadline: Instant,
        captured: &mut Captured,
    ) -> Result<Vec<u8>, Broken> {
        self.hush();
        let answer = match self.deliver(order, deadline, captured).await {
            Ok(()) => {
                self.delivered = Some(Instant::now());
                self.receive(deadline, captured).await
            }
            Err(broken) => Err(broken),
        };
        self.part(&answer, captured);
        answer
    }

    /// Forgets what was printed since the last answer, which is no part of the next run.
    pub(crate) fn hush(&mut self) {
        if !std::mem::take(&mut self.silent) {
            self.drain(&mut Captured::default(), DRAIN_CHUNKS_LAST);
        }
    }

    /// Waits for the answer to the order in hand, which lay on its desk.
    pub(crate) async fn answer(
        &mut self,
        id: u64,
        deadline: Instant,
        captured: &mut Captured,
    ) -> Result<Vec<u8>, Broken> {
        self.delivered = Some(Instant::now());
        let desk = Arc::clone(&self.desk);
        let answer = tokio::select! {
            biased;
            () = desk.returned() => {
                self.silent = false;
                self.unchecked = true;
                return Err(Broken::Undelivered);
            }
            answer = self.receive(deadline, captured) => answer,
        };
        // The worker may have come to a later order while this one was taken back.
        if let Ok(line) = &answer
            && desk.is_disturbed()
            && Reply::is_of_another(line, id)
            && desk.has_returned().await
        {
            let mut inbox = line.clone();
            inbox.push(b'\n');
            inbox.append(&mut self.inbox);
            self.inbox = inbox;
            self.silent = false;
            self.unchecked = true;
            return Err(Broken::Undelivered);
        }
        // With another order before it, whatever it says by now may belong to that.
        if answer.is_err() || self.desk.shut_if_empty() {
            self.unchecked = false;
            self.part(&answer, captured);
        } else {
            self.silent = false;
            self.unchecked = true;
        }
        match answer {
            Err(Broken::Gone) => {
                // Nothing of the order was read, as if it had not been delivered.
                let untouched = tokio::task::spawn_blocking(move || desk.lose()).await;
                Err(match untouched {
                    Ok(true) => Broken::Undelivered,
                    _ => Broken::Gone,
                })
            }
            other => other,
        }
    }

    /// Takes in the last of what a run printed, and looks whether its worker said more than it should.
    fn part(&mut self, answer: &Result<Vec<u8>, Broken>, captured: &mut Captured) {
        let [spoke, printed] = self.heard();
        if printed {
            self.drain(captured, DRAIN_CHUNKS_LAST);
        }
        self.silent = !printed;
        self.lost |= answer.is_err();
        // What it says beside its answer, or its end, would be the next call's.
        self.unfit |= answer.is_err() || spoke || !self.inbox.is_empty();
    }

    async fn deliver(
        &mut self,
        mut order: &[u8],
        deadline: Instant,
        captured: &mut Captured,
    ) -> Result<(), Broken> {
        loop {
            let written = self.channel.write(order).map_err(|_| Broken::Undelivered)?;
            order = &order[written..];
            if order.is_empty() {
                return Ok(());
            }
            if let Event::Deadline = self.next_event(deadline, true, captured).await {
                return Err(Broken::Deadline);
            }
        }
    }

    /// Waits for one whole line, and takes it out of the inbox.
    async fn receive(
        &mut self,
        deadline: Instant,
        captured: &mut Captured,
    ) -> Result<Vec<u8>, Broken> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.inbox[searched..].iter().position(|&b| b == b'\n') {
                let rest = self.inbox.split_off(searched + end + 1);
                let mut line = std::mem::replace(&mut self.inbox, rest);
                line.pop();
                return Ok(line);
            }
            searched = self.inbox.len();
            if searched > REPLY_BYTES_MAX {
                return Err(Broken::TooLarge);
            }
            match self.next_event(deadline, false, captured).await {
                Event::Deadline => return Err(Broken::Deadline),
                Event::Channel => match self.channel.read(&mut self.inbox, &mut self.scratch) {
                    Ok(Some(0)) | Err(_) => return Err(Broken::Gone),
                    Ok(_) => {}
                },
                Event::Writable | Event::Stdout | Event::Stderr => {}
            }
        }
    }

    async fn next_event(
        &mut self,
        deadline: Instant,
        writing: bool,
        captured: &mut Captured,
    ) -> Event {
        let event = tokio::select! {
            biased;
            () = self.channel.readable(), if !writing => Event::Channel,
            () = self.channel.writable(), if writing => Event::Writable,
            () = printed(&self.stdout, &captured.stdout) => Event::Stdout,
            () = printed(&self.stderr, &captured.stderr) => Event::Stderr,
            () = tokio::time::sleep_until(deadline) => Event::Deadline,
        };
        match event {
            Event::Stdout => {
                self.stdout
                    .drain(&mut captured.stdout, &mut self.scratch, DRAIN_CHUNKS)
            }
            Event::Stderr => {
                self.stderr
                    .drain(&mut captured.stderr, &mut self.scratch, DRAIN_CHUNKS)
            }
            Event::Channel | Event::Writable | Event::Deadline => {}
        }
        // A worker that prints without end always has something to say before the timer.
        if Instant::now() >= deadline {
            Event::Deadline
        } else {
            event
        }
    }

    fn drain(&mut self, captured: &mut Captured, chunks: usize) {
        self.stdout
            .drain(&mut captured.stdout, &mut self.scratch, chunks);
        self.stderr
            .drain(&mut captured.stderr, &mut self.scratch, chunks);
    }

    /// How the worker ended, as words that follow "its process"; it is gone afterwards.
    pub(crate) async fn end(&mut self, broken: &Broken) -> String {
        self.unfit = true;
        let closed = matches!(broken, Broken::Gone | Broken::Undelivered);
        match self
            .exit(if closed { EXIT_MAX } else { Duration::ZERO })
            .await
        {
            Some(exit) if closed => describe(exit),
            _ if closed => "closed its channel and was killed".to_owned(),
            _ => "was killed".to_owned(),
        }
    }

    async fn exit(&mut self, within: Duration) -> Option<Exit> {
        use std::os::fd::AsFd as _;
        let process = self.process.as_ref()?;
        let report = process.as_fd().try_clone_to_owned().ok()?;
        let report = awaited(report, Interest::READABLE).ok()?;
        let _ = tokio::time::timeout(within, report.readable()).await;
        process.try_wait().ok().flatten()
    }

    /// The host's number of the sandbox's first process.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let Some(process) = self.process.take() else {
            return;
        };
        if let Err(error) = process.kill() {
            tracing::warn!(pid = process.pid(), error = %chain(&error), "a worker was not killed");
        }
        // Its share of the memory budget is free when its processes are gone.
        let permit = self.permit.take();
        self.reaper.spawn(move || {
            if let Err(error) = process.wait() {
                tracing::warn!(pid = process.pid(), error = %chain(&error), "a worker was not reaped");
            }
            drop(permit);
        });
    }
}

fn describe(exit: Exit) -> String {
    match exit {
        Exit { oom: true, .. } => "was killed because it used more memory than its limit".into(),
        Exit {
            code: Some(code), ..
        } => format!("exited with status {code}"),
        Exit {
            signal: Some(signal),
            ..
        } => format!("was ended by {}", signal_name(signal)),
        Exit { .. } => "ended".into(),
    }
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGILL => "SIGILL",
        libc::SIGKILL => "SIGKILL",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGSYS => "SIGSYS",
        libc::SIGTERM => "SIGTERM",
        libc::SIGXFSZ => "SIGXFSZ",
        _ => return format!("signal {signal}"),
    };
    name.to_owned()
}

/// A reason is one line, however many the interpreter wrote.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
