//! Schedules. When one is due next and how its last run went, the node that is asked tells besides.

use engine_model::spec::{Overlap, ScheduleSpec};
use engine_model::{
    Commit, Event, Kind, Name, OrgName, ResourceId, ScheduleEvent, Status, Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::table::{Reader, Rows, View};
use crate::tag::Tag;
use crate::view::{json, reasons, waits};
use crate::{Error, tag};

/// A function that is run again and again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleDocument {
    /// When it was asked for.
    pub created_time: i64,
    /// Its pattern; empty where `every` is said.
    pub cron: String,
    /// Its length of time; empty where `cron` is said.
    pub every: String,
    /// The function, by name.
    pub function: String,
    /// Its id for ever.
    pub id: ResourceId,
    /// The input of each run.
    pub input: Value,
    /// Always `Schedule`.
    pub kind: Kind,
    /// What was missed last, while no node was there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed: Option<MissedDocument>,
    /// Its name.
    pub name: String,
    /// What is done when the run before is still going.
    pub overlap: Overlap,
    /// Whether nothing is run until it is resumed.
    pub paused: bool,
    /// What it waits for, or why it is not due.
    pub reason: Option<Vec<String>>,
    /// Secrets of each run, besides the function's own.
    pub secrets: Vec<Name>,
    /// How far it has come.
    pub status: Status,
    /// Labels.
    pub tags: Vec<Tag>,
    /// The time zone of its pattern; empty for UTC.
    pub time_zone: String,
    /// When it is due, for a person.
    pub when: String,
}

/// Occurrences that were not run, because no node was there in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MissedDocument {
    /// How many they are; no more than a thousand are counted.
    pub count: u32,
    /// The first.
    pub first_time: i64,
    /// The last.
    pub last_time: i64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    id: ResourceId,
    created: Timestamp,
    spec: ScheduleSpec,
    /// Whether all that it names was there when it was asked to be as it is.
    begun: bool,
    missed: Option<MissedDocument>,
}

pub(crate) struct Schedules;

impl View for Schedules {
    const NAME: &'static str = "schedule";
    const VERSION: u32 = 1;
    type Row = Row;

    fn folds(kind: Kind) -> bool {
        kind == Kind::Schedule
    }

    fn fold(rows: &mut Rows<Self>, commit: &Commit, event: &Event) -> Result<(), Error> {
        let Event::Schedule(event) = event else {
            return Ok(());
        };
        rows.evolve_key(&commit.key, |row| evolve(row, commit.at, event))
    }

    fn document(
        reader: &Reader<'_>,
        org: &OrgName,
        name: &str,
        row: Row,
    ) -> Result<Option<Value>, Error> {
        let (status, reason) = if !row.begun {
            let missing = waits::of_schedule(reader, org, &row.spec)?;
            (Status::Initialized, missing)
        } else if row.spec.paused {
            let why = format!("paused; `dispatch update schedule {name} --resume` goes on");
            (Status::Ready, vec![why])
        } else {
            (Status::Ready, Vec::new())
        };
        let when = row.spec.when();
        Ok(Some(json(&ScheduleDocument {
            created_time: row.created.unix_seconds(),
            cron: row.spec.cron,
            every: row.spec.every,
            function: row.spec.function.to_string(),
            id: row.id,
            input: row.spec.input,
            kind: Kind::Schedule,
            missed: row.missed,
            name: name.to_owned(),
            overlap: row.spec.overlap,
            paused: row.spec.paused,
            reason: reasons(reason),
            secrets: row.spec.secrets,
            status,
            tags: tag::list(&row.spec.tags),
            time_zone: row.spec.time_zone,
            when,
        })))
    }
}

fn evolve(row: Option<Row>, at: Timestamp, event: &ScheduleEvent) -> Option<Row> {
    use ScheduleEvent as E;
    if let E::Created { id, spec } = event {
        return Some(Row {
            id: *id,
            created: at,
            spec: spec.clone(),
            begun: false,
            missed: None,
        });
    }
    let row = row?;
    match event {
        E::Created { .. } | E::Deleted => None,
        E::Updated { spec } => {
            let as_before = row.spec.names_as(spec);
            Some(Row {
                spec: spec.clone(),
                begun: row.begun && as_before,
                ..row
            })
        }
        E::Begun => Some(Row { begun: true, ..row }),
        E::Passed { .. } => Some(row),
        E::Missed { first, last, count } => Some(Row {
            missed: Some(MissedDocument {
                count: *count,
                first_time: first.unix_seconds(),
                last_time: last.unix_seconds(),
            }),
            ..row
        }),
    }
}
