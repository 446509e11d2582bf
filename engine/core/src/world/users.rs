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
pub(super) struct Users(HashMap<Key, Naming>);

/// Those that name one resource: most often it is one, and a set takes room.
#[derive(Debug, Clone, PartialEq)]
enum Naming {
    One(Key),
    Many(BTreeSet<Key>),
}

impl Naming {
    fn insert(&mut self, user: &Key) {
        match self {
            Self::One(known) if known == user => {}
            Self::One(known) => *self = Self::Many(BTreeSet::from([known.clone(), user.clone()])),
            Self::Many(users) => {
                users.insert(user.clone());
            }
        }
    }

    /// `true` when nobody is left.
    fn remove(&mut self, user: &Key) -> bool {
        match self {
            Self::One(known) => known == user,
            Self::Many(users) => {
                users.remove(user);
                if let (1, Some(last)) = (users.len(), users.first().cloned()) {
                    *self = Self::One(last);
                }
                false
            }
        }
    }

    fn iter(&self) -> impl Iterator<Item = &Key> {
        let (one, many) = match self {
            Self::One(user) => (Some(user), None),
            Self::Many(users) => (None, Some(users)),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }
}

impl Users {
    pub(super) fn of_all<'a>(states: impl Iterator<Item = (&'a Key, &'a State)>) -> Self {
        let mut users = Self::default();
        for (key, state) in states {
            let named = state.names(key);
            let fresh = |named: &ResourceKey| Arc::new(named.clone());
            users.change(key, (&[], &named), fresh, &mut Vec::new());
        }
        users
    }

    pub(super) fn of(&self, key: &ResourceKey) -> impl Iterator<Item = &Key> {
        self.0.get(key).into_iter().flat_map(Naming::iter)
    }

    /// `user` named `before`, and names `after` now. What it let go of is left to be told. `shared`
    /// gives the key of a resource, held once if it is known.
    pub(super) fn change<'a>(
        &mut self,
        user: &Key,
        (before, after): (&'a [ResourceKey], &[ResourceKey]),
        shared: impl Fn(&ResourceKey) -> Key,
        leftovers: &mut Vec<Leftover>,
    ) {
        for named in after {
            if let Some(users) = self.0.get_mut(named) {
                users.insert(user);
            } else {
                self.0.insert(shared(named), Naming::One(user.clone()));
            }
        }
        // Whoever is named twice is let go of once, or what is left to be told would depend on who
        // else names it at that moment, which another node may not know yet.
        let once = |(at, named): (usize, &'a ResourceKey)| {
            let is_let_go = !after.contains(named) && !before[..at].contains(named);
            is_let_go.then_some(named)
        };
        for named in before.iter().enumerate().filter_map(once) {
            let Some((key, _)) = self.0.get_key_value(named) else {
                continue;
            };
            let key = key.clone();
            if self
                .0
                .get_mut(named)
                .is_some_and(|users| users.remove(user))
            {
                self.0.remove(named);
            }
            leftovers.push(Leftover::Released(key));
        }
    }
}
