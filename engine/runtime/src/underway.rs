//! What this node does at the moment, so that it does nothing twice at once.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The effects under way.
#[derive(Default)]
pub(crate) struct Underway(Mutex<HashSet<String>>);

/// Held while an effect is under way.
pub(crate) struct Held<'a> {
    all: &'a Underway,
    what: String,
}

impl Underway {
    /// Begins an effect; `None` while the same one is under way.
    pub(crate) fn begin(&self, what: String) -> Option<Held<'_>> {
        let fresh = self.lock().insert(what.clone());
        // Not `then_some`: what is made in vain would end the other one when it is dropped.
        fresh.then(|| Held { all: self, what })
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.all.lock().remove(&self.what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_effect_is_begun_again_only_when_it_has_ended() {
        let underway = Underway::default();
        let first = underway.begin("bind".into());
        assert!(first.is_some() && underway.begin("unbind".into()).is_some());
        assert!(underway.begin("bind".into()).is_none());
        assert!(
            underway.begin("bind".into()).is_none(),
            "a refusal ends nothing"
        );
        drop(first);
        assert!(underway.begin("bind".into()).is_some());
    }
}
