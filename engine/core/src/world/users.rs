//! Who names whom. A name counts whether the named resource is there or not, so that those who
//! wait for it are found when it comes.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use engine_model::ResourceKey;

use crate::aggregate::Leftover;
use crate::state::State;
use crate::world::Key;

/// For each resource, those that name it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Users(HashMap<Key, BTreeSet<Key>>);

impl Users {
    pub(super) fn of_all<'a>(states: impl Iterator<Item = (&'a Key, &'a State)>) -> Self {
        let mut users = Self::default();
        for (key, state) in states {
            let named = state.names(&key.org);
            users.change(key, &[], &named, &mut Vec::new());
        }
        users
    }

    pub(super) fn of(&self, key: &ResourceKey) -> impl Iterator<Item = &Key> {
        self.0.get(key).into_iter().flatten()
    }

    /// `user` named `before`, and names `after` now. What it let go of is left to be told.
    pub(super) fn change(
        &mut self,
        user: &Key,
        before: &[ResourceKey],
        after: &[ResourceKey],
        leftovers: &mut Vec<Leftover>,
    ) {
        for named in after {
            if let Some(users) = self.0.get_mut(named) {
                users.insert(user.clone());
            } else {
                self.0
                    .insert(Arc::new(named.clone()), BTreeSet::from([user.clone()]));
            }
        }
        for named in before.iter().filter(|named| !after.contains(named)) {
            let Some((key, _)) = self.0.get_key_value(named) else {
                continue;
            };
            let key = key.clone();
            if let Some(users) = self.0.get_mut(named) {
                users.remove(user);
                if users.is_empty() {
                    self.0.remove(named);
                }
            }
            leftovers.push(Leftover::Released(key));
        }
    }
}
