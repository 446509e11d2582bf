//! Images in files of this node: OCI image layouts, tars of them, and what `docker save` writes.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::entries::Entries;
use super::layer;
use super::manifest::{
    DOCUMENT_BYTES_MAX, Descriptor, Document, Index, MANIFEST_TYPES, Manifest, digest_of, digits,
    hex, json,
};
use crate::error::Failure;

/// By which a layout names its images.
const TAG: &str = "org.opencontainers.image.ref.name";
/// The same, as containerd and Docker write it: the whole reference.
const NAME: &str = "io.containerd.image.name";

/// An image in files.
pub(super) struct Local {
    /// Its manifest, or the index to choose it from.
    pub(super) document: Vec<u8>,
    folder: PathBuf,
    /// Files that lie elsewhere than a layout has them, by digest.
    files: HashMap<String, PathBuf>,
}

impl Local {
    /// Opens a folder that holds an image layout.
    pub(super) fn layout(folder: &Path, tag: Option<&str>) -> Result<Self, Failure> {
        let place = folder.join("index.json");
        let text = read_in(folder, &place).map_err(|e| {
            let place = place.display();
            Failure::of(format!(
                "{place} cannot be read on this node ({e}): it is no OCI layout"
            ))
        })?;
        let index: Index = json("index", &text)?;
        let chosen = choose(&index, tag)?;
        let local = Self {
            document: Vec::new(),
            folder: folder.to_owned(),
            files: HashMap::new(),
        };
        let document = local.document(&chosen.digest)?;
        Ok(Self { document, ..local })
    }

    /// Unpacks an archive into the empty folder `into`, and opens what it holds.
    pub(super) fn archive(
        file: &Path,
        tag: Option<&str>,
        into: &Path,
        bytes_max: u64,
    ) -> Result<Self, Failure> {
        extract(file, into, bytes_max)?;
        if into.join("index.json").is_file() {
            return Self::layout(into, tag);
        }
        if into.join("manifest.json").is_file() {
            return Self::saved(into, tag);
        }
        Err(Failure::of(format!(
            "{} holds neither an OCI layout nor what docker save writes",
            file.display()
        )))
    }

    fn saved(folder: &Path, tag: Option<&str>) -> Result<Self, Failure> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Saved {
            config: String,
            repo_tags: Option<Vec<String>>,
            layers: Vec<String>,
        }
        let failed = |e| Failure::of(format!("its archive cannot be read: {e}"));
        let saved: Vec<Saved> = json(
            "list of images",
            &read_in(folder, &folder.join("manifest.json")).map_err(failed)?,
        )?;
        let named = |saved: &&Saved| match tag {
            Some(tag) => saved
                .repo_tags
                .iter()
                .flatten()
                .any(|name| ends_with_tag(name, tag)),
            None => true,
        };
        let found: Vec<&Saved> = saved.iter().filter(named).collect();
        let [saved] = found[..] else {
            return Err(ambiguous(tag, found.len()));
        };
        let mut files = HashMap::new();
        let mut describe = |name: &str, media_type: &str| {
            let path = folder.join(
                plain(Path::new(name))
                    .ok_or_else(|| Failure::of(format!("its archive names the file {name:?}")))?,
            );
            let (digest, size) = digest_of_file(&path).map_err(failed)?;
            files.insert(digest.clone(), path);
            Ok::<_, Failure>(Descriptor {
                media_type: media_type.to_owned(),
                digest,
                size,
                platform: None,
                annotations: Default::default(),
            })
        };
        let config = describe(&saved.config, "application/vnd.oci.image.config.v1+json")?;
        let layers = saved.layers.iter();
        let layers = layers.map(|name| describe(name, "application/vnd.oci.image.layer.v1.tar"));
        let manifest = Manifest {
            schema_version: 2,
            media_type: MANIFEST_TYPES[0].to_owned(),
            config,
            layers: layers.collect::<Result<_, _>>()?,
        };
        Ok(Self {
            document: serde_json::to_vec(&manifest).expect("a manifest is plain data"),
            folder: folder.to_owned(),
            files,
        })
    }

    /// A document of the layout, as its digest says.
    pub(super) fn document(&self, digest: &str) -> Result<Vec<u8>, Failure> {
        let path = self.blob(digest)?;
        let bytes = read_in(&self.folder, &path).map_err(|e| missing(digest, &e))?;
        if digest_of(&bytes) == digest {
            Ok(bytes)
        } else {
            Err(damaged(digest))
        }
    }

    /// The file of a blob, whose content has been checked.
    pub(super) fn checked(&self, wanted: &Descriptor) -> Result<PathBuf, Failure> {
        let path = self.blob(&wanted.digest)?;
        let found = within(&self.folder, &path).and_then(|path| digest_of_file(&path));
        let found = found.map_err(|e| missing(&wanted.digest, &e))?;
        if found == (wanted.digest.clone(), wanted.size) {
            Ok(path)
        } else {
            Err(damaged(&wanted.digest))
        }
    }

    fn blob(&self, digest: &str) -> Result<PathBuf, Failure> {
        let digits = hex(digest)?;
        let elsewhere = self.files.get(digest).cloned();
        Ok(elsewhere.unwrap_or_else(|| self.folder.join("blobs/sha256").join(digits)))
    }
}

fn missing(digest: &str, error: &io::Error) -> Failure {
    Failure::of(format!("its part {digest} cannot be read: {error}"))
}

fn damaged(digest: &str) -> Failure {
    Failure::of(format!(
        "its part {digest} is damaged: its content has another digest or size"
    ))
}

fn ambiguous(tag: Option<&str>, found: usize) -> Failure {
    Failure::of(match tag {
        Some(tag) => format!("it has {found} images of the tag {tag:?}"),
        None => format!("it has {found} images: write the tag of one behind the path"),
    })
}

fn ends_with_tag(name: &str, tag: &str) -> bool {
    name == tag
        || name
            .strip_suffix(tag)
            .is_some_and(|rest| rest.ends_with(':'))
}

fn choose<'a>(index: &'a Index, tag: Option<&str>) -> Result<&'a Descriptor, Failure> {
    let named = |descriptor: &&Descriptor| match tag {
        Some(tag) => [TAG, NAME].iter().any(|key| {
            let name = descriptor.annotations.get(*key);
            name.is_some_and(|name| ends_with_tag(name, tag))
        }),
        None => true,
    };
    let found: Vec<_> = index.manifests.iter().filter(named).collect();
    match found[..] {
        [one] => Ok(one),
        // The same image for several platforms, without an index of its own.
        [_, _, ..] if found.iter().all(|d| d.platform.is_some()) => index.here(),
        _ => Err(ambiguous(tag, found.len())),
    }
}

/// Where a path of this node leads, if that is below one of the folders that its owner allows.
pub(super) fn allowed(path: &Path, folders: &[PathBuf]) -> Result<PathBuf, Failure> {
    let real = path.canonicalize();
    let below = |path: &Path| {
        folders.iter().any(|folder| {
            let folder = folder.canonicalize();
            folder.is_ok_and(|folder| path.starts_with(folder))
        })
    };
    match real {
        Ok(real) if below(&real) => Ok(real),
        // The same words whether it is there or not: that is nobody's business.
        _ => Err(Failure::of(
            "it is in none of the folders from which this node takes images, or not there: the \
             node's owner names them in worker.imageFolders of server.yaml",
        )),
    }
}

/// Where a path leads, unless that is outside of the folder.
fn within(folder: &Path, path: &Path) -> io::Result<PathBuf> {
    let real = path.canonicalize()?;
    if real.starts_with(folder.canonicalize()?) {
        Ok(real)
    } else {
        Err(io::Error::other("it leads out of the image's folder"))
    }
}

/// Opens a regular file. A pipe or a device may have no end, and opening it may take for ever.
pub(super) fn open_regular(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    let file = options
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("it is no regular file"))
    }
}

/// A document; whatever is longer is none.
fn read_in(folder: &Path, path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut file = open_regular(&within(folder, path)?)?.take(DOCUMENT_BYTES_MAX + 1);
    file.read_to_end(&mut bytes)?;
    if bytes.len() as u64 > DOCUMENT_BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

fn digest_of_file(path: &Path) -> io::Result<(String, u64)> {
    let mut hash = Sha256::new();
    let mut file = open_regular(path)?;
    let (mut buffer, mut size) = (vec![0; 1 << 16], 0);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((format!("sha256:{}", digits(&hash.finalize())), size)),
            count => {
                hash.update(&buffer[..count]);
                size += count as u64;
            }
        }
    }
}

/// A name as a path that stays below its folder.
fn plain(name: &Path) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    for component in name.components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            Component::RootDir | Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    (!path.as_os_str().is_empty()).then_some(path)
}

/// Unpacks the files of an archive. Nothing but files and the folders they lie in is made, so no
/// name leads elsewhere.
fn extract(file: &Path, into: &Path, bytes_max: u64) -> Result<(), Failure> {
    let broken = |e: io::Error| {
        Failure::of(format!(
            "{} is no archive that this node can read: {e}",
            file.display()
        ))
    };
    let failed = |e| Failure::io("unpack an image's archive", &e);
    let opened = open_regular(file).map_err(broken)?;
    let archive = layer::open(BufReader::new(opened))?;
    let mut archive = tar::Archive::new(archive.take(bytes_max));
    let mut entries = Entries::of(&mut archive).map_err(broken)?;
    while let Some(mut entry) = entries.next().map_err(broken)? {
        let name = PathBuf::from(std::ffi::OsStr::from_bytes(&entry.path));
        let is_file = entry.content.header().entry_type().is_file();
        let Some(name) = plain(&name).filter(|_| is_file) else {
            continue;
        };
        let path = into.join(name);
        fs::create_dir_all(path.parent().expect("it lies in a folder")).map_err(failed)?;
        let mut file = File::create(&path).map_err(failed)?;
        io::copy(&mut entry.content, &mut file).map_err(broken)?;
    }
    Ok(())
}

/// The document that a manifest's digest is of: the one for this machine.
pub(super) fn resolve(local: &Local) -> Result<Vec<u8>, Failure> {
    match Document::parse(&local.document)? {
        Document::Manifest(_) => Ok(local.document.clone()),
        Document::Index(index) => local.document(&index.here()?.digest),
    }
}

#[cfg(test)]
mod tests;
