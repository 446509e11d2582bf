//! Function sources: a file or a directory becomes a gzipped tar archive, the same bytes for the
//! same content.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use engine_model::spec::Source;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::client::Connection;

/// What a message carries itself; what is larger goes to the blob store first.
const INLINE_BYTES_MAX: usize = 64 * 1024;

/// Reads the source of a function.
pub(super) async fn read(connection: &Connection, path: &Path) -> Result<Source> {
    let meta = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    let small = meta.is_file() && meta.len() <= INLINE_BYTES_MAX as u64;
    // What is no text travels as an archive.
    if small && let Some(text) = text(path)? {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.context("the file has no name in UTF-8")?.to_owned();
        return Ok(Source::File { name, text });
    }
    let archive = archive(path)?;
    if archive.len() <= INLINE_BYTES_MAX {
        return Ok(Source::Archive(STANDARD.encode(archive)));
    }
    let Some(blobs) = connection.blobs() else {
        bail!(
            "{} has {} bytes as an archive; over REST a source has at most {INLINE_BYTES_MAX}",
            path.display(),
            archive.len()
        );
    };
    let digest = blobs.put(Bytes::from(archive)).await?;
    Ok(Source::Blob(digest.to_string()))
}

fn text(path: &Path) -> Result<Option<String>> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(String::from_utf8(bytes).ok())
}

fn archive(path: &Path) -> Result<Vec<u8>> {
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    builder.mode(tar::HeaderMode::Deterministic);
    builder.follow_symlinks(false);
    if path.is_file() {
        let name = path.file_name().context("the file has no name")?;
        builder.append_path_with_name(path, name)?;
    } else {
        for (name, file) in files(path)? {
            builder.append_path_with_name(&file, &name)?;
        }
    }
    Ok(builder.into_inner()?.finish()?)
}

/// All files below a directory, in the order of their names.
fn files(root: &Path) -> Result<Vec<(PathBuf, PathBuf)>> {
    let mut found = Vec::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(directory) = open.pop() {
        let entries = fs::read_dir(&directory)
            .with_context(|| format!("cannot read {}", directory.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() && !path.is_symlink() {
                open.push(path);
            } else {
                found.push((path.strip_prefix(root)?.to_path_buf(), path));
            }
        }
    }
    found.sort();
    Ok(found)
}
