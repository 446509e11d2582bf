//! What a process gives up: capabilities, privileges, limits, inspection.

use std::io;
use std::mem::zeroed;

use libc::{c_int, c_ulong};

use super::{check, check_long};

/// A thirtieth of the usual weight: enough to start on a busy machine in a second.
const BACKGROUND_NICE: i32 = 15;
/// The shortest that the kernel takes.
const BACKGROUND_SLICE_NS: u64 = 100_000;

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

/// Puts this process, and all it will start, behind others: it has a small share of a processor that
/// others want as well, and is soon interrupted by them.
pub(crate) fn run_in_background() -> io::Result<()> {
    /// The kernel's `sched_attr`, in its first version.
    #[repr(C)]
    struct Attributes {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime_ns: u64,
        deadline_ns: u64,
        period_ns: u64,
    }
    let attributes = Attributes {
        size: 48,
        policy: libc::SCHED_BATCH.unsigned_abs(),
        flags: 0,
        nice: BACKGROUND_NICE,
        priority: 0,
        // How long it runs before another may interrupt it; older kernels do not ask.
        runtime_ns: BACKGROUND_SLICE_NS,
        deadline_ns: 0,
        period_ns: 0,
    };
    // SAFETY: the kernel reads `size` bytes of a live local; 0 is this process, and no flags.
    check_long(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) })
        .map(drop)
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

/// Installs a seccomp filter, on top of those installed before.
pub(crate) fn install_filter(filter: &seccompiler::BpfProgram) -> io::Result<()> {
    seccompiler::apply_filter(filter).map_err(|error| match error {
        seccompiler::Error::Seccomp(source) | seccompiler::Error::Prctl(source) => source,
        other => io::Error::other(other.to_string()),
    })
}
