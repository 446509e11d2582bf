//! The end of all privileges, in the order in which each step may still be taken.

use super::{Failure, Step};
use crate::helper::{Identity, Machine};
use crate::{Limits, sys};

/// Sets the limits that hold for each process by itself.
pub(super) fn limit(machine: &Machine, limits: &Limits) -> Result<(), Failure> {
    let kind = machine.cgroups.kind();
    let mut all = vec![
        (libc::RLIMIT_CORE, 0),
        (libc::RLIMIT_FSIZE, limits.file_bytes),
        (libc::RLIMIT_NOFILE, u64::from(limits.open_files)),
    ];
    // Counted per user namespace; without one, all sandboxes of this launcher would share it.
    if machine.identity.user_namespace || !kind.bounds_processes() {
        all.push((libc::RLIMIT_NPROC, u64::from(limits.processes) + 1));
    }
    if let Some(bytes) = limits.address_space_bytes.filter(|_| !kind.bounds_memory()) {
        all.push((libc::RLIMIT_AS, bytes));
    }
    for (resource, value) in all {
        sys::set_limit(resource, value).step("set limits")?;
    }
    Ok(())
}

/// Gives up capabilities and denied system calls for good.
pub(super) fn lock(machine: &Machine) -> Result<(), Failure> {
    drop_rights(&machine.identity)?;
    sys::forbid_new_privileges().step("forbid new privileges")?;
    // This process keeps a copy of the helper's memory, and must not be read by the program.
    sys::forbid_inspection().step("forbid inspection")?;
    // A change of user has undone it.
    sys::die_with_parent().step("bind to the helper's life")?;
    for filter in &machine.filters {
        sys::install_filter(filter).step("install the seccomp filter")?;
    }
    Ok(())
}

/// Tries what may be refused of this.
pub(super) fn attempt(identity: &Identity) -> Result<(), Failure> {
    drop_rights(identity)
}

fn drop_rights(identity: &Identity) -> Result<(), Failure> {
    sys::lock_capabilities().step("lock capabilities")?;
    if !identity.user_namespace {
        sys::become_user(identity.inside_uid, identity.inside_gid).step("change the user")?;
    }
    sys::drop_capabilities().step("drop capabilities")
}
