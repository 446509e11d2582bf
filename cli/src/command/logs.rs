//! `dispatch logs`: what runs of a function or the build of an image printed, and what they print.

mod image;

use anyhow::{Result, bail};
use engine_model::{Filter, Kind, LogLine, LogStream, Name, RunId, Seq};
use futures::{FutureExt, StreamExt};
use serde_json::{Value, json};

use crate::args::{self, Global, Logs};
use crate::client::{Connection, LogLines};
use crate::exit::Exit;
use crate::output::{Format, note, print, print_data};

/// Shows what the latest runs printed, oldest first, and then what runs print until it is ended.
pub(super) async fn run(connection: &Connection, global: &Global, logs: Logs) -> Result<Exit> {
    let function = match &logs.words[..] {
        [kind, name] if args::kind(kind) == Ok(Kind::Image) => {
            return image::run(connection, global, name, logs.follow).await;
        }
        [function] => Name::new(function)?,
        _ => bail!("say FUNCTION, or image NAME"),
    };
    // Or a misspelt name would look like a function that prints nothing.
    connection.one(Kind::Function, &function, Seq(0)).await?;
    // Before the runs are read, so that no line falls between.
    let lines = match logs.follow {
        true => Some(connection.follow_logs(&function, None).await?),
        false => None,
    };
    let filter = Filter::Runs {
        function: Some(function),
        since: None,
        limit: logs.runs,
    };
    let mut runs = connection.query(filter, Seq(0)).await?.documents;
    runs.reverse();
    match global.format() {
        Format::Table => print(&runs.iter().flat_map(kept).collect::<String>())?,
        format => print_data(
            format,
            &Value::Array(runs.iter().map(shown).collect::<Vec<_>>()),
        )?,
    }
    let Some(mut lines) = lines else {
        return Ok(Exit::Done);
    };
    while let Some((run, line)) = lines.next().await {
        match global.format() {
            Format::Table => print(&text(Some(run), &line))?,
            _ => print(&format!("{}\n", data(run, &line)))?,
        }
    }
    anyhow::bail!("the connection is closed")
}

/// What a run printed, a line for each of its lines. Which of the two streams was first is not kept.
fn kept(run: &Value) -> Vec<String> {
    let id = run["name"].as_str().and_then(|id| id.parse().ok());
    let of = |stream, field: &str| {
        let lines = run["logs"][field].as_array().into_iter().flatten();
        lines
            .filter_map(Value::as_str)
            .map(move |line| {
                let line = LogLine {
                    stream,
                    text: line.to_owned(),
                    lost: 0,
                };
                text(id, &line)
            })
            .collect::<Vec<_>>()
    };
    let mut all = of(LogStream::Stdout, "stdout");
    all.extend(of(LogStream::Stderr, "stderr"));
    all
}

fn shown(run: &Value) -> Value {
    json!({ "run": run["name"], "logs": run["logs"] })
}

fn data(run: RunId, line: &LogLine) -> Value {
    json!({ "run": run, "stream": line.stream, "text": line.text, "lost": line.lost })
}

/// A line for a person: the run, `!` before what went to standard error, and the text.
pub(super) fn text(run: Option<RunId>, line: &LogLine) -> String {
    let run = run.map(|run| format!("{run} ")).unwrap_or_default();
    let mark = match line.stream {
        LogStream::Stdout => "",
        LogStream::Stderr => "! ",
    };
    let mut text = String::new();
    if line.lost > 0 {
        text.push_str(&format!("{run}[{} lines are left out here]\n", line.lost));
    }
    // A mark at the end of a run has no line of its own.
    if line.lost == 0 || !line.text.is_empty() {
        text.push_str(&format!("{run}{mark}{}\n", line.text));
    }
    text
}

/// Writes each line of one run to standard error as it comes, until `end` has come and what was
/// there by then is written too.
pub(super) async fn beside<T>(mut lines: LogLines, end: impl Future<Output = T>) -> T {
    let tell = |line: &LogLine| note(text(None, line).trim_end_matches('\n'));
    let mut end = std::pin::pin!(end);
    let ended = loop {
        tokio::select! {
            biased;
            Some((_, line)) = lines.next() => tell(&line),
            ended = &mut end => break ended,
        }
    };
    // They travel before the end does, on the same connection.
    while let Some(Some((_, line))) = lines.next().now_or_never() {
        tell(&line);
    }
    ended
}
