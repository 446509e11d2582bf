//! Service accounts: the ways in for machines.

use engine_model::spec::Tags;
use engine_model::{
    Commit, Event, Kind, OrgName, ResourceId, ServiceAccountEvent, Status, Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::table::{Reader, Rows, View};
use crate::tag::Tag;
use crate::view::json;
use crate::{Error, tag};

/// A machine's way in. Neither its token nor the token's hash is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountDocument {
    /// When it was asked for.
    pub created_time: i64,
    /// Its id for ever.
    pub id: ResourceId,
    /// Always `ServiceAccount`.
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

pub(crate) struct ServiceAccounts;

impl View for ServiceAccounts {
    const NAME: &'static str = "serviceaccount";
    const VERSION: u32 = 1;
    type Row = Row;

    fn folds(kind: Kind) -> bool {
        kind == Kind::ServiceAccount
    }

    fn fold(rows: &mut Rows<Self>, commit: &Commit, event: &Event) -> Result<(), Error> {
        let Event::ServiceAccount(event) = event else {
            return Ok(());
        };
        rows.evolve_key(&commit.key, |row| evolve(row, commit.at, event))
    }

    fn document(_: &Reader<'_>, _: &OrgName, name: &str, row: Row) -> Result<Option<Value>, Error> {
        Ok(Some(json(&ServiceAccountDocument {
            created_time: row.created.unix_seconds(),
            id: row.id,
            kind: Kind::ServiceAccount,
            modified_time: row.modified.unix_seconds(),
            name: name.to_owned(),
            status: Status::Ready,
            tags: tag::list(&row.tags),
        })))
    }
}

fn evolve(row: Option<Row>, at: Timestamp, event: &ServiceAccountEvent) -> Option<Row> {
    use ServiceAccountEvent as E;
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
