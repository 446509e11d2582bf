//! Images.

use engine_model::spec::{ImageSpec, RuntimeDependencies, SystemDependencies};
use engine_model::{Commit, Event, ImageEvent, Kind, OrgName, ResourceId, Status, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::table::{Reader, Rows, View};
use crate::tag::Tag;
use crate::view::{Making, json, waits};
use crate::{Error, tag};

/// An image: a base image and a layer of dependencies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageDocument {
    /// The base image, by name.
    pub base_image_name: String,
    /// Where in the blob store what the last build printed is, if it printed anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_log: Option<String>,
    /// When it was asked for.
    pub created_time: i64,
    /// Where the layer lies: `<image id>@sha256:<digest>`, the id alone when there is nothing in
    /// the layer, empty before it was built.
    pub docker_url: String,
    /// Its id for ever.
    pub id: ResourceId,
    /// Always `Image`.
    pub kind: Kind,
    /// The language of the base image; empty before it is known.
    pub language: String,
    /// Its name.
    pub name: String,
    /// Why it is in error.
    pub reason: Option<Vec<String>>,
    /// The language's own manifest.
    pub runtime_dependencies: RuntimeDependencies,
    /// How far it has come.
    pub status: Status,
    /// Packages of the operating system.
    pub system_dependencies: SystemDependencies,
    /// Labels.
    pub tags: Vec<Tag>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    id: ResourceId,
    created: Timestamp,
    spec: ImageSpec,
    pub(crate) making: Making,
    language: String,
    url: String,
    #[serde(default)]
    log: Option<String>,
}

pub(crate) struct Images;

impl View for Images {
    const NAME: &'static str = "image";
    const VERSION: u32 = 2;
    type Row = Row;

    fn folds(kind: Kind) -> bool {
        kind == Kind::Image
    }

    fn fold(rows: &mut Rows<Self>, commit: &Commit, event: &Event) -> Result<(), Error> {
        let Event::Image(event) = event else {
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
            Ok(waits::base_image(reader, org, &row.spec.base_image_name)?
                .into_iter()
                .collect())
        };
        Ok(Some(json(&ImageDocument {
            reason: row.making.reason(waits)?,
            build_log: row.log,
            base_image_name: row.spec.base_image_name.to_string(),
            created_time: row.created.unix_seconds(),
            docker_url: row.url,
            id: row.id,
            kind: Kind::Image,
            language: row.language,
            name: name.to_owned(),
            runtime_dependencies: row.spec.runtime_dependencies,
            status: row.making.status(),
            system_dependencies: row.spec.system_dependencies,
            tags: tag::list(&row.spec.tags),
        })))
    }
}

fn evolve(row: Option<Row>, at: Timestamp, event: &ImageEvent) -> Option<Row> {
    use ImageEvent as E;
    if let E::Created { id, spec } = event {
        return Some(Row {
            id: *id,
            created: at,
            spec: spec.clone(),
            making: Making::default(),
            language: String::new(),
            url: String::new(),
            log: None,
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
        E::BuildRequested { language, .. } => Some(Row {
            language: language.clone(),
            making: row.making.begun(),
            ..row
        }),
        E::Built { layer, log, .. } => {
            let url = match layer {
                Some(digest) => format!("{}@sha256:{digest}", row.id),
                None => row.id.to_string(),
            };
            Some(Row {
                url,
                log: log.clone(),
                making: row.making.done(),
                ..row
            })
        }
        E::BuildFailed { reason, log, .. } => Some(Row {
            log: log.clone(),
            making: row.making.failed(reason),
            ..row
        }),
    }
}
