//! `get revisions`, `rollback` and `route`: what a function was, and which of it is run.

use anyhow::{Error, Result, bail};
use engine_model::{Command, Filter, Kind, Name, Seq, Share};
use serde_json::Value;

use super::wait;
use crate::args::{Global, Rollback, Route};
use crate::client::{Connection, connect};
use crate::command::get::{date, show};
use crate::exit::Exit;
use crate::output::{Format, note, print, print_data, print_table};

/// Characters of a digest that are shown: enough to tell one from another.
const DIGEST_CHARS: usize = 12;

/// Lists the revisions of a function that are kept, the newest first.
pub(super) async fn list(
    connection: &Connection,
    global: &Global,
    function: Option<&str>,
) -> Result<Exit> {
    let Some(function) = function else {
        bail!("say whose: dispatch get revisions FUNCTION");
    };
    let filter = Filter::Revisions {
        function: Name::new(function)?,
    };
    let documents = connection.query(filter, Seq(0)).await?.documents;
    if global.format() != Format::Table {
        print_data(global.format(), &Value::Array(documents))?;
        return Ok(Exit::Done);
    }
    let columns = [
        "Revision",
        "Status",
        "Traffic",
        "Image layer",
        "Created",
        "Reason",
    ];
    print_table(&columns, documents.iter().map(row).collect())?;
    Ok(Exit::Done)
}

fn row(revision: &Value) -> Vec<String> {
    let text = |field: &str| revision[field].as_str().unwrap_or_default().to_owned();
    let layer: String = text("layer").chars().take(DIGEST_CHARS).collect();
    let traffic = match revision["traffic"].as_u64() {
        Some(percent) if percent > 0 => format!("{percent} %"),
        Some(_) | None => String::new(),
    };
    let reason = match revision["reason"][0].as_str() {
        Some(why) => format!("{}: {why}", text("because")),
        None => text("because"),
    };
    vec![
        revision["revision"].to_string(),
        text("status"),
        traffic,
        layer,
        date(&revision["createdTime"]),
        reason,
    ]
}

/// Makes a new revision with the document of an earlier one.
pub(super) async fn rollback(global: &Global, rollback: Rollback) -> Result<Exit> {
    let (kind, name) = rollback.named.of(&[Kind::Function]).map_err(Error::msg)?;
    let connection = connect(global).await?;
    let key = connection.key(kind, name)?;
    let command = Command::Rollback {
        revision: rollback.to,
    };
    let seq = connection.submit(key.clone(), command).await?;
    if !rollback.wait {
        print(&format!("Rolling back {}: {name}\n", kind.token()))?;
        return Ok(Exit::Done);
    }
    let (document, exit) = wait::until_settled(&connection, global, &key, seq).await?;
    if global.format() != Format::Table {
        show(global, kind, vec![document], true)?;
        return Ok(exit);
    }
    if exit == Exit::Done {
        let revision = &document["revision"];
        print(&format!(
            "Rolled back {}: {name}, revision {revision}\n",
            kind.token()
        ))?;
        remarks(&document);
    } else {
        let reason = document["reason"][0].as_str().unwrap_or("ERROR");
        note(&format!("dispatch: what served before goes on: {reason}"));
    }
    Ok(exit)
}

/// Divides the runs of a function among its revisions.
pub(super) async fn route(global: &Global, route: Route) -> Result<Exit> {
    let (name, shares) = route.read().map_err(Error::msg)?;
    let kind = Kind::Function;
    let connection = connect(global).await?;
    let key = connection.key(kind, &name)?;
    let all: Vec<String> = shares.iter().map(part).collect();
    let seq = connection
        .submit(key.clone(), Command::Route { shares })
        .await?;
    let document = connection.one(kind, &key.name, seq).await?;
    if global.format() != Format::Table {
        show(global, kind, vec![document], true)?;
        return Ok(Exit::Done);
    }
    let to = match all.as_slice() {
        [] => "the newest loaded revision".to_owned(),
        some => some.join(", "),
    };
    print(&format!("Routed function: {name}, runs go to {to}\n"))?;
    remarks(&document);
    Ok(Exit::Done)
}

fn part(share: &Share) -> String {
    format!("revision {} ({} %)", share.revision, share.percent)
}

/// What is said of a function besides how its runs are divided.
fn remarks(document: &Value) {
    let lines = document["reason"].as_array().into_iter().flatten().skip(1);
    for line in lines.filter_map(Value::as_str) {
        note(&format!("dispatch: {line}"));
    }
}
