//! Two small things that a supervisor of ordinary children needs and the standard library lacks.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// What a supervisor tells a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// `SIGTERM`: end.
    Terminate,
    /// `SIGINT`: end, as at a Ctrl-C.
    Interrupt,
    /// `SIGUSR2`: what nats-server calls lame duck: let clients go elsewhere, then end.
    LameDuck,
}

/// Sends a signal to a child that has not been waited for yet; one that is gone is ignored.
pub fn signal(pid: u32, signal: Signal) {
    let number = match signal {
        Signal::Terminate => libc::SIGTERM,
        Signal::Interrupt => libc::SIGINT,
        Signal::LameDuck => libc::SIGUSR2,
    };
    if let Ok(pid) = libc::pid_t::try_from(pid) {
        // SAFETY: kill takes plain numbers; a wrong one is an error that nobody needs to hear of.
        unsafe { libc::kill(pid, number) };
    }
}

/// Has the kernel kill the child when the thread that spawns it ends: spawn it from a thread that
/// lives as long as the process.
pub fn die_with_parent(command: &mut Command) {
    let parent = std::process::id();
    let ask = move || {
        // SAFETY: prctl with these arguments touches no memory and is async-signal-safe.
        if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: getppid cannot fail and is async-signal-safe.
        let now = unsafe { libc::getppid() };
        // The parent may have died before the kernel was asked.
        if u32::try_from(now).is_ok_and(|now| now == parent) {
            Ok(())
        } else {
            Err(io::Error::from(io::ErrorKind::NotConnected))
        }
    };
    // SAFETY: between fork and exec the closure makes two system calls and allocates nothing.
    unsafe { command.pre_exec(ask) };
}
