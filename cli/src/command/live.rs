//! `get --live` and `get orphans`: what brokers say now, and what may have been left there.

use anyhow::{Result, ensure};
use chrono::{DateTime, Utc};
use engine_model::{Filter, Kind, Name, Seq};
use serde_json::Value;

use crate::args::Global;
use crate::client::Connection;
use crate::exit::Exit;
use crate::output::{Format, print, print_data, print_table};

/// Shows how a service instance is at its broker now. That it differs is no failure.
pub(super) async fn live(
    connection: &Connection,
    global: &Global,
    kind: Kind,
    name: &str,
) -> Result<Exit> {
    ensure!(
        kind == Kind::ServiceInstance,
        "--live is for service instances: a {} is not at a broker",
        kind.token()
    );
    let filter = Filter::Live {
        name: Name::new(name)?,
    };
    let answer = connection.query(filter, Seq(0)).await?;
    let document = answer.documents.into_iter().next().unwrap_or(Value::Null);
    if global.format() != Format::Table {
        print_data(global.format(), &document)?;
        return Ok(Exit::Done);
    }
    let live = &document["live"];
    let rows = [
        ("Class id", "serviceId"),
        ("Plan id", "planId"),
        ("Dashboard", "dashboardUrl"),
        ("Maintenance version", "maintenanceVersion"),
        ("Parameters", "parameters"),
    ];
    let rows = rows
        .iter()
        .map(|(title, field)| vec![(*title).to_owned(), text(&live[*field])]);
    print_table(&["At the broker", name], rows.collect())?;
    let drift: Vec<String> = strings(&document["drift"]);
    if drift.is_empty() {
        print("It is as it is on record.\n")?;
    } else {
        print("It differs from the record:\n")?;
        for line in drift {
            print(&format!("  {line}\n"))?;
        }
    }
    Ok(Exit::Done)
}

/// Shows what may have been left at brokers and is being removed.
pub(super) async fn orphans(connection: &Connection, global: &Global) -> Result<Exit> {
    let answer = connection.query(Filter::Orphans, Seq(0)).await?;
    if global.format() != Format::Table {
        print_data(global.format(), &Value::Array(answer.documents))?;
        return Ok(Exit::Done);
    }
    let row = |orphan: &Value| {
        let at_broker = match orphan["bindingId"].as_str() {
            Some(binding) => format!("binding {binding}"),
            None => format!("instance {}", text(&orphan["instanceId"])),
        };
        vec![
            text(&orphan["kind"]),
            text(&orphan["name"]),
            text(&orphan["broker"]),
            at_broker,
            moment(&orphan["since"]),
            text(&orphan["removals"]),
            text(&orphan["last"]),
            moment(&orphan["nextAt"]),
        ]
    };
    let columns = [
        "Kind",
        "Name",
        "Broker",
        "At the broker",
        "Since",
        "Removals",
        "Last answer",
        "Next",
    ];
    print_table(&columns, answer.documents.iter().map(row).collect())?;
    Ok(Exit::Done)
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(text).collect()
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn moment(value: &Value) -> String {
    let seconds = value.as_i64().filter(|seconds| *seconds > 0);
    let moment = seconds.and_then(|seconds| DateTime::<Utc>::from_timestamp(seconds, 0));
    moment.map_or_else(String::new, |moment| {
        moment.format("%Y-%m-%dT%H:%M:%SZ").to_string()
    })
}
