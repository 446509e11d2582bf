//! Safe wrappers around the system calls which the standard library does not have.
//!
//! Each takes borrowed descriptors and Rust strings and answers with `io::Result`, so that no other
//! file needs unsafe code.

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::{null, null_mut};

use libc::{c_int, c_long, c_ulong};

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn check_long(result: c_long) -> io::Result<c_long> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

// ---- processes

/// Which of the two processes `clone` returned in.
pub(crate) enum Clone {
    Child,
    Parent { pid: i32, pidfd: OwnedFd },
}

/// Like `fork`, into new namespaces, with a pidfd. The caller must have one thread only.
pub(crate) fn clone(namespaces: c_int) -> io::Result<Clone> {
    let mut pidfd: c_int = -1;
    let arguments = CloneArguments {
        flags: (namespaces | libc::CLONE_PIDFD) as u64,
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

// ---- privileges and limits

fn prctl(option: c_int, argument: c_ulong) -> io::Result<()> {
    let none: c_ulong = 0;
    // SAFETY: every option used in this file takes numbers only.
    check(unsafe { libc::prctl(option, argument, none, none, none) }).map(drop)
}

/// Has the kernel kill this process when its parent thread ends.
pub(crate) fn die_with_parent() -> io::Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as c_ulong)
}

/// Hides this process's memory, environment and descriptors from others of the same user.
pub(crate) fn forbid_inspection() -> io::Result<()> {
    prctl(libc::PR_SET_DUMPABLE, 0)
}

pub(crate) fn forbid_new_privileges() -> io::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1)
}

/// Closes every way to gain a capability; those held stay until `drop_capabilities`, and also over
/// a change of user.
pub(crate) fn lock_capabilities() -> io::Result<()> {
    let secure = libc::SECBIT_NOROOT
        | libc::SECBIT_NOROOT_LOCKED
        | libc::SECBIT_NO_SETUID_FIXUP
        | libc::SECBIT_NO_SETUID_FIXUP_LOCKED
        | libc::SECBIT_KEEP_CAPS_LOCKED
        | libc::SECBIT_NO_CAP_AMBIENT_RAISE
        | libc::SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;
    prctl(
        libc::PR_CAP_AMBIENT,
        libc::PR_CAP_AMBIENT_CLEAR_ALL as c_ulong,
    )?;
    prctl(libc::PR_SET_SECUREBITS, secure as c_ulong)?;
    for capability in 0..64 {
        match prctl(libc::PR_CAPBSET_DROP, capability) {
            // The kernel knows no more capabilities.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break,
            other => other?,
        }
    }
    Ok(())
}

/// Gives up every capability held.
pub(crate) fn drop_capabilities() -> io::Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let header: [u32; 2] = [VERSION_3, 0];
    let none = [0u32; 6];
    // SAFETY: version 3 has a header of two words and two data records of three words each.
    check_long(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) }).map(drop)
}

/// Sets both the soft and the hard limit, or the hard limit's own value where that is lower.
pub(crate) fn set_limit(resource: libc::__rlimit_resource_t, value: u64) -> io::Result<()> {
    // SAFETY: all-zero is a valid `rlimit`.
    let mut limit: libc::rlimit = unsafe { zeroed() };
    // SAFETY: `limit` is a live local.
    check(unsafe { libc::getrlimit(resource, &raw mut limit) })?;
    let value = value.min(limit.rlim_max);
    limit = libc::rlimit {
        rlim_cur: value,
        rlim_max: value,
    };
    // SAFETY: `limit` is a live local.
    check(unsafe { libc::setrlimit(resource, &raw const limit) }).map(drop)
}

/// Raises the limit on this process's open files as far as it may.
pub(crate) fn raise_open_files() -> io::Result<()> {
    // SAFETY: all-zero is a valid `rlimit`, and both calls are given a live local.
    unsafe {
        let mut limit: libc::rlimit = zeroed();
        check(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit))?;
        limit.rlim_cur = limit.rlim_max;
        check(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit)).map(drop)
    }
}

// ---- signals

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

// ---- descriptors

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

// ---- mounts

/// `mount(2)`.
pub(crate) fn mount(
    source: &CStr,
    target: &Path,
    kind: &CStr,
    flags: c_ulong,
    options: &str,
) -> io::Result<()> {
    let target = c_path(target)?;
    let options = CString::new(options).map_err(io::Error::other)?;
    // SAFETY: every pointer is a live string.
    check(unsafe {
        libc::mount(
            source.as_ptr(),
            target.as_ptr(),
            kind.as_ptr(),
            flags,
            options.as_ptr().cast(),
        )
    })
    .map(drop)
}

/// Unmounts `target` as soon as nobody uses it.
pub(crate) fn unmount(target: &Path) -> io::Result<()> {
    let target = c_path(target)?;
    // SAFETY: the pointer is a live string.
    check(unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) }).map(drop)
}

/// Makes `new_root` the root, and the old root appear at `put_old`.
pub(crate) fn pivot_root(new_root: &Path, put_old: &Path) -> io::Result<()> {
    let (new_root, put_old) = (c_path(new_root)?, c_path(put_old)?);
    // SAFETY: both pointers are live strings.
    check_long(unsafe { libc::syscall(libc::SYS_pivot_root, new_root.as_ptr(), put_old.as_ptr()) })
        .map(drop)
}

const OPEN_TREE_CLONE: libc::c_uint = 1;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;

/// A detached copy of the mounts at `path`, to be attached elsewhere.
pub(crate) fn open_tree(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let flags = OPEN_TREE_CLONE | (libc::O_CLOEXEC | libc::AT_RECURSIVE) as libc::c_uint;
    // SAFETY: the pointer is a live string; a new descriptor is returned.
    unsafe {
        let fd = libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags);
        let fd = check_long(fd)?;
        Ok(OwnedFd::from_raw_fd(
            RawFd::try_from(fd).expect("a descriptor is an int"),
        ))
    }
}

/// Attaches a detached copy at `target`.
pub(crate) fn attach_tree(tree: impl AsFd, target: &Path) -> io::Result<()> {
    let target = c_path(target)?;
    let fd = tree.as_fd().as_raw_fd();
    // SAFETY: both pointers are live strings.
    check_long(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            fd,
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    })
    .map(drop)
}

/// What can be set on a tree of mounts.
#[derive(Clone, Copy)]
pub(crate) struct MountFlags {
    pub(crate) read_only: bool,
    pub(crate) devices: bool,
}

/// Sets flags (always `nosuid`) on all mounts of a detached copy.
pub(crate) fn set_tree_flags(tree: impl AsFd, flags: MountFlags) -> io::Result<()> {
    let attributes = MountAttributes {
        set: flags.bits(),
        ..MountAttributes::default()
    };
    let recursive = (libc::AT_EMPTY_PATH | libc::AT_RECURSIVE) as libc::c_uint;
    mount_setattr(tree.as_fd().as_raw_fd(), c"", recursive, &attributes)
}

/// Sets flags (always `nosuid`) on the mount at `path`, or on all mounts at and below it.
pub(crate) fn set_mount_flags(path: &Path, flags: MountFlags, below: bool) -> io::Result<()> {
    let attributes = MountAttributes {
        set: flags.bits(),
        ..MountAttributes::default()
    };
    let recursive = if below {
        libc::AT_RECURSIVE as libc::c_uint
    } else {
        0
    };
    mount_setattr(libc::AT_FDCWD, &c_path(path)?, recursive, &attributes)
}

/// Shows the ids of a detached copy as `namespace` maps them.
pub(crate) fn map_tree_ids(tree: impl AsFd, namespace: impl AsFd) -> io::Result<()> {
    let attributes = MountAttributes {
        set: MOUNT_ATTR_IDMAP,
        userns_fd: namespace.as_fd().as_raw_fd() as u64,
        ..MountAttributes::default()
    };
    let recursive = (libc::AT_EMPTY_PATH | libc::AT_RECURSIVE) as libc::c_uint;
    mount_setattr(tree.as_fd().as_raw_fd(), c"", recursive, &attributes)
}

fn mount_setattr(
    directory: RawFd,
    path: &CStr,
    flags: libc::c_uint,
    attributes: &MountAttributes,
) -> io::Result<()> {
    // SAFETY: both pointers are live, and the length is that of the structure.
    check_long(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            directory,
            path.as_ptr(),
            flags,
            std::ptr::from_ref(attributes),
            size_of::<MountAttributes>(),
        )
    })
    .map(drop)
}

const MOUNT_ATTR_RDONLY: u64 = 0x1;
const MOUNT_ATTR_NOSUID: u64 = 0x2;
const MOUNT_ATTR_NODEV: u64 = 0x4;
const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;

#[repr(C)]
#[derive(Default)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

impl MountFlags {
    fn bits(self) -> u64 {
        let read_only = if self.read_only { MOUNT_ATTR_RDONLY } else { 0 };
        let devices = if self.devices { 0 } else { MOUNT_ATTR_NODEV };
        read_only | devices | MOUNT_ATTR_NOSUID
    }
}

// ---- sockets

/// A routing socket of this network namespace.
pub(crate) fn netlink_socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: a new descriptor is returned.
    unsafe {
        let fd = check(libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Ends a connection in both directions.
pub(crate) fn shut_down(socket: impl AsFd) -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::shutdown(socket.as_fd().as_raw_fd(), libc::SHUT_RDWR) }).map(drop)
}

/// Installs a seccomp filter, on top of those installed before.
pub(crate) fn install_filter(filter: &seccompiler::BpfProgram) -> io::Result<()> {
    seccompiler::apply_filter(filter).map_err(|error| match error {
        seccompiler::Error::Seccomp(source) | seccompiler::Error::Prctl(source) => source,
        other => io::Error::other(other.to_string()),
    })
}
