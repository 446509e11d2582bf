//! Descriptors: waited for, doubled, closed, taken over; and two kinds of socket.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use libc::c_int;

use super::{check, check_long};

/// Waits until one of `fds` can be read (or has hung up); says which. `None` after the time-out.
pub(crate) fn poll<const N: usize>(
    fds: [BorrowedFd<'_>; N],
    timeout_ms: c_int,
) -> io::Result<Option<[bool; N]>> {
    let mut list = fds.map(|fd| libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    });
    loop {
        // SAFETY: pointer and length are those of `list`.
        match check(unsafe { libc::poll(list.as_mut_ptr(), N as libc::nfds_t, timeout_ms) }) {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(Some(list.map(|entry| entry.revents != 0))),
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Which of `fds` have something to be read now, or have hung up: one question to the kernel for
/// all of them. One that cannot be asked about counts as readable, so that whoever reads it learns.
#[must_use]
pub fn readable<const N: usize>(fds: [BorrowedFd<'_>; N]) -> [bool; N] {
    match poll(fds, 0) {
        Ok(found) => found.unwrap_or([false; N]),
        Err(_) => [true; N],
    }
}

/// Makes descriptor `number` another name of `fd`, inherited over exec.
pub(crate) fn dup_to(fd: impl AsFd, number: RawFd) -> io::Result<()> {
    // SAFETY: whatever `number` was is replaced; callers use numbers that no live owner holds.
    check(unsafe { libc::dup2(fd.as_fd().as_raw_fd(), number) }).map(drop)
}

/// A second, close-on-exec descriptor of the same file, numbered at least `least`.
pub(crate) fn dup_above(fd: impl AsFd, least: RawFd) -> io::Result<OwnedFd> {
    let raw = fd.as_fd().as_raw_fd();
    // SAFETY: a new descriptor is returned, ours alone.
    unsafe {
        Ok(OwnedFd::from_raw_fd(check(libc::fcntl(
            raw,
            libc::F_DUPFD_CLOEXEC,
            least,
        ))?))
    }
}

/// Closes every descriptor that is not in `kept`.
///
/// Only for a process that never again touches, nor drops, an owner of any other descriptor.
pub(crate) fn close_all_but(kept: &mut [RawFd]) -> io::Result<()> {
    kept.sort_unstable();
    let mut next = 0;
    for &fd in kept.iter() {
        if next < fd {
            close_range(next, fd - 1)?;
        }
        next = fd + 1;
    }
    close_range(next, RawFd::MAX)
}

fn close_range(first: RawFd, last: RawFd) -> io::Result<()> {
    let (first, last) = (first as libc::c_uint, last as libc::c_uint);
    // SAFETY: no memory is passed; `close_all_but` says who may do this.
    check_long(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }).map(drop)
}

/// Takes over the descriptor `number` which this process was started with.
pub(crate) fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: only asks whether the descriptor is open.
    check(unsafe { libc::fcntl(number, libc::F_GETFD) })?;
    // SAFETY: it is open, and the helper's entry point is the one place that claims its number.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// A routing socket of this network namespace.
pub(crate) fn netlink_socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: a new descriptor is returned.
    unsafe {
        let fd = check(libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Makes whoever reads or writes this file learn at once that he would have to wait.
pub(crate) fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    let raw = fd.as_fd().as_raw_fd();
    // SAFETY: no memory is passed.
    check(unsafe { libc::fcntl(raw, libc::F_SETFL, libc::O_NONBLOCK) }).map(drop)
}

/// Sends one packet, without waiting for room.
pub(crate) fn send_now(socket: impl AsFd, packet: &[u8]) -> io::Result<()> {
    let raw = socket.as_fd().as_raw_fd();
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    // SAFETY: pointer and length are those of `packet`.
    match unsafe { libc::send(raw, packet.as_ptr().cast(), packet.len(), flags) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Takes a packet out of a socket, if there is one now, and keeps its beginning; the length of that.
pub(crate) fn take_packet(socket: impl AsFd, beginning: &mut [u8]) -> Option<usize> {
    let raw = socket.as_fd().as_raw_fd();
    let (start, room) = (beginning.as_mut_ptr(), beginning.len());
    // SAFETY: pointer and length are those of `beginning`.
    let got = unsafe { libc::recv(raw, start.cast(), room, libc::MSG_DONTWAIT) };
    usize::try_from(got).ok().filter(|&length| length > 0)
}

/// Ends a connection in both directions.
pub(crate) fn shut_down(socket: impl AsFd) -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::shutdown(socket.as_fd().as_raw_fd(), libc::SHUT_RDWR) }).map(drop)
}
