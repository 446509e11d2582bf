//! Rotation: credentials are replaced before they expire, or when someone asks for it. The old ones
//! are unbound once the last run that was given them has ended (section Binding Rotation). A plan
//! that cannot rotate is bound anew, which comes to the same for those who use it.

use engine_model::spec::FunctionSpec;
use engine_model::{BindingEvent, Rejection, ResourceKey, Timestamp};

use super::binding::{attempt, go_on, instance_of, is_idle, told};
use super::instance::secrets_stored;
use super::{Ask, Decision, update};
use crate::aggregate::binding::{Binding, BindingLife, Which};
use crate::aggregate::instance::Instance;
use crate::life::{self, Change, Past, Stage};
use crate::refuse;
use crate::state::State;
use crate::world::World;

/// How long a run may take whose function does not say, in milliseconds: as long as the longest
/// limit of a node.
const RUN_MS: i64 = 300_000;

/// How long a node may still hand out the old credentials after the new ones are on record.
const LAG_MS: i64 = 5_000;

/// Shortest time between two replacements that nobody asked for, in milliseconds: a broker whose
/// credentials are born expired shall not be asked without end.
const RENEWAL_MS_MIN: i64 = 1_000;

/// Someone wants new credentials.
pub(super) fn ask(ask: &Ask<'_>) -> Result<Decision, Rejection> {
    let Some(binding) = ask.world.binding(ask.key) else {
        return Err(refuse::not_found(ask.key));
    };
    let refused = |why: &str| Err(refuse::not_ready(ask.key, why));
    if !binding.life.is_made() {
        return refused("it has no credentials yet that could be replaced");
    }
    if binding.lives().any(|(which, _)| which == Which::Next) {
        return refused("its credentials are being replaced already");
    }
    let Some(instance) = instance_of(ask.world, ask.key, binding) else {
        return refused("its service instance is gone");
    };
    if !may_ask(ask.world, ask.key, binding, instance) {
        return refused("the broker is busy with its service instance; try again in a moment");
    }
    let event = request(ask.world, ask.key, binding, instance, ask.now);
    let events = go_on(ask.world, ask.key, binding, vec![event], ask.now);
    Ok(Decision::of(ask.key, events))
}

/// Someone wants what is beside the binding in use to be tried again.
pub(super) fn retry(ask: &Ask<'_>, binding: &Binding) -> Result<Decision, Rejection> {
    for (which, life) in binding.lives() {
        let id = removals_of(binding, which);
        if let life::Retry::Changes(changes) = life::retry(life, id, ask.now) {
            let tell = |change| told(ask.world, ask.key, binding, which, change, ask.now);
            let events = changes.into_iter().map(tell).collect();
            let events = go_on(ask.world, ask.key, binding, events, ask.now);
            return Ok(Decision::of(ask.key, events));
        }
    }
    Err(refuse::not_ready(ask.key, "the broker is working on it"))
}

/// What the removals of one of its lives are named by.
pub(super) fn removals_of(binding: &Binding, which: Which) -> uuid::Uuid {
    match which {
        Which::InUse if binding.turnover.is_none() => binding.id.0,
        _ => {
            let life = binding.life_of(which).and_then(BindingLife::attempt);
            life.map_or(binding.id.0, |attempt| attempt.what.0)
        }
    }
}

/// What happens beside the binding in use, one request at a time.
pub(super) fn next(
    world: &World,
    key: &ResourceKey,
    binding: &Binding,
    instance: &Instance,
    now: Timestamp,
) -> Vec<BindingEvent> {
    let going = binding.life.is_going();
    if going && let Some(event) = cut_short(world, key, binding, now) {
        return vec![event];
    }
    if let Some(event) = unbind_replaced(world, key, binding, instance, going, now) {
        return vec![event];
    }
    let due = !going && renewal(binding).is_some_and(|at| at <= now);
    if due && binding.life.is_made() && may_ask(world, key, binding, instance) {
        return vec![request(world, key, binding, instance, now)];
    }
    Vec::new()
}

/// A rotation that is not wanted any more: what it may have made is removed.
fn cut_short(
    world: &World,
    key: &ResourceKey,
    binding: &Binding,
    now: Timestamp,
) -> Option<BindingEvent> {
    let next = binding.life_of(Which::Next)?;
    let op = next.current()?;
    let sent_at = op.sent_at(now);
    let waits = sent_at.is_some_and(|at| now.since_ms(at) < life::ANSWER_MS);
    let failed = Change::Failed {
        request: op.request,
        reason: "the binding is being deleted".to_owned(),
        orphan: true,
        again: false,
    };
    (!waits).then(|| told(world, key, binding, Which::Next, failed, now))
}

fn unbind_replaced(
    world: &World,
    key: &ResourceKey,
    binding: &Binding,
    instance: &Instance,
    going: bool,
    now: Timestamp,
) -> Option<BindingEvent> {
    let turnover = binding.turnover.as_ref()?;
    for (place, replaced) in turnover.replaced.iter().enumerate() {
        let which = Which::Replaced(place);
        let id = removals_of(binding, which);
        let life = &replaced.life;
        let begins = match &life.stage {
            Stage::Removing { .. } => !life::next(life, id, true, now).is_empty(),
            Stage::Deleting {
                past: Some((_, Past::Asked(_))),
            } => false,
            _ => {
                let idle = is_idle(world, &binding.owner_key(key), instance);
                (going || replaced.drained_at <= now) && idle && !binding.is_in_hand()
            }
        };
        if begins {
            return Some(told(
                world,
                key,
                binding,
                which,
                life::remove(life, id),
                now,
            ));
        }
    }
    None
}

fn may_ask(world: &World, key: &ResourceKey, binding: &Binding, instance: &Instance) -> bool {
    let alone = binding
        .lives()
        .all(|(which, life)| which == Which::InUse || !life.is_in_hand());
    let none_next = binding.life_of(Which::Next).is_none();
    alone
        && none_next
        && instance.is_usable()
        && secrets_stored(world, key, &binding.wish.secrets).is_ok()
        && is_idle(world, &binding.owner_key(key), instance)
}

fn request(
    world: &World,
    key: &ResourceKey,
    binding: &Binding,
    instance: &Instance,
    now: Timestamp,
) -> BindingEvent {
    let before = binding
        .turnover
        .as_ref()
        .map_or(binding.life.attempts, |turnover| turnover.attempts);
    let attempt = attempt(instance, binding, before + 1);
    told(
        world,
        key,
        binding,
        Which::Next,
        Change::Requested(attempt),
        now,
    )
}

/// Whether the plan can replace a binding by a newer one (section Binding Rotation).
pub(crate) fn is_rotatable(world: &World, key: &ResourceKey, binding: &Binding) -> bool {
    let owner = binding.owner_key(key);
    let Some(instance) = instance_of(world, key, binding) else {
        return false;
    };
    let plan_id = instance.life.attempt().map(|made| &*made.what.plan_id);
    update::class_of(world, &owner, instance)
        .zip(plan_id)
        .and_then(|(class, id)| class.plan_by_id(id))
        .is_some_and(|plan| plan.binding_rotatable)
}

/// When the last run has ended that was given the credentials that are in use now.
pub(super) fn drained_at(
    world: &World,
    key: &ResourceKey,
    binding: &Binding,
    now: Timestamp,
) -> Timestamp {
    let run_ms = |spec: &FunctionSpec| match i64::try_from(spec.timeout) {
        Ok(0) | Err(_) => RUN_MS,
        Ok(ms) => ms,
    };
    let owner = binding.owner_key(key);
    let users = world.users(key).chain(world.users(&owner));
    let longest = users
        .filter_map(|user| match world.state(user) {
            Some(State::Function(function)) => Some(run_ms(&function.spec)),
            _ => None,
        })
        .max();
    now.plus_ms(longest.unwrap_or(0) + LAG_MS)
}

/// When the credentials in use are to be replaced.
pub(crate) fn renewal(binding: &Binding) -> Option<Timestamp> {
    let bound = binding.bound()?;
    let failed = binding
        .turnover
        .as_ref()
        .and_then(|turnover| turnover.failed.as_ref());
    if let Some(failed) = failed {
        return Some(failed.next_at);
    }
    let since = binding.bound_at;
    let lifetime = bound.expires_at.map(|at| at.since_ms(since).max(0));
    let at = match (bound.renew_before, lifetime) {
        (Some(at), Some(lifetime)) => at.min(since.plus_ms(lifetime)),
        (Some(at), None) => at,
        // The last fifth of their life is left for trying.
        (None, Some(lifetime)) => since.plus_ms(lifetime - lifetime / 5),
        (None, None) => return None,
    };
    let soonest = since.plus_ms(lifetime.map_or(3_600_000, |ms| ms / 2).max(RENEWAL_MS_MIN));
    Some(at.max(soonest))
}

/// When a binding is to be looked at because of what is beside it.
pub(crate) fn alarm(binding: &Binding) -> Option<Timestamp> {
    let has_next = binding.life_of(Which::Next).is_some();
    let renewal = renewal(binding).filter(|_| !has_next);
    let drained = binding
        .turnover
        .iter()
        .flat_map(|turnover| &turnover.replaced);
    let drained = drained
        .filter(|replaced| !matches!(replaced.life.stage, Stage::Removing { .. }))
        .map(|replaced| replaced.drained_at)
        .min();
    renewal.into_iter().chain(drained).min()
}
