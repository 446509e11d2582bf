//! Catalogs: every difference is an event of the class that it concerns, and the broker's own
//! event comes last. What is unchanged is not written. A catalog that cannot be read changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use engine_model::broker::{Offering, Plan};
use engine_model::{
    BrokerEvent, BrokerOutcome, ClassEvent, Event, Kind, Name, RequestId, ResourceId, ResourceKey,
    Timestamp,
};

use super::Decision;
use super::delete::Writes;
use crate::aggregate::broker::{Broker, Catalog};
use crate::pace;
use crate::state::State;
use crate::world::World;

/// Most refused entries kept; more would only hide the first.
const REFUSED_MAX: usize = 50;

/// Longest name or id shown.
const SHOWN_CHARS_MAX: usize = 80;

pub(crate) fn learn(
    world: &World,
    key: &ResourceKey,
    outcome: &BrokerOutcome,
    now: Timestamp,
) -> Decision {
    let Some(broker) = world.broker(key) else {
        return Decision::nothing();
    };
    if broker.deleting {
        return Decision::nothing();
    }
    match outcome {
        BrokerOutcome::Read {
            etag,
            offerings,
            refused,
            api_version,
        } => {
            let version = (etag.clone(), api_version.clone());
            read(world, key, broker, version, offerings, refused, now)
        }
        BrokerOutcome::Unchanged => own(key, known(broker, now)),
        BrokerOutcome::Failed { reason } => own(key, failed(key, broker, reason, now)),
        BrokerOutcome::Unwell { reason, failures } => unwell(key, broker, reason, *failures, now),
        BrokerOutcome::Well => match broker.circuit {
            Some(_) => own(key, BrokerEvent::CircuitClosed),
            None => Decision::nothing(),
        },
    }
}

/// A class goes with its broker, also when the node that ended the broker had not heard of it.
pub(crate) fn next(world: &World, key: &ResourceKey) -> Vec<Event> {
    let lost = world
        .class(key)
        .filter(|class| class.offered)
        .is_some_and(|class| world.is_gone(&key.neighbour(Kind::ServiceBroker, &class.broker)));
    if lost {
        vec![Event::ServiceClass(ClassEvent::Withdrawn)]
    } else {
        Vec::new()
    }
}

/// How many requests fail in a row before nothing is sent for a while.
const FAILURES: u32 = 5;

/// Opens the circuit, or opens it again when the first request after a pause has failed as well.
fn unwell(
    key: &ResourceKey,
    broker: &Broker,
    reason: &str,
    failures: u32,
    now: Timestamp,
) -> Decision {
    let opened = match &broker.circuit {
        Some(circuit) if now < circuit.until => return Decision::nothing(),
        Some(circuit) => circuit.opened.saturating_add(1),
        None if failures < FAILURES => return Decision::nothing(),
        None => 1,
    };
    let scatter = RequestId::derived(format_args!("{key}:circuit"));
    let event = BrokerEvent::CircuitOpened {
        reason: reason.to_owned(),
        failures,
        opened,
        until: pace::again_at(now, pace::CIRCUIT, scatter, opened, None),
    };
    own(key, event)
}

fn own(key: &ResourceKey, event: BrokerEvent) -> Decision {
    Decision::of(key, vec![Event::ServiceBroker(event)])
}

fn known(broker: &Broker, now: Timestamp) -> BrokerEvent {
    BrokerEvent::CatalogRead {
        etag: broker.etag.clone(),
        classes: broker.classes.clone(),
        refused: broker.refused.clone(),
        api_version: broker.api_version.clone(),
        next_at: now.plus_ms(pace::CATALOG_MS),
    }
}

fn failed(key: &ResourceKey, broker: &Broker, reason: &str, now: Timestamp) -> BrokerEvent {
    let failures = match &broker.catalog {
        Catalog::Failed { failures, .. } => failures.saturating_add(1),
        Catalog::Reading { .. } | Catalog::Read { .. } => 1,
    };
    let scatter = RequestId::derived(format_args!("{key}:catalog"));
    BrokerEvent::CatalogFailed {
        reason: reason.to_owned(),
        failures,
        next_at: pace::again_at(now, pace::CATALOG, scatter, failures, None),
    }
}

fn read(
    world: &World,
    key: &ResourceKey,
    broker: &Broker,
    (etag, api_version): (Option<String>, Option<String>),
    offerings: &[Offering],
    malformed: &[String],
    now: Timestamp,
) -> Decision {
    let mut refused: Vec<String> = malformed.to_vec();
    let taken = take(world, key, offerings, &mut refused);
    let mut writes = Writes::default();
    for class in world
        .users(key)
        .filter(|user| user.kind == Kind::ServiceClass)
    {
        let offered = world.class(class).is_some_and(|class| class.offered);
        if offered && !taken.contains_key(&class.name) {
            writes.add(class, vec![Event::ServiceClass(ClassEvent::Withdrawn)]);
        }
    }
    for (name, offering) in &taken {
        let class = key.neighbour(Kind::ServiceClass, name);
        if let Some(event) = difference(world, key, broker, &class, offering) {
            writes.add(&class, vec![Event::ServiceClass(event)]);
        }
    }
    refused.truncate(REFUSED_MAX);
    let event = BrokerEvent::CatalogRead {
        etag,
        classes: taken.keys().map(Name::to_string).collect(),
        refused,
        api_version,
        next_at: now.plus_ms(pace::CATALOG_MS),
    };
    writes.add(key, vec![Event::ServiceBroker(event)]);
    writes.decision()
}

/// The offerings that can be taken, by name; for the others a reason is put into `refused`.
fn take(
    world: &World,
    broker: &ResourceKey,
    offerings: &[Offering],
    refused: &mut Vec<String>,
) -> BTreeMap<Name, Offering> {
    let mut taken = BTreeMap::new();
    let mut ids = BTreeSet::new();
    let elsewhere = ids_of_others(world, broker);
    for offering in offerings {
        let shown = shown(&offering.name);
        let name = match Name::new(&*offering.name) {
            Ok(name) => name,
            Err(error) => {
                refused.push(format!("service {shown}: {error}"));
                continue;
            }
        };
        if taken.contains_key(&name) {
            refused.push(format!("service {shown}: the catalog has this name twice"));
            continue;
        }
        if !ids.insert(offering.id.as_str()) {
            let id = self::shown(&offering.id);
            refused.push(format!(
                "service {shown}: the catalog has its id {id} twice"
            ));
            continue;
        }
        let class = world.class(&broker.neighbour(Kind::ServiceClass, &name));
        if let Some(class) = class.filter(|class| class.offered && class.broker != broker.name) {
            let other = &class.broker;
            refused.push(format!(
                "service {shown}: broker {other} offers this name already"
            ));
            continue;
        }
        let plans = take_plans(offering, refused);
        if plans.is_empty() {
            refused.push(format!(
                "service {shown}: it has no plan that could be used"
            ));
            continue;
        }
        if let Some(other) = elsewhere.get(offering.id.as_str()) {
            refused.push(format!(
                "service {shown}: broker {other} has its id {} as well; it is taken, and the two \
                 are kept apart",
                self::shown(&offering.id)
            ));
        }
        taken.insert(
            name,
            Offering {
                plans,
                ..offering.clone()
            },
        );
    }
    taken
}

/// The ids of offerings that other brokers of the organization have. Ids should be unique wherever
/// they are shown (section Catalog Management), and are not always.
fn ids_of_others<'a>(world: &'a World, broker: &ResourceKey) -> BTreeMap<&'a str, &'a Name> {
    let mut ids = BTreeMap::new();
    for (key, state) in world.states() {
        if let State::Class(class) = state
            && class.offered
            && key.org == broker.org
            && class.broker != broker.name
        {
            ids.insert(class.offering.id.as_str(), &class.broker);
        }
    }
    ids
}

fn take_plans(offering: &Offering, refused: &mut Vec<String>) -> Vec<Plan> {
    let (mut names, mut ids) = (BTreeSet::new(), BTreeSet::new());
    let mut plans = Vec::new();
    for plan in &offering.plans {
        let twice = if !names.insert(plan.name.as_str()) {
            Some("name")
        } else if !ids.insert(plan.id.as_str()) {
            Some("id")
        } else {
            None
        };
        match twice {
            None => plans.push(plan.clone()),
            Some(what) => refused.push(format!(
                "plan {} of service {}: the service has this {what} twice",
                shown(&plan.name),
                shown(&offering.name)
            )),
        }
    }
    plans
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS_MAX).collect()
}

fn difference(
    world: &World,
    key: &ResourceKey,
    broker: &Broker,
    class: &ResourceKey,
    offering: &Offering,
) -> Option<ClassEvent> {
    match world
        .class(class)
        .filter(|class| class.offered && class.broker == key.name)
    {
        Some(known) if *known.offering == *offering => None,
        Some(known) => Some(ClassEvent::Changed {
            offering: offering.clone(),
            diff: diff(&known.offering, offering),
        }),
        None => Some(ClassEvent::Offered {
            id: ResourceId::derived(format_args!("{}:class:{}", broker.id, offering.id)),
            broker: key.name.clone(),
            offering: offering.clone(),
        }),
    }
}

/// One line per difference.
fn diff(old: &Offering, new: &Offering) -> Vec<String> {
    let mut lines = Vec::new();
    let mut field = |name: &str, old: String, new: String| {
        if old != new {
            lines.push(format!("{name}: {} -> {}", shown(&old), shown(&new)));
        }
    };
    field("id", old.id.clone(), new.id.clone());
    field(
        "description",
        old.description.clone(),
        new.description.clone(),
    );
    field(
        "bindable",
        old.bindable.to_string(),
        new.bindable.to_string(),
    );
    field(
        "planUpdateable",
        old.plan_updateable.to_string(),
        new.plan_updateable.to_string(),
    );
    field(
        "instancesRetrievable",
        old.instances_retrievable.to_string(),
        new.instances_retrievable.to_string(),
    );
    field(
        "bindingsRetrievable",
        old.bindings_retrievable.to_string(),
        new.bindings_retrievable.to_string(),
    );
    field("tags", old.tags.join(","), new.tags.join(","));
    field("requires", old.requires.join(","), new.requires.join(","));
    if old.metadata != new.metadata {
        lines.push("metadata changed".into());
    }
    for plan in &old.plans {
        match new.plans.iter().find(|now| now.name == plan.name) {
            None => lines.push(format!("- plan {}", shown(&plan.name))),
            Some(now) if now != plan => lines.push(plan_diff(plan, now)),
            Some(_) => {}
        }
    }
    for plan in &new.plans {
        if !old.plans.iter().any(|known| known.name == plan.name) {
            lines.push(format!("+ plan {}", shown(&plan.name)));
        }
    }
    if lines.is_empty() {
        lines.push("the order of the plans changed".into());
    }
    lines
}

fn plan_diff(old: &Plan, new: &Plan) -> String {
    let changed = [
        ("id", old.id != new.id),
        ("description", old.description != new.description),
        ("free", old.free != new.free),
        ("bindable", old.bindable != new.bindable),
        ("planUpdateable", old.plan_updateable != new.plan_updateable),
        (
            "bindingRotatable",
            old.binding_rotatable != new.binding_rotatable,
        ),
        (
            "maximumPollingDuration",
            old.maximum_polling_duration != new.maximum_polling_duration,
        ),
        (
            "maintenanceVersion",
            old.maintenance_version != new.maintenance_version,
        ),
        ("metadata", old.metadata != new.metadata),
        ("schemas", old.schemas != new.schemas),
    ];
    let fields: Vec<&str> = changed
        .iter()
        .filter(|(_, changed)| *changed)
        .map(|(name, _)| *name)
        .collect();
    format!("~ plan {}: {}", shown(&old.name), fields.join(", "))
}
