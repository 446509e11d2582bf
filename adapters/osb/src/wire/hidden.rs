//! Values that must not be shown by accident.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A value whose `Debug` says nothing of it. It serializes as itself: that is what it is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hidden<T>(T);

impl<T> Hidden<T> {
    /// Hides `value`.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value, for where it is used.
    pub fn reveal(&self) -> &T {
        &self.0
    }

    /// The value itself, for where it is sealed or sent.
    pub fn into_revealed(self) -> T {
        self.0
    }
}

impl<T> fmt::Debug for Hidden<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

impl<T> From<T> for Hidden<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}
