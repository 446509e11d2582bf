//! Rejections that several kinds share. Each says what is wrong and what to do.

use engine_model::{Code, Rejection, ResourceKey};

use crate::world::{Key, World};

/// Most users that a refusal lists.
const USERS_MAX: usize = 20;

pub(crate) fn not_found(key: &ResourceKey) -> Rejection {
    let text = format!(
        "{} {} does not exist in organization {}; `dispatch get {}` lists those that do",
        key.kind,
        key.name,
        key.org,
        key.kind.token()
    );
    Rejection::new(Code::NotFound, text)
}

pub(crate) fn already_exists(key: &ResourceKey) -> Rejection {
    let text = format!(
        "{} {} exists already; update it, delete it first, or choose another name",
        key.kind, key.name
    );
    Rejection::new(Code::AlreadyExists, text)
}

pub(crate) fn being_deleted(key: &ResourceKey) -> Rejection {
    let text = format!(
        "{} {} is being deleted; wait until it is gone",
        key.kind, key.name
    );
    Rejection::new(Code::BeingDeleted, text)
}

pub(crate) fn read_only(key: &ResourceKey, instead: &str) -> Rejection {
    Rejection::new(
        Code::ReadOnly,
        format!("{} {}: {instead}", key.kind, key.name),
    )
}

pub(crate) fn not_ready(key: &ResourceKey, why: &str) -> Rejection {
    Rejection::new(Code::NotReady, format!("{} {}: {why}", key.kind, key.name))
}

pub(crate) fn invalid(field: &str, why: impl std::fmt::Display) -> Rejection {
    Rejection::new(Code::InvalidField, format!("{field}: {why}"))
}

/// Refuses to delete what others use.
pub(crate) fn in_use(key: &ResourceKey, users: &[Key]) -> Rejection {
    let listed: Vec<String> = users
        .iter()
        .take(USERS_MAX)
        .map(|user| format!("{} {}", user.kind, user.name))
        .collect();
    let more = match users.len().saturating_sub(USERS_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let text = format!(
        "{} {} is used by {}{more}; delete them first, or delete with cascade",
        key.kind,
        key.name,
        listed.join(", ")
    );
    Rejection::new(Code::InUse, text)
}

/// Refuses to name what is being deleted: it would be gone before it could be used.
pub(crate) fn unless_going(world: &World, key: &ResourceKey) -> Result<(), Rejection> {
    match world.state(key) {
        Some(state) if state.is_going() => Err(being_deleted(key)),
        Some(_) | None => Ok(()),
    }
}
