//! `dispatch test`: runs a function once, and shows what it answered, printed and how long each
//! stage took.

mod differ;

use std::time::Duration;

use anyhow::Result;
use engine_model::{Name, RunCommand};
use serde_json::{Value, json};

use super::report;
use crate::args::{Global, Test};
use crate::client::Connection;
use crate::exit::Exit;
use crate::output::{Format, json as pretty, note, print, print_data};

/// The stages of a run, as they are shown and as its result names them.
const STAGES: [(&str, &str); 5] = [
    ("queue", "queueUs"),
    ("cold start", "startUs"),
    ("injection", "injectionUs"),
    ("handler", "handlerUs"),
    ("validation", "validationUs"),
];

/// Runs a function once.
pub(super) async fn run(connection: &Connection, global: &Global, test: Test) -> Result<Exit> {
    let expected = match &test.expect {
        Some(text) => Some(report::value("--expect", text)?),
        None => None,
    };
    let secrets: Result<Vec<_>, _> = test.secret.iter().map(Name::new).collect();
    let command = RunCommand {
        input: report::value("--input", &test.input)?,
        blocking: true,
        secrets: secrets?,
        timings: true,
        ..RunCommand::default()
    };
    let function = Name::new(test.function)?;
    let ran = report::run(connection, &function, command, global.wait_within()).await?;
    let result = &ran.reply.result;
    let differences = match (&expected, &result.error) {
        (Some(expected), None) => differ::lines(expected, &result.output),
        _ => Vec::new(),
    };
    let timings = serde_json::to_value(result)?["timings"].clone();
    let passed = result.error.is_none() && differences.is_empty();
    if global.format() == Format::Table {
        report::say_logs(&result.logs);
        match &result.error {
            Some(error) => report::say_error(error),
            None => print(&pretty(&result.output)?)?,
        }
        for line in &differences {
            note(line);
        }
        say_timings(&timings, ran.took);
        if expected.is_some() {
            note(if passed { "passed" } else { "failed" });
        }
    } else {
        let document = json!({
            "run": ran.reply.run,
            "output": result.output,
            "error": result.error,
            "logs": result.logs,
            "timings": timings,
            "tookUs": u64::try_from(ran.took.as_micros()).unwrap_or(u64::MAX),
            "differences": differences,
            "passed": passed,
        });
        print_data(global.format(), &document)?;
    }
    Ok(if passed { Exit::Done } else { Exit::Failed })
}

/// A line for each stage that is known, and one for all that the sender waited for.
fn say_timings(timings: &Value, took: Duration) {
    for (title, field) in STAGES {
        if let Some(micros) = timings[field].as_u64() {
            let time = report::time(Duration::from_micros(micros));
            note(&format!("{title:<11}{time:>10}"));
        }
    }
    note(&format!("{:<11}{:>10}", "in all", report::time(took)));
}
