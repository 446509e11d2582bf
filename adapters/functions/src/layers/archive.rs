//! A layer as one file: the same folder always packs to the same bytes.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::error::Failure;

/// Above this, zstd costs more time than it saves in transfer on a local network.
const COMPRESSION: i32 = 3;

/// Packs a folder: sorted, without times, owners, or permissions other than "may be executed".
pub(super) fn pack(folder: &Path, bytes_max: u64) -> Result<Vec<u8>, Failure> {
    let failed = |e| Failure::io("pack a layer", &e);
    let mut paths = Vec::new();
    list(folder, &mut paths).map_err(failed)?;
    paths.sort();
    let encoder = zstd::Encoder::new(Vec::new(), COMPRESSION).map_err(failed)?;
    let mut tar = tar::Builder::new(encoder);
    let mut total = 0;
    for path in paths {
        let name = path.strip_prefix(folder).expect("it was listed from there");
        let metadata = fs::symlink_metadata(&path).map_err(failed)?;
        total += metadata.len();
        if total > bytes_max {
            return Err(too_large(bytes_max));
        }
        append(&mut tar, &path, name, &metadata).map_err(failed)?;
    }
    tar.into_inner()
        .and_then(zstd::Encoder::finish)
        .map_err(failed)
}

fn append(
    tar: &mut tar::Builder<zstd::Encoder<'_, Vec<u8>>>,
    path: &Path,
    name: &Path,
    metadata: &fs::Metadata,
) -> std::io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    let executable = metadata.is_dir() || metadata.permissions().mode() & 0o111 != 0;
    header.set_mode(if executable { 0o755 } else { 0o644 });
    if metadata.is_symlink() {
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, name, fs::read_link(path)?)
    } else if metadata.is_dir() {
        header.set_entry_type(tar::EntryType::Directory);
        header.set_size(0);
        tar.append_data(&mut header, name, std::io::empty())
    } else {
        header.set_size(metadata.len());
        tar.append_data(&mut header, name, fs::File::open(path)?)
    }
}

fn list(folder: &Path, into: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() || kind.is_file() || kind.is_symlink() {
            into.push(entry.path());
        }
        if kind.is_dir() {
            list(&entry.path(), into)?;
        }
    }
    Ok(())
}

/// Unpacks what [`pack`] made; nothing is written outside of `folder`.
pub(super) fn unpack(packed: &[u8], folder: &Path, bytes_max: u64) -> Result<(), Failure> {
    let failed = |e| Failure::io("unpack a layer", &e);
    fs::create_dir_all(folder).map_err(failed)?;
    // Headers and padding count too; a layer of small files has about as much of them again.
    let mut plain = zstd::Decoder::new(packed)
        .map_err(failed)?
        .take(2 * bytes_max + (1 << 20));
    let mut archive = tar::Archive::new(&mut plain);
    archive.set_preserve_mtime(false);
    archive.set_preserve_ownerships(false);
    archive.unpack(folder).map_err(failed)?;
    if plain.limit() == 0 {
        Err(too_large(bytes_max))
    } else {
        Ok(())
    }
}

fn too_large(bytes_max: u64) -> Failure {
    Failure::of(format!(
        "the dependencies take more than {} MiB unpacked",
        bytes_max >> 20
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(order: [&str; 2]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for name in order {
            fs::create_dir_all(folder.path().join(name)).expect("makes it");
            fs::write(folder.path().join(name).join("x.py"), name).expect("writes");
        }
        std::os::unix::fs::symlink("a/x.py", folder.path().join("link")).expect("links");
        folder
    }

    #[test]
    fn the_same_content_packs_to_the_same_bytes() {
        let (one, two) = (sample(["a", "b"]), sample(["b", "a"]));
        let packed = pack(one.path(), 1 << 20).expect("packs");
        assert_eq!(packed, pack(two.path(), 1 << 20).expect("packs"));
    }

    #[test]
    fn what_was_packed_unpacks_to_the_same() {
        let packed = pack(sample(["a", "b"]).path(), 1 << 20).expect("packs");
        let folder = tempfile::tempdir().expect("a folder");
        let into = folder.path().join("layer");
        unpack(&packed, &into, 1 << 20).expect("unpacks");
        assert_eq!(
            fs::read_to_string(into.join("link")).expect("is there"),
            "a"
        );
        assert_eq!(packed, pack(&into, 1 << 20).expect("packs"));
    }

    #[test]
    fn a_layer_above_the_bound_is_refused_both_ways() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("big"), vec![0; 5 << 20]).expect("writes");
        let said = pack(folder.path(), 1 << 20).expect_err("is refused").reason;
        assert_eq!(said, "the dependencies take more than 1 MiB unpacked");
        let packed = pack(folder.path(), 10 << 20).expect("packs");
        let into = tempfile::tempdir().expect("a folder");
        assert!(unpack(&packed, into.path(), 1 << 20).is_err());
    }
}
