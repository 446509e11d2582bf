//! The entries of an archive, with a bound on what it may have read into memory. An archive says
//! names that are too long for a header in entries of their own, of any length it likes.

use std::io::{self, Read};

use tar::{Archive, Entry, EntryType, PaxExtensions};

/// The most bytes of an entry that describes the next one: the longest name has 4,096.
const EXTENSION_BYTES_MAX: u64 = 64 << 10;
/// The longest name that Linux has.
const NAME_BYTES_MAX: usize = 4096;
/// The names of all entries: a large image has a tenth of it.
const NAMES_BYTES_MAX: usize = 256 << 20;

/// Reads entry by entry.
pub(super) struct Entries<'a, R: Read> {
    raw: tar::Entries<'a, R>,
    names_bytes: usize,
}

/// One that is no extension of another.
pub(super) struct Found<'a, R: Read> {
    pub(super) path: Vec<u8>,
    /// The target of a link; empty for all else.
    pub(super) link: Vec<u8>,
    /// Its header, and to be read.
    pub(super) content: Entry<'a, R>,
}

/// What the entries before one say of it.
#[derive(Default)]
struct Said {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

impl<'a, R: Read> Entries<'a, R> {
    pub(super) fn of(archive: &'a mut Archive<R>) -> io::Result<Self> {
        Ok(Self {
            raw: archive.entries()?.raw(true),
            names_bytes: 0,
        })
    }

    /// The next entry, until there is none.
    pub(super) fn next(&mut self) -> io::Result<Option<Found<'a, R>>> {
        let mut said = Said::default();
        while let Some(entry) = self.raw.next() {
            let mut entry = entry?;
            match entry.header().entry_type() {
                EntryType::GNULongName => said.path = Some(until_nul(short(&mut entry)?)),
                EntryType::GNULongLink => said.link = Some(until_nul(short(&mut entry)?)),
                EntryType::XHeader => said.read(&short(&mut entry)?)?,
                EntryType::XGlobalHeader => {}
                EntryType::GNUSparse => return Err(sparse()),
                _ => return self.found(said, entry).map(Some),
            }
        }
        Ok(None)
    }

    fn found(&mut self, said: Said, content: Entry<'a, R>) -> io::Result<Found<'a, R>> {
        let header = content.header();
        if said.size.is_some_and(|size| size != content.size()) {
            return Err(refused("a file has two sizes, or more than 8 GiB"));
        }
        let path = said
            .path
            .unwrap_or_else(|| header.path_bytes().into_owned());
        let link = said
            .link
            .or_else(|| header.link_name_bytes().map(Into::into));
        let link = link.unwrap_or_default();
        if path.len() > NAME_BYTES_MAX || link.len() > NAME_BYTES_MAX {
            return Err(refused("a name has more than 4,096 bytes"));
        }
        self.names_bytes += path.len() + link.len();
        if self.names_bytes > NAMES_BYTES_MAX {
            return Err(refused("its names have more than 256 MiB"));
        }
        Ok(Found {
            path,
            link,
            content,
        })
    }
}

impl Said {
    fn read(&mut self, extensions: &[u8]) -> io::Result<()> {
        for extension in PaxExtensions::new(extensions) {
            let extension = extension?;
            let value = extension.value_bytes();
            match extension.key_bytes() {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => {
                    let size = std::str::from_utf8(value).ok();
                    let size = size.and_then(|size| size.parse().ok());
                    self.size = Some(size.ok_or_else(|| refused("a size is no number"))?);
                }
                // One tool's way to write files with holes keeps the real content where only it
                // finds it.
                key if key.starts_with(b"GNU.sparse.") => return Err(sparse()),
                _ => {}
            }
        }
        Ok(())
    }
}

/// The content of an entry that describes another.
fn short(entry: &mut Entry<'_, impl Read>) -> io::Result<Vec<u8>> {
    if entry.size() > EXTENSION_BYTES_MAX {
        return Err(refused("an entry is described by more than 64 KiB"));
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|byte| *byte == 0);
    bytes.truncate(end.unwrap_or(bytes.len()));
    bytes
}

fn sparse() -> io::Error {
    refused(
        "it has a sparse file in GNU tar's own format: build the image with a tool that writes \
         whole files",
    )
}

fn refused(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
