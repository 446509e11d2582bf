//! Functions. The last loaded revision serves until a newer one is loaded, unless runs are routed.

use engine_model::spec::{
    FunctionLimits, FunctionSchema, FunctionSpec, Isolation, NetworkPolicy, RunPolicy, ServiceUse,
    WorkerScale,
};
use engine_model::{
    Commit, Event, FunctionEvent, FunctionId, Kind, Name, OrgName, RevisionId, Share, Status,
    Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::table::{Reader, Rows, View};
use crate::tag::Tag;
use crate::view::revision::{Fate, Revision, Revisions};
use crate::view::{Making, json, reasons, waits};
use crate::{Error, tag};

/// A function. Its source is not shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FunctionDocument {
    /// When it was asked for.
    pub created_time: i64,
    /// The newest loaded revision, which is called unless `traffic` says otherwise; null before one
    /// is loaded.
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
    /// The number of the newest revision, loaded or not; 0 before there is one.
    #[serde(default)]
    pub revision: u32,
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
    /// How its runs are divided among revisions; absent when the newest loaded one takes them all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traffic: Vec<Share>,
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
    revisions: Revisions,
}

pub(crate) struct Functions;

impl View for Functions {
    const NAME: &'static str = "function";
    const VERSION: u32 = 2;
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
            reason: match row.making.is_current() {
                true => reasons(row.revisions.remarks(name)),
                false => row.making.reason(waits)?,
            },
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
            revision: row.revisions.newest(),
            runs: row.spec.runs,
            schema: row.spec.schema,
            secrets: row.spec.secrets,
            services: row.spec.services,
            status: row.making.status(),
            tags: tag::list(&row.spec.tags),
            timeout: row.spec.timeout,
            traffic: row.revisions.shares,
            workers: row.spec.workers,
        })))
    }
}

/// The kept revisions of a function, the newest first; `None` when there is no such function.
pub(crate) fn revisions(
    reader: &Reader<'_>,
    org: &OrgName,
    name: &str,
) -> Result<Option<Vec<Value>>, Error> {
    let row = reader.get::<Functions>(org, name)?;
    Ok(row.map(|row| row.revisions.documents(name)))
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
            revisions: Revisions::default(),
        });
    }
    let mut row = row?;
    match event {
        E::Created { .. } | E::Deleted => return None,
        E::Updated { spec } => {
            // A document that was sent again, and is loaded or being loaded, starts nothing.
            if !(row.making.is_underway() && row.spec == *spec) {
                row.wanted();
            }
            row.spec.clone_from(spec);
            row.modified = at;
        }
        E::RolledBack { spec, .. } => {
            row.wanted();
            row.spec.clone_from(spec);
            row.modified = at;
        }
        E::Routed { shares } => row.revisions.route(shares),
        E::LoadRequested {
            revision,
            number,
            language,
            layer,
            because,
            ..
        } => {
            row.making = row.making.begun();
            row.revisions.begin(Revision {
                number: *number,
                id: *revision,
                language: language.clone(),
                layer: layer.clone(),
                because: *because,
                at,
                fate: Fate::Loading,
            });
        }
        E::Loaded { revision } => {
            row.serving = Some(*revision);
            row.making = row.making.done();
            row.revisions.settle(&Fate::Loaded);
        }
        E::LoadFailed { reason, .. } => {
            row.making = row.making.failed(reason);
            row.revisions.settle(&Fate::Failed(reason.clone()));
        }
    }
    Some(row)
}

impl Row {
    /// Its document is another one now.
    fn wanted(&mut self) {
        self.making = std::mem::take(&mut self.making).wanted();
        self.revisions.settle(&Fate::Replaced);
    }
}
