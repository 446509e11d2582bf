//! What this node has of images: layers taken apart, each once, and roots made of them by hard
//! links. A folder appears under its digest when it is whole, or not at all.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::layer;
use super::manifest::hex;
use super::tree::{Directory, Node};
use crate::error::{Error, Failure};
use crate::layers::write_whole;

/// The root itself, in its folder.
const ROOT: &str = "root";
/// What is known of it, beside it.
const NOTE: &str = "note.json";
/// Where programs are, for an image that does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How many folders of an image's `PATH` are looked into; images have a handful.
const PATH_FOLDERS_MAX: usize = 64;
/// How many links a name may go through, as in the kernel.
const LINKS_MAX: usize = 40;

/// What is kept beside a root.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    /// The image's own environment.
    pub(crate) env: Vec<(String, String)>,
    /// The layers that it is made of.
    pub(crate) layers: Vec<String>,
}

/// A root on this node. It is not removed as long as a clone of this is there.
#[derive(Debug, Clone)]
pub struct Root {
    /// The digest of the image's manifest.
    pub digest: String,
    /// Its folder.
    pub path: PathBuf,
    pub(crate) note: Note,
    _lease: Arc<Lease>,
}

impl PartialEq for Root {
    /// The same digest is the same content.
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for Root {}

impl Root {
    /// The programs of that name on the image's own `PATH`, by their places in it.
    pub(crate) fn on_path(&self, name: &str) -> Vec<PathBuf> {
        let path = self.note.env.iter().find(|(name, _)| name == "PATH");
        let path = path.map_or(DEFAULT_PATH, |(_, path)| path.as_str());
        let places = path
            .split(':')
            .filter(|folder| folder.starts_with('/'))
            .take(PATH_FOLDERS_MAX);
        places
            .map(|folder| Path::new(folder).join(name))
            .filter(|place| self.find(place).is_some_and(|real| real.is_file()))
            .collect()
    }

    /// Where a place of the root is on the host, with the root's links followed within it.
    pub(crate) fn find(&self, place: &Path) -> Option<PathBuf> {
        let mut real = PathBuf::new();
        let mut rest: Vec<PathBuf> = vec![place.to_owned()];
        let mut links = 0;
        while let Some(part) = rest.pop() {
            let mut components = part.components();
            let first = components.next();
            let Some(first) = first else { continue };
            rest.push(components.as_path().to_owned());
            match first {
                Component::RootDir => real.clear(),
                Component::ParentDir => {
                    real.pop();
                }
                Component::Normal(name) => {
                    real.push(name);
                    let there = self.path.join(&real);
                    let kind = fs::symlink_metadata(&there).ok()?;
                    if kind.is_symlink() {
                        links += 1;
                        if links > LINKS_MAX {
                            return None;
                        }
                        real.pop();
                        rest.push(fs::read_link(there).ok()?);
                    }
                }
                Component::CurDir | Component::Prefix(_) => {}
            }
        }
        Some(self.path.join(real))
    }
}

#[derive(Debug)]
struct Lease {
    note: PathBuf,
}

impl Drop for Lease {
    /// The time of the note is when the root was last used; a missing note is of a removed root.
    fn drop(&mut self) {
        if let Ok(file) = fs::File::options().append(true).open(&self.note) {
            let _ = file.set_modified(SystemTime::now());
        }
    }
}

/// The folders.
#[derive(Debug)]
pub(super) struct Store {
    layers: PathBuf,
    roots: PathBuf,
    scratch: PathBuf,
    leases: Mutex<HashMap<String, Weak<Lease>>>,
    /// Layers of images that are being made, and by how many.
    pins: Mutex<HashMap<String, usize>>,
}

/// Layers that the sweep must leave.
#[derive(Debug)]
pub(super) struct Pin {
    store: Arc<Store>,
    layers: Vec<String>,
}

impl Drop for Pin {
    fn drop(&mut self) {
        let pins = self.store.pins.lock();
        let mut pins = pins.unwrap_or_else(PoisonError::into_inner);
        for layer in &self.layers {
            if let Some(count) = pins.get_mut(layer) {
                *count -= 1;
            }
        }
        pins.retain(|_, count| *count > 0);
    }
}

impl Store {
    /// Opens the folders below `folder`, and removes what was begun and never finished.
    pub(super) fn open(folder: &Path) -> Result<Self, Error> {
        let store = Self {
            layers: folder.join("layers"),
            roots: folder.join("roots"),
            scratch: folder.join("scratch"),
            leases: Mutex::default(),
            pins: Mutex::default(),
        };
        let failed = |path: &Path, source| Error::State {
            path: path.to_owned(),
            source,
        };
        match remove(&store.scratch) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(&store.scratch, e)),
            _ => {}
        }
        for path in [&store.layers, &store.roots, &store.scratch] {
            fs::create_dir_all(path).map_err(|e| failed(path, e))?;
        }
        Ok(store)
    }

    /// A folder for what is being made.
    pub(super) fn scratch(&self) -> Result<tempfile::TempDir, Failure> {
        tempfile::Builder::new()
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir_in(&self.scratch)
            .map_err(|e| Failure::io("make a folder for an image", &e))
    }

    /// The root of a manifest's digest, if it is here.
    pub(super) fn root(&self, digest: &str) -> Result<Option<Root>, Failure> {
        let folder = self.roots.join(hex(digest)?);
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        let note = folder.join(NOTE);
        let Ok(text) = fs::read(&note) else {
            return Ok(None);
        };
        let known = serde_json::from_slice(&text)
            .map_err(|e| Failure::now(format!("failed to read what is noted of a root: {e}")))?;
        let lease = leases
            .get(digest)
            .and_then(Weak::upgrade)
            .unwrap_or_else(|| {
                let lease = Arc::new(Lease { note });
                leases.insert(digest.to_owned(), Arc::downgrade(&lease));
                lease
            });
        Ok(Some(Root {
            digest: digest.to_owned(),
            path: folder.join(ROOT),
            note: known,
            _lease: lease,
        }))
    }

    /// Keeps the sweep from layers that an image is being made of, until the last one who said so
    /// has dropped what this gives.
    pub(super) fn pin(self: &Arc<Self>, layers: &[String]) -> Pin {
        let mut pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        for layer in layers {
            *pins.entry(layer.clone()).or_default() += 1;
        }
        Pin {
            store: Arc::clone(self),
            layers: layers.to_vec(),
        }
    }

    pub(super) fn has_layer(&self, diff_id: &str) -> bool {
        hex(diff_id).is_ok_and(|hex| self.layers.join(hex).is_dir())
    }

    /// Takes a layer's blob apart, unless this was done before; how many bytes its archive had.
    /// A layer that is here is no other's for the asking: the blob proves that they have it too.
    pub(super) fn keep_layer(
        &self,
        blob: &Path,
        diff_id: &str,
        bytes_max: u64,
    ) -> Result<u64, Failure> {
        let bounds = layer::Bounds { bytes_max };
        if self.has_layer(diff_id) {
            return layer::prove(blob, diff_id, bounds);
        }
        let scratch = self.scratch()?;
        let into = scratch.path().join("layer");
        fs::create_dir(&into).map_err(|e| Failure::io("make a folder for a layer", &e))?;
        let bytes = layer::unpack(blob, diff_id, &into, bounds)?;
        settle(&into, &self.layers.join(hex(diff_id)?))?;
        Ok(bytes)
    }

    /// Makes the root of layers that are all here.
    pub(super) fn keep_root(&self, digest: &str, note: &Note) -> Result<(), Failure> {
        let mut tree = Directory::default();
        for diff_id in &note.layers {
            let folder = self.layers.join(hex(diff_id)?);
            let entries = layer::index(&folder)?;
            tree.apply(&entries, &mut |number| {
                layer::content(&folder, number).into()
            })?;
        }
        let scratch = self.scratch()?;
        let folder = scratch.path().join("whole");
        let root = folder.join(ROOT);
        let failed = |e| Failure::io("lay out an image's root", &e);
        furnish(&mut tree, scratch.path()).map_err(failed)?;
        fs::create_dir(&folder).map_err(failed)?;
        write_folder(&tree, &root).map_err(failed)?;
        let text = serde_json::to_vec(note).expect("a note is plain data");
        write_whole(&folder.join(NOTE), &text).map_err(failed)?;
        settle(&folder, &self.roots.join(hex(digest)?))
    }

    /// Removes roots that are neither used nor were within `grace`, and layers that no root has
    /// and nobody pinned.
    pub(super) fn sweep(
        &self,
        used: &dyn Fn(&str) -> bool,
        grace: Duration,
    ) -> Result<usize, Failure> {
        let failed = |e| Failure::io("look for images that nothing uses", &e);
        let mut removed = 0;
        let mut kept = Vec::new();
        for (name, folder) in entries(&self.roots).map_err(failed)? {
            let digest = format!("sha256:{name}");
            let leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
            let leased = leases
                .get(&digest)
                .is_some_and(|lease| lease.strong_count() > 0);
            let note = folder.join(NOTE);
            if leased || used(&digest) || is_younger(&note, grace) {
                let text = fs::read(&note).map_err(failed)?;
                let note: Note = serde_json::from_slice(&text).unwrap_or_default();
                kept.extend(note.layers);
            } else {
                // Under the lock, so that nobody takes a lease on what is going.
                self.discard(&folder).map_err(failed)?;
                removed += 1;
            }
        }
        for (name, folder) in entries(&self.layers).map_err(failed)? {
            let pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
            let needed = kept
                .iter()
                .chain(pins.keys())
                .any(|layer| layer.ends_with(&name));
            // Under the lock, as above.
            if !needed && !is_younger(&folder, grace) {
                self.discard(&folder).map_err(failed)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Takes a folder from its place at once, and then apart.
    fn discard(&self, folder: &Path) -> io::Result<()> {
        let going = tempfile::Builder::new().tempdir_in(&self.scratch)?.keep();
        fs::rename(folder, going.join("gone"))?;
        remove(&going)
    }
}

/// Removes a folder in which others may have no right to write.
fn remove(path: &Path) -> io::Result<()> {
    fs::remove_dir_all(path)
}

fn entries(folder: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let named = |entry: io::Result<fs::DirEntry>| {
        let entry = entry?;
        Ok((
            entry.file_name().to_string_lossy().into_owned(),
            entry.path(),
        ))
    };
    fs::read_dir(folder)?.map(named).collect()
}

/// Whether a file or folder was changed, or touched, within that time.
pub(crate) fn is_younger(path: &Path, grace: Duration) -> bool {
    let age = fs::metadata(path)
        .and_then(|metadata| metadata.modified())
        .ok()
        .and_then(|modified| modified.elapsed().ok());
    // A clock that was set back makes it young.
    age.is_none_or(|age| age < grace)
}

fn settle(from: &Path, to: &Path) -> Result<(), Failure> {
    match fs::rename(from, to) {
        Err(_) if to.is_dir() => Ok(()), // the same content was there first
        moved => moved.map_err(|e| Failure::io("keep a part of an image", &e)),
    }
}

/// Makes sure of the few things that the sandbox needs of a root.
fn furnish(tree: &mut Directory, scratch: &Path) -> io::Result<()> {
    let empty = scratch.join("empty");
    fs::write(&empty, "")?;
    fs::set_permissions(&empty, fs::Permissions::from_mode(0o644))?;
    let etc = tree.entries.entry("etc".into());
    let etc = etc.or_insert_with(|| Node::Directory(Directory::default()));
    if !matches!(etc, Node::Directory(_)) {
        *etc = Node::Directory(Directory::default());
    }
    if let Node::Directory(etc) = etc {
        for name in adapter_sandbox::Spec::OVERLAID {
            let there = etc.entries.get(std::ffi::OsStr::new(name));
            if !matches!(there, Some(Node::File(_))) {
                etc.entries
                    .insert(name.into(), Node::File(empty.as_path().into()));
            }
        }
    }
    Ok(())
}

/// Writes a folder and all below it; `to` must not be there yet.
fn write_folder(folder: &Directory, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for (name, node) in &folder.entries {
        let place = to.join(name);
        match node {
            Node::Directory(below) => write_folder(below, &place)?,
            Node::Symlink(target) => symlink(target, &place)?,
            Node::File(content) => link(content, &place)?,
        }
    }
    let mode = layer::folder_mode(folder.mode.unwrap_or(0o755));
    fs::set_permissions(to, fs::Permissions::from_mode(mode))
}

/// Another name of a content, or a copy where the file system has no more names to give.
fn link(content: &Path, place: &Path) -> io::Result<()> {
    match fs::hard_link(content, place) {
        Err(e)
            if matches!(
                e.raw_os_error(),
                Some(libc::EMLINK | libc::EPERM | libc::EXDEV)
            ) =>
        {
            fs::copy(content, place).map(drop)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests;
