//! Signals: blocked and read, or put back to their defaults.

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::ptr::null_mut;

use libc::c_int;

use super::check;

/// Blocks these signals; `signals` then reads them.
pub(crate) fn block_signals(signals: &[c_int]) -> io::Result<libc::sigset_t> {
    // SAFETY: all-zero is a valid `sigset_t`, which the calls then fill.
    unsafe {
        let mut set: libc::sigset_t = zeroed();
        libc::sigemptyset(&raw mut set);
        for &signal in signals {
            check(libc::sigaddset(&raw mut set, signal))?;
        }
        check(libc::sigprocmask(
            libc::SIG_BLOCK,
            &raw const set,
            null_mut(),
        ))?;
        Ok(set)
    }
}

/// A descriptor that is readable when one of these (blocked) signals is pending.
pub(crate) fn signal_fd(set: &libc::sigset_t) -> io::Result<OwnedFd> {
    let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
    // SAFETY: `set` is live; a new descriptor is returned.
    unsafe { Ok(OwnedFd::from_raw_fd(check(libc::signalfd(-1, set, flags))?)) }
}

/// Reads away what is pending on a signal descriptor.
pub(crate) fn drain_signals(fd: impl AsFd) {
    let mut buffer = [0u8; 8 * size_of::<libc::signalfd_siginfo>()];
    let raw = fd.as_fd().as_raw_fd();
    // SAFETY: pointer and length are those of `buffer`; the descriptor does not block.
    while unsafe { libc::read(raw, buffer.as_mut_ptr().cast(), buffer.len()) } > 0 {}
}

/// Gives every signal its default action, as a program expects at its start; also the two which
/// the C library keeps to itself, and its `sigaction` refuses.
pub(crate) fn default_signal_actions() {
    let default = [0u64; 4];
    let none = null_mut::<u64>();
    for signal in 1..=64 {
        // SAFETY: the kernel's `sigaction` is four words (action, flags, restorer, mask) of which
        // all-zero is SIG_DFL; the last argument is the mask's size. Signals whose action cannot
        // be changed are refused, which is as well.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), none, 8) };
    }
}

/// Blocks no signal any more.
pub(crate) fn unblock_signals() -> io::Result<()> {
    // SAFETY: all-zero is a valid empty `sigset_t`.
    unsafe {
        let none: libc::sigset_t = zeroed();
        check(libc::sigprocmask(
            libc::SIG_SETMASK,
            &raw const none,
            null_mut(),
        ))
        .map(drop)
    }
}
