//! A root that is an image: its top-level directories and links, and nothing of the host.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::super::{Failure, Step};
use crate::{Spec, sys};

/// Where the image is while its parts are shown.
const IMAGE: &str = "/.image";
/// Where the files are written that are laid over the image's own; they stay below it unseen.
pub(super) const ETC: &str = "/.etc";
/// What every sandbox has its own of.
const OWN: [&str; 5] = ["dev", "proc", "run", "sys", "tmp"];

/// Makes the directories that the image's own are not shown for.
pub(super) fn prepare() -> Result<(), Failure> {
    let directories = ["/dev", "/dev/shm", "/proc", "/run", "/tmp", ETC];
    directories
        .into_iter()
        .try_for_each(fs::create_dir)
        .step("make directories")
}

/// Shows the image's parts. The host's root must be gone by now: no link of an image may lead
/// there.
pub(super) fn show(image: &OwnedFd) -> Result<(), Failure> {
    fs::create_dir(IMAGE)
        .and_then(|()| sys::attach_tree(image, Path::new(IMAGE)))
        .step("mount the image")?;
    for entry in fs::read_dir(IMAGE).step("read the image")? {
        let entry = entry.step("read the image")?;
        let name = entry.file_name();
        let own = OWN.iter().any(|own| name == *own);
        if own || name.as_bytes().starts_with(b".") {
            continue;
        }
        show_part(&entry.path(), &Path::new("/").join(&name))
            .step_with(|| format!("show /{} of the image", name.to_string_lossy()))?;
    }
    for name in Spec::OVERLAID {
        lay_over(name).step_with(|| format!("lay over /etc/{name} of the image"))?;
    }
    sys::unmount(Path::new(IMAGE))
        .and_then(|()| fs::remove_dir(IMAGE))
        .step("let go of the image")
}

fn show_part(part: &Path, target: &Path) -> io::Result<()> {
    let kind = fs::symlink_metadata(part)?.file_type();
    if kind.is_symlink() {
        return symlink(fs::read_link(part)?, target);
    }
    if kind.is_dir() {
        fs::create_dir(target)?;
    } else {
        File::create(target)?;
    }
    bind(part, target)
}

fn lay_over(name: &str) -> io::Result<()> {
    let (own, target) = (Path::new(ETC).join(name), Path::new("/etc").join(name));
    if !own.exists() {
        return Ok(());
    }
    if !fs::symlink_metadata(&target)?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    bind(&own, &target)?;
    sys::set_mount_flags(&target, super::READ_ONLY, true)
}

/// A bind mount keeps the flags and the mapped ids of what it shows.
fn bind(source: &Path, target: &Path) -> io::Result<()> {
    let source = CString::new(source.as_os_str().as_bytes()).map_err(io::Error::other)?;
    sys::mount(&source, target, c"none", libc::MS_BIND | libc::MS_REC, "")
}
