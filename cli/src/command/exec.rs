//! `dispatch exec`: runs a function, and prints the run's record.

use adapter_kit::{Digest, RunTicket};
use anyhow::{Context, Result};
use engine_model::{Kind, Name, RunCommand, RunEvent, RunReply, RunResult, Seq, Timestamp};
use projections::RunDocument;
use serde_json::Value;

use super::logs;
use super::operate::read_bytes;
use super::report;
use crate::args::{Exec, Global};
use crate::client::Connection;
use crate::exit::Exit;
use crate::output::{Format, print_data};

/// Runs a function. The record is printed as JSON whatever the format, YAML excepted, as ever.
pub(super) async fn run(connection: &Connection, global: &Global, exec: Exec) -> Result<Exit> {
    let text = match &exec.input_file {
        Some(file) => String::from_utf8(read_bytes(file)?).context("the input is not UTF-8")?,
        None => exec.input,
    };
    let input: Value = serde_json::from_str(&text)
        .map_err(|error| anyhow::anyhow!("--input is not JSON: {error}"))?;
    let secrets = exec
        .secret
        .iter()
        .map(Name::new)
        .collect::<Result<Vec<_>, _>>()?;
    let delayed = exec.delay.map(|delay| {
        let ms = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
        Timestamp(chrono::Utc::now().timestamp_millis()).plus_ms(ms)
    });
    let command = RunCommand {
        input,
        blocking: exec.wait,
        secrets,
        idempotency_key: exec.idempotency_key,
        not_before: exec.at.or(delayed),
        ..RunCommand::default()
    };
    let function = Name::new(exec.function)?;
    let wait = exec.wait.then(|| global.wait_within());
    if wait.is_none() {
        // Nobody would hear that the function is not there.
        connection.one(Kind::Function, &function, Seq(0)).await?;
    }
    let id = connection.run_id(&function, &command)?;
    let lines = match exec.logs {
        true => Some(connection.follow_logs(&function, Some(id)).await?),
        false => None,
    };
    let running = connection.run_as(id, &function, command.clone(), wait);
    let ticket = match lines {
        Some(lines) => logs::beside(lines, running).await?,
        None => running.await?,
    };
    let format = match global.format() {
        Format::Yaml => Format::Yaml,
        Format::Table | Format::Json => Format::Json,
    };
    match ticket {
        RunTicket::Accepted { .. } => {
            let document = RunDocument::requested(id, &function, &command);
            print_data(format, &serde_json::to_value(document)?)?;
            Ok(Exit::Done)
        }
        RunTicket::Finished(reply) => {
            if let Some(rejection) = reply.rejection {
                return Err(adapter_kit::ClientError::Rejected(rejection).into());
            }
            let mut reply = reply;
            fetch_output(connection, &mut reply.result).await?;
            let failed = reply.result.error.is_some();
            if let Some(error) = &reply.result.error
                && global.format() == Format::Table
            {
                report::say_error(error);
            }
            if !told_all(&command, &reply) {
                let mut document = connection.one_run(id, reply.seq).await?;
                document["output"] = reply.result.output;
                print_data(format, &document)?;
                return Ok(if failed { Exit::RunFailed } else { Exit::Done });
            }
            let document = RunDocument::of_reply(&function, &command, &reply);
            print_data(format, &serde_json::to_value(document)?)?;
            Ok(if failed { Exit::RunFailed } else { Exit::Done })
        }
    }
}

/// Whether the reply says all there is to say: not of a run that was begun more than once, or by
/// an earlier request.
fn told_all(command: &RunCommand, reply: &RunReply) -> bool {
    match &reply.started {
        Some(RunEvent::Started { attempt, .. }) => *attempt == 1,
        Some(_) => false,
        None => command.idempotency_key.is_none() && reply.result.error.is_some(),
    }
}

/// A large output lies in the blob store; it is shown where the connection reaches it.
pub(super) async fn fetch_output(connection: &Connection, result: &mut RunResult) -> Result<()> {
    let Some(digest) = result.output_blob.as_deref().and_then(Digest::parse) else {
        return Ok(());
    };
    if let Some(blobs) = connection.blobs() {
        result.output = serde_json::from_slice(&blobs.get(&digest).await?)?;
    }
    Ok(())
}
