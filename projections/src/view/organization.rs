//! Organizations: the tenants.

use engine_model::spec::Tags;
use engine_model::{
    Commit, Event, Kind, OrgName, OrganizationEvent, ResourceId, Status, Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::table::{Reader, Rows, View};
use crate::tag::Tag;
use crate::view::{going, json};
use crate::{Error, tag};

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrganizationDocument {
    /// When it was asked for.
    pub created_time: i64,
    /// Its id for ever.
    pub id: ResourceId,
    /// Always `Organization`.
    pub kind: Kind,
    /// When its document last changed.
    pub modified_time: i64,
    /// Its name.
    pub name: String,
    /// Why it is not gone yet.
    pub reason: Option<Vec<String>>,
    /// `READY`, or `DELETING` while all that it owns goes first.
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
    going: bool,
}

pub(crate) struct Organizations;

impl View for Organizations {
    const NAME: &'static str = "organization";
    const VERSION: u32 = 1;
    type Row = Row;

    fn folds(kind: Kind) -> bool {
        kind == Kind::Organization
    }

    fn fold(rows: &mut Rows<Self>, commit: &Commit, event: &Event) -> Result<(), Error> {
        let Event::Organization(event) = event else {
            return Ok(());
        };
        rows.evolve_key(&commit.key, |row| evolve(row, commit.at, event))
    }

    fn document(_: &Reader<'_>, _: &OrgName, name: &str, row: Row) -> Result<Option<Value>, Error> {
        Ok(Some(json(&OrganizationDocument {
            created_time: row.created.unix_seconds(),
            id: row.id,
            kind: Kind::Organization,
            modified_time: row.modified.unix_seconds(),
            name: name.to_owned(),
            reason: going(row.going),
            status: if row.going {
                Status::Deleting
            } else {
                Status::Ready
            },
            tags: tag::list(&row.tags),
        })))
    }
}

fn evolve(row: Option<Row>, at: Timestamp, event: &OrganizationEvent) -> Option<Row> {
    use OrganizationEvent as E;
    match event {
        E::Created { id, spec } => Some(Row {
            id: *id,
            created: at,
            modified: at,
            tags: spec.tags.clone(),
            going: false,
        }),
        E::DeleteRequested => Some(Row {
            going: true,
            ..row?
        }),
        E::Deleted => None,
    }
}
