//! What the log says that brokers hold.

use std::collections::{BTreeMap, BTreeSet};

use engine_model::{BindingEvent, Event, InstanceEvent, Recorded, ResourceKey, Sealed};

/// What is on record.
#[derive(Debug, Default)]
pub(in crate::sim) struct Record {
    /// Instances that are there.
    pub(in crate::sim) instances: BTreeSet<String>,
    /// Bindings that are there.
    pub(in crate::sim) bindings: BTreeSet<String>,
    /// What was ended on record only.
    pub(in crate::sim) abandoned: BTreeSet<String>,
    /// The stored credentials of the bindings that are there.
    pub(in crate::sim) credentials: BTreeMap<String, Sealed>,
    current: BTreeMap<ResourceKey, String>,
    /// Every binding at a broker that is known under a name and not yet gone.
    known: BTreeMap<ResourceKey, BTreeSet<String>>,
    next: BTreeMap<ResourceKey, String>,
    going: BTreeSet<ResourceKey>,
}

impl Record {
    pub(in crate::sim) fn of(log: &[Recorded]) -> Self {
        let mut record = Self::default();
        for recorded in log {
            let key = &recorded.commit.key;
            for event in &recorded.commit.events {
                match event {
                    Event::ServiceInstance(event) => record.instance(key, event),
                    Event::ServiceBinding(event) => record.binding(key, event),
                    _ => {}
                }
            }
        }
        record
    }

    fn instance(&mut self, key: &ResourceKey, event: &InstanceEvent) {
        let current = self.current.get(key).cloned().unwrap_or_default();
        match event {
            InstanceEvent::Created { id, .. } => {
                self.current.insert(key.clone(), id.to_string());
            }
            InstanceEvent::ProvisionRequested {
                instance: Some(id), ..
            }
            | InstanceEvent::AdoptRequested { instance: id, .. } => {
                self.current.insert(key.clone(), id.to_string());
            }
            InstanceEvent::Provisioned { .. } => {
                self.instances.insert(current);
            }
            InstanceEvent::Deprovisioned { .. }
            | InstanceEvent::OrphanRemoved { .. }
            | InstanceEvent::Deleted => {
                self.instances.remove(&current);
            }
            InstanceEvent::Abandoned { .. } => {
                self.instances.remove(&current);
                self.abandoned.insert(current);
            }
            _ => {}
        }
    }

    fn binding(&mut self, key: &ResourceKey, event: &BindingEvent) {
        let current = self.current.get(key).cloned().unwrap_or_default();
        match event {
            BindingEvent::Created { .. } => {
                self.going.remove(key);
                self.known.remove(key);
            }
            BindingEvent::BindRequested { binding, .. } => {
                self.current.insert(key.clone(), binding.to_string());
                self.know(key, binding.to_string());
            }
            BindingEvent::RotateRequested { binding, .. } => {
                self.next.insert(key.clone(), binding.to_string());
                self.know(key, binding.to_string());
            }
            BindingEvent::Bound { bound, .. } => self.bound(current, &bound.credentials),
            BindingEvent::Rotated { bound, .. } => {
                let next = self.next.remove(key).unwrap_or_default();
                self.bound(next.clone(), &bound.credentials);
                if !self.going.contains(key) {
                    self.current.insert(key.clone(), next);
                }
            }
            BindingEvent::DeleteRequested => {
                self.going.insert(key.clone());
            }
            BindingEvent::Unbound { replaced, .. } => {
                let gone = replaced.map_or(current, |which| which.to_string());
                self.gone(&gone);
            }
            BindingEvent::OrphanRemoved { .. } => self.gone(&current),
            BindingEvent::OrphanAbandoned { .. } => {
                self.gone(&current);
                self.abandoned.insert(current);
            }
            BindingEvent::Deleted => {
                for id in self.known.remove(key).unwrap_or_default() {
                    self.gone(&id);
                }
            }
            BindingEvent::Abandoned { .. } => {
                for id in self.known.remove(key).unwrap_or_default() {
                    self.gone(&id);
                    self.abandoned.insert(id);
                }
            }
            _ => {}
        }
    }

    fn know(&mut self, key: &ResourceKey, binding: String) {
        self.known.entry(key.clone()).or_default().insert(binding);
    }

    fn bound(&mut self, binding: String, credentials: &Sealed) {
        self.credentials
            .insert(binding.clone(), credentials.clone());
        self.bindings.insert(binding);
    }

    fn gone(&mut self, binding: &str) {
        self.bindings.remove(binding);
        self.credentials.remove(binding);
    }
}
