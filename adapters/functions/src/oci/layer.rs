//! A layer's archive, taken apart: what it says goes into an index, its files' contents go into
//! numbered files. No name of the archive ever becomes a name on the host here.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tar::EntryType;

use super::entries::Entries;
use super::local::open_regular;
use super::manifest::digits;
use super::tree::{self, Entry, Kind, Text};
use crate::error::Failure;

/// Before a name: it is hidden.
const WHITEOUT: &[u8] = b".wh.";
/// The folder is hidden, but for what this layer has in it.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Other names of the union file systems that this format comes from; they say nothing.
const PRIVATE: &[u8] = b".wh..wh.";
/// The most entries of a layer: a large image has a hundred thousand files.
const ENTRIES_MAX: usize = 1_000_000;
/// Files of one folder; folders of many more are slow to remove.
const FILES_PER_FOLDER: u32 = 4096;
/// The padding of the last file, and the two empty blocks that end an archive.
const END_BYTES: u64 = 3 * 512;
/// The name of the index.
const INDEX: &str = "index.json";
/// A file bears its permissions, and can be read by the engine in any case; set-user-ID,
/// set-group-ID and sticky bits are dropped.
const FILE_MODE: (u32, u32) = (0o777, 0o400);
/// The same of a folder, which the engine also has to write to, until it has removed it.
const FOLDER_MODE: (u32, u32) = (0o777, 0o700);

/// What unpacking may come to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Bytes of the archive, uncompressed.
    pub(super) bytes_max: u64,
}

/// Takes a layer's blob apart into the empty folder `into`, and says how many bytes its archive
/// had. `diff_id` is the digest of the archive itself.
pub(super) fn unpack(
    blob: &Path,
    diff_id: &str,
    into: &Path,
    bounds: Bounds,
) -> Result<u64, Failure> {
    let mut hashed = Hashed::open(blob, bounds)?;
    // Some tools leave out the padding and the end of an archive; its digest tells whether it is
    // whole.
    let end = io::repeat(0).take(END_BYTES);
    let entries = read((&mut hashed).chain(end), into, bounds)?;
    let bytes = hashed.finish(diff_id, bounds)?;
    let text = serde_json::to_vec(&entries).expect("entries are plain data");
    fs::write(into.join(INDEX), text).map_err(|e| Failure::io("write a layer's index", &e))?;
    Ok(bytes)
}

/// Finds out whether a blob is the archive of that digest, and how many bytes that has.
pub(super) fn prove(blob: &Path, diff_id: &str, bounds: Bounds) -> Result<u64, Failure> {
    Hashed::open(blob, bounds)?.finish(diff_id, bounds)
}

/// The index of a layer that was taken apart.
pub(super) fn index(layer: &Path) -> Result<Vec<Entry>, Failure> {
    let text = fs::read(layer.join(INDEX)).map_err(|e| Failure::io("read a layer's index", &e))?;
    serde_json::from_slice(&text)
        .map_err(|e| Failure::now(format!("failed to read a layer's index: {e}")))
}

/// Where the content of a number is.
pub(super) fn content(layer: &Path, number: u32) -> PathBuf {
    layer
        .join((number / FILES_PER_FOLDER).to_string())
        .join(number.to_string())
}

/// The mode that a folder of an archive gets.
pub(super) fn folder_mode(mode: u32) -> u32 {
    mode & FOLDER_MODE.0 | FOLDER_MODE.1
}

/// Reads a blob by what it is: gzip, zstd or the bare archive.
pub(super) fn open(mut blob: BufReader<File>) -> Result<Box<dyn Read>, Failure> {
    let failed = |e| Failure::io("read a layer", &e);
    let start = blob.fill_buf().map_err(failed)?;
    Ok(match start {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(blob)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::Decoder::with_buffer(blob).map_err(failed)?),
        _ => Box::new(blob),
    })
}

fn read(archive: impl Read, into: &Path, bounds: Bounds) -> Result<Vec<Entry>, Failure> {
    let mut entries = Vec::new();
    let mut files = 0;
    let mut archive = tar::Archive::new(archive);
    let mut read = Entries::of(&mut archive).map_err(|e| broken(&e, bounds))?;
    while let Some(mut entry) = read.next().map_err(|e| broken(&e, bounds))? {
        if entries.len() == ENTRIES_MAX {
            return Err(Failure::of(format!(
                "a layer has more than {ENTRIES_MAX} entries"
            )));
        }
        let path = tree::Path::parse(&entry.path)?;
        if let Some(hidden) = hidden(&path) {
            entries.extend(hidden);
            continue;
        }
        let header = entry.content.header();
        let mode = header.mode().unwrap_or(0o644);
        let link = entry.link;
        let kind = match header.entry_type() {
            EntryType::Directory => Kind::Directory { mode },
            EntryType::Symlink => Kind::Symlink(Text::of(&link)),
            EntryType::Link => Kind::HardLink(tree::Path::parse(&link)?),
            EntryType::Regular | EntryType::Continuous => {
                write(&mut entry.content, &content(into, files), mode, bounds)?;
                files += 1;
                Kind::File(files - 1)
            }
            // A sandbox has the devices that it is given; a pipe or socket of a build is nothing.
            EntryType::Char | EntryType::Block | EntryType::Fifo => continue,
            _ => continue,
        };
        entries.push(Entry { path, kind });
    }
    Ok(entries)
}

/// What a marker's name says, if it is one; markers that say nothing are no entries.
fn hidden(path: &tree::Path) -> Option<Option<Entry>> {
    let name = path.name()?.bytes();
    let hidden = |path, kind| Some(Some(Entry { path, kind }));
    if name == OPAQUE {
        hidden(path.parent(), Kind::Opaque)
    } else if name.starts_with(PRIVATE) {
        Some(None)
    } else {
        let name = name.strip_prefix(WHITEOUT)?;
        match name {
            b"" | b"." | b".." => Some(None),
            name => hidden(path.sibling(name), Kind::Whiteout),
        }
    }
}

fn write(content: &mut impl Read, to: &Path, mode: u32, bounds: Bounds) -> Result<(), Failure> {
    let failed = |e| Failure::io("write a layer's file", &e);
    let mode = mode & FILE_MODE.0 | FILE_MODE.1;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut file = match options.open(to) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(to.parent().expect("contents lie in a folder")).map_err(failed)?;
            options.open(to).map_err(failed)?
        }
        other => other.map_err(failed)?,
    };
    let mut source = Source(content, None);
    let copied = io::copy(&mut source, &mut file);
    if let Some(error) = source.1 {
        return Err(broken(&error, bounds));
    }
    copied.map_err(failed)?;
    // By the descriptor, as the umask would take from what is asked for at creation.
    file.set_permissions(fs::Permissions::from_mode(mode))
        .map_err(failed)
}

/// A reader that keeps its error, so that it can be told from the writer's.
struct Source<R>(R, Option<io::Error>);

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|error| {
            let kind = error.kind();
            if kind != io::ErrorKind::Interrupted {
                self.1 = Some(error);
            }
            kind.into()
        })
    }
}

fn broken(error: &io::Error, bounds: Bounds) -> Failure {
    if error.kind() == io::ErrorKind::FileTooLarge {
        let max = bounds.bytes_max >> 20;
        return Failure::of(format!(
            "its layers hold more than {max} MiB, which is the limit"
        ));
    }
    Failure::of(format!("a layer is no archive that can be read: {error}"))
}

/// Hashes what is read, and stops what is too much.
struct Hashed<R> {
    inner: R,
    hash: Sha256,
    left: u64,
}

impl Hashed<Box<dyn Read>> {
    fn open(blob: &Path, bounds: Bounds) -> Result<Self, Failure> {
        let file = open_regular(blob).map_err(|e| Failure::io("open a layer", &e))?;
        Ok(Self {
            inner: open(BufReader::new(file))?,
            hash: Sha256::new(),
            left: bounds.bytes_max,
        })
    }

    /// Reads what is left, which belongs to the digest, and says how many bytes all of it were.
    fn finish(mut self, diff_id: &str, bounds: Bounds) -> Result<u64, Failure> {
        io::copy(&mut self, &mut io::sink()).map_err(|e| broken(&e, bounds))?;
        let found = format!("sha256:{}", digits(&self.hash.finalize()));
        if found == diff_id {
            Ok(bounds.bytes_max - self.left)
        } else {
            Err(Failure::of(format!(
                "a layer's content has the digest {found}, and its configuration says {diff_id}"
            )))
        }
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.left = self
            .left
            .checked_sub(count as u64)
            .ok_or(io::ErrorKind::FileTooLarge)?;
        self.hash.update(&buffer[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
