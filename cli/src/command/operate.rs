//! What an operator asks for: refresh, retry, abandon, rebuild, dead letters, seal, info.

use std::io::{IsTerminal, Read};
use std::path::Path;

use adapter_kit::ClientError;
use anyhow::{Context, Result, bail};
use engine_model::{Command, Filter, Kind, Seq};
use serde_json::{Value, json};

use crate::args::Global;
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

/// Ends an instance on record, after a question.
pub(super) async fn abandon(
    connection: &Connection,
    name: &str,
    reason: String,
    yes: bool,
) -> Result<Exit> {
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
    let key = connection.key(Kind::ServiceInstance, name)?;
    connection.submit(key, Command::Abandon { reason }).await?;
    print(&format!("Abandoned service instance: {name}\n"))?;
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
