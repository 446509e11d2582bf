//! Data keys: those of what is there are alive, and no key is alive that opens anything else that
//! was ever written to the log.

use std::collections::{BTreeMap, BTreeSet};

use engine_model::{BindingEvent, BrokerEvent, Event, KeyId, Recorded, Sealed, SecretEvent};

use crate::sim::vault::generation;

/// The first rule about data keys that does not hold; `bound` are the stored credentials of the
/// bindings that are there.
pub(super) fn check(
    log: &[Recorded],
    bound: &BTreeMap<String, Sealed>,
    alive: &BTreeMap<KeyId, u64>,
) -> Result<(), String> {
    let mut current: BTreeMap<String, Sealed> = bound.clone();
    let mut ever: BTreeSet<(KeyId, Option<u64>)> = BTreeSet::new();
    for recorded in log {
        for event in &recorded.commit.events {
            match change(event) {
                Change::Holds(sealed) => {
                    ever.insert((sealed.key.clone(), generation(sealed)));
                    current.insert(recorded.commit.key.to_string(), sealed.clone());
                }
                Change::Held(sealed) => {
                    ever.insert((sealed.key.clone(), generation(sealed)));
                }
                Change::Gone => {
                    current.remove(&recorded.commit.key.to_string());
                }
                Change::None => {}
            }
        }
    }
    let mut wanted = BTreeSet::new();
    for (key, sealed) in &current {
        if alive.get(&sealed.key).copied() != generation(sealed) {
            return Err(format!("the data key of {key} is lost: {}", sealed.key.0));
        }
        wanted.insert(&sealed.key);
    }
    for (key, generation) in alive {
        let opens = ever.contains(&(key.clone(), Some(*generation)));
        if opens && !wanted.contains(key) {
            return Err(format!(
                "the data key {} is alive, and what it belongs to is gone",
                key.0
            ));
        }
    }
    Ok(())
}

enum Change<'a> {
    Holds(&'a Sealed),
    /// Bindings are looked after by the record.
    Held(&'a Sealed),
    Gone,
    None,
}

fn change(event: &Event) -> Change<'_> {
    match event {
        Event::Secret(
            SecretEvent::Created { sealed, .. } | SecretEvent::Updated { sealed, .. },
        ) => Change::Holds(sealed),
        Event::ServiceBroker(
            BrokerEvent::Registered { credentials, .. } | BrokerEvent::Updated { credentials, .. },
        ) => Change::Holds(credentials),
        Event::ServiceBinding(
            BindingEvent::Bound { bound, .. } | BindingEvent::Rotated { bound, .. },
        ) => Change::Held(&bound.credentials),
        Event::Secret(SecretEvent::Deleted) | Event::ServiceBroker(BrokerEvent::Deleted) => {
            Change::Gone
        }
        _ => Change::None,
    }
}
