//! Applications: labels for resources that belong together.

use engine_model::spec::Tags;
use engine_model::{ApplicationEvent, Commit, Event, Kind, OrgName, ResourceId, Status, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::table::{Reader, Rows, View};
use crate::tag::Tag;
use crate::view::json;
use crate::{Error, tag};

/// A label for resources that belong together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApplicationDocument {
    /// When it was asked for.
    pub created_time: i64,
    /// Its id for ever.
    pub id: ResourceId,
    /// Always `Application`.
    pub kind: Kind,
    /// When its document last changed.
    pub modified_time: i64,
    /// Its name.
    pub name: String,
    /// Always `READY`.
    pub status: Status,
    /// Labels.
    pub tags: Vec<Tag>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    id: ResourceId,
    created: Timestamp,
    modified: Timestamp,
    tags: Tags,
}

pub(crate) struct Applications;

impl View for Applications {
    const NAME: &'static str = "application";
    const VERSION: u32 = 1;
    type Row = Row;

    fn folds(kind: Kind) -> bool {
        kind == Kind::Application
    }

    fn fold(rows: &mut Rows<Self>, commit: &Commit, event: &Event) -> Result<(), Error> {
        let Event::Application(event) = event else {
            return Ok(());
        };
        rows.evolve_key(&commit.key, |row| evolve(row, commit.at, event))
    }

    fn document(_: &Reader<'_>, _: &OrgName, name: &str, row: Row) -> Result<Option<Value>, Error> {
        Ok(Some(json(&ApplicationDocument {
            created_time: row.created.unix_seconds(),
            id: row.id,
            kind: Kind::Application,
            modified_time: row.modified.unix_seconds(),
            name: name.to_owned(),
            status: Status::Ready,
            tags: tag::list(&row.tags),
        })))
    }
}

fn evolve(row: Option<Row>, at: Timestamp, event: &ApplicationEvent) -> Option<Row> {
    use ApplicationEvent as E;
    match event {
        E::Created { id, spec } => Some(Row {
            id: *id,
            created: at,
            modified: at,
            tags: spec.tags.clone(),
        }),
        E::Updated { spec } => Some(Row {
            tags: spec.tags.clone(),
            modified: at,
            ..row?
        }),
        E::Deleted => None,
    }
}
