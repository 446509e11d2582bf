//! Service classes and their plans, as their broker's catalog last had them. One that the catalog
//! has no more is shown as long as an instance uses it.

use engine_model::broker::{Offering, PlanSchemas};
use engine_model::{ClassEvent, Commit, Event, Kind, OrgName, ResourceId, Status, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Error;
use crate::table::{Reader, Rows, View};
use crate::tag::Tag;
use crate::view::{json, reasons, waits};

/// A service that a broker offers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClassDocument {
    /// Whether instances can be bound, unless the plan says otherwise.
    pub bindable: bool,
    /// The broker, by name.
    pub broker: String,
    /// When the catalog first had it.
    pub created_time: i64,
    /// For people.
    pub description: String,
    /// Its id in Dispatch.
    pub id: ResourceId,
    /// Always `ServiceClass`.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Its plans, in the catalog's order.
    pub plans: Vec<PlanDocument>,
    /// Why it is not `READY`.
    pub reason: Option<Vec<String>>,
    /// The broker's id of it.
    #[serde(rename = "serviceID")]
    pub service_id: String,
    /// The broker's labels.
    pub service_tags: Vec<String>,
    /// `READY`, or `ERROR` when the catalog has it no more and only its users keep it.
    pub status: Status,
    /// Always empty: a class is the broker's.
    pub tags: Vec<Tag>,
    /// Whether the catalog has it no more.
    pub withdrawn: bool,
}

/// A plan of a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanDocument {
    /// Whether instances of it can be bound.
    pub bindable: bool,
    /// For people.
    pub description: String,
    /// Whether it costs nothing.
    pub free: bool,
    /// The broker's id of it.
    pub id: String,
    /// Always `ServicePlan`.
    pub kind: String,
    /// Opaque.
    pub metadata: Value,
    /// Its name.
    pub name: String,
    /// JSON schemas of the parameters: `create`, `update`, `bind`; what is absent takes any.
    pub schema: PlanSchemas,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    id: ResourceId,
    created: Timestamp,
    pub(crate) broker: String,
    pub(crate) offering: Offering,
    pub(crate) withdrawn: bool,
}

pub(crate) struct Classes;

impl View for Classes {
    const NAME: &'static str = "serviceclass";
    const VERSION: u32 = 1;
    type Row = Row;

    fn folds(kind: Kind) -> bool {
        kind == Kind::ServiceClass
    }

    fn fold(rows: &mut Rows<Self>, commit: &Commit, event: &Event) -> Result<(), Error> {
        let Event::ServiceClass(event) = event else {
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
        if row.withdrawn && !waits::class_is_used(reader, org, name)? {
            return Ok(None);
        }
        let offering = row.offering;
        let plans = offering.plans.iter().map(|plan| PlanDocument {
            bindable: plan.is_bindable(&offering),
            description: plan.description.clone(),
            free: plan.free,
            id: plan.id.clone(),
            kind: "ServicePlan".into(),
            metadata: plan.metadata.clone(),
            name: plan.name.clone(),
            schema: plan.schemas.clone(),
        });
        let gone = || {
            format!(
                "broker {} no longer offers it; kept for those who use it",
                row.broker
            )
        };
        Ok(Some(json(&ClassDocument {
            plans: plans.collect(),
            reason: reasons(row.withdrawn.then(gone)),
            bindable: offering.bindable,
            broker: row.broker,
            created_time: row.created.unix_seconds(),
            description: offering.description,
            id: row.id,
            kind: Kind::ServiceClass,
            name: name.to_owned(),
            service_id: offering.id,
            service_tags: offering.tags,
            status: if row.withdrawn {
                Status::Error
            } else {
                Status::Ready
            },
            tags: Vec::new(),
            withdrawn: row.withdrawn,
        })))
    }
}

fn evolve(row: Option<Row>, at: Timestamp, event: &ClassEvent) -> Option<Row> {
    match event {
        ClassEvent::Offered {
            id,
            broker,
            offering,
        } => Some(Row {
            id: *id,
            created: row.map_or(at, |row| row.created),
            broker: broker.to_string(),
            offering: offering.clone(),
            withdrawn: false,
        }),
        ClassEvent::Changed { offering, .. } => Some(Row {
            offering: offering.clone(),
            ..row?
        }),
        ClassEvent::Withdrawn => Some(Row {
            withdrawn: true,
            ..row?
        }),
    }
}
