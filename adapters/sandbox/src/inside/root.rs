//! The sandbox's root: a tmpfs with the programs and libraries of the host or of an image, made
//! read-only at the end.

mod image;

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::system::{DEVICES, Shown, System};
use super::{Failure, Plan, Step};
use crate::helper::Identity;
use crate::spec::{Bindings, name_address};
use crate::sys::{self, MountFlags};
use crate::{Access, Limits, Mount};

/// Directories to mount the new root on while the old one is still there; one of them exists.
const STAGES: &[&str] = &["/tmp", "/mnt", "/run", "/var"];
/// Where the old root is, until it is let go of.
const HOST: &str = "/.host";
/// Room for the directories and small files of the root.
const ROOT_OPTIONS: &str = "mode=755,size=1m,nr_inodes=4096";
const NO_SUID_NO_DEVICES: libc::c_ulong = libc::MS_NOSUID | libc::MS_NODEV;
const READ_ONLY: MountFlags = MountFlags {
    read_only: true,
    devices: false,
};

/// Builds the root and moves into it. `bindings` are those of a network of its own.
pub(super) fn build(plan: &Plan<'_>, bindings: Option<&Bindings>) -> Result<(), Failure> {
    let Plan { machine, spec, .. } = *plan;
    make_private().step("make mounts private")?;
    let opened: Vec<OwnedFd>;
    let trees = if machine.identity.privileged {
        &plan.trees
    } else {
        let open = spec.sources().map(|mount| open_source(&mount, None));
        opened = open.collect::<Result<_, _>>()?;
        &opened
    };
    let (image, trees) = match (&spec.root, trees.split_first()) {
        (Some(_), Some((image, mounts))) => (Some(image), mounts),
        _ => (None, trees.as_slice()),
    };
    enter_stage()?;
    let etc = if image.is_some() {
        image::prepare()?;
        Path::new(image::ETC)
    } else {
        show_system(&machine.system)?;
        Path::new("/etc")
    };
    match bindings {
        None => show_all(&machine.system.network, etc)?,
        Some(bindings) => {
            write_hosts(etc, &spec.hostname, &bindings.names).step("write hosts")?;
        }
    }
    write_users(etc, &machine.identity).step("write passwd and group")?;
    make_devices(&spec.limits)?;
    make_scratch("/tmp", &spec.limits).step("mount /tmp")?;
    if machine.proc {
        mount_proc("/proc").step("mount /proc")?;
    }
    leave_host()?;
    if let Some(image) = image {
        image::show(image)?;
    }
    // Only now: nothing that a mounted tree holds may lead a later target to the host.
    for (mount, tree) in spec.mounts.iter().zip(trees) {
        let target = &mount.target;
        make_target(target, tree).step_with(|| format!("make {}", target.display()))?;
        sys::attach_tree(tree, target).step_with(|| format!("mount {}", target.display()))?;
    }
    sys::set_mount_flags(Path::new("/"), READ_ONLY, false).step("make the root read-only")
}

/// Opens the source of a mount, with its flags and, if given, its owner mapped.
pub(crate) fn open_source(mount: &Mount, ids: Option<&OwnedFd>) -> Result<OwnedFd, Failure> {
    let flags = MountFlags {
        read_only: mount.access == Access::ReadOnly,
        devices: false,
    };
    let open = || {
        let tree = sys::open_tree(&mount.source)?;
        sys::set_tree_flags(&tree, flags)?;
        if let Some(ids) = ids {
            // A file system that cannot map ids is shown as it is.
            let _ = sys::map_tree_ids(&tree, ids);
        }
        Ok(tree)
    };
    open().step_with(|| format!("open the source {}", mount.source.display()))
}

fn make_private() -> io::Result<()> {
    sys::mount(
        c"none",
        Path::new("/"),
        c"none",
        libc::MS_REC | libc::MS_PRIVATE,
        "",
    )
}

/// Mounts the new root, and makes it the root with the host's below it.
fn enter_stage() -> Result<(), Failure> {
    let stage = STAGES.iter().map(Path::new).find(|stage| stage.is_dir());
    let stage = stage.unwrap_or(Path::new(STAGES[0]));
    let pivot = || {
        sys::mount(c"tmpfs", stage, c"tmpfs", NO_SUID_NO_DEVICES, ROOT_OPTIONS)?;
        let host = stage.join(&HOST[1..]);
        fs::create_dir(&host)?;
        sys::pivot_root(stage, &host)?;
        std::env::set_current_dir("/")
    };
    pivot().step("change the root")
}

fn leave_host() -> Result<(), Failure> {
    sys::unmount(Path::new(HOST))
        .and_then(|()| fs::remove_dir(HOST))
        .step("let go of the host's root")
}

fn show_system(system: &System) -> Result<(), Failure> {
    for directory in &system.directories {
        fs::create_dir(directory).step("make directories")?;
    }
    symlink("/tmp", "/var/tmp").step("make links")?;
    show_all(&system.shown, Path::new("/"))?;
    for (place, to) in &system.links {
        symlink(to, place).step("make links")?;
    }
    Ok(())
}

/// Shows parts of the host: at their own places, or in the folder `within` by their names alone.
fn show_all(shown: &[Shown], within: &Path) -> Result<(), Failure> {
    for entry in shown {
        let name = entry.target.file_name().unwrap_or_default();
        let target = if within == Path::new("/") {
            entry.target.clone()
        } else {
            within.join(name)
        };
        let show = || {
            if !entry.directory {
                File::create(&target)?;
            }
            bind(&entry.source, &target)?;
            sys::set_mount_flags(&target, READ_ONLY, true)
        };
        show().step_with(|| format!("show {}", target.display()))?;
    }
    Ok(())
}

/// Shows a part of the host, while its root is still there.
fn bind(source: &Path, target: &Path) -> io::Result<()> {
    let below = source.strip_prefix("/").map_err(io::Error::other)?;
    let source = Path::new(HOST).join(below);
    let source = CString::new(source.as_os_str().as_bytes()).map_err(io::Error::other)?;
    sys::mount(&source, target, c"none", libc::MS_BIND | libc::MS_REC, "")
}

/// Makes what a mount needs to be mounted on, unless it is there.
fn make_target(target: &Path, tree: &OwnedFd) -> io::Result<()> {
    if fs::exists(target)? {
        return Ok(());
    }
    if File::from(tree.try_clone()?).metadata()?.is_dir() {
        fs::create_dir_all(target)
    } else {
        target.parent().map_or(Ok(()), fs::create_dir_all)?;
        File::create(target).map(drop)
    }
}

/// Names are found in this one file: there is nobody to ask.
fn write_hosts(etc: &Path, hostname: &str, names: &[String]) -> io::Result<()> {
    let mut text = format!("127.0.0.1 localhost {hostname}\n::1 localhost\n");
    for (index, name) in names.iter().enumerate() {
        text.push_str(&format!("{} {name}\n", name_address(index)));
    }
    fs::write(etc.join("hosts"), text)?;
    fs::write(
        etc.join("nsswitch.conf"),
        "passwd: files\ngroup: files\nhosts: files\n",
    )
}

fn write_users(etc: &Path, identity: &Identity) -> io::Result<()> {
    let Identity {
        inside_uid: uid,
        inside_gid: gid,
        ..
    } = identity;
    let passwd = format!(
        "root:x:0:0:root:/:/usr/sbin/nologin\nsandbox:x:{uid}:{gid}:sandbox:/tmp:/bin/sh\n"
    );
    fs::write(etc.join("passwd"), passwd)?;
    fs::write(etc.join("group"), format!("root:x:0:\nsandbox:x:{gid}:\n"))
}

fn make_devices(limits: &Limits) -> Result<(), Failure> {
    for name in DEVICES {
        let device = Path::new("/dev").join(name);
        File::create(&device)
            .and_then(|_| bind(&device, &device))
            .step_with(|| format!("show {}", device.display()))?;
    }
    let link = |name: &str, to: &str| symlink(to, Path::new("/dev").join(name));
    link("fd", "/proc/self/fd")
        .and_then(|()| link("stdin", "/proc/self/fd/0"))
        .and_then(|()| link("stdout", "/proc/self/fd/1"))
        .and_then(|()| link("stderr", "/proc/self/fd/2"))
        .step("make links")?;
    make_scratch("/dev/shm", limits).step("mount /dev/shm")
}

/// A tmpfs that anybody inside may write to. Its number of files is bounded with its size, as each
/// takes a kilobyte of the kernel's memory that the size does not count.
fn make_scratch(target: &str, limits: &Limits) -> io::Result<()> {
    let bytes = limits.tmp_bytes;
    let files = (bytes / 2048).max(1024);
    let options = format!("mode=1777,size={bytes},nr_inodes={files}");
    sys::mount(
        c"tmpfs",
        Path::new(target),
        c"tmpfs",
        NO_SUID_NO_DEVICES,
        &options,
    )
}

/// Hides from the program whatever it could not inspect, which is the first process.
fn mount_proc(target: &str) -> io::Result<()> {
    let flags = NO_SUID_NO_DEVICES | libc::MS_NOEXEC;
    sys::mount(c"proc", Path::new(target), c"proc", flags, "hidepid=2")
}

/// Tries what needs rights over mounts.
pub(super) fn attempt() -> Result<(), Failure> {
    make_private().step("make mounts private")?;
    enter_stage()
}

/// Tries what a container that hides parts of its own `/proc` does not allow.
pub(super) fn attempt_proc() -> Result<(), Failure> {
    fs::create_dir("/proc")
        .and_then(|()| mount_proc("/proc"))
        .step("mount /proc")
}
