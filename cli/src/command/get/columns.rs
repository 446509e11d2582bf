//! The columns of each kind's table, as Dispatch has always named them.

use chrono::{DateTime, Local};
use engine_model::Kind;
use serde_json::Value;

/// A column: its heading, and how its cell reads from a document.
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) cell: fn(&Value) -> String,
    /// Whether it is left out when it says nothing of any document.
    pub(super) optional: bool,
}

const fn column(name: &'static str, cell: fn(&Value) -> String) -> Column {
    let optional = false;
    Column {
        name,
        cell,
        optional,
    }
}

const fn optional(name: &'static str, cell: fn(&Value) -> String) -> Column {
    let optional = true;
    Column {
        name,
        cell,
        optional,
    }
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
        Kind::Schedule => vec![
            NAME,
            column("Function", |d| text(&d["function"])),
            column("When", |d| text(&d["when"])),
            column("Next Run", |d| match d["paused"] == true {
                true => "paused".into(),
                false => date(&d["nextTime"]),
            }),
            column("Last Run", |d| date(&d["lastRun"]["dueTime"])),
            column("Last Status", |d| text(&d["lastRun"]["status"])),
            STATUS,
        ],
        Kind::BaseImage => vec![
            NAME,
            column("URL", |d| text(&d["dockerUrl"])),
            column("Version", |d| text(&d["version"])),
            column("Digest", |d| short(&d["digest"])),
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
            optional("Waits Until", |d| date(&d["waitsUntil"])),
        ],
        Kind::Secret => vec![
            column("ID", |d| text(&d["id"])),
            NAME,
            column("Content", |_| "<hidden>".into()),
        ],
        Kind::ServiceBroker => vec![
            NAME,
            column("URL", |d| text(&d["url"])),
            column("Scope", |d| text(&d["scope"])),
            column("Classes", |d| lines(&d["serviceClasses"])),
            column("Circuit", |d| circuit(&d["circuit"])),
            STATUS,
        ],
        Kind::ServiceClass => vec![
            NAME,
            column("Broker", |d| text(&d["broker"])),
            optional("Organization", |d| text(&d["organization"])),
            column("Bindable", |d| (d["bindable"] == true).to_string()),
            column("Plans", |d| {
                let plans = d["plans"].as_array().into_iter().flatten();
                plans
                    .map(|plan| match plan["gone"] == true {
                        true => format!("{} (gone)", text(&plan["name"])),
                        false => text(&plan["name"]),
                    })
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
            optional("Update", update),
            optional("Dashboard", |d| text(&d["dashboardUrl"])),
            STATUS,
        ],
        Kind::ServiceBinding => vec![
            NAME,
            column("Instance", |d| text(&d["instance"])),
            optional("Function", |d| text(&d["function"])),
            column("Bound", |d| (d["bound"] == true).to_string()),
            optional("Expires", |d| date(&d["expiresAt"])),
            optional("Rotation", |d| text(&d["rotation"]["state"])),
            STATUS,
            CREATED,
        ],
        Kind::Application | Kind::Organization | Kind::ServiceAccount => {
            vec![NAME, STATUS, CREATED]
        }
    }
}

/// Whether a broker is asked, or until when it is not.
fn circuit(circuit: &Value) -> String {
    match circuit["until"].as_i64() {
        None => "closed".into(),
        Some(_) => format!("open until {}", date(&circuit["until"])),
    }
}

/// An update that has not succeeded, or one that is offered.
fn update(document: &Value) -> String {
    let update = &document["update"];
    let to = ["servicePlan", "maintenanceVersion"]
        .iter()
        .find_map(|field| update[*field].as_str());
    let to = to.map_or_else(String::new, |to| format!(" to {to}"));
    match (update["state"].as_str(), &document["upgradeAvailable"]) {
        (Some(state), _) => format!("{state}{to}"),
        (None, Value::String(version)) => format!("{version} is offered"),
        (None, _) => String::new(),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// The first digits of a digest, which are enough to tell two apart.
fn short(digest: &Value) -> String {
    let digits = digest.as_str().unwrap_or_default();
    let digits = digits.split_once(':').map_or(digits, |(_, digits)| digits);
    digits.chars().take(12).collect()
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
pub(in crate::command) fn date(value: &Value) -> String {
    let Some(moment) = value.as_i64().filter(|seconds| *seconds > 0) else {
        return String::new();
    };
    DateTime::from_timestamp(moment, 0).map_or_else(String::new, |utc| {
        utc.with_timezone(&Local)
            .format("%a %b %e %H:%M:%S %Z %Y")
            .to_string()
    })
}
