//! The columns of each kind's table, as Dispatch has always named them.

use chrono::{DateTime, Local};
use engine_model::Kind;
use serde_json::Value;

/// A column: its heading, and how its cell reads from a document.
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) cell: fn(&Value) -> String,
}

const fn column(name: &'static str, cell: fn(&Value) -> String) -> Column {
    Column { name, cell }
}

const NAME: Column = column("Name", |d| text(&d["name"]));
const STATUS: Column = column("Status", |d| text(&d["status"]));
const CREATED: Column = column("Created Date", |d| date(&d["createdTime"]));

/// The columns of a kind.
pub(super) fn columns(kind: Kind) -> Vec<Column> {
    match kind {
        Kind::API => vec![
            NAME,
            column("Function", |d| text(&d["function"])),
            column("Protocol", |d| lines(&d["protocols"])),
            column("Method", |d| lines(&d["methods"])),
            column("Domain", |d| lines(&d["hosts"])),
            column("Path", |d| lines(&d["uris"])),
            column("Auth", |d| text(&d["authentication"])),
            STATUS,
            column("Enabled", |d| (d["enabled"] == true).to_string()),
        ],
        Kind::BaseImage => vec![
            NAME,
            column("URL", |d| text(&d["dockerUrl"])),
            STATUS,
            CREATED,
        ],
        Kind::Image => vec![
            NAME,
            column("URL", |d| text(&d["dockerUrl"])),
            column("BaseImage", |d| text(&d["baseImageName"])),
            STATUS,
            CREATED,
        ],
        Kind::Function => vec![
            NAME,
            column("Image", |d| text(&d["image"])),
            STATUS,
            CREATED,
        ],
        Kind::Run => vec![
            column("ID", |d| text(&d["name"])),
            column("Function", |d| text(&d["functionName"])),
            STATUS,
            column("Started", |d| date(&d["executedTime"])),
            column("Finished", |d| date(&d["finishedTime"])),
        ],
        Kind::Secret => vec![
            column("ID", |d| text(&d["id"])),
            NAME,
            column("Content", |_| "<hidden>".into()),
        ],
        Kind::ServiceBroker => vec![
            NAME,
            column("URL", |d| text(&d["url"])),
            column("Classes", |d| lines(&d["serviceClasses"])),
            STATUS,
        ],
        Kind::ServiceClass => vec![
            NAME,
            column("Broker", |d| text(&d["broker"])),
            column("Bindable", |d| (d["bindable"] == true).to_string()),
            column("Plans", |d| {
                let plans = d["plans"].as_array().into_iter().flatten();
                plans
                    .map(|plan| text(&plan["name"]))
                    .collect::<Vec<_>>()
                    .join("\n")
            }),
            STATUS,
        ],
        Kind::ServiceInstance => vec![
            NAME,
            column("Class", |d| text(&d["serviceClass"])),
            column("Plan", |d| text(&d["servicePlan"])),
            column("Provisioned", |d| (d["provisioned"] == true).to_string()),
            column("Bound", |d| (d["bound"] == true).to_string()),
            STATUS,
        ],
        Kind::ServiceBinding | Kind::Application | Kind::Organization | Kind::ServiceAccount => {
            vec![NAME, STATUS, CREATED]
        }
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn lines(value: &Value) -> String {
    value
        .as_array()
        .into_iter()
        .flatten()
        .map(text)
        .collect::<Vec<_>>()
        .join("\n")
}

/// A moment in local time, in the format of `date`.
fn date(value: &Value) -> String {
    let Some(moment) = value.as_i64().filter(|seconds| *seconds > 0) else {
        return String::new();
    };
    DateTime::from_timestamp(moment, 0).map_or_else(String::new, |utc| {
        utc.with_timezone(&Local)
            .format("%a %b %e %H:%M:%S %Z %Y")
            .to_string()
    })
}
