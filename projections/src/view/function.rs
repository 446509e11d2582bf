//! Functions. The last loaded revision serves until a newer one is loaded.

use engine_model::spec::{
    FunctionLimits, FunctionSchema, FunctionSpec, Isolation, NetworkPolicy, RunPolicy, ServiceUse,
    WorkerScale,
};
use engine_model::{
    Commit, Event, FunctionEvent, FunctionId, Kind, Name, OrgName, RevisionId, Status, Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::table::{Reader, Rows, View};
use crate::tag::Tag;
use crate::view::{Making, json, waits};
use crate::{Error, tag};

/// A function. Its source is not shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FunctionDocument {
    /// When it was asked for.
    pub created_time: i64,
    /// The revision that is called; null before one is loaded.
    pub faas_id: Option<RevisionId>,
    /// What is called.
    pub handler: String,
    /// Its id for ever.
    pub id: FunctionId,
    /// The image, by name.
    pub image: String,
    /// What of one call the next one may see.
    #[serde(default, skip_serializing_if = "is_default")]
    pub isolation: Isolation,
    /// Always `Function`.
    pub kind: Kind,
    /// What a worker may use up besides memory.
    #[serde(default, skip_serializing_if = "is_default")]
    pub limits: FunctionLimits,
    /// Megabytes of memory that a worker may use; 0 for the node's own limit.
    pub memory: u64,
    /// When its document last changed.
    pub modified_time: i64,
    /// Its name.
    pub name: String,
    /// What it may reach.
    pub network: NetworkPolicy,
    /// Why it is in error.
    pub reason: Option<Vec<String>>,
    /// How its runs are begun and repeated.
    #[serde(default, skip_serializing_if = "is_default")]
    pub runs: RunPolicy,
    /// JSON schemas of input and output.
    pub schema: FunctionSchema,
    /// Secrets that it sees.
    pub secrets: Vec<Name>,
    /// Service instances that it uses.
    pub services: Vec<ServiceUse>,
    /// How far it has come.
    pub status: Status,
    /// Labels.
    pub tags: Vec<Tag>,
    /// Milliseconds that a run may take; 0 for the node's own limit.
    pub timeout: u64,
    /// How many workers a node has of it, and how long they stay.
    #[serde(default, skip_serializing_if = "is_default")]
    pub workers: WorkerScale,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    id: FunctionId,
    created: Timestamp,
    modified: Timestamp,
    spec: FunctionSpec,
    pub(crate) making: Making,
    serving: Option<RevisionId>,
}

pub(crate) struct Functions;

impl View for Functions {
    const NAME: &'static str = "function";
    const VERSION: u32 = 1;
    type Row = Row;

    fn folds(kind: Kind) -> bool {
        kind == Kind::Function
    }

    fn fold(rows: &mut Rows<Self>, commit: &Commit, event: &Event) -> Result<(), Error> {
        let Event::Function(event) = event else {
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
        let waits = || waits::of_function(reader, org, name, &row.spec);
        Ok(Some(json(&FunctionDocument {
            reason: row.making.reason(waits)?,
            created_time: row.created.unix_seconds(),
            faas_id: row.serving,
            handler: row.spec.handler,
            id: row.id,
            image: row.spec.image.to_string(),
            isolation: row.spec.isolation,
            kind: Kind::Function,
            limits: row.spec.limits,
            memory: row.spec.memory,
            modified_time: row.modified.unix_seconds(),
            name: name.to_owned(),
            network: row.spec.network,
            runs: row.spec.runs,
            schema: row.spec.schema,
            secrets: row.spec.secrets,
            services: row.spec.services,
            status: row.making.status(),
            tags: tag::list(&row.spec.tags),
            timeout: row.spec.timeout,
            workers: row.spec.workers,
        })))
    }
}

fn evolve(row: Option<Row>, at: Timestamp, event: &FunctionEvent) -> Option<Row> {
    use FunctionEvent as E;
    if let E::Created { id, spec } = event {
        return Some(Row {
            id: *id,
            created: at,
            modified: at,
            spec: spec.clone(),
            making: Making::default(),
            serving: None,
        });
    }
    let row = row?;
    match event {
        E::Created { .. } | E::Deleted => None,
        E::Updated { spec } => {
            // A document that was sent again, and is loaded or being loaded, starts nothing.
            let making = match row.making.is_underway() && row.spec == *spec {
                true => row.making,
                false => row.making.wanted(),
            };
            Some(Row {
                spec: spec.clone(),
                modified: at,
                making,
                ..row
            })
        }
        E::LoadRequested { .. } => Some(Row {
            making: row.making.begun(),
            ..row
        }),
        E::Loaded { revision } => Some(Row {
            serving: Some(*revision),
            making: row.making.done(),
            ..row
        }),
        E::LoadFailed { reason, .. } => Some(Row {
            making: row.making.failed(reason),
            ..row
        }),
    }
}
