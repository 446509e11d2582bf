//! Base images.

use engine_model::spec::BaseImageSpec;
use engine_model::{BaseImageEvent, Commit, Event, Kind, OrgName, ResourceId, Status, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::table::{Reader, Rows, View};
use crate::tag::Tag;
use crate::view::{Making, json};
use crate::{Error, tag};

/// A base image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BaseImageDocument {
    /// When it was asked for.
    pub created_time: i64,
    /// The digest of the image that is its root; absent when it is the node's own interpreter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Where the image comes from.
    pub docker_url: String,
    /// Its id for ever.
    pub id: ResourceId,
    /// Always `BaseImage`.
    pub kind: Kind,
    /// The language pack.
    pub language: String,
    /// Its name.
    pub name: String,
    /// Why it is in error.
    pub reason: Option<Vec<String>>,
    /// How far it has come.
    pub status: Status,
    /// Labels.
    pub tags: Vec<Tag>,
    /// What the interpreter says of itself, once it is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    id: ResourceId,
    created: Timestamp,
    spec: BaseImageSpec,
    pub(crate) making: Making,
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    digest: Option<String>,
}

pub(crate) struct BaseImages;

impl View for BaseImages {
    const NAME: &'static str = "baseimage";
    const VERSION: u32 = 2;
    type Row = Row;

    fn folds(kind: Kind) -> bool {
        kind == Kind::BaseImage
    }

    fn fold(rows: &mut Rows<Self>, commit: &Commit, event: &Event) -> Result<(), Error> {
        let Event::BaseImage(event) = event else {
            return Ok(());
        };
        rows.evolve_key(&commit.key, |row| evolve(row, commit.at, event))
    }

    fn document(_: &Reader<'_>, _: &OrgName, name: &str, row: Row) -> Result<Option<Value>, Error> {
        Ok(Some(json(&BaseImageDocument {
            created_time: row.created.unix_seconds(),
            digest: row.digest,
            docker_url: row.spec.docker_url,
            id: row.id,
            kind: Kind::BaseImage,
            language: row.spec.language,
            name: name.to_owned(),
            reason: row.making.reason(|| Ok(Vec::new()))?,
            status: row.making.status(),
            tags: tag::list(&row.spec.tags),
            version: row.version,
        })))
    }
}

fn evolve(row: Option<Row>, at: Timestamp, event: &BaseImageEvent) -> Option<Row> {
    use BaseImageEvent as E;
    if let E::Created { id, spec } = event {
        // A base image waits for nothing: a node is asked to prepare it at once.
        let making = Making::default().begun();
        return Some(Row {
            id: *id,
            created: at,
            spec: spec.clone(),
            making,
            version: None,
            digest: None,
        });
    }
    let row = row?;
    match event {
        E::Created { .. } | E::Deleted => None,
        E::Updated { spec } => {
            let making = Making::default().done().begun();
            Some(Row {
                spec: spec.clone(),
                making,
                ..row
            })
        }
        E::Prepared {
            version, digest, ..
        } => Some(Row {
            making: row.making.done(),
            version: Some(version.clone()),
            digest: digest.clone(),
            ..row
        }),
        E::PrepareFailed { reason, .. } => Some(Row {
            making: row.making.failed(reason),
            ..row
        }),
    }
}
