//! `dispatch cancel`: ends a run, and prints its record.

use std::time::Duration;

use adapter_kit::ClientError;
use anyhow::Result;
use engine_model::{Code, Name, RunId, Seq};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::args::{Cancel, Global};
use crate::client::Connection;
use crate::exit::Exit;
use crate::output::{Format, print_data};

/// How long the view may lag behind a run that was asked for a moment ago.
const LAG_MAX: Duration = Duration::from_secs(1);

/// How long what is killed may take to be gone; it takes a tenth of a second.
const KILL_MAX: Duration = Duration::from_secs(10);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(25);

/// Ends a run.
pub(super) async fn run(connection: &Connection, global: &Global, cancel: Cancel) -> Result<Exit> {
    let run = cancel.run;
    let document = found(connection, run).await?;
    let function = Name::new(document["functionName"].as_str().unwrap_or_default())?;
    let seq = connection.cancel(run, &function).await?;
    let until = Instant::now() + KILL_MAX;
    let document = loop {
        let document = connection.one_run(run, seq).await?;
        if !document["finishedTime"].is_null() || Instant::now() > until {
            break document;
        }
        sleep(PAUSE).await;
    };
    let format = match global.format() {
        Format::Yaml => Format::Yaml,
        Format::Table | Format::Json => Format::Json,
    };
    print_data(format, &document)?;
    Ok(Exit::Done)
}

async fn found(connection: &Connection, run: RunId) -> Result<Value, ClientError> {
    let until = Instant::now() + LAG_MAX;
    loop {
        match connection.one_run(run, Seq(0)).await {
            Err(ClientError::Rejected(refused))
                if refused.code == Code::NotFound && Instant::now() < until =>
            {
                sleep(PAUSE).await;
            }
            other => return other,
        }
    }
}
