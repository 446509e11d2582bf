//! Documents of schedules, from what was typed.

use anyhow::{Context, Result, ensure};
use engine_model::Kind;
use serde_json::{Map, Value, json};

use super::operate::read_bytes;
use super::services::map;
use super::update::present;
use crate::args::{Common, CreateSchedule, Overlap, ScheduleFlags, UpdateSchedule};
use crate::client::Connection;

type Fields = Map<String, Value>;

/// The document of a schedule.
pub(super) fn create(schedule: CreateSchedule) -> Result<(Kind, Fields, Common)> {
    let CreateSchedule {
        name,
        function,
        flags,
        paused,
        common,
    } = schedule;
    ensure!(
        flags.cron.is_some() || flags.every.is_some(),
        "say when: --cron PATTERN or --every DURATION"
    );
    let mut fields = map(json!({ "name": name, "function": function, "paused": paused }));
    put(&mut fields, &flags)?;
    Ok((Kind::Schedule, fields, common))
}

/// The document of a schedule as it is to be.
pub(super) async fn update(
    connection: &Connection,
    schedule: UpdateSchedule,
) -> Result<(Kind, Fields, Common)> {
    let UpdateSchedule {
        name,
        function,
        flags,
        paused,
        resume,
        common,
    } = schedule;
    let mut fields = present(connection, Kind::Schedule, &name).await?;
    if let Some(function) = function {
        fields.insert("function".into(), json!(function));
    }
    if flags.every.is_some() {
        fields.insert("cron".into(), json!(""));
        fields.insert("timeZone".into(), json!(""));
    }
    if flags.cron.is_some() {
        fields.insert("every".into(), json!(""));
    }
    if paused || resume {
        fields.insert("paused".into(), json!(paused));
    }
    put(&mut fields, &flags)?;
    Ok((Kind::Schedule, fields, common))
}

/// Puts in what was given.
fn put(fields: &mut Fields, flags: &ScheduleFlags) -> Result<()> {
    let texts = [
        ("cron", &flags.cron),
        ("timeZone", &flags.time_zone),
        ("every", &flags.every),
    ];
    for (field, text) in texts {
        if let Some(text) = text {
            fields.insert(field.into(), json!(text));
        }
    }
    let input = match (&flags.input, &flags.input_file) {
        (_, Some(file)) => {
            let text = String::from_utf8(read_bytes(file)?);
            Some(text.context("the input is not UTF-8")?)
        }
        (text, None) => text.clone(),
    };
    if let Some(text) = input {
        let input: Value = serde_json::from_str(&text)
            .map_err(|error| anyhow::anyhow!("--input is not JSON: {error}"))?;
        fields.insert("input".into(), input);
    }
    if !flags.secret.is_empty() {
        fields.insert("secrets".into(), json!(flags.secret));
    }
    if let Some(overlap) = flags.overlap {
        let overlap = match overlap {
            Overlap::Allow => "allow",
            Overlap::Skip => "skip",
        };
        fields.insert("overlap".into(), json!(overlap));
    }
    Ok(())
}
