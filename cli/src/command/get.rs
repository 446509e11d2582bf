//! `dispatch get`: one resource or all of a kind, as a table or as data.

use adapter_kit::ClientError;
use anyhow::{Result, bail};
use engine_model::{Code, Filter, Kind, Name, Rejection, RunId, Seq};
use serde_json::Value;

use super::{live, revisions, wait};
use crate::args::{Get, Global, What};
use crate::client::Connection;
pub(super) use crate::command::get::columns::date;
use crate::command::get::columns::{Column, columns};
use crate::exit::Exit;
use crate::output::{Format, note, print_data, print_table};

mod columns;

/// Runs shown at once.
const RUNS_MAX: u32 = 1000;

/// Shows resources.
pub(super) async fn run(connection: &Connection, global: &Global, get: Get) -> Result<Exit> {
    let kind = match get.kind {
        What::Kind(kind) => kind,
        What::Orphans => {
            if get.name.is_some() {
                bail!("orphans have no names; 'dispatch get orphans' lists them all");
            }
            return live::orphans(connection, global).await;
        }
        What::Revisions => {
            return revisions::list(connection, global, get.name.as_deref()).await;
        }
    };
    if get.live
        && let Some(name) = &get.name
    {
        return live::live(connection, global, kind, name).await;
    }
    if get.wait
        && let Some(name) = &get.name
    {
        let key = connection.key(kind, name)?;
        let (document, exit) = wait::until_settled(connection, global, &key, Seq(0)).await?;
        show(global, kind, vec![document], true)?;
        return Ok(exit);
    }
    let single = match kind {
        Kind::Run => get.run.is_some() || get.last,
        _ => get.name.is_some(),
    };
    let mut documents = connection
        .query(filter(kind, &get)?, Seq(0))
        .await?
        .documents;
    if let Some(function) = &get.func {
        documents.retain(|document| document["function"].as_str() == Some(function));
    }
    if let (Some(application), true) = (&get.application, single) {
        require_tag(&documents, application)?;
    }
    show(global, kind, documents, single)?;
    Ok(Exit::Done)
}

fn filter(kind: Kind, get: &Get) -> Result<Filter> {
    let name = get.name.as_ref().map(Name::new).transpose()?;
    if kind == Kind::Run {
        if let Some(run) = &get.run {
            let id: RunId = run
                .parse()
                .map_err(|_| anyhow::anyhow!("'{run}' is no run's id"))?;
            return Ok(Filter::Run { id });
        }
        let limit = if get.last { 1 } else { RUNS_MAX };
        return Ok(Filter::Runs {
            function: name,
            since: None,
            limit,
        });
    }
    Ok(match name {
        Some(name) => Filter::One { kind, name },
        None => {
            let tag = get
                .application
                .as_ref()
                .map(|app| format!("Application={app}"));
            Filter::All { kind, tag }
        }
    })
}

fn require_tag(documents: &[Value], application: &str) -> Result<(), ClientError> {
    let tagged = |document: &Value| {
        document["tags"].as_array().is_some_and(|tags| {
            tags.iter()
                .any(|tag| tag["key"] == "Application" && tag["value"] == application)
        })
    };
    if documents.iter().all(tagged) {
        return Ok(());
    }
    let text = format!("it does not belong to the application '{application}'");
    Err(Rejection::new(Code::NotFound, text).into())
}

/// Shows documents: `single` ones as an object, others as a list.
pub(super) fn show(
    global: &Global,
    kind: Kind,
    mut documents: Vec<Value>,
    single: bool,
) -> Result<()> {
    if global.format() != Format::Table {
        let data = match (single, documents.pop()) {
            (true, Some(document)) => document,
            (_, popped) => {
                documents.extend(popped);
                Value::Array(documents)
            }
        };
        return print_data(global.format(), &data);
    }
    if kind == Kind::Secret {
        note("Secret values are hidden; Dispatch does not show them.");
    }
    let mut columns = columns(kind);
    columns.retain(|column| {
        let says = |document: &Value| !(column.cell)(document).is_empty();
        !column.optional || documents.iter().any(says)
    });
    let names: Vec<&str> = columns.iter().map(|column| column.name).collect();
    let row = |document: &Value| {
        columns
            .iter()
            .map(|c: &Column| (c.cell)(document))
            .collect()
    };
    print_table(&names, documents.iter().map(row).collect())
}
