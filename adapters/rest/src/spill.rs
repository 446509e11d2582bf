//! What is too large for a message goes to the blob store, and the message carries its digest.

use std::io;

use adapter_kit::{Blobs, Digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use engine_model::spec::{Source, Spec};
use engine_model::{Code, Command, RunCommand, RunResult};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;
use tracing::warn;

use crate::refusal::Refusal;

/// What a message carries itself.
const INLINE_BYTES_MAX: usize = 64 << 10;

/// Stores a large source of the function that a command speaks of.
pub(crate) async fn command(blobs: &dyn Blobs, command: Command) -> Result<Command, Refusal> {
    Ok(match command {
        Command::Create(spec) => Command::Create(self::spec(blobs, spec).await?),
        Command::Update(spec) => Command::Update(self::spec(blobs, spec).await?),
        other @ (Command::Delete(_)
        | Command::Refresh
        | Command::Retry
        | Command::Abandon { .. }
        | Command::Rotate
        | Command::Adopt { .. }
        | Command::Rollback { .. }
        | Command::Route { .. }) => other,
    })
}

/// Stores a large source of a function.
pub(crate) async fn spec(blobs: &dyn Blobs, spec: Spec) -> Result<Spec, Refusal> {
    let Spec::Function(mut function) = spec else {
        return Ok(spec);
    };
    function.source = source(blobs, function.source).await?;
    Ok(Spec::Function(function))
}

async fn source(blobs: &dyn Blobs, source: Source) -> Result<Source, Refusal> {
    let archive = match source {
        Source::File { name, text } if text.len() > INLINE_BYTES_MAX => {
            if name.is_empty() {
                let message = "a source of more than 64 KB needs the name of its file";
                return Err(Refusal::new(Code::InvalidField, message));
            }
            let packed = tokio::task::spawn_blocking(move || pack(&name, &text)).await;
            let unusable = |error| {
                Refusal::new(
                    Code::InvalidField,
                    format!("the source's name cannot be used: {error}"),
                )
            };
            packed
                .expect("packing neither panics nor is aborted")
                .map_err(unusable)?
        }
        Source::Archive(text) if text.len() / 4 * 3 > INLINE_BYTES_MAX => {
            let bad = |_| Refusal::new(Code::InvalidField, "the field 'source' is not base64");
            STANDARD.decode(text).map_err(bad)?
        }
        small @ (Source::File { .. } | Source::Archive(_) | Source::Blob(_)) => return Ok(small),
    };
    if archive.len() <= INLINE_BYTES_MAX {
        return Ok(Source::Archive(STANDARD.encode(archive)));
    }
    Ok(Source::Blob(
        blobs.put(Bytes::from(archive)).await?.to_string(),
    ))
}

/// A gzipped tar archive of one file, the same bytes for the same content.
fn pack(name: &str, text: &str) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(text.len() as u64);
    archive.append_data(&mut header, name, text.as_bytes())?;
    archive.into_inner()?.finish()
}

/// Stores a large input of a run.
pub(crate) async fn run(blobs: &dyn Blobs, command: RunCommand) -> Result<RunCommand, Refusal> {
    let input = command.input.to_string();
    if input.len() <= INLINE_BYTES_MAX {
        return Ok(command);
    }
    let digest = blobs.put(Bytes::from(input)).await?;
    Ok(RunCommand {
        input: Value::Null,
        input_blob: Some(digest.to_string()),
        ..command
    })
}

/// Brings a large output of a run back, where it can be had.
pub(crate) async fn fetch_result(blobs: &dyn Blobs, result: &mut RunResult) {
    let Some(digest) = result.output_blob.as_deref() else {
        return;
    };
    if let Some(output) = fetch(blobs, digest).await {
        result.output = output;
        result.output_blob = None;
    }
}

/// Brings what was too large back into the document of a run, where it can be had.
pub(crate) async fn fetch_document(blobs: &dyn Blobs, document: &mut Value) {
    for (field, blob) in [("input", "inputBlob"), ("output", "outputBlob")] {
        let Some(digest) = document[blob].as_str() else {
            continue;
        };
        if let Some(value) = fetch(blobs, digest).await {
            document[field] = value;
            if let Some(fields) = document.as_object_mut() {
                fields.remove(blob);
            }
        }
    }
}

async fn fetch(blobs: &dyn Blobs, digest: &str) -> Option<Value> {
    let read = match Digest::parse(digest) {
        Some(digest) => blobs.get(&digest).await,
        None => return None,
    };
    // The record stands without it, and still says where the value lies.
    let bytes = read
        .inspect_err(|error| warn!(%error, "value of a run not fetched"))
        .ok()?;
    serde_json::from_slice(&bytes).ok()
}
