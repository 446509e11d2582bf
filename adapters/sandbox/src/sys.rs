//! Safe wrappers around the system calls which the standard library does not have.
//!
//! Each takes borrowed descriptors and Rust strings and answers with `io::Result`, so that no other
//! file but `wire` and `child` needs unsafe code.

mod descriptors;
mod mounts;
mod privileges;
mod processes;
mod signals;

use std::io;

use libc::{c_int, c_long};

pub use self::descriptors::readable;
pub(crate) use self::descriptors::{
    close_all_but, dup_above, dup_to, inherited, netlink_socket, poll, send_now, set_nonblocking,
    shut_down, take_packet,
};
pub(crate) use self::mounts::{
    MountFlags, attach_tree, map_tree_ids, mount, open_tree, pivot_root, set_mount_flags,
    set_tree_flags, unmount,
};
pub(crate) use self::privileges::{
    die_with_parent, drop_capabilities, forbid_inspection, forbid_new_privileges, install_filter,
    lock_capabilities, raise_open_files, run_in_background, set_limit,
};
pub(crate) use self::processes::{
    Clone, WaitStatus, become_user, clone, drop_supplementary_groups, exec, exit_now, fork, kill,
    new_cgroup_namespace, new_session, own_gid, own_uid, set_hostname, set_umask, wait_any,
};
pub(crate) use self::signals::{
    block_signals, default_signal_actions, drain_signals, signal_fd, unblock_signals,
};

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
