//! The status that people see, with the reason for all that is not ready. Both are derived.

use engine_model::{Kind, ResourceKey, Status};

use crate::aggregate::api::{self, Api};
use crate::aggregate::base_image::{self, BaseImage};
use crate::aggregate::binding::Binding;
use crate::aggregate::broker::{Broker, Catalog};
use crate::aggregate::class::Class;
use crate::aggregate::function::{self, Function};
use crate::aggregate::image::{self, Image};
use crate::aggregate::instance::Instance;
use crate::decide;
use crate::life::{Life, Stage};
use crate::state::State;
use crate::world::World;

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
        base_image::Stage::Prepared => (Status::Ready, Vec::new()),
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
            let missing = decide::image::language(world, key, &state.spec).err();
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
        function::Stage::Loaded => (Status::Ready, Vec::new()),
        function::Stage::Failed { reason, .. } => (Status::Error, vec![reason.clone()]),
    }
}

fn broker(state: &Broker) -> Shown {
    if state.deleting {
        return plain(true);
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

/// The part of the status that a life at a broker tells; `None` when it is made.
fn life<A, M>(life: &Life<A, M>, waits_for: impl FnOnce() -> Vec<String>) -> Option<Shown> {
    Some(match &life.stage {
        Stage::Waiting => (Status::Initialized, waits_for()),
        Stage::Creating { op, .. } => (Status::Creating, op.remark().into_iter().collect()),
        Stage::Made { .. } => return None,
        Stage::Failed { reason, .. } => (Status::Error, vec![reason.to_string()]),
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
        Stage::Deleting { past: Some(_) } => (
            Status::Deleting,
            vec!["waits for what has to go first".into()],
        ),
        Stage::Removing { removal, .. } => {
            (Status::Deleting, removal.remark().into_iter().collect())
        }
    })
}

/// What a person can do when the broker that a request is for is not registered any more.
fn without_broker(world: &World, key: &ResourceKey, instance: &Instance) -> Option<String> {
    let broker = &instance.life.attempt()?.what.broker;
    let known = world
        .broker(&key.neighbour(Kind::ServiceBroker, broker))
        .is_some();
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
    if state
        .life
        .attempt()
        .is_some_and(|attempt| !attempt.what.bindable)
    {
        return (Status::Ready, Vec::new());
    }
    let key = key.sibling(Kind::ServiceBinding);
    let own = world
        .binding(&key)
        .filter(|binding| binding.instance == state.id);
    match own.map(|own| binding(world, &key, own)) {
        Some((Status::Ready, _)) => (Status::Ready, Vec::new()),
        Some((Status::Error, reason)) => (
            Status::Error,
            reason.iter().map(|why| format!("binding: {why}")).collect(),
        ),
        Some((_, reason)) => {
            let why = reason
                .first()
                .map_or_else(String::new, |first| format!(": {first}"));
            (Status::Creating, vec![format!("it is being bound{why}")])
        }
        None => (Status::Creating, vec!["it is being bound".into()]),
    }
}

fn binding(world: &World, key: &ResourceKey, state: &Binding) -> Shown {
    let owner = decide::binding::instance_of(world, key, state);
    let waits_for = || {
        if !owner.is_some_and(|instance| instance.life.is_made()) {
            return vec![format!(
                "service instance {} is not provisioned yet",
                key.name
            )];
        }
        let absent =
            |name: &&engine_model::Name| world.secret(&key.neighbour(Kind::Secret, name)).is_none();
        let missing = state.wish.secrets.iter().filter(absent);
        missing
            .map(|name| format!("secret {name} does not exist yet"))
            .collect()
    };
    let (status, mut reason) = life(&state.life, waits_for).unwrap_or((Status::Ready, Vec::new()));
    if state.life.current().is_some() {
        reason.extend(owner.and_then(|instance| without_broker(world, key, instance)));
        reason.extend(lost_secret(world, key, &state.life, &state.wish.secrets));
    }
    (status, reason)
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
