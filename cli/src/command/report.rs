//! A run as a person reads it: what was printed, what came out, what went wrong and where.

use std::fs;
use std::path::Path;
use std::time::Duration;

use adapter_kit::{ClientError, RunTicket};
use anyhow::{Context, Result, bail};
use engine_model::{Name, RunCommand, RunError, RunLogs, RunReply};
use serde_json::Value;
use tokio::time::Instant;

use super::exec::fetch_output;
use super::operate::read_bytes;
use crate::client::Connection;
use crate::output::note;

/// A run that has ended, and how long that took as seen from here.
pub(super) struct Ran {
    pub(super) reply: RunReply,
    pub(super) took: Duration,
}

/// Runs a function and waits for its end.
///
/// # Errors
/// When it could not be run, which is another thing than that it failed.
pub(super) async fn run(
    connection: &Connection,
    function: &Name,
    command: RunCommand,
    within: Duration,
) -> Result<Ran> {
    let began = Instant::now();
    let (_, ticket) = connection.run(function, command, Some(within)).await?;
    let took = began.elapsed();
    let RunTicket::Finished(mut reply) = ticket else {
        bail!("the server did not wait for the run's end");
    };
    if let Some(rejection) = reply.rejection {
        return Err(ClientError::Rejected(rejection).into());
    }
    fetch_output(connection, &mut reply.result).await?;
    Ok(Ran { reply, took })
}

/// Reads JSON that was typed, or `@FILE`; `@-` is standard input.
pub(super) fn value(flag: &str, text: &str) -> Result<Value> {
    let text = match text.strip_prefix('@') {
        Some(file) => String::from_utf8(read_bytes(Path::new(file))?)
            .with_context(|| format!("{file} is not UTF-8"))?,
        None => text.to_owned(),
    };
    serde_json::from_str(&text).map_err(|error| anyhow::anyhow!("{flag} is not JSON: {error}"))
}

/// Reads JSON that was typed, or the file that it names, with or without the `@`.
pub(super) fn value_or_file(flag: &str, text: &str) -> Result<Value> {
    match value(flag, text) {
        Err(_) if fs::metadata(text).is_ok_and(|meta| meta.is_file()) => {
            value(flag, &format!("@{text}"))
        }
        read => read,
    }
}

/// What was printed, each line with where it was printed to.
pub(super) fn say_logs(logs: &RunLogs) {
    for (stream, lines) in [("stdout", &logs.stdout), ("stderr", &logs.stderr)] {
        for line in lines {
            note(&format!("{stream} | {line}"));
        }
    }
}

/// What went wrong, and below it where.
pub(super) fn say_error(error: &RunError) {
    note(&format!("{:?}: {}", error.kind, error.message));
    for line in &error.stacktrace {
        note(&format!("    {line}"));
    }
}

/// A time with three figures.
pub(super) fn time(took: Duration) -> String {
    let micros = took.as_secs_f64() * 1e6;
    let (number, unit) = match micros {
        m if m < 1e3 => (m, "µs"),
        m if m < 1e6 => (m / 1e3, "ms"),
        m => (m / 1e6, "s"),
    };
    let places = match number {
        n if unit == "µs" || n >= 100.0 => 0,
        n if n >= 10.0 => 1,
        _ => 2,
    };
    format!("{number:.places$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_three_figures() {
        for (micros, text) in [
            (7, "7 µs"),
            (1_500, "1.50 ms"),
            (12_340, "12.3 ms"),
            (250_000, "250 ms"),
            (2_000_000, "2.00 s"),
        ] {
            assert_eq!(time(Duration::from_micros(micros)), text);
        }
    }
}
