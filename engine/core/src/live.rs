//! What people ask of brokers beside the record: how an instance is there now, and what may have
//! been left there.

use engine_model::broker::FetchedInstance;
use engine_model::{
    Actor, BindingId, Code, Effect, InstanceId, Kind, Name, OrgName, Rejection, RequestId,
    ResourceKey, Timestamp,
};

use crate::decide::update::class_of;
use crate::life::{Left, Life, Past, Stage};
use crate::operation::{Operation, Step};
use crate::pending;
use crate::refuse;
use crate::state::State;
use crate::world::World;

/// The request that asks an instance's broker how it is now. `actor` is who asks; `request` is
/// drawn by the caller, for nothing is recorded.
///
/// # Errors
/// `not-found`; `not-ready` when it is not provisioned, or its broker does not answer such
/// questions (`instances_retrievable`).
pub fn live_request(
    world: &World,
    org: &OrgName,
    name: &Name,
    actor: Actor,
    request: RequestId,
) -> Result<Effect, Rejection> {
    let key = ResourceKey::new(org.clone(), Kind::ServiceInstance, name.clone());
    let Some(instance) = world.instance(&key) else {
        return Err(refuse::not_found(&key));
    };
    let attempt = instance
        .life
        .attempt()
        .filter(|_| instance.life.made().is_some())
        .ok_or_else(|| refuse::not_ready(&key, "it is not at its broker yet"))?;
    let retrievable =
        class_of(world, &key, instance).is_some_and(|class| class.offering.instances_retrievable);
    if !retrievable {
        let why = "its broker does not offer to look at instances (instances_retrievable)";
        return Err(refuse::not_ready(&key, why));
    }
    let (target, call) = pending::reach(world, &key, attempt, request, actor).ok_or_else(|| {
        let text = format!(
            "its broker {} is not registered any more",
            attempt.what.broker
        );
        Rejection::new(Code::NotReady, text)
    })?;
    Ok(Effect::FetchInstance { target, call })
}

/// One line for each thing that is otherwise at the broker than on record. Parameters that the
/// broker withholds are not compared.
#[must_use]
pub fn drift(world: &World, org: &OrgName, name: &Name, found: &FetchedInstance) -> Vec<String> {
    let key = ResourceKey::new(org.clone(), Kind::ServiceInstance, name.clone());
    let Some(instance) = world.instance(&key) else {
        return Vec::new();
    };
    let Some(attempt) = instance.life.attempt() else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    let mut differs = |what: &str, ours: &str, theirs: Option<&str>| {
        if let Some(theirs) = theirs.filter(|theirs| !theirs.is_empty() && *theirs != ours) {
            lines.push(format!(
                "{what}: {} on record, {} at the broker",
                shown(ours),
                shown(theirs)
            ));
        }
    };
    let class = class_of(world, &key, instance);
    let plan_name = |id: &str| {
        let plan = class.and_then(|class| class.plan_by_id(id));
        plan.map_or_else(|| id.to_owned(), |plan| plan.name.clone())
    };
    differs(
        "class id",
        &attempt.what.service_id,
        found.service_id.as_deref(),
    );
    if let Some(plan) = found
        .plan_id
        .as_deref()
        .filter(|id| **id != *attempt.what.plan_id)
    {
        differs(
            "plan",
            &plan_name(&attempt.what.plan_id),
            Some(&plan_name(plan)),
        );
    }
    let dashboard = instance.dashboard_url.as_deref().unwrap_or("none");
    differs("dashboard", dashboard, found.dashboard_url.as_deref());
    let maintenance = attempt.what.maintenance.as_deref().unwrap_or("none");
    differs(
        "maintenance version",
        maintenance,
        found.maintenance_version.as_deref(),
    );
    if let serde_json::Value::Object(theirs) = &found.parameters {
        let ours = instance.parameters();
        for (name, value) in theirs {
            match ours.get(name) {
                Some(known) if known == value => {}
                // What is secret on record is not shown, nor compared.
                None if !instance.wish.secrets.is_empty() => {}
                None => lines.push(format!("parameter {}: only at the broker", shown(name))),
                Some(_) => lines.push(format!("parameter {}: another value", shown(name))),
            }
        }
        if let serde_json::Value::Object(ours) = &ours {
            let missing = ours.keys().filter(|name| !theirs.contains_key(*name));
            lines.extend(
                missing.map(|name| format!("parameter {}: not at the broker", shown(name))),
            );
        }
    }
    lines
}

fn shown(text: &str) -> String {
    text.chars().take(120).collect()
}

/// Something that may have been left at a broker and that nobody uses: it is being removed, as
/// long as it takes.
#[derive(Debug, Clone, PartialEq)]
pub struct Orphan {
    /// The resource that it was made for.
    pub key: ResourceKey,
    /// The instance at the broker.
    pub instance: InstanceId,
    /// The binding at the broker, when that is what may have been left.
    pub binding: Option<BindingId>,
    /// The broker.
    pub broker: ResourceKey,
    /// What came of the request that may have left it.
    pub reason: String,
    /// When its removal was last asked for.
    pub since: Timestamp,
    /// How often its removal was asked for.
    pub removals: u32,
    /// What came of the last removal; none while the broker has it in hand.
    pub last: Option<String>,
    /// When it is asked for again; none while the broker has it in hand.
    pub next_at: Option<Timestamp>,
}

/// All that may have been left at brokers, for resources of `org`, the longest waiting first.
#[must_use]
pub fn orphans(world: &World, org: &OrgName) -> Vec<Orphan> {
    let mut found: Vec<Orphan> = world
        .states()
        .filter(|(key, _)| key.org == *org)
        .flat_map(|(key, state)| {
            match state {
                State::Instance(instance) => {
                    let attempt = instance.life.attempt();
                    let orphan = attempt.and_then(|attempt| {
                        let left = left_of(&instance.life)?;
                        Some((
                            attempt.what.instance,
                            None,
                            attempt.what.broker_key(&key.org),
                            left,
                        ))
                    });
                    orphan.into_iter().collect::<Vec<_>>()
                }
                State::Binding(binding) => {
                    let owner = world.instance(&binding.owner_key(key));
                    let made = owner.and_then(|owner| owner.life.attempt());
                    let Some(made) = made else {
                        return Vec::new();
                    };
                    let broker = made.what.broker_key(&key.org);
                    let lives = binding.lives();
                    lives
                        .filter_map(|(_, life)| {
                            let left = left_of(life)?;
                            let id = life.attempt()?.what;
                            Some((made.what.instance, Some(id), broker.clone(), left))
                        })
                        .collect()
                }
                _ => Vec::new(),
            }
            .into_iter()
            .map(|(instance, binding, broker, left)| {
                left.orphan((**key).clone(), instance, binding, broker)
            })
            .collect::<Vec<_>>()
        })
        .collect();
    found.sort_by(|a, b| (a.since, &a.key).cmp(&(b.since, &b.key)));
    found
}

/// What a life may have left at its broker.
struct LeftBehind<'a> {
    reason: String,
    removal: Option<&'a Operation>,
    removals: u32,
}

fn left_of<A, M>(life: &Life<A, M>) -> Option<LeftBehind<'_>> {
    let (reason, removal) = match &life.stage {
        Stage::Orphaned {
            reason, removal, ..
        } => (reason.to_string(), Some(removal)),
        Stage::Failed {
            reason,
            left: Left::Orphan { .. },
            ..
        } => (reason.to_string(), None),
        Stage::Removing {
            past: Past::Maybe { .. },
            removal,
            ..
        } => {
            let reason = "it was deleted before it was known whether it had been made";
            (reason.to_owned(), Some(removal))
        }
        _ => return None,
    };
    Some(LeftBehind {
        reason,
        removal,
        removals: life.removals,
    })
}

impl LeftBehind<'_> {
    fn orphan(
        self,
        key: ResourceKey,
        instance: InstanceId,
        binding: Option<BindingId>,
        broker: ResourceKey,
    ) -> Orphan {
        let (last, next_at) = match self.removal.map(|removal| &removal.step) {
            Some(
                Step::Delayed {
                    reason, next_at, ..
                }
                | Step::Failed { reason, next_at },
            ) => (Some(reason.to_string()), Some(*next_at)),
            Some(Step::Polling {
                description,
                next_at,
                ..
            }) => (description.as_deref().map(str::to_owned), Some(*next_at)),
            Some(Step::Asked) | None => (None, None),
        };
        Orphan {
            key,
            instance,
            binding,
            broker,
            reason: self.reason,
            since: self.removal.map_or(Timestamp(0), |removal| removal.since),
            removals: self.removals,
            last,
            next_at,
        }
    }
}
