//! Brokers of services.

use engine_model::spec::Tags;
use engine_model::{BrokerEvent, Commit, Event, Kind, OrgName, ResourceId, Status, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::table::{Reader, Rows, View};
use crate::tag::Tag;
use crate::view::{json, reasons};
use crate::{Error, tag};

/// A broker of services. Its credentials are not shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BrokerDocument {
    /// When it was registered.
    pub created_time: i64,
    /// Its id for ever.
    pub id: ResourceId,
    /// Always `ServiceBroker`.
    pub kind: Kind,
    /// Why its catalog could not be read when that was last tried.
    pub last_error: Option<String>,
    /// When its catalog was last read.
    pub last_refresh: Option<i64>,
    /// When its document last changed.
    pub modified_time: i64,
    /// Its name.
    pub name: String,
    /// When its catalog is read next; null while it is being read.
    pub next_refresh: Option<i64>,
    /// Why it is in error, or what of its catalog could not be taken.
    pub reason: Option<Vec<String>>,
    /// Entries of its catalog that could not be taken, each with the reason.
    pub refused: Vec<String>,
    /// Names of the classes that it offers.
    pub service_classes: Vec<String>,
    /// `READY` when its catalog was read, `ERROR` when that failed; what is known of it stays.
    pub status: Status,
    /// Labels.
    pub tags: Vec<Tag>,
    /// Where it is.
    pub url: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    id: ResourceId,
    created: Timestamp,
    modified: Timestamp,
    url: String,
    tags: Tags,
    classes: Vec<String>,
    refused: Vec<String>,
    last_read: Option<Timestamp>,
    catalog: Catalog,
    going: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
enum Catalog {
    Reading,
    Read {
        next_at: Timestamp,
    },
    Failed {
        reason: String,
        failures: u32,
        next_at: Timestamp,
    },
}

pub(crate) struct Brokers;

impl View for Brokers {
    const NAME: &'static str = "servicebroker";
    const VERSION: u32 = 1;
    type Row = Row;

    fn folds(kind: Kind) -> bool {
        kind == Kind::ServiceBroker
    }

    fn fold(rows: &mut Rows<Self>, commit: &Commit, event: &Event) -> Result<(), Error> {
        let Event::ServiceBroker(event) = event else {
            return Ok(());
        };
        rows.evolve_key(&commit.key, |row| evolve(row, commit.at, event))
    }

    fn document(_: &Reader<'_>, _: &OrgName, name: &str, row: Row) -> Result<Option<Value>, Error> {
        let (status, reason) = shown(&row);
        let (last_error, next_at) = match row.catalog {
            Catalog::Reading => (None, None),
            Catalog::Read { next_at } => (None, Some(next_at)),
            Catalog::Failed {
                reason, next_at, ..
            } => (Some(reason), Some(next_at)),
        };
        Ok(Some(json(&BrokerDocument {
            created_time: row.created.unix_seconds(),
            id: row.id,
            kind: Kind::ServiceBroker,
            reason: reasons(reason),
            last_error,
            last_refresh: row.last_read.map(Timestamp::unix_seconds),
            modified_time: row.modified.unix_seconds(),
            name: name.to_owned(),
            next_refresh: next_at.map(Timestamp::unix_seconds),
            refused: row.refused,
            service_classes: row.classes,
            status,
            tags: tag::list(&row.tags),
            url: row.url,
        })))
    }
}

fn shown(row: &Row) -> (Status, Vec<String>) {
    if row.going {
        return (
            Status::Deleting,
            vec!["waits until those that use it are gone".into()],
        );
    }
    match &row.catalog {
        Catalog::Reading if row.classes.is_empty() => (Status::Creating, Vec::new()),
        Catalog::Reading => (Status::Updating, Vec::new()),
        Catalog::Read { .. } => (Status::Ready, row.refused.clone()),
        Catalog::Failed {
            reason,
            failures,
            next_at,
        } => {
            let text = format!(
                "the catalog could not be read ({failures} times in a row): {reason}; tried \
                 again at {next_at}"
            );
            (Status::Error, vec![text])
        }
    }
}

fn evolve(row: Option<Row>, at: Timestamp, event: &BrokerEvent) -> Option<Row> {
    use BrokerEvent as E;
    if let E::Registered { id, url, tags, .. } = event {
        return Some(Row {
            id: *id,
            created: at,
            modified: at,
            url: url.clone(),
            tags: tags.clone(),
            classes: Vec::new(),
            refused: Vec::new(),
            last_read: None,
            catalog: Catalog::Reading,
            going: false,
        });
    }
    let row = row?;
    match event {
        E::Registered { .. } | E::Deleted => None,
        E::Updated { url, tags, .. } => Some(Row {
            url: url.clone(),
            tags: tags.clone(),
            modified: at,
            catalog: Catalog::Reading,
            ..row
        }),
        E::RefreshRequested => Some(Row {
            catalog: Catalog::Reading,
            ..row
        }),
        E::CatalogRead {
            classes,
            refused,
            next_at,
            ..
        } => Some(Row {
            classes: classes.clone(),
            refused: refused.clone(),
            last_read: Some(at),
            catalog: Catalog::Read { next_at: *next_at },
            ..row
        }),
        E::CatalogFailed {
            reason,
            failures,
            next_at,
        } => {
            let (failures, next_at) = (*failures, *next_at);
            let catalog = Catalog::Failed {
                reason: reason.clone(),
                failures,
                next_at,
            };
            Some(Row { catalog, ..row })
        }
        E::CircuitOpened { .. } | E::CircuitClosed => Some(row),
        E::DeleteRequested => Some(Row { going: true, ..row }),
    }
}
