//! A root as its layers make it, in memory. Whatever a layer's names, links and whiteouts say is
//! resolved here, among values: the host's file system is written to only when all is decided, in
//! fresh folders, and never through a link.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::Failure;

/// How many links a name may go through, as in the kernel.
const LINKS_MAX: usize = 40;
/// The deepest folder; what is deeper could not be opened by its whole name.
const DEPTH_MAX: usize = 256;
/// The longest name of one entry, which is the kernel's own bound.
const NAME_BYTES_MAX: usize = 255;

/// One entry of a layer, in the layer's order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Its place, from the root.
    pub(super) path: Path,
    pub(super) kind: Kind,
}

/// What an entry does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Kind {
    Directory {
        mode: u32,
    },
    /// The number of its content among the layer's files, which bears its mode.
    File(u32),
    Symlink(Text),
    /// The place of what it is another name of.
    HardLink(Path),
    /// Hides what lower layers have there.
    Whiteout,
    /// Hides what lower layers have in that folder.
    Opaque,
}

/// A place in the root: names that are neither empty nor `.` nor `..`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Path(Vec<Text>);

/// Bytes of a name or link, as text in which `%` and what is no text are escaped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Text(String);

impl Path {
    /// Reads a name of an archive. A leading `/` means the root; `..` is refused.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Failure> {
        let refuse = |why: &str| {
            let name = String::from_utf8_lossy(bytes);
            Failure::of(format!("a layer's entry {name:?} {why}"))
        };
        let mut names = Vec::new();
        for name in bytes.split(|&byte| byte == b'/') {
            match name {
                b"" | b"." => {}
                b".." => return Err(refuse("climbs out of the root by its name")),
                _ if name.len() > NAME_BYTES_MAX || name.contains(&0) => {
                    return Err(refuse("has a name that no file can have"));
                }
                _ => names.push(Text::of(name)),
            }
        }
        if names.len() > DEPTH_MAX {
            return Err(refuse("is too deep"));
        }
        Ok(Self(names))
    }

    pub(super) fn name(&self) -> Option<&Text> {
        self.0.last()
    }

    /// The same folder's entry of another name.
    pub(super) fn sibling(&self, name: &[u8]) -> Self {
        let mut names = self.0.clone();
        names.pop();
        names.push(Text::of(name));
        Self(names)
    }

    pub(super) fn parent(&self) -> Self {
        let mut names = self.0.clone();
        names.pop();
        Self(names)
    }

    fn names(&self) -> Vec<OsString> {
        self.0.iter().map(Text::name).collect()
    }
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|name| write!(f, "/{}", name.0))
    }
}

impl Text {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut text = String::with_capacity(bytes.len());
        for chunk in bytes.utf8_chunks() {
            for character in chunk.valid().chars() {
                match character {
                    '%' => text.push_str("%25"),
                    other => text.push(other),
                }
            }
            for byte in chunk.invalid() {
                text.push_str(&format!("%{byte:02x}"));
            }
        }
        Self(text)
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len());
        let mut rest = self.0.as_bytes();
        while let Some((&first, after)) = rest.split_first() {
            let digits = after.get(..2).filter(|_| first == b'%');
            let byte = digits
                .and_then(|digits| std::str::from_utf8(digits).ok())
                .and_then(|digits| u8::from_str_radix(digits, 16).ok());
            bytes.push(byte.unwrap_or(first));
            rest = if byte.is_some() { &after[2..] } else { after };
        }
        bytes
    }

    fn name(&self) -> OsString {
        OsString::from_vec(self.bytes())
    }
}

/// What is at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    Directory(Directory),
    /// The content's place in the store.
    File(Arc<std::path::Path>),
    Symlink(OsString),
}

/// A folder and all below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Directory {
    pub(super) mode: Option<u32>,
    pub(super) entries: BTreeMap<OsString, Node>,
}

impl Directory {
    /// Lays a layer over this root. Its whiteouts hide what lower layers have and nothing of its
    /// own, wherever they come among its entries.
    pub(super) fn apply(
        &mut self,
        layer: &[Entry],
        content: &mut dyn FnMut(u32) -> Arc<std::path::Path>,
    ) -> Result<(), Failure> {
        for entry in layer {
            match entry.kind {
                Kind::Whiteout => self.hide(&entry.path),
                Kind::Opaque => self.empty(&entry.path),
                _ => {}
            }
        }
        for Entry { path, kind } in layer {
            let node = match kind {
                Kind::Whiteout | Kind::Opaque => continue,
                Kind::Directory { mode } => {
                    self.place_directory(path, *mode)?;
                    continue;
                }
                Kind::File(number) => Node::File(content(*number)),
                Kind::Symlink(to) => Node::Symlink(to.name()),
                Kind::HardLink(to) => self.linked(path, to)?,
            };
            self.place(path, node)?;
        }
        Ok(())
    }

    fn linked(&self, path: &Path, to: &Path) -> Result<Node, Failure> {
        let found = self.place_of(&to.names()).and_then(|real| self.get(&real));
        match found {
            Some(node @ (Node::File(_) | Node::Symlink(_))) => Ok(node.clone()),
            Some(Node::Directory(_)) => Err(Failure::of(format!(
                "a layer's entry {path} is a hard link to the folder {to}"
            ))),
            None => Err(Failure::of(format!(
                "a layer's entry {path} is a hard link to {to}, which is not there"
            ))),
        }
    }

    fn hide(&mut self, path: &Path) {
        if let Some(place) = self.place_of(&path.names())
            && let Some((name, folder)) = place.split_last()
            && let Some(folder) = self.directory_mut(folder)
        {
            folder.entries.remove(name);
        }
    }

    fn empty(&mut self, path: &Path) {
        let names = path.names();
        let place = if names.is_empty() {
            Some(names)
        } else {
            self.place_of(&names)
        };
        if let Some(folder) = place.and_then(|place| self.directory_mut(&place)) {
            folder.entries.clear();
        }
    }

    fn place(&mut self, path: &Path, node: Node) -> Result<(), Failure> {
        let names = path.names();
        let Some((name, folder)) = names.split_last() else {
            return Err(Failure::of("a layer's entry takes the place of the root"));
        };
        let folder = self.folder(path, folder)?;
        folder.entries.insert(name.clone(), node);
        Ok(())
    }

    fn place_directory(&mut self, path: &Path, mode: u32) -> Result<(), Failure> {
        let names = path.names();
        let Some((name, folder)) = names.split_last() else {
            self.mode = Some(mode);
            return Ok(());
        };
        let folder = self.folder(path, folder)?;
        match folder.entries.get_mut(name) {
            Some(Node::Directory(there)) => there.mode = Some(mode),
            // Even a link to a folder: the layer says that it is a folder now.
            _ => {
                let new = Self {
                    mode: Some(mode),
                    ..Self::default()
                };
                folder.entries.insert(name.clone(), Node::Directory(new));
            }
        }
        Ok(())
    }

    /// The folder of that name, through links, made where it is missing.
    fn folder(&mut self, of: &Path, names: &[OsString]) -> Result<&mut Self, Failure> {
        let lost = |why: &str| Failure::of(format!("a layer's entry {of} lies {why}"));
        let place = self
            .follow(names, true)
            .ok_or_else(|| lost("below links that lead nowhere"))?;
        let mut folder = self;
        for name in place {
            let entry = folder.entries.entry(name);
            let node = entry.or_insert_with(|| Node::Directory(Self::default()));
            let Node::Directory(next) = node else {
                return Err(lost("below what is no folder"));
            };
            folder = next;
        }
        Ok(folder)
    }

    /// The place of a name whose folders may be links, and which itself may be one.
    fn place_of(&self, names: &[OsString]) -> Option<Vec<OsString>> {
        let (name, folder) = names.split_last()?;
        let mut place = self.follow(folder, true)?;
        place.push(name.clone());
        Some(place)
    }

    /// Where a name leads when links are followed as the kernel follows them with this as its
    /// root: `..` at the root stays there. `None` when there are too many links.
    fn follow(&self, names: &[OsString], last_too: bool) -> Option<Vec<OsString>> {
        let mut place: Vec<OsString> = Vec::new();
        let mut rest: Vec<OsString> = names.iter().rev().cloned().collect();
        let mut links = 0;
        while let Some(name) = rest.pop() {
            match name.as_bytes() {
                b"" | b"." => continue,
                b".." => {
                    place.pop();
                    continue;
                }
                _ => place.push(name),
            }
            if rest.is_empty() && !last_too {
                break;
            }
            if let Some(Node::Symlink(to)) = self.get(&place) {
                links += 1;
                if links > LINKS_MAX {
                    return None;
                }
                place.pop();
                if to.as_bytes().starts_with(b"/") {
                    place.clear();
                }
                let parts = to.as_bytes().split(|&byte| byte == b'/').rev();
                rest.extend(parts.map(|part| OsStr::from_bytes(part).to_owned()));
            }
        }
        (place.len() <= DEPTH_MAX).then_some(place)
    }

    /// What is at exactly that place; links are not followed.
    pub(super) fn get(&self, place: &[OsString]) -> Option<&Node> {
        let (name, folders) = place.split_last()?;
        let mut folder = self;
        for name in folders {
            let Some(Node::Directory(next)) = folder.entries.get(name) else {
                return None;
            };
            folder = next;
        }
        folder.entries.get(name)
    }

    fn directory_mut(&mut self, place: &[OsString]) -> Option<&mut Self> {
        let mut folder = self;
        for name in place {
            let Some(Node::Directory(next)) = folder.entries.get_mut(name) else {
                return None;
            };
            folder = next;
        }
        Some(folder)
    }
}

#[cfg(test)]
mod tests;
