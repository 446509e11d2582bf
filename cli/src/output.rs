//! Data goes to standard output, everything else to standard error.

use std::io::{self, Write};

use anyhow::Result;
use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use serde_json::Value;

/// How data is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table for people.
    Table,
    /// JSON, indented by four.
    Json,
    /// YAML.
    Yaml,
}

/// Writes to standard output. A reader that went away is not an error.
///
/// # Errors
/// Any other failure to write.
pub fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// Writes a line to standard error.
pub fn note(text: &str) {
    // Nobody can be told when standard error itself is gone.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// JSON as Dispatch has always shown it: keys in alphabetical order, indented by four.
///
/// # Errors
/// Never for plain data.
pub fn json(value: &Value) -> Result<String> {
    let mut text = Vec::new();
    let indent = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    value.serialize(&mut serde_json::Serializer::with_formatter(
        &mut text, indent,
    ))?;
    let mut text = String::from_utf8(text)?;
    text.push('\n');
    Ok(text)
}

/// One document or a list of them, as JSON or YAML.
///
/// # Errors
/// When it cannot be written.
pub fn print_data(format: Format, value: &Value) -> Result<()> {
    match format {
        Format::Table | Format::Json => print(&json(value)?),
        Format::Yaml => print(&serde_norway::to_string(value)?),
    }
}

/// A table with a heading.
///
/// # Errors
/// When it cannot be written.
pub fn print_table(columns: &[&str], rows: Vec<Vec<String>>) -> Result<()> {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(columns);
    for row in rows {
        table.add_row(row);
    }
    print(&format!("{table}\n"))
}
