//! A function's source: unpacked in memory, checked, and its handler found.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Component, Path};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use flate2::read::GzDecoder;
use serde::{Deserialize, Serialize};

use crate::error::Failure;
use crate::packs::language::Language;
use crate::packs::pack::{SourceRule, fill};

/// What the first documents of Dispatch call the entry of a file unless they say otherwise.
const ENTRY: &str = "main";
/// So many files are no function's own.
const FILES_MAX: usize = 2000;

/// The source of a function, as it was given to Dispatch.
#[derive(Debug, Clone)]
pub enum Source {
    /// A gzipped tar of a folder.
    Archive(Bytes),
    /// One file.
    File {
        /// Its name, such as `hello.py`; without one the language's usual name is taken.
        name: String,
        /// Its text.
        text: String,
    },
}

impl Source {
    /// How long it is as it was given.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Archive(bytes) => bytes.len(),
            Self::File { text, .. } => text.len(),
        }
    }
}

/// The files of a function and the handler in them, both known to be well-formed.
#[derive(Debug, Clone)]
pub(crate) struct Unpacked {
    pub(crate) files: Vec<File>,
    pub(crate) handler: String,
}

/// A file as a worker is sent it: path, text, and whether the text is base64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct File(pub(crate) String, pub(crate) String, pub(crate) bool);

/// Unpacks a source and settles its handler, which may be left empty for a single file.
pub(crate) fn unpack(
    source: &Source,
    handler: &str,
    language: Language,
) -> Result<Unpacked, Failure> {
    let files = match source {
        Source::Archive(bytes) => {
            let megabytes = language.manifest().source.megabytes;
            unpack_archive(bytes, megabytes)?
        }
        Source::File { name, text } => {
            let name = if name.is_empty() {
                language.manifest().source.name.clone()
            } else {
                name.clone()
            };
            let name = plain_path(Path::new(&name))?;
            BTreeMap::from([(name, text.clone().into_bytes())])
        }
    };
    let handler = settle_handler(handler.trim(), language, &files)?;
    let files = files
        .into_iter()
        .map(|(name, bytes)| into_file(name, bytes))
        .collect();
    Ok(Unpacked { files, handler })
}

fn into_file(name: String, bytes: Vec<u8>) -> File {
    match String::from_utf8(bytes) {
        Ok(text) => File(name, text, false),
        Err(binary) => File(name, STANDARD.encode(binary.as_bytes()), true),
    }
}

fn unpack_archive(bytes: &Bytes, megabytes: u64) -> Result<BTreeMap<String, Vec<u8>>, Failure> {
    let bad = |e: std::io::Error| Failure::of(format!("the source is not a gzipped tar: {e}"));
    let too_large = || {
        Failure::of(format!(
            "the source is larger than {megabytes} MiB unpacked"
        ))
    };
    let bytes_max = megabytes << 20;
    // One byte past the limit tells "just fits" from "too large"; tar headers count as well.
    let mut archive = tar::Archive::new(GzDecoder::new(&bytes[..]).take(bytes_max + 1));
    let mut files = BTreeMap::new();
    let mut total = 0;
    for entry in archive.entries().map_err(bad)? {
        let mut entry = entry.map_err(bad)?;
        if !entry.header().entry_type().is_file() {
            continue; // folders come of the files in them; links would lead elsewhere
        }
        let name = plain_path(&entry.path().map_err(bad)?)?;
        total += entry.size();
        if total > bytes_max {
            return Err(too_large());
        }
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(bad)?;
        files.insert(name, content);
        if files.len() > FILES_MAX {
            return Err(Failure::of(format!(
                "the source has more than {FILES_MAX} files"
            )));
        }
    }
    if files.is_empty() {
        return Err(Failure::of("the source has no files"));
    }
    Ok(files)
}

/// The path without `.`; one that is absolute or climbs is refused.
fn plain_path(path: &Path) -> Result<String, Failure> {
    let bad = || {
        Failure::of(format!(
            "the source has a file outside of it: {}",
            path.display()
        ))
    };
    let mut parts: Vec<&str> = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str().ok_or_else(bad)?),
            Component::CurDir => {}
            Component::RootDir | Component::ParentDir | Component::Prefix(_) => return Err(bad()),
        }
    }
    if parts.is_empty() {
        Err(bad())
    } else {
        Ok(parts.join("/"))
    }
}

fn settle_handler(
    handler: &str,
    language: Language,
    files: &BTreeMap<String, Vec<u8>>,
) -> Result<String, Failure> {
    let rule = &language.manifest().handler;
    let only = only_source(&language.manifest().source, files);
    if handler.is_empty() {
        let (path, module) = only?;
        return Ok(fill(&rule.default, &[("path", &path), ("module", &module)]));
    }
    if let (Ok((path, module)), true) = (only, is_word(handler)) {
        let values = [("path", &*path), ("module", &*module), ("name", handler)];
        match &rule.member {
            _ if handler == ENTRY && !files.contains_key(ENTRY) => {
                return Ok(fill(&rule.default, &values));
            }
            Some(member) => return Ok(fill(member, &values)),
            None => {}
        }
    }
    let invalid = || {
        Failure::of(format!(
            "Invalid function file or handler: {handler} is not {}",
            rule.form
        ))
    };
    let (first, rest) = match &rule.separator {
        None => (handler, ""),
        Some(separator) => {
            let at = handler.rfind(separator).ok_or_else(invalid)?;
            let (first, rest) = handler.split_at(at);
            if first.is_empty() || rest.len() == separator.len() {
                return Err(invalid());
            }
            (first, rest)
        }
    };
    if rule.path {
        let path = plain_path(Path::new(first)).map_err(|_| invalid())?;
        Ok(format!("./{path}{rest}"))
    } else {
        Ok(handler.to_owned())
    }
}

fn is_word(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// What a source file's module is called, if it is a source file.
pub(crate) fn module(rule: &SourceRule, path: &str) -> Option<String> {
    let mut endings = rule.suffixes.iter();
    let stem = match rule.suffixes.is_empty() {
        true => Some(path),
        false => endings.find_map(|end| path.strip_suffix(end.as_str())),
    };
    stem.map(|stem| stem.replace('/', "."))
}

/// The one source file that there is: its path, and the name of its module.
fn only_source(
    rule: &SourceRule,
    files: &BTreeMap<String, Vec<u8>>,
) -> Result<(String, String), Failure> {
    let sources: Vec<_> = files
        .keys()
        .filter_map(|name| Some((name, module(rule, name)?)))
        .collect();
    match &sources[..] {
        [(path, module)] => Ok(((*path).clone(), module.clone())),
        _ => Err(Failure::of(
            "Exactly 1 source file needed when HANDLER is empty",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn python3() -> Language {
        Language::parse("python3").expect("is embedded")
    }

    fn nodejs() -> Language {
        Language::parse("nodejs").expect("is embedded")
    }

    fn archive(files: &[(&str, &[u8])]) -> Source {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, content) in files {
            let mut header = tar::Header::new_gnu();
            // The builder would refuse a path that climbs, which is what some tests are about.
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            tar.append(&header, *content).expect("appends");
        }
        let tar = tar.into_inner().expect("finishes");
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(&tar).expect("packs");
        Source::Archive(gz.finish().expect("packs").into())
    }

    fn reason(source: &Source, handler: &str, language: Language) -> String {
        unpack(source, handler, language)
            .expect_err("it is refused")
            .reason
    }

    #[test]
    fn a_single_file_needs_no_handler() {
        let py = archive(&[("./hello.py", b"")]);
        let unpacked = unpack(&py, "", python3()).expect("unpacks");
        assert_eq!(unpacked.handler, "hello.handle");
        let js = Source::File {
            name: "hello.js".into(),
            text: String::new(),
        };
        assert_eq!(
            unpack(&js, "", nodejs()).expect("unpacks").handler,
            "./hello.js"
        );
    }

    #[test]
    fn the_entry_of_an_old_document_is_a_function_of_the_only_file() {
        let py = archive(&[("hello.py", b"")]);
        for (entry, handler) in [("main", "hello.handle"), ("greet", "hello.greet")] {
            let unpacked = unpack(&py, entry, python3()).expect("unpacks");
            assert_eq!(unpacked.handler, handler);
        }
        let js = archive(&[("hello.js", b"")]);
        let unpacked = unpack(&js, "main", nodejs()).expect("unpacks");
        assert_eq!(unpacked.handler, "./hello.js");
        let two = archive(&[("a.py", b""), ("b.py", b"")]);
        assert!(reason(&two, "main", python3()).contains("module.function"));
    }

    #[test]
    fn several_files_need_one() {
        let two = archive(&[("a.py", b""), ("b.py", b"")]);
        let said = "Exactly 1 source file needed when HANDLER is empty";
        assert_eq!(reason(&two, "", python3()), said);
        assert_eq!(
            unpack(&two, "b.run", python3())
                .expect("unpacks")
                .files
                .len(),
            2
        );
        assert_eq!(reason(&two, "", nodejs()), said);
    }

    #[test]
    fn a_file_outside_of_the_source_is_refused() {
        for name in ["../evil.py", "/etc/evil.py", "a/../../evil.py"] {
            let said = reason(&archive(&[(name, b"x")]), "", python3());
            assert!(
                said.starts_with("the source has a file outside of it"),
                "{said}"
            );
        }
    }

    #[test]
    fn what_is_no_archive_is_refused_and_so_is_a_bomb() {
        let said = reason(&Source::Archive(Bytes::from_static(b"PK")), "", python3());
        assert!(
            said.starts_with("the source is not a gzipped tar"),
            "{said}"
        );
        let zeros = vec![0; (16 << 20) + 1];
        let said = reason(&archive(&[("big.py", &zeros)]), "", python3());
        assert_eq!(said, "the source is larger than 16 MiB unpacked");
    }

    #[test]
    fn a_handler_of_the_wrong_form_is_refused() {
        let py = archive(&[("hello.py", b"")]);
        for handler in ["hel lo", ".handle", "hello."] {
            assert!(reason(&py, handler, python3()).contains("module.function"));
        }
        assert!(reason(&py, "../x.js", nodejs()).contains("is not a path"));
    }

    #[test]
    fn a_binary_file_travels_as_base64() {
        let source = archive(&[("hello.py", b"x"), ("data.bin", &[0xff, 0x00])]);
        let files = unpack(&source, "hello.handle", python3())
            .expect("unpacks")
            .files;
        assert!(files.contains(&File("data.bin".into(), "/wA=".into(), true)));
    }
}
