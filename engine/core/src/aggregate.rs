//! What is known of each resource: one state per kind, and how events change it. What an event
//! leaves to be done, and its state can no longer tell, is handed out as [`Leftover`]s.

use engine_model::{KeyId, RevisionId, Timestamp};

pub(crate) mod api;
pub(crate) mod base_image;
pub(crate) mod binding;
pub(crate) mod broker;
pub(crate) mod class;
pub(crate) mod function;
pub(crate) mod image;
pub(crate) mod instance;
pub(crate) mod plain;
pub(crate) mod schedule;
pub(crate) mod secret;
pub(crate) mod update;
pub(crate) mod wish;

/// When an event was decided, and what it leaves behind.
pub(crate) struct Scene<'a> {
    pub(crate) at: Timestamp,
    pub(crate) leftovers: &'a mut Vec<Leftover>,
}

/// Something that a commit leaves to be done and that the state no longer tells.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Leftover {
    /// A data key that nothing uses any more.
    Key(KeyId),
    /// A revision that is no longer called.
    Revision(RevisionId),
    /// A resource that was named, and is no longer.
    Released(crate::world::Key),
}

/// The event cannot follow the state.
pub(crate) type Illegal = ();
