//! The helper process: one thread that clones sandboxes, waits for them, and ends with the engine.
//!
//! ```text
//!   control socket ──► request: make cgroup, clone, map ids, "go"
//!   SIGCHLD ─────────► reap: tell the exit, remove the cgroup
//!   end of file ─────► kill all, reap all, end
//! ```

mod cgroup;
mod identity;
mod machine;
mod spare;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};

use self::cgroup::Group;
pub(crate) use self::identity::Identity;
pub(crate) use self::machine::Machine;
use self::spare::Spare;
use crate::Spec;
use crate::inside::{self, Failure, Plan, Step};
use crate::sys::{self, Clone, WaitStatus};
use crate::wire::{self, Ended, Hello, PACKET_BYTES_MAX, REQUEST_FDS, Status};

/// After so long without a request the next sandbox is cloned ahead: not while one that was just
/// asked for is set up.
const IDLE_MS: i32 = 5;
/// How likely the kernel's out-of-memory killer is to take a sandbox rather than another process.
const OOM_SCORE: &str = "500";

/// The entry of the helper process; call it first thing in `main`, before any thread is started.
///
/// Standard input must be the socket which [`Launcher::start`](crate::Launcher::start) passes.
pub fn launcher_main() -> ! {
    let code = match run() {
        Ok(()) => 0,
        Err(error) => {
            // The engine's log is the only place left to say it; that may be closed as well.
            let _ = writeln!(io::stderr(), "sandbox launcher: {error}");
            1
        }
    };
    std::process::exit(code)
}

fn run() -> io::Result<()> {
    if fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("started in a process that has threads"));
    }
    let control = sys::dup_above(sys::inherited(0)?, 10)?;
    // Descriptors 0, 3 and 4 stay taken, so that none of a request's has a number which the sandbox
    // gives a meaning.
    let null = File::options().read(true).write(true).open("/dev/null")?;
    sys::dup_to(&null, 0)?;
    sys::dup_to(&null, 3)?;
    sys::dup_to(&null, 4)?;
    sys::default_signal_actions();
    // A terminal's or a service manager's signals are the engine's business: it drains, then closes
    // the socket.
    sys::block_signals(&[libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT])?;
    let child_ended = sys::signal_fd(&sys::block_signals(&[libc::SIGCHLD])?)?;
    sys::set_umask(0o022);
    // Fails in the leader of a process group, which then is apart from the engine already.
    let _ = sys::new_session();
    sys::raise_open_files()?;

    let mut helper = match Machine::probe() {
        Ok(machine) => {
            wire::send(&control, &Hello::Ready(machine.capabilities()), &[])?;
            Helper {
                machine,
                running: HashMap::new(),
                garbage: Vec::new(),
                spare: None,
                wants_spare: true,
            }
        }
        Err(reason) => return wire::send(&control, &Hello::Unsupported(reason), &[]),
    };
    helper.serve(&control, &child_ended)?;
    helper.stop();
    Ok(())
}

struct Helper {
    machine: Machine,
    running: HashMap<i32, Running>,
    /// Cgroups that the kernel was not yet ready to remove.
    garbage: Vec<Group>,
    spare: Option<Spare>,
    wants_spare: bool,
}

/// A sandbox from its clone until all of it is reaped.
struct Running {
    pidfd: OwnedFd,
    /// The other end is the sandbox's first process; it says here how the program ended.
    sync: OwnedFd,
    report: OwnedFd,
    group: Group,
}

impl Helper {
    /// Serves requests until the engine's end of the control socket is closed.
    fn serve(&mut self, control: &OwnedFd, child_ended: &OwnedFd) -> io::Result<()> {
        let mut buffer = vec![0; PACKET_BYTES_MAX];
        loop {
            let patience = if self.wants_spare { IDLE_MS } else { -1 };
            let ready = sys::poll([control.as_fd(), child_ended.as_fd()], patience)?;
            let Some([request, ended]) = ready else {
                // Where it cannot be had, the next request is soon enough to try again.
                self.wants_spare = false;
                self.spare = Spare::make(&self.machine);
                continue;
            };
            if ended {
                sys::drain_signals(child_ended);
                self.reap(false)?;
            }
            if request {
                match wire::recv_bytes(control, &mut buffer, 0) {
                    Ok((0, _)) => return Ok(()),
                    Ok((length, fds)) => self.answer(&buffer[..length], fds),
                    // Cut short, say for want of descriptors: the one who asked sees its sockets
                    // closed, and the other sandboxes go on.
                    Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// Carries out one request; what goes wrong is told to the one who asked.
    fn answer(&mut self, request: &[u8], mut fds: Vec<OwnedFd>) {
        let queue = (fds.len() > REQUEST_FDS).then(|| fds.pop()).flatten();
        let Ok(fds) = <[OwnedFd; REQUEST_FDS]>::try_from(fds) else {
            return;
        };
        let [channel, stdout, stderr, status, report] = fds;
        let started = serde_json::from_slice::<Spec>(request)
            .map_err(io::Error::from)
            .step("read the request")
            .and_then(|spec| {
                let stdio = inside::Stdio {
                    channel,
                    queue,
                    stdout,
                    stderr,
                };
                self.start(&spec, stdio, &status, report)
            });
        if let Err(failure) = started {
            let message = Status::Failed {
                step: failure.step,
                errno: failure.errno,
            };
            // Whoever asked may have given up; there is nobody else to tell.
            let _ = wire::send(&status, &message, &[]);
        }
    }

    fn start(
        &mut self,
        spec: &Spec,
        stdio: inside::Stdio,
        status: &OwnedFd,
        report: OwnedFd,
    ) -> Result<(), Failure> {
        let trees = self.machine.open_trees(spec)?;
        let group = self
            .machine
            .cgroups
            .create(&spec.limits, spec.background)
            .step("make a cgroup")?;
        if let Some(spare) = self.spare.take_if(|_| Spare::suits(spec)) {
            self.wants_spare = true;
            match spare.assign(spec, &stdio, status, &trees, group.move_into()) {
                Ok(()) => return self.release(spare, report, group, status),
                // It is reaped like any other; this one is cloned as if there had been none.
                Err(_) => drop(sys::kill(&spare.pidfd)),
            }
        }
        self.wants_spare |= self.spare.is_none();
        let (sync, sync_inside) = wire::pair().step("make a socket")?;
        let namespaces = self.machine.namespaces(&spec.network);
        let cloned = sys::clone(namespaces, group.clone_into());
        let (pid, pidfd) = match cloned {
            Ok(Clone::Parent { pid, pidfd }) => (pid, pidfd),
            Ok(Clone::Child) => inside::enter(&Plan {
                machine: &self.machine,
                spec,
                stdio,
                status,
                sync: sync_inside,
                trees,
                groups: group.move_into(),
            }),
            Err(error) => {
                self.garbage.push(group);
                return Err(error).step("make namespaces");
            }
        };
        if let Err(failure) = prepare(&self.machine.identity, pid) {
            // What it is will be seen when it is reaped.
            let _ = sys::kill(&pidfd);
            self.garbage.push(group);
            return Err(failure);
        }
        self.release(Spare { pid, pidfd, sync }, report, group, status)
    }

    /// Tells the engine of a new process, and lets it go.
    fn release(
        &mut self,
        cloned: Spare,
        report: OwnedFd,
        mut group: Group,
        status: &OwnedFd,
    ) -> Result<(), Failure> {
        group.entered();
        let Spare { pid, pidfd, sync } = cloned;
        let running = self.running.entry(pid).insert_entry(Running {
            pidfd,
            sync,
            report,
            group,
        });
        let running = running.get();
        let released = release(pid, running, status);
        if released.is_err() {
            // What it is will be seen when it is reaped.
            let _ = sys::kill(&running.pidfd);
        }
        released
    }

    /// Takes note of every sandbox that has ended; with `block`, of all there are.
    fn reap(&mut self, block: bool) -> io::Result<()> {
        while let Some((pid, status)) = sys::wait_any(block)? {
            self.spare.take_if(|spare| spare.pid == pid);
            if let Some(running) = self.running.remove(&pid) {
                let ended = how_it_ended(&running, status);
                // Whoever asked may have dropped the process: that is how most are killed.
                let _ = wire::send(&running.report, &ended, &[]);
                self.garbage.push(running.group);
            }
        }
        self.garbage.retain(|group| !group.remove());
        Ok(())
    }

    fn stop(&mut self) {
        for running in self.running.values() {
            let _ = sys::kill(&running.pidfd);
        }
        if let Some(spare) = &self.spare {
            let _ = sys::kill(&spare.pidfd);
        }
        let _ = self.reap(true);
        self.machine.cgroups.remove();
    }
}

/// Gives a new process its user and score.
fn prepare(identity: &Identity, pid: i32) -> Result<(), Failure> {
    identity.map(pid).step("map user ids")?;
    fs::write(format!("/proc/{pid}/oom_score_adj"), OOM_SCORE).step("set the oom score")
}

/// Tells the engine of a new process, and lets it go.
fn release(pid: i32, running: &Running, status: &OwnedFd) -> Result<(), Failure> {
    let cloned = Status::Cloned {
        pid: pid.unsigned_abs(),
    };
    wire::send(status, &cloned, &[running.pidfd.as_fd()]).step("answer")?;
    wire::send_bytes(&running.sync, inside::GO, &[]).step("let the sandbox go")
}

fn how_it_ended(running: &Running, status: WaitStatus) -> Ended {
    let mut raw = [0; 4];
    let told = wire::recv_bytes(&running.sync, &mut raw, libc::MSG_DONTWAIT);
    // The first process tells how the program ended; one that was killed itself could not.
    let status = match told {
        Ok((4, _)) => WaitStatus(i32::from_ne_bytes(raw)),
        _ => status,
    };
    Ended {
        code: status.code(),
        signal: status.signal(),
        oom: running.group.out_of_memory(),
    }
}
