//! What an operator asks for: refresh, retry, adopt, rotate, abandon, rebuild, dead letters, seal,
//! info.

use std::io::{IsTerminal, Read};
use std::path::Path;

use adapter_kit::ClientError;
use anyhow::{Context, Error, Result, bail};
use engine_model::spec::Spec;
use engine_model::{Command, Filter, Kind, Seq};
use serde_json::{Value, json};

use super::{batch, create, services, wait};
use crate::args::{Abandon, Adopt, AdoptOne, AdoptServiceInstance, Global, Rotate};
use crate::client::{Connection, connect};
use crate::exit::Exit;
use crate::output::{Format, json as pretty, note, print, print_data, print_table};

/// Dead letters shown at once.
const LETTERS_MAX: u32 = 1000;

/// Sends a command that has no document.
pub(super) async fn wish(
    connection: &Connection,
    kind: Kind,
    name: &str,
    command: Command,
    doing: &str,
) -> Result<Exit> {
    connection
        .submit(connection.key(kind, name)?, command)
        .await?;
    print(&format!("{doing} {}: {name}\n", kind.token()))?;
    Ok(Exit::Done)
}

/// Takes an instance on record that exists at a broker.
pub(super) async fn adopt(connection: &Connection, global: &Global, adopt: Adopt) -> Result<Exit> {
    let AdoptOne::ServiceInstance(AdoptServiceInstance { instance_id, is }) = adopt.one;
    let mut fields = services::instance(&is)?;
    create::mark(&mut fields, &is.common)?;
    let kind = Kind::ServiceInstance;
    let Spec::ServiceInstance(spec) = batch::read(connection, kind, fields).await? else {
        bail!("the document is of another kind");
    };
    let key = connection.key(kind, &is.name)?;
    let adopt = Command::Adopt {
        spec,
        instance: instance_id,
    };
    let seq = connection.submit(key.clone(), adopt).await?;
    let (document, exit) = if is.common.wait {
        wait::until_settled(connection, global, &key, seq).await?
    } else {
        (connection.one(kind, &key.name, seq).await?, Exit::Done)
    };
    if global.format() != Format::Table {
        super::get::show(global, kind, vec![document], true)?;
        return Ok(exit);
    }
    print(&format!("Adopted {}: {}\n", kind.token(), is.name))?;
    if exit == Exit::EndedInError {
        let reason = document["reason"][0].as_str().unwrap_or("ERROR");
        note(&format!("dispatch: it is on record, but: {reason}"));
    }
    Ok(exit)
}

/// Has the credentials of a binding replaced.
pub(super) async fn rotate(global: &Global, rotate: Rotate) -> Result<Exit> {
    let named = rotate.named.of(&[Kind::ServiceBinding]);
    let (kind, name) = named.map_err(Error::msg)?;
    let connection = connect(global).await?;
    let key = connection.key(kind, name)?;
    let seq = connection.submit(key.clone(), Command::Rotate).await?;
    if !rotate.wait {
        print(&format!("Rotating {}: {name}\n", kind.token()))?;
        return Ok(Exit::Done);
    }
    let rotated = |document: &Value| match document["rotation"]["state"].as_str() {
        Some("in progress") => None,
        Some("failed") => Some(Exit::EndedInError),
        _ => Some(Exit::Done),
    };
    let (document, exit) = wait::until(&connection, global, &key, seq, rotated).await?;
    if global.format() != Format::Table {
        super::get::show(global, kind, vec![document], true)?;
        return Ok(exit);
    }
    if exit == Exit::Done {
        print(&format!("Rotated {}: {name}\n", kind.token()))?;
        return Ok(exit);
    }
    let reason = document["reason"][0].as_str().unwrap_or("ERROR");
    note(&format!("dispatch: the old credentials stay: {reason}"));
    Ok(exit)
}

/// Ends an instance or a binding on record, after a question.
pub(super) async fn abandon(global: &Global, abandon: Abandon) -> Result<Exit> {
    let Abandon { named, reason, yes } = abandon;
    let kinds = [Kind::ServiceInstance, Kind::ServiceBinding];
    let (kind, name) = named.of(&kinds).map_err(Error::msg)?;
    if reason.trim().is_empty() {
        bail!("say why with --reason; it stays on record");
    }
    if !yes {
        if !std::io::stdin().is_terminal() {
            bail!("abandoning is for ever and leaves what is at the broker; repeat it with --yes");
        }
        note(&format!(
            "Abandon '{name}'? What is at its broker stays there. Type its name:"
        ));
        let mut line = String::new();
        std::io::stdin().read_line(&mut line)?;
        if line.trim() != name {
            bail!("not abandoned");
        }
    }
    let connection = connect(global).await?;
    let key = connection.key(kind, name)?;
    connection.submit(key, Command::Abandon { reason }).await?;
    let word = match kind {
        Kind::ServiceBinding => "service binding",
        _ => "service instance",
    };
    print(&format!("Abandoned {word}: {name}\n"))?;
    Ok(Exit::Done)
}

/// Has the views made anew.
pub(super) async fn rebuild(connection: &Connection) -> Result<Exit> {
    let answer = connection.query(Filter::Rebuild, Seq(0)).await?;
    print(&format!(
        "Rebuilt the views as of event {}\n",
        answer.as_of.seq
    ))?;
    Ok(Exit::Done)
}

/// Shows dead letters, or puts one back.
pub(super) async fn dead_letters(
    connection: &Connection,
    global: &Global,
    retry: Option<u64>,
) -> Result<Exit> {
    if let Some(letter) = retry {
        connection
            .query(
                Filter::Revive {
                    letter: Seq(letter),
                },
                Seq(0),
            )
            .await?;
        print(&format!("Retrying dead letter: {letter}\n"))?;
        return Ok(Exit::Done);
    }
    let answer = connection
        .query(Filter::DeadLetters { limit: LETTERS_MAX }, Seq(0))
        .await?;
    if global.format() != Format::Table {
        print_data(global.format(), &Value::Array(answer.documents))?;
        return Ok(Exit::Done);
    }
    let columns = ["seq", "stream", "subject", "tries", "reason"];
    let cell = |document: &Value, column: &str| match &document[column] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let row = |document: &Value| {
        columns
            .iter()
            .map(|column| cell(document, column))
            .collect()
    };
    let rows = answer.documents.iter().map(row).collect();
    print_table(&["Number", "Stream", "Subject", "Tries", "Reason"], rows)?;
    Ok(Exit::Done)
}

/// Seals a file's JSON to the server's public key.
pub(super) async fn seal(connection: &Connection, file: &Path) -> Result<Exit> {
    let bytes = read_bytes(file)?;
    serde_json::from_slice::<Value>(&bytes)
        .map_err(|_| anyhow::anyhow!("{} is not JSON", file.display()))?;
    let sealed = connection.sealer().await?.seal(&bytes);
    print(&pretty(&json!(sealed))?)?;
    Ok(Exit::Done)
}

/// Reads a file, or standard input for `-`.
pub(super) fn read_bytes(file: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        std::io::stdin()
            .read_to_end(&mut bytes)
            .context("cannot read standard input")?;
    } else {
        bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    }
    Ok(bytes)
}

/// Shows what the server says of itself.
pub(super) async fn info(connection: &Connection, global: &Global) -> Result<Exit> {
    let answer = connection.query(Filter::Info, Seq(0)).await?;
    let info = answer.documents.into_iter().next().unwrap_or(Value::Null);
    print_data(global.format(), &info)?;
    Ok(Exit::Done)
}

/// Shows both versions; the server's is left out when it cannot be reached.
pub(super) async fn version(global: &Global) -> Result<Exit> {
    let client = env!("CARGO_PKG_VERSION");
    let server = match connect(global).await {
        Ok(connection) => match connection.query(Filter::Info, Seq(0)).await {
            Ok(answer) => answer.documents.first().map(|info| info["version"].clone()),
            Err(ClientError::Timeout(_) | ClientError::Unreachable(_)) => None,
            Err(error) => return Err(error.into()),
        },
        Err(_) => None,
    };
    if global.format() != Format::Table {
        let both = json!({ "client": { "version": client }, "server": { "version": server } });
        print_data(global.format(), &both)?;
        return Ok(Exit::Done);
    }
    let server = server
        .as_ref()
        .and_then(Value::as_str)
        .unwrap_or("not reachable");
    print(&format!("Client: {client}\nServer: {server}\n"))?;
    Ok(Exit::Done)
}
