//! A YAML file with one document per resource.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use engine_model::spec::{Source, Spec};
use engine_model::{Command, Deletion, Kind, Name, document};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::operate::read_bytes;
use super::{services, source};
use crate::args::{Batch, Global};
use crate::client::Connection;
use crate::exit::Exit;
use crate::output::{Format, print, print_data};

/// What is to be done with the resources of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Create,
    Update,
    Delete { cascade: bool },
}

impl Wish {
    fn done(self) -> &'static str {
        match self {
            Self::Create => "Created",
            Self::Update => "Updated",
            Self::Delete { .. } => "Deleted",
        }
    }
}

/// Does it for each document, in the file's order; a deletion goes from the last to the first.
/// The first failure ends it.
pub(super) async fn apply(
    connection: &Connection,
    global: &Global,
    batch: Batch,
    wish: Wish,
) -> Result<Exit> {
    let bytes = read_bytes(&batch.file)?;
    let text = String::from_utf8(bytes).context("the file is not UTF-8")?;
    let directory = batch
        .work_dir
        .clone()
        .unwrap_or_else(|| directory_of(&batch.file));
    let mut documents = parse(&text)
        .with_context(|| format!("{} is not a file of resources", batch.file.display()))?;
    if matches!(wish, Wish::Delete { .. }) {
        documents.reverse();
    }
    let mut done = Vec::new();
    for document in documents {
        let (kind, name) = one(connection, &batch, &directory, document, wish).await?;
        if global.format() == Format::Table {
            print(&format!("{} {kind}: {name}\n", wish.done()))?;
        }
        done.push(json!({ "kind": kind.as_str(), "name": name }));
    }
    if global.format() != Format::Table {
        print_data(global.format(), &Value::Array(done))?;
    }
    Ok(Exit::Done)
}

fn directory_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if file != Path::new("-") && parent != Path::new("") => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// Splits a file into its documents, as YAML does: a `---` within a text is part of the text.
fn parse(text: &str) -> Result<Vec<Map<String, Value>>> {
    let mut documents = Vec::new();
    for (number, part) in serde_norway::Deserializer::from_str(text).enumerate() {
        match Value::deserialize(part).with_context(|| format!("document {}", number + 1))? {
            Value::Null => {}
            Value::Object(fields) => documents.push(fields),
            _ => bail!("document {} is not a map of fields", number + 1),
        }
    }
    Ok(documents)
}

async fn one(
    connection: &Connection,
    batch: &Batch,
    directory: &Path,
    mut fields: Map<String, Value>,
    wish: Wish,
) -> Result<(Kind, Name)> {
    let named = fields
        .get("kind")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let Some(kind) = Kind::from_document(&named) else {
        let all: Vec<&str> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
        bail!(
            "'{named}' is no kind of resource; there are {}",
            all.join(", ")
        );
    };
    if let Some(application) = &batch.application {
        tag(&mut fields, application);
    }
    let named = fields
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let command = match wish {
        Wish::Delete { cascade } => Command::Delete(Deletion { cascade }),
        Wish::Create | Wish::Update => {
            expand(connection, kind, directory, &mut fields).await?;
            if wish == Wish::Update {
                let whole = Value::Object(fields.clone());
                engine_model::document::replaces_whole(kind, &whole)?;
            }
            let spec = read(connection, kind, fields).await?;
            if wish == Wish::Create {
                Command::Create(spec)
            } else {
                Command::Update(spec)
            }
        }
    };
    let key = connection.key(kind, &named)?;
    let name = key.name.clone();
    connection
        .submit(key, command)
        .await
        .with_context(|| format!("{kind} {name}"))?;
    Ok((kind, name))
}

/// Reads a document, sealing what is secret.
pub(super) async fn read(
    connection: &Connection,
    kind: Kind,
    fields: Map<String, Value>,
) -> Result<Spec> {
    // Only these hold secrets, and the others need not ask the server for its key.
    let seals = matches!(kind, Kind::Secret | Kind::ServiceBroker);
    let sealer = if seals {
        Some(connection.sealer().await?)
    } else {
        None
    };
    let seal = |plain: &[u8]| {
        sealer
            .as_ref()
            .expect("a kind without secrets seals nothing")
            .seal(plain)
    };
    let (_, spec) = document::read(kind, Value::Object(fields), &seal)
        .map_err(adapter_kit::ClientError::Rejected)?;
    Ok(spec)
}

/// Adds the tag of an application to a document.
pub(super) fn tag(fields: &mut Map<String, Value>, application: &str) {
    let tag = json!({ "key": "Application", "value": application });
    match fields.get_mut("tags") {
        Some(Value::Array(tags)) => tags.push(tag),
        _ => {
            fields.insert("tags".into(), Value::Array(vec![tag]));
        }
    }
}

/// Puts in what a document names by path: `@file` texts, and a function's source.
async fn expand(
    connection: &Connection,
    kind: Kind,
    directory: &Path,
    fields: &mut Map<String, Value>,
) -> Result<()> {
    match kind {
        Kind::Function => {
            if let Some(schema) = fields.get_mut("schema").and_then(Value::as_object_mut) {
                for schema in schema.values_mut() {
                    if let Some(text) = at_file(directory, schema)? {
                        *schema = serde_json::from_str(&text).context("the schema is not JSON")?;
                    }
                }
            }
            let path = match (fields.remove("sourcePath"), fields.get("code")) {
                (Some(Value::String(path)), _) => Some(path),
                (_, Some(Value::String(code))) if code.starts_with('@') => {
                    let path = code[1..].to_owned();
                    fields.remove("code");
                    Some(path)
                }
                _ => None,
            };
            if let Some(path) = path {
                let source: Source = source::read(connection, &directory.join(path)).await?;
                fields.insert("source".into(), json!(source));
            }
        }
        Kind::Image => {
            if let Some(dependencies) = fields.get_mut("runtimeDependencies")
                && let Some(manifest) = dependencies.get_mut("manifest")
                && let Some(text) = at_file(directory, manifest)?
            {
                *manifest = Value::String(text);
            }
        }
        Kind::ServiceBroker => broker(directory, fields)?,
        Kind::ServiceInstance | Kind::ServiceBinding => {
            if let Some(parameters) = fields.get_mut("parameters")
                && let Some(text) = at_file(directory, parameters)?
            {
                *parameters = serde_json::from_str(&text).context("the parameters are not JSON")?;
            }
        }
        Kind::Organization
        | Kind::ServiceAccount
        | Kind::Application
        | Kind::BaseImage
        | Kind::Secret
        | Kind::ServiceClass
        | Kind::Run
        | Kind::API
        | Kind::Schedule => {}
    }
    Ok(())
}

/// Files of a broker: `passwordFile`, `tokenFile`, `caFile`, and `clientCertificateFile` together
/// with `clientKeyFile`.
fn broker(directory: &Path, fields: &mut Map<String, Value>) -> Result<()> {
    let mut path = |field: &str| match fields.remove(field) {
        Some(Value::String(path)) => Ok(Some(directory.join(path))),
        None | Some(Value::Null) => Ok(None),
        Some(_) => bail!("a ServiceBroker document's '{field}' is the path of a file"),
    };
    let (password, token, ca) = (path("passwordFile")?, path("tokenFile")?, path("caFile")?);
    let identity = (path("clientCertificateFile")?, path("clientKeyFile")?);
    for (field, file) in [("password", password), ("token", token)] {
        if let Some(file) = file {
            let text = services::text(&file)?;
            fields.insert(field.into(), Value::String(text.trim_end().to_owned()));
        }
    }
    if let Some(file) = ca {
        fields.insert("ca".into(), Value::String(services::text(&file)?));
    }
    match identity {
        (Some(certificate), Some(key)) => {
            let identity = services::identity(&certificate, &key)?;
            fields.insert("clientIdentity".into(), Value::String(identity));
        }
        (None, None) => {}
        _ => bail!("'clientCertificateFile' and 'clientKeyFile' go together"),
    }
    Ok(())
}

fn at_file(directory: &Path, value: &Value) -> Result<Option<String>> {
    let Some(path) = value.as_str().and_then(|text| text.strip_prefix('@')) else {
        return Ok(None);
    };
    let path = directory.join(path);
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_dashes_within_a_text_do_not_split_it() {
        let text = "kind: Function\nname: f\ncode: |\n  # --- not a separator\n---\nkind: Image\n";
        let documents = parse(text).unwrap();
        assert_eq!(documents.len(), 2);
        assert!(documents[0]["code"].as_str().unwrap().contains("---"));
    }
}
