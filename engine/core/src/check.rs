//! What must hold of every world, whatever happened in it.

use engine_model::{Kind, LOADED_KEPT, ResourceKey, SHARES_MAX};

use crate::aggregate::function::{Fate, Function, Stage as FunctionStage, makes_up_all};
use crate::aggregate::schedule::Stage as ScheduleStage;
use crate::life::{Life, Stage};
use crate::operation::Step;
use crate::state::State;
use crate::world::World;

/// A rule that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{rule}: {what}")]
pub struct Violation {
    /// The rule.
    pub rule: &'static str,
    /// Where it does not hold.
    pub what: String,
}

/// Every rule that does not hold.
#[must_use]
pub fn check(world: &World) -> Vec<Violation> {
    let mut found = Vec::new();
    if let Some(what) = world.check_users() {
        found.push(Violation {
            rule: "the index of users tells who names whom",
            what,
        });
    }
    let mut broken = |rule: &'static str, key: &ResourceKey| {
        found.push(Violation {
            rule,
            what: key.to_string(),
        });
    };
    for (key, entry) in world.entries() {
        if entry.seq > world.position() {
            broken("no resource is ahead of the world", key);
        }
        let Some(state) = &entry.state else { continue };
        if kind(state) != key.kind {
            broken("a state is of its key's kind", key);
        }
        match state {
            State::Instance(instance) => {
                if world
                    .instance_key(instance.id)
                    .is_none_or(|known| known != key)
                {
                    broken("an instance is found by its id", key);
                }
                life(&instance.life, key, &mut broken);
            }
            State::Binding(binding) => {
                for (_, own) in binding.lives() {
                    life(own, key, &mut broken);
                }
            }
            State::Schedule(schedule) => {
                if schedule.rhythm().is_none() {
                    broken("a schedule is due at some time", key);
                }
                if let ScheduleStage::Begun { since, through } = schedule.stage
                    && through < since
                {
                    broken("a schedule counts from when it begins", key);
                }
            }
            State::Function(function) => {
                let loaded = matches!(function.stage, FunctionStage::Loaded);
                if loaded && function.serving.is_none() {
                    broken("a loaded function has a revision that serves", key);
                }
                if function.number == 0 && function.serving.is_some() {
                    broken("a revision that serves was asked for", key);
                }
                revisions(function, key, &mut broken);
            }
            _ => {}
        }
    }
    found.sort_by(|a, b| a.what.cmp(&b.what));
    found
}

fn revisions(
    function: &Function,
    key: &ResourceKey,
    broken: &mut impl FnMut(&'static str, &ResourceKey),
) {
    if !function.shares.is_empty() && !makes_up_all(&function.shares) {
        broken("the shares of a function's runs make up all of them", key);
    }
    if function.shares.len() > SHARES_MAX {
        broken("runs are divided among few revisions", key);
    }
    if function.routed().count() != function.shares.len() {
        broken("a revision that runs are routed to is kept and loaded", key);
    }
    let newest = function.loaded().next_back().map(|own| own.load.revision);
    if newest != function.serving.as_ref().map(|load| load.revision) {
        broken("the newest loaded revision serves", key);
    }
    if function.loaded().count() > LOADED_KEPT + SHARES_MAX {
        broken("old revisions are forgotten", key);
    }
    let waits = matches!(function.stage, FunctionStage::Loading { .. });
    let loading = function
        .revisions
        .iter()
        .filter(|own| own.fate == Fate::Loading);
    if loading.count() != usize::from(waits) {
        broken("a revision is being loaded while its function is", key);
    }
    if !function.revisions.is_sorted_by_key(|own| own.number) {
        broken("revisions are kept by number", key);
    }
}

fn life<A, M>(
    life: &Life<A, M>,
    key: &ResourceKey,
    broken: &mut impl FnMut(&'static str, &ResourceKey),
) {
    if let Some(attempt) = life.attempt() {
        if attempt.number != life.attempts {
            broken("the last attempt bears the count of attempts", key);
        }
        if attempt.limit_ms <= 0 {
            broken("an attempt has time", key);
        }
    }
    match &life.stage {
        Stage::Creating { op, .. } if matches!(op.step, Step::Failed { .. }) => {
            broken("only a removal waits for another request", key);
        }
        Stage::Orphaned { .. } | Stage::Removing { .. } if life.removals == 0 => {
            broken("a removal that is under way was counted", key);
        }
        _ => {}
    }
}

fn kind(state: &State) -> Kind {
    match state {
        State::BaseImage(_) => Kind::BaseImage,
        State::Image(_) => Kind::Image,
        State::Function(_) => Kind::Function,
        State::Secret(_) => Kind::Secret,
        State::Broker(_) => Kind::ServiceBroker,
        State::Class(_) => Kind::ServiceClass,
        State::Instance(_) => Kind::ServiceInstance,
        State::Binding(_) => Kind::ServiceBinding,
        State::Api(_) => Kind::API,
        State::Schedule(_) => Kind::Schedule,
        State::Organization(_) => Kind::Organization,
        State::ServiceAccount(_) => Kind::ServiceAccount,
        State::Application(_) => Kind::Application,
    }
}
