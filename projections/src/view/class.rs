//! Service classes and their plans, as their broker's catalog last had them. One that the catalog
//! has no more is shown as long as an instance uses it, and so is a plan.

use engine_model::broker::{Offering, Plan, PlanSchemas};
use engine_model::{ClassEvent, Commit, Event, Kind, OrgName, ResourceId, Status, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Error;
use crate::table::{Reader, Rows, View};
use crate::tag::Tag;
use crate::view::{Brokers, Instances, instance, json, reasons};

/// The organization whose brokers may serve all others.
const COMMON_ORG: &str = "dispatch";

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
    /// Whether the broker can be asked how an instance is (`get --live`).
    pub instances_retrievable: bool,
    /// Always `ServiceClass`.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// The organization whose broker offers it to all; absent when that is the own one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization: Option<String>,
    /// Its plans, in the catalog's order; then those that it has no more and that are used.
    pub plans: Vec<PlanDocument>,
    /// Why it is not `READY`.
    pub reason: Option<Vec<String>>,
    /// Permissions that the service wants.
    pub requires: Vec<String>,
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
    /// Whether a binding can be replaced by a newer one.
    pub binding_rotatable: bool,
    /// For people.
    pub description: String,
    /// Whether it costs nothing.
    pub free: bool,
    /// Whether the catalog has it no more and only its users keep it.
    pub gone: bool,
    /// The broker's id of it.
    pub id: String,
    /// Always `ServicePlan`.
    pub kind: String,
    /// Its `maintenance_info.version`; null when it has none.
    pub maintenance_version: Option<String>,
    /// Opaque.
    pub metadata: Value,
    /// Its name.
    pub name: String,
    /// Whether an instance of it can change to another plan.
    pub plan_updateable: bool,
    /// JSON schemas of the parameters: `create`, `update`, `bind`; what is absent takes any.
    pub schema: PlanSchemas,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    id: ResourceId,
    created: Timestamp,
    pub(crate) broker: String,
    pub(crate) offering: Offering,
    /// Plans that the catalog has no more, as they last were.
    gone: Vec<Plan>,
    pub(crate) withdrawn: bool,
}

impl Row {
    /// The plan of this id, also one that the catalog has no more.
    pub(crate) fn plan_by_id(&self, id: &str) -> Option<&Plan> {
        let mut plans = self.offering.plans.iter().chain(&self.gone);
        plans.find(|plan| plan.id == id)
    }

    /// The plans that were known and that `offering` does not have, by the broker's ids.
    fn plans_gone(&self, offering: &Offering) -> Vec<Plan> {
        let known = self.gone.iter().chain(&self.offering.plans);
        let offered = |id: &str| offering.plans.iter().any(|plan| plan.id == id);
        known.filter(|plan| !offered(&plan.id)).cloned().collect()
    }
}

/// The class of this name that an instance of `org` would be of, and whose it is: its own, if
/// that is offered, before one of a broker that serves all.
pub(crate) fn usable<'a>(
    reader: &Reader<'_>,
    org: &'a OrgName,
    name: &str,
) -> Result<Option<(&'a OrgName, Row)>, Error> {
    let own = reader.get::<Classes>(org, name)?;
    if own.as_ref().is_some_and(|class| !class.withdrawn) {
        return Ok(own.map(|class| (org, class)));
    }
    let common = common();
    if let Some(shared) = shared(reader, org, name)? {
        return Ok(Some((common, shared)));
    }
    Ok(own.map(|class| (org, class)))
}

/// The organization whose brokers may serve all others.
fn common() -> &'static OrgName {
    static COMMON: std::sync::LazyLock<OrgName> =
        std::sync::LazyLock::new(|| OrgName::new(COMMON_ORG).expect("it is a name"));
    &COMMON
}

/// The class of this name that a broker of the common organization offers to all others.
fn shared(reader: &Reader<'_>, org: &OrgName, name: &str) -> Result<Option<Row>, Error> {
    if org == common() {
        return Ok(None);
    }
    let Some(class) = reader.get::<Classes>(common(), name)? else {
        return Ok(None);
    };
    let serves_all = reader
        .get::<Brokers>(common(), &class.broker)?
        .is_some_and(|broker| broker.serves_all());
    Ok(Some(class).filter(|class| serves_all && !class.withdrawn))
}

/// The document of the class that `org` can use under this name.
pub(crate) fn one(reader: &Reader<'_>, org: &OrgName, name: &str) -> Result<Option<Value>, Error> {
    match usable(reader, org, name)? {
        Some((of, row)) => document(reader, (of, org), name, row),
        None => Ok(None),
    }
}

/// The documents of the classes that `org` can use, by name: its own, and those that brokers of
/// the common organization offer to all.
pub(crate) fn all(reader: &Reader<'_>, org: &OrgName) -> Result<Vec<Value>, Error> {
    let mut names = reader.names::<Classes>(org)?;
    if org != common() {
        names.extend(reader.names::<Classes>(common())?);
        names.sort();
        names.dedup();
    }
    let mut documents = Vec::new();
    for name in names {
        documents.extend(one(reader, org, &name)?);
    }
    Ok(documents)
}

/// The class of an instance, also when it is no longer offered.
pub(crate) fn of_instance(
    reader: &Reader<'_>,
    org: &OrgName,
    instance: &instance::Row,
) -> Result<Option<Row>, Error> {
    let Some((of, broker)) = instance.broker(org) else {
        return Ok(None);
    };
    let class = reader.get::<Classes>(of, &instance.spec.service_class)?;
    Ok(class.filter(|class| class.broker == broker.as_str()))
}

/// Whether an instance is such that is of this class of organization `of`.
fn is_used(
    reader: &Reader<'_>,
    of: &OrgName,
    name: &str,
    such: impl Fn(&instance::Row) -> bool,
) -> Result<bool, Error> {
    let is = |row: &instance::Row| row.spec.service_class == name && such(row);
    if of != common() {
        return reader.any::<Instances>(of, is);
    }
    // Of other organizations those count that were asked of a broker of this one.
    reader
        .any_of_all::<Instances>(|org, row| is(row) && (org == of.as_str() || row.is_asked_of(of)))
}

pub(crate) struct Classes;

impl View for Classes {
    const NAME: &'static str = "serviceclass";
    const VERSION: u32 = 2;
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
        document(reader, (org, org), name, row)
    }
}

/// What `reading` sees of a class of organization `of`; `None` when nobody uses what is gone.
fn document(
    reader: &Reader<'_>,
    (of, reading): (&OrgName, &OrgName),
    name: &str,
    row: Row,
) -> Result<Option<Value>, Error> {
    if row.withdrawn && !is_used(reader, of, name, |_| true)? {
        return Ok(None);
    }
    let offering = &row.offering;
    let mut plans: Vec<PlanDocument> = offering
        .plans
        .iter()
        .map(|plan| plan_document(offering, plan, row.withdrawn))
        .collect();
    for plan in &row.gone {
        let uses = |instance: &instance::Row| instance.plan_id() == Some(plan.id.as_str());
        if is_used(reader, of, name, uses)? {
            plans.push(plan_document(offering, plan, true));
        }
    }
    let gone = || {
        format!(
            "broker {} no longer offers it; kept for those who use it",
            row.broker
        )
    };
    Ok(Some(json(&ClassDocument {
        plans,
        reason: reasons(row.withdrawn.then(gone)),
        bindable: row.offering.bindable,
        broker: row.broker,
        created_time: row.created.unix_seconds(),
        description: row.offering.description,
        id: row.id,
        instances_retrievable: row.offering.instances_retrievable,
        kind: Kind::ServiceClass,
        name: name.to_owned(),
        organization: (of != reading).then(|| of.to_string()),
        requires: row.offering.requires,
        service_id: row.offering.id,
        service_tags: row.offering.tags,
        status: if row.withdrawn {
            Status::Error
        } else {
            Status::Ready
        },
        tags: Vec::new(),
        withdrawn: row.withdrawn,
    })))
}

fn plan_document(offering: &Offering, plan: &Plan, gone: bool) -> PlanDocument {
    PlanDocument {
        bindable: plan.is_bindable(offering),
        binding_rotatable: plan.binding_rotatable,
        description: plan.description.clone(),
        free: plan.free,
        gone,
        id: plan.id.clone(),
        kind: "ServicePlan".into(),
        maintenance_version: plan.maintenance_version.clone(),
        metadata: plan.metadata.clone(),
        name: plan.name.clone(),
        plan_updateable: plan.plan_updateable.unwrap_or(offering.plan_updateable),
        schema: plan.schemas.clone(),
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
            created: row.as_ref().map_or(at, |row| row.created),
            // What another broker offered under this name is no plan of this one.
            gone: row
                .filter(|row| row.broker == broker.as_str())
                .map_or_else(Vec::new, |row| row.plans_gone(offering)),
            broker: broker.to_string(),
            offering: offering.clone(),
            withdrawn: false,
        }),
        ClassEvent::Changed { offering, .. } => {
            let row = row?;
            Some(Row {
                gone: row.plans_gone(offering),
                offering: offering.clone(),
                ..row
            })
        }
        ClassEvent::Withdrawn => Some(Row {
            withdrawn: true,
            ..row?
        }),
    }
}
