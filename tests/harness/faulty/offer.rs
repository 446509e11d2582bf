//! What the catalogs that the platform was shown offer.

use std::collections::HashMap;

use serde_json::Value;

/// What a plan allows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) bindable: bool,
    pub(super) updateable: bool,
    pub(super) rotatable: bool,
    pub(super) instances_retrievable: bool,
    pub(super) bindings_retrievable: bool,
}

/// All plans that were ever shown: a plan that vanished is still that of its instances.
#[derive(Debug, Default)]
pub(super) struct Offers(HashMap<(String, String), Plan>);

impl Offers {
    /// Takes in a catalog.
    pub(super) fn read(&mut self, body: &[u8]) {
        let catalog: Value = serde_json::from_slice(body).unwrap_or_default();
        for service in catalog["services"].as_array().into_iter().flatten() {
            for plan in service["plans"].as_array().into_iter().flatten() {
                let own = |field: &str, inherited: bool| {
                    let inherited = service[field].as_bool().filter(|_| inherited);
                    plan[field].as_bool().or(inherited).unwrap_or(false)
                };
                let offered = Plan {
                    bindable: own("bindable", true),
                    updateable: own("plan_updateable", true),
                    rotatable: own("binding_rotatable", true),
                    instances_retrievable: service["instances_retrievable"] == true,
                    bindings_retrievable: service["bindings_retrievable"] == true,
                };
                let id = |value: &Value| value["id"].as_str().unwrap_or_default().to_owned();
                self.0.insert((id(service), id(plan)), offered);
            }
        }
    }

    fn find(&self, service: &str, plan: &str) -> Option<&Plan> {
        self.0.get(&(service.to_owned(), plan.to_owned()))
    }

    /// Whether the plan was ever shown.
    pub(super) fn has(&self, service: &str, plan: &str) -> bool {
        self.find(service, plan).is_some()
    }

    /// Whether the plan was shown, and is so.
    pub(super) fn is(&self, service: &str, plan: &str, so: impl Fn(&Plan) -> bool) -> bool {
        self.find(service, plan).is_some_and(so)
    }
}
