//! Mounts, old and new calls.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use libc::c_ulong;

use super::{check, check_long};

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

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
