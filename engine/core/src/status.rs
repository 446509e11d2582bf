//! The status that people see, with the reason for all that is not ready. Both are derived.

use engine_model::{Kind, ResourceKey, Status, Timestamp};

use crate::aggregate::api::{self, Api};
use crate::aggregate::base_image::{self, BaseImage};
use crate::aggregate::binding::Binding;
use crate::aggregate::broker::{Broker, Catalog};
use crate::aggregate::class::Class;
use crate::aggregate::function::{self, Function};
use crate::aggregate::image::{self, Image};
use crate::aggregate::instance::Instance;
use crate::aggregate::schedule::{self, Schedule};
use crate::aggregate::update;
use crate::decide;
use crate::life::{Life, Past, Stage};
use crate::state::State;
use crate::world::{World, changed_at};

/// Of a schedule whose time zone this program does not know any more.
const NEVER_DUE: &str =
    "this node cannot tell when it is due; update its cron pattern or time zone";

type Shown = (Status, Vec<String>);

impl World {
    /// The status of a resource and why it is not ready; `None` when it never was.
    #[must_use]
    pub fn status(&self, key: &ResourceKey) -> Option<(Status, Vec<String>)> {
        let entry = self.entry(key)?;
        let Some(state) = &entry.state else {
            return Some((Status::Deleted, Vec::new()));
        };
        Some(match state {
            State::BaseImage(state) => base_image(state),
            State::Image(state) => image(self, key, state),
            State::Function(state) => function(self, key, state),
            State::Broker(state) => broker(state),
            State::Class(state) => class(self, key, state),
            State::Instance(state) => instance(self, key, state),
            State::Binding(state) => binding(self, key, state),
            State::Api(state) => api(self, key, state),
            State::Schedule(state) => schedule(self, key, state),
            State::Secret(state) => plain(state.deleting),
            State::Organization(state) => plain(state.deleting),
            State::ServiceAccount(_) | State::Application(_) => plain(false),
        })
    }
}

fn plain(deleting: bool) -> Shown {
    if deleting {
        let why = "waits until those that use it are gone".to_owned();
        return (Status::Deleting, vec![why]);
    }
    (Status::Ready, Vec::new())
}

fn base_image(state: &BaseImage) -> Shown {
    match &state.stage {
        base_image::Stage::Preparing { .. } if state.generation == 1 => {
            (Status::Creating, Vec::new())
        }
        base_image::Stage::Preparing { .. } => (Status::Updating, Vec::new()),
        base_image::Stage::Prepared { .. } => (Status::Ready, Vec::new()),
        base_image::Stage::Failed { reason } => (Status::Error, vec![reason.clone()]),
    }
}

fn image(world: &World, key: &ResourceKey, state: &Image) -> Shown {
    let changing = |first| {
        if state.built_once {
            Status::Updating
        } else {
            first
        }
    };
    match &state.stage {
        image::Stage::Waiting => {
            let missing = decide::image::base(world, key, &state.spec).err();
            (changing(Status::Initialized), missing.into_iter().collect())
        }
        image::Stage::Building { .. } => (changing(Status::Creating), Vec::new()),
        image::Stage::Built { .. } => (Status::Ready, Vec::new()),
        image::Stage::Failed { reason, .. } => (Status::Error, vec![reason.clone()]),
    }
}

fn function(world: &World, key: &ResourceKey, state: &Function) -> Shown {
    let changing = |first| {
        if state.serving.is_some() {
            Status::Updating
        } else {
            first
        }
    };
    match &state.stage {
        function::Stage::Waiting => {
            let missing = decide::function::waits_for(world, key, state);
            (changing(Status::Initialized), missing)
        }
        function::Stage::Loading { .. } => (changing(Status::Creating), Vec::new()),
        function::Stage::Loaded => (Status::Ready, traffic(key, state)),
        function::Stage::Failed { reason, .. } => (Status::Error, vec![reason.clone()]),
    }
}

/// How the runs of a function are divided, if they are.
fn traffic(key: &ResourceKey, state: &Function) -> Vec<String> {
    if state.shares.is_empty() {
        return Vec::new();
    }
    let shares: Vec<String> = state
        .shares
        .iter()
        .map(|share| format!("{} % to revision {}", share.percent, share.revision))
        .collect();
    let mut lines = vec![format!("runs are routed: {}", shares.join(", "))];
    let newest = state.number;
    if state.shares.iter().all(|share| share.revision != newest) {
        lines.push(format!(
            "revision {newest} is loaded and gets no runs; `dispatch route function {} --latest` \
             sends it all",
            key.name
        ));
    }
    lines
}

fn broker(state: &Broker) -> Shown {
    if state.deleting {
        return plain(true);
    }
    if let Some(circuit) = &state.circuit {
        let text = format!(
            "circuit open: {} requests in a row failed, the last one: {}; nothing is sent before \
             {}, then one request at a time",
            circuit.failures, circuit.reason, circuit.until
        );
        return (Status::Error, vec![text]);
    }
    match &state.catalog {
        Catalog::Reading { .. } if state.classes.is_empty() => (Status::Creating, Vec::new()),
        Catalog::Reading { .. } => (Status::Updating, Vec::new()),
        Catalog::Read { .. } => (Status::Ready, state.refused.clone()),
        Catalog::Failed {
            reason,
            failures,
            next_at,
        } => {
            let text = format!(
                "the catalog could not be read ({failures} times in a row): {reason}; tried again \
                 at {next_at}"
            );
            (Status::Error, vec![text])
        }
    }
}

fn class(world: &World, key: &ResourceKey, state: &Class) -> Shown {
    if state.offered {
        return (Status::Ready, Vec::new());
    }
    if world.users(key).next().is_none() {
        return (Status::Deleted, Vec::new());
    }
    let text = format!(
        "broker {} no longer offers it; kept for those who use it",
        state.broker
    );
    (Status::Error, vec![text])
}

/// After how many requests to remove something a person is told of the way out.
const REMOVALS_MANY: u32 = 4;

/// The part of the status that a life at a broker tells; `None` when it is made.
fn life<A, M>(life: &Life<A, M>, waits_for: impl FnOnce() -> Vec<String>) -> Option<Shown> {
    Some(match &life.stage {
        Stage::Waiting => (Status::Initialized, waits_for()),
        Stage::Creating { op, .. } => (Status::Creating, op.remark().into_iter().collect()),
        Stage::Made { .. } => return None,
        Stage::Failed { reason, .. } => {
            let next = "`dispatch retry` tries again, `dispatch delete` takes it away".to_owned();
            (Status::Error, vec![reason.to_string(), next])
        }
        Stage::Orphaned {
            reason, removal, ..
        } => {
            let mut text = format!(
                "{reason}; what may have been left at the broker is being removed (attempt {})",
                life.removals
            );
            if let Some(remark) = removal.remark() {
                text = format!("{text}: {remark}");
            }
            (Status::Error, vec![text])
        }
        Stage::Deleting { past: None } => (Status::Deleting, Vec::new()),
        Stage::Deleting {
            past: Some((_, Past::Asked(_))),
        } => (
            Status::Deleting,
            vec!["waits for the broker's answer to the request to make it".into()],
        ),
        Stage::Deleting { past: Some(_) } => (
            Status::Deleting,
            vec!["waits for what has to go first".into()],
        ),
        Stage::Removing { removal, .. } => {
            let mut reason: Vec<String> = removal.remark().into_iter().collect();
            if life.removals >= REMOVALS_MANY {
                let way_out = format!(
                    "asked {} times; if the broker is gone for good, `dispatch abandon` ends it on \
                     record without a call to the broker",
                    life.removals
                );
                reason.push(way_out);
            }
            (Status::Deleting, reason)
        }
    })
}

/// What a person can do when the broker that a request is for is not registered any more.
fn without_broker(world: &World, key: &ResourceKey, instance: &Instance) -> Option<String> {
    let what = &instance.life.attempt()?.what;
    let broker = &what.broker;
    let known = world.broker(&what.broker_key(&key.org)).is_some();
    (!known).then(|| {
        format!(
            "service broker {broker} is not registered any more; register it again under that \
             name, or abandon the service instance"
        )
    })
}

/// What is missing of a request that is to be sent, and was there when it was decided.
fn lost_secret<A, M>(
    world: &World,
    key: &ResourceKey,
    life: &Life<A, M>,
    secrets: &[engine_model::Name],
) -> Option<String> {
    let creating = matches!(life.stage, Stage::Creating { .. });
    let missing = decide::instance::secrets_stored(world, key, secrets).err();
    missing.filter(|_| creating)
}

pub(crate) fn instance(world: &World, key: &ResourceKey, state: &Instance) -> Shown {
    let waits_for = || {
        let missing = decide::instance::ordered(world, key, &state.wish).err();
        missing.into_iter().collect()
    };
    if let Some((status, mut reason)) = life(&state.life, waits_for) {
        if state.life.current().is_some() {
            reason.extend(without_broker(world, key, state));
            reason.extend(lost_secret(world, key, &state.life, &state.wish.secrets));
        }
        return (status, reason);
    }
    let (updated, remarks) = update(world, key, state);
    let with = |status: Status, mut reason: Vec<String>| {
        let shown = if status == Status::Ready {
            updated
        } else {
            status
        };
        reason.extend(remarks.clone());
        (shown, reason)
    };
    if state
        .life
        .attempt()
        .is_some_and(|attempt| !attempt.what.bindable)
    {
        return with(Status::Ready, Vec::new());
    }
    let key = key.sibling(Kind::ServiceBinding);
    let own = world
        .binding(&key)
        .filter(|binding| binding.instance == state.id);
    match own.map(|own| binding(world, &key, own)) {
        Some((Status::Ready, _)) => with(Status::Ready, Vec::new()),
        Some((Status::Error, reason)) => with(
            Status::Error,
            reason
                .iter()
                .enumerate()
                .map(|(line, why)| match line {
                    0 => format!("binding: {why}"),
                    _ => why.clone(),
                })
                .collect(),
        ),
        Some((_, reason)) => {
            let why = reason
                .first()
                .map_or_else(String::new, |first| format!(": {first}"));
            with(Status::Creating, vec![format!("it is being bound{why}")])
        }
        None if world.binding(&key).is_some() => with(
            Status::Error,
            vec![format!(
                "its binding cannot be made: a service binding of another instance is named {}; \
                 delete that one",
                key.name
            )],
        ),
        None => with(Status::Creating, vec!["it is being bound".into()]),
    }
}

/// What an update that has not succeeded makes of the status of a provisioned instance, and what
/// is to be said of it and of the plan.
fn update(world: &World, key: &ResourceKey, state: &Instance) -> Shown {
    let mut remarks: Vec<String> = gone(world, key, state).into_iter().collect();
    let Some(update) = &state.update else {
        return (Status::Ready, remarks);
    };
    let status = match &update.stage {
        update::Stage::Proposed => {
            let missing = decide::instance::secrets_stored(world, key, &update.proposal.secrets);
            let why = missing.err().unwrap_or_else(|| {
                "waits until the broker has nothing else of it in hand".to_owned()
            });
            remarks.insert(0, format!("the update {why}"));
            Status::Updating
        }
        update::Stage::Asked { op, .. } => {
            remarks.extend(op.remark());
            Status::Updating
        }
        update::Stage::Failed { reason, aftermath } => {
            let plan = &state.wish.plan;
            remarks.push(format!(
                "the update failed: {reason}; plan {plan} and its parameters are as before"
            ));
            if aftermath.update_repeatable {
                remarks.push("`dispatch retry` asks for the same update again".into());
            } else {
                remarks.push("the broker wants the same update not to be repeated".into());
            }
            if aftermath.instance_usable {
                Status::Ready
            } else {
                let text = "the broker says that it cannot be used until another update repairs \
                            it, or it is deleted; nothing new is bound";
                remarks.push(text.into());
                Status::Error
            }
        }
    };
    (status, remarks)
}

/// What is to be said of a class or a plan that the catalog has no more.
fn gone(world: &World, key: &ResourceKey, state: &Instance) -> Option<String> {
    let attempt = state.life.attempt()?;
    let class = decide::update::class_of(world, key, state)?;
    if !class.offered {
        return Some(format!(
            "class {} is no longer offered; this instance can be used, updated and deleted",
            state.wish.class
        ));
    }
    let offered = class
        .offering
        .plans
        .iter()
        .any(|plan| plan.id == *attempt.what.plan_id);
    (!offered).then(|| {
        format!(
            "plan {} is no longer offered; this instance can be used, updated and deleted",
            state.wish.plan
        )
    })
}

pub(crate) fn binding(world: &World, key: &ResourceKey, state: &Binding) -> Shown {
    let owner = decide::binding::instance_of(world, key, state);
    let waits_for = || {
        if !owner.is_some_and(|instance| instance.life.is_made()) {
            return vec![format!(
                "service instance {} is not provisioned yet",
                state.owner_key(key).name
            )];
        }
        if owner.is_some_and(|instance| !instance.is_usable()) {
            return vec!["its service instance cannot be used: the broker said so".into()];
        }
        let absent =
            |name: &&engine_model::Name| world.secret(&key.neighbour(Kind::Secret, name)).is_none();
        let missing = state.wish.secrets.iter().filter(absent);
        let mut waits: Vec<String> = missing
            .map(|name| format!("secret {name} does not exist yet"))
            .collect();
        if waits.is_empty() {
            waits.push("waits until the broker has nothing else of its instance in hand".into());
        }
        waits.extend(owner.and_then(|instance| without_broker(world, key, instance)));
        waits
    };
    if let Some(why) = never_bound(key, state, owner) {
        return (Status::Error, vec![why]);
    }
    let (status, mut reason) =
        life(&state.life, waits_for).unwrap_or_else(|| rotation(state, changed_at(world, key)));
    if state.life.current().is_some() {
        reason.extend(owner.and_then(|instance| without_broker(world, key, instance)));
        reason.extend(lost_secret(world, key, &state.life, &state.wish.secrets));
    }
    (status, reason)
}

/// Why a binding that someone wanted before its instance was there will not be.
fn never_bound(key: &ResourceKey, state: &Binding, owner: Option<&Instance>) -> Option<String> {
    let waits = matches!(state.life.stage, Stage::Waiting);
    let made = owner.filter(|owner| waits && owner.life.is_made())?;
    let bindable = made.life.attempt()?.what.bindable;
    (!bindable).then(|| {
        let instance = state.owner_key(key).name;
        format!(
            "the plan of service instance {instance} cannot be bound; delete the service binding, \
             or update the service instance to a plan that can"
        )
    })
}

/// What is to be said of credentials that are there.
fn rotation(state: &Binding, now: Timestamp) -> Shown {
    let mut remarks = Vec::new();
    let expires_at = state.bound().and_then(|bound| bound.expires_at);
    if let Some(turnover) = &state.turnover {
        if turnover.next.is_some() {
            remarks.push("new credentials are being asked for; the present ones are used".into());
        }
        if let Some(failed) = &turnover.failed {
            let until = expires_at.map_or_else(String::new, |at| {
                format!("; the present ones expire at {at}")
            });
            remarks.push(format!(
                "new credentials could not be had ({} times): {}; tried again at {}{until}",
                failed.failures, failed.reason, failed.next_at
            ));
        }
        for replaced in &turnover.replaced {
            let text = match replaced.life.current().and_then(|op| op.remark()) {
                Some(remark) => format!("replaced credentials are being unbound: {remark}"),
                None => format!(
                    "replaced credentials are unbound when no run uses them, after {}",
                    replaced.drained_at
                ),
            };
            remarks.push(text);
        }
    }
    if expires_at.is_some_and(|at| at <= now) {
        remarks.insert(0, "the credentials have expired".into());
        return (Status::Error, remarks);
    }
    (Status::Ready, remarks)
}

fn api(world: &World, key: &ResourceKey, state: &Api) -> Shown {
    let changing = |first| {
        if state.served_once {
            Status::Updating
        } else {
            first
        }
    };
    match &state.stage {
        api::Stage::Waiting => {
            let missing = decide::api::missing(world, key, &state.spec);
            (changing(Status::Initialized), missing.into_iter().collect())
        }
        api::Stage::Requested { .. } => (changing(Status::Creating), Vec::new()),
        api::Stage::Served => (Status::Ready, Vec::new()),
        api::Stage::Failed { reason } => (Status::Error, vec![reason.clone()]),
    }
}

fn schedule(world: &World, key: &ResourceKey, state: &Schedule) -> Shown {
    match state.stage {
        schedule::Stage::Waiting => {
            let missing = decide::schedule::missing(world, key, &state.spec);
            (Status::Initialized, missing)
        }
        schedule::Stage::Begun { .. } if state.spec.paused => {
            let name = &key.name;
            let why = format!("paused; `dispatch update schedule {name} --resume` goes on");
            (Status::Ready, vec![why])
        }
        schedule::Stage::Begun { .. } if state.rhythm().is_none() => {
            (Status::Error, vec![NEVER_DUE.to_owned()])
        }
        schedule::Stage::Begun { .. } => (Status::Ready, Vec::new()),
    }
}
