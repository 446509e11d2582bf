//! Files that code of a sandbox, or an image, has made: read without following a link, without
//! waiting for a writer, and only so far.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Component, Path};

/// The beginning of a regular file, up to that many bytes.
///
/// # Errors
/// When there is none: a link, a pipe, a device or a folder is none.
pub(crate) fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut bytes = Vec::new();
    file.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whether the path itself is a folder, and no link to one.
pub(crate) fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir())
}

/// Whether `below` is a folder of `folder` that is reached through no link; `None` when there is
/// nothing of that name.
pub(crate) fn folder_below(folder: &Path, below: &str) -> Option<bool> {
    let mut path = folder.to_owned();
    for component in Path::new(below).components() {
        let Component::Normal(name) = component else {
            return Some(false);
        };
        path.push(name);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Ok(_) | Err(_) => return Some(false),
        }
    }
    Some(true)
}

/// What each file takes at least, empty ones too: a file system has room for so many only.
const FILE_BYTES: u64 = 4096;

/// How many bytes a folder takes, with all below it; links are not followed, and what its maker has
/// forbidden to look into counts as one file.
pub(crate) fn size(folder: &Path) -> u64 {
    let mut folders = vec![folder.to_owned()];
    let mut bytes = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if metadata.is_dir() {
                folders.push(entry.path());
            }
            bytes += metadata.len().max(metadata.blocks() * 512).max(FILE_BYTES);
        }
    }
    bytes
}

/// Removes a folder with whatever is in it, also where its maker has forbidden to look.
///
/// # Errors
/// When something of it stays.
pub(crate) fn remove_all(folder: &Path) -> io::Result<()> {
    if fs::remove_dir_all(folder).is_ok() {
        return Ok(());
    }
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    fs::remove_dir_all(folder)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_regular_files_are_read_and_only_so_far() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::write(at("plain"), "0123456789").expect("writes");
        assert_eq!(read(&at("plain"), 4).expect("is read"), b"0123");
        symlink(at("plain"), at("link")).expect("links");
        let made = std::process::Command::new("mkfifo")
            .arg(at("pipe"))
            .status();
        assert!(made.expect("mkfifo runs").success());
        for name in ["link", "pipe", "absent", "."] {
            assert!(read(&at(name), 4).is_err(), "{name}");
        }
    }

    #[test]
    fn what_lies_deep_counts_and_what_is_behind_a_link_does_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let deep = folder.path().join("a/b");
        fs::create_dir_all(&deep).expect("makes it");
        let before = size(folder.path());
        fs::write(deep.join("file"), vec![1; 100_000]).expect("writes");
        symlink("/usr", folder.path().join("link")).expect("links");
        let after = size(folder.path());
        assert!((100_000..200_000).contains(&(after - before)), "{after}");
        for number in 0..10 {
            fs::write(deep.join(format!("empty-{number}")), "").expect("writes");
        }
        assert!(size(folder.path()) >= after + 10 * FILE_BYTES);
    }

    #[test]
    fn a_folder_behind_a_link_is_none() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(folder.path().join("a/b")).expect("makes it");
        symlink("a", folder.path().join("link")).expect("links");
        for (below, expected) in [
            ("", Some(true)),
            ("a/b", Some(true)),
            ("a/c", None),
            ("link", Some(false)),
            ("link/b", Some(false)),
            ("../a", Some(false)),
        ] {
            assert_eq!(folder_below(folder.path(), below), expected, "{below}");
        }
        assert!(!is_folder(&folder.path().join("link")));
    }
}
