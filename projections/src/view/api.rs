//! Endpoints.

use engine_model::spec::ApiSpec;
use engine_model::{ApiEvent, Commit, Event, Kind, OrgName, ResourceId, Status, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::table::{Reader, Rows, View};
use crate::tag::Tag;
use crate::view::{Making, json, waits};
use crate::{Error, tag};

/// An HTTP endpoint in front of a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiDocument {
    /// `public`, or the name of an authentication that the gateway knows.
    pub authentication: String,
    /// Whether cross-origin requests are answered.
    pub cors: bool,
    /// When it was asked for.
    pub created_time: i64,
    /// Whether it is served at all.
    pub enabled: bool,
    /// The function, by name.
    pub function: String,
    /// `Host` values to match; empty for all.
    pub hosts: Vec<String>,
    /// Its id for ever.
    pub id: ResourceId,
    /// Always `API`.
    pub kind: Kind,
    /// Methods to match; empty for all.
    pub methods: Vec<String>,
    /// Its name.
    pub name: String,
    /// `http`, `https` or both.
    pub protocols: Vec<String>,
    /// Whether each request is a run on record.
    pub record: bool,
    /// Why it is in error.
    pub reason: Option<Vec<String>>,
    /// How far it has come.
    pub status: Status,
    /// Labels.
    pub tags: Vec<Tag>,
    /// Paths.
    pub uris: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    id: ResourceId,
    created: Timestamp,
    spec: ApiSpec,
    making: Making,
}

pub(crate) struct Apis;

impl View for Apis {
    const NAME: &'static str = "api";
    const VERSION: u32 = 1;
    type Row = Row;

    fn folds(kind: Kind) -> bool {
        kind == Kind::API
    }

    fn fold(rows: &mut Rows<Self>, commit: &Commit, event: &Event) -> Result<(), Error> {
        let Event::API(event) = event else {
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
        let waits = || {
            Ok(waits::function(reader, org, &row.spec.function)?
                .into_iter()
                .collect())
        };
        Ok(Some(json(&ApiDocument {
            reason: row.making.reason(waits)?,
            authentication: row.spec.authentication,
            cors: row.spec.cors,
            created_time: row.created.unix_seconds(),
            enabled: row.spec.enabled,
            function: row.spec.function.to_string(),
            hosts: row.spec.hosts,
            id: row.id,
            kind: Kind::API,
            methods: row.spec.methods,
            name: name.to_owned(),
            protocols: row.spec.protocols,
            record: row.spec.record,
            status: row.making.status(),
            tags: tag::list(&row.spec.tags),
            uris: row.spec.uris,
        })))
    }
}

fn evolve(row: Option<Row>, at: Timestamp, event: &ApiEvent) -> Option<Row> {
    use ApiEvent as E;
    if let E::Created { id, spec } = event {
        let making = Making::default();
        return Some(Row {
            id: *id,
            created: at,
            spec: spec.clone(),
            making,
        });
    }
    let row = row?;
    match event {
        E::Created { .. } | E::Deleted => None,
        E::Updated { spec } => Some(Row {
            spec: spec.clone(),
            making: row.making.wanted(),
            ..row
        }),
        E::ServeRequested { .. } => Some(Row {
            making: row.making.begun(),
            ..row
        }),
        E::Served { .. } => Some(Row {
            making: row.making.done(),
            ..row
        }),
        E::ServeFailed { reason, .. } => Some(Row {
            making: row.making.failed(reason),
            ..row
        }),
    }
}
