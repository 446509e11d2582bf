//! Processes: made, waited for, killed, replaced, and whose they are.

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::null;

use libc::c_int;

use super::{check, check_long};

/// Which of the two processes `clone` returned in.
pub(crate) enum Clone {
    Child,
    Parent { pid: i32, pidfd: OwnedFd },
}

/// Like `fork`, into new namespaces and, if given, a cgroup of version 2, with a pidfd. The caller
/// must have one thread only.
pub(crate) fn clone(namespaces: c_int, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Clone> {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut pidfd: c_int = -1;
    let into = if cgroup.is_some() {
        CLONE_INTO_CGROUP
    } else {
        0
    };
    let arguments = CloneArguments {
        flags: (namespaces | libc::CLONE_PIDFD) as u64 | into,
        cgroup: cgroup.map_or(0, |fd| fd.as_raw_fd() as u64),
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArguments::default()
    };
    // SAFETY: no CLONE_VM and no stack of its own, so this is a fork: the child runs on a copy of
    // this memory. `arguments` lives through the call. The process has one thread, as the helper
    // never starts a second, so no lock can be held by a thread that is missing in the child.
    let pid = check_long(unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const arguments,
            size_of::<CloneArguments>(),
        )
    })?;
    if pid == 0 {
        return Ok(Clone::Child);
    }
    // SAFETY: the call succeeded in the parent, so it stored a new descriptor that is ours alone.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Clone::Parent {
        pid: i32::try_from(pid).expect("a pid is an int"),
        pidfd,
    })
}

#[repr(C)]
#[derive(Default)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Forks; `None` in the child, its pid in the parent. The caller must have one thread only.
pub(crate) fn fork() -> io::Result<Option<i32>> {
    // SAFETY: the process has one thread (a child of the helper's), so the child may do anything.
    let pid = check(unsafe { libc::fork() })?;
    Ok((pid != 0).then_some(pid))
}

/// Ends this process at once, without running destructors or exit handlers.
pub(crate) fn exit_now(code: c_int) -> ! {
    // SAFETY: always sound; nothing of this process runs after it.
    unsafe { libc::_exit(code) }
}

/// How a child ended, as `waitpid` reports it.
#[derive(Clone, Copy)]
pub(crate) struct WaitStatus(pub(crate) c_int);

impl WaitStatus {
    pub(crate) fn code(self) -> Option<i32> {
        libc::WIFEXITED(self.0).then(|| libc::WEXITSTATUS(self.0))
    }

    pub(crate) fn signal(self) -> Option<i32> {
        libc::WIFSIGNALED(self.0).then(|| libc::WTERMSIG(self.0))
    }
}

/// Waits for any child; `None` when there is none left, or none yet and `block` is false.
pub(crate) fn wait_any(block: bool) -> io::Result<Option<(i32, WaitStatus)>> {
    let mut status = 0;
    loop {
        let flags = if block { 0 } else { libc::WNOHANG };
        // SAFETY: `status` is a live local.
        match check(unsafe { libc::waitpid(-1, &raw mut status, flags) }) {
            Ok(0) => return Ok(None),
            Ok(pid) => return Ok(Some((pid, WaitStatus(status)))),
            Err(error) => match error.raw_os_error() {
                Some(libc::EINTR) => {}
                Some(libc::ECHILD) => return Ok(None),
                _ => return Err(error),
            },
        }
    }
}

/// Replaces this process by `program`; returns only what went wrong.
pub(crate) fn exec(program: &CStr, args: &[CString], env: &[CString]) -> io::Result<Infallible> {
    let pointers = |strings: &[CString]| {
        strings
            .iter()
            .map(|s| s.as_ptr())
            .chain([null()])
            .collect::<Vec<_>>()
    };
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: both arrays end in null and point to strings that outlive the call.
    unsafe { libc::execve(program.as_ptr(), args.as_ptr(), env.as_ptr()) };
    Err(io::Error::last_os_error())
}

/// Sends SIGKILL; a process that has ended already is not an error.
pub(crate) fn kill(pidfd: impl AsFd) -> io::Result<()> {
    let fd = pidfd.as_fd().as_raw_fd();
    // SAFETY: no memory is passed.
    let result = check_long(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            fd,
            libc::SIGKILL,
            null::<libc::siginfo_t>(),
            0,
        )
    });
    match result {
        Err(error) if error.raw_os_error() != Some(libc::ESRCH) => Err(error),
        _ => Ok(()),
    }
}

pub(crate) fn own_uid() -> u32 {
    // SAFETY: cannot fail and takes nothing.
    unsafe { libc::geteuid() }
}

pub(crate) fn own_gid() -> u32 {
    // SAFETY: cannot fail and takes nothing.
    unsafe { libc::getegid() }
}

/// Takes on the ids for good: real, effective and saved.
pub(crate) fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: no memory is passed.
    unsafe {
        check(libc::setresgid(gid, gid, gid))?;
        check(libc::setresuid(uid, uid, uid))?;
    }
    Ok(())
}

pub(crate) fn drop_supplementary_groups() -> io::Result<()> {
    // SAFETY: an empty list is given by its length 0.
    check(unsafe { libc::setgroups(0, null()) }).map(drop)
}

pub(crate) fn new_session() -> io::Result<()> {
    // SAFETY: takes nothing.
    check(unsafe { libc::setsid() }).map(drop)
}

pub(crate) fn set_umask(mask: u32) {
    // SAFETY: cannot fail.
    unsafe { libc::umask(mask) };
}

/// Makes this process's cgroup the root of what it sees of cgroups.
pub(crate) fn new_cgroup_namespace() -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::unshare(libc::CLONE_NEWCGROUP) }).map(drop)
}

pub(crate) fn set_hostname(name: &str) -> io::Result<()> {
    // SAFETY: pointer and length are those of `name`.
    check(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) }).map(drop)
}
