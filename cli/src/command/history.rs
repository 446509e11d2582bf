//! `dispatch history`: everything that happened to a resource, with time, actor and cause.

use anyhow::Result;
use engine_model::{Filter, Kind, Name, Seq};
use serde_json::Value;

use crate::args::Global;
use crate::client::Connection;
use crate::exit::Exit;
use crate::output::{Format, print_data, print_table};

/// Longest detail in a table; JSON and YAML show all of it.
const DETAIL_CHARS_MAX: usize = 72;

/// Shows the history of one resource.
pub(super) async fn run(
    connection: &Connection,
    global: &Global,
    kind: Kind,
    name: &str,
) -> Result<Exit> {
    let filter = Filter::History {
        kind,
        name: Name::new(name)?,
    };
    let answer = connection.query(filter, Seq(0)).await?;
    if global.format() != Format::Table {
        print_data(global.format(), &Value::Array(answer.documents))?;
        return Ok(Exit::Done);
    }
    let text = |document: &Value, field: &str| match &document[field] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let row = |document: &Value| {
        let mut row: Vec<String> = ["seq", "time", "event", "actor", "cause"]
            .iter()
            .map(|f| text(document, f))
            .collect();
        row.push(shorten(&text(document, "data")));
        row
    };
    let rows = answer.documents.iter().map(row).collect();
    print_table(&["Seq", "Time", "Event", "Actor", "Cause", "Data"], rows)?;
    Ok(Exit::Done)
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(DETAIL_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
