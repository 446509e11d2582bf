//! Brokers of services.

use engine_model::spec::{BrokerLimits, Scope, Tags};
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
    /// The version of the Open Service Broker API that it answers to; null before it answered.
    pub api_version: Option<String>,
    /// PEM certificates that are trusted instead of the system's; absent for the system's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub ca: String,
    /// Why nothing is sent to it for a while; null while it answers.
    pub circuit: Option<CircuitDocument>,
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
    /// How hard it may be worked; 0 is the node's own default.
    pub limits: BrokerLimits,
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
    /// Who may use its classes: `organization` or `all`.
    pub scope: Scope,
    /// Names of the classes that it offers.
    pub service_classes: Vec<String>,
    /// `READY` when its catalog was read, `ERROR` when that failed; what is known of it stays.
    pub status: Status,
    /// Labels.
    pub tags: Vec<Tag>,
    /// Where it is.
    pub url: String,
}

/// A circuit that is open: nothing is sent, and then one request at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CircuitDocument {
    /// How many requests failed in a row.
    pub failures: u32,
    /// How often it was opened since the broker last answered.
    pub opened: u32,
    /// What came of the last request.
    pub reason: String,
    /// When a request is tried again.
    pub until: i64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    id: ResourceId,
    created: Timestamp,
    modified: Timestamp,
    url: String,
    ca: String,
    scope: Scope,
    limits: BrokerLimits,
    api_version: Option<String>,
    circuit: Option<Circuit>,
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

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Circuit {
    reason: String,
    failures: u32,
    opened: u32,
    until: Timestamp,
}

impl Row {
    /// Whether its end was asked for.
    pub(crate) fn is_going(&self) -> bool {
        self.going
    }

    /// Whether every organization may use its classes.
    pub(crate) fn serves_all(&self) -> bool {
        self.scope == Scope::All
    }
}

pub(crate) struct Brokers;

impl View for Brokers {
    const NAME: &'static str = "servicebroker";
    const VERSION: u32 = 2;
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
        let circuit = row.circuit.map(|circuit| CircuitDocument {
            failures: circuit.failures,
            opened: circuit.opened,
            reason: circuit.reason,
            until: circuit.until.unix_seconds(),
        });
        Ok(Some(json(&BrokerDocument {
            api_version: row.api_version,
            ca: row.ca,
            circuit,
            limits: row.limits,
            scope: row.scope,
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
    if let Some(circuit) = &row.circuit {
        let text = format!(
            "circuit open: {} requests in a row failed, the last one: {}; nothing is sent before \
             {}, then one request at a time",
            circuit.failures, circuit.reason, circuit.until
        );
        return (Status::Error, vec![text]);
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
    if let E::Registered {
        id,
        url,
        ca,
        scope,
        limits,
        tags,
        ..
    } = event
    {
        return Some(Row {
            id: *id,
            created: at,
            modified: at,
            url: url.clone(),
            ca: ca.clone(),
            scope: *scope,
            limits: *limits,
            api_version: None,
            circuit: None,
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
        E::Updated {
            url,
            ca,
            scope,
            limits,
            tags,
            ..
        } => Some(Row {
            url: url.clone(),
            ca: ca.clone(),
            scope: *scope,
            limits: *limits,
            // It may be another one, or well again.
            api_version: None,
            circuit: None,
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
            api_version,
            next_at,
            ..
        } => Some(Row {
            api_version: api_version.clone(),
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
        E::CircuitOpened {
            reason,
            failures,
            opened,
            until,
        } => {
            let circuit = Some(Circuit {
                reason: reason.clone(),
                failures: *failures,
                opened: *opened,
                until: *until,
            });
            Some(Row { circuit, ..row })
        }
        E::CircuitClosed => Some(Row {
            circuit: None,
            ..row
        }),
        E::DeleteRequested => Some(Row { going: true, ..row }),
    }
}
