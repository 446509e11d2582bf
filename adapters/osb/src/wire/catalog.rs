//! The catalog: services and plans.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Message, lenient, lenient_default};

/// What a broker offers. `PartialEq` tells whether anything changed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Catalog {
    /// The services; there may be none.
    pub services: Vec<Service>,
    /// What could not be taken, each with the reason.
    #[serde(skip)]
    pub refused: Vec<String>,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Identifies the service for ever; the only thing that does.
    pub id: String,
    /// The name that people use; it may change.
    pub name: String,
    /// What it is.
    #[serde(default, deserialize_with = "lenient_default")]
    pub description: String,
    /// Words to find it by.
    #[serde(default, deserialize_with = "lenient_default")]
    pub tags: Vec<String>,
    /// Permissions that it needs: `syslog_drain`, `route_forwarding`, `volume_mount`.
    #[serde(default, deserialize_with = "lenient_default")]
    pub requires: Vec<String>,
    /// Whether its instances can be bound, unless the plan says otherwise.
    pub bindable: bool,
    /// Whether an instance can be fetched.
    #[serde(default, deserialize_with = "lenient_default")]
    pub instances_retrievable: bool,
    /// Whether a binding can be fetched.
    #[serde(default, deserialize_with = "lenient_default")]
    pub bindings_retrievable: bool,
    /// Whether an update may change the context alone.
    #[serde(default, deserialize_with = "lenient_default")]
    pub allow_context_updates: bool,
    /// Whether an instance's plan can be changed, unless the plan says otherwise.
    #[serde(default, deserialize_with = "lenient_default")]
    pub plan_updateable: bool,
    /// Things to show; kept as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Value>,
    /// The plans; at least one.
    pub plans: Vec<Plan>,
}

/// A plan of a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Identifies the plan for ever.
    pub id: String,
    /// The name that people use; it may change.
    pub name: String,
    /// What it is.
    #[serde(default, deserialize_with = "lenient_default")]
    pub description: String,
    /// Whether it costs nothing; silent means yes.
    #[serde(default = "yes")]
    pub free: bool,
    /// Whether its instances can be bound; silent means as the service says.
    #[serde(
        default,
        deserialize_with = "lenient",
        skip_serializing_if = "Option::is_none"
    )]
    pub bindable: Option<bool>,
    /// Whether an instance of it can change its plan; silent means as the service says.
    #[serde(
        default,
        deserialize_with = "lenient",
        skip_serializing_if = "Option::is_none"
    )]
    pub plan_updateable: Option<bool>,
    /// Whether a binding can follow another.
    #[serde(default, deserialize_with = "lenient_default")]
    pub binding_rotatable: bool,
    /// The longest that an operation should be polled, in seconds.
    #[serde(
        default,
        deserialize_with = "lenient",
        skip_serializing_if = "Option::is_none"
    )]
    pub maximum_polling_duration: Option<u64>,
    /// The version that new instances get.
    #[serde(
        default,
        deserialize_with = "lenient",
        skip_serializing_if = "Option::is_none"
    )]
    pub maintenance_info: Option<MaintenanceInfo>,
    /// What parameters may look like.
    #[serde(
        default,
        deserialize_with = "lenient",
        skip_serializing_if = "Option::is_none"
    )]
    pub schemas: Option<Schemas>,
    /// Things to show; kept as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Value>,
}

fn yes() -> bool {
    true
}

/// The version of what a plan gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaintenanceInfo {
    /// A semantic version.
    pub version: String,
    /// What an upgrade to it means.
    #[serde(
        default,
        deserialize_with = "lenient",
        skip_serializing_if = "Option::is_none"
    )]
    pub description: Option<String>,
}

/// What the parameters of each operation may look like.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Schemas {
    /// For provision and update.
    #[serde(default, deserialize_with = "lenient_default")]
    pub service_instance: ParameterSchemas,
    /// For bind.
    #[serde(default, deserialize_with = "lenient_default")]
    pub service_binding: ParameterSchemas,
}

/// JSON Schemas by operation.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ParameterSchemas {
    /// For creating.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    create: Option<Parameters>,
    /// For updating.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    update: Option<Parameters>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Parameters {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parameters: Option<Value>,
}

impl ParameterSchemas {
    /// The schema of the parameters for creating.
    #[must_use]
    pub fn create(&self) -> Option<&Value> {
        self.create.as_ref()?.parameters.as_ref()
    }

    /// The schema of the parameters for updating.
    #[must_use]
    pub fn update(&self) -> Option<&Value> {
        self.update.as_ref()?.parameters.as_ref()
    }
}

/// Whether instances of this plan can be bound.
#[must_use]
pub fn bindable(service: &Service, plan: &Plan) -> bool {
    plan.bindable.unwrap_or(service.bindable)
}

/// Whether an instance of this plan can change to another.
#[must_use]
pub fn updateable(service: &Service, plan: &Plan) -> bool {
    plan.plan_updateable.unwrap_or(service.plan_updateable)
}

impl Message for Catalog {
    /// Entries that cannot be taken are left out and named, so that one bad plan does not take
    /// the rest of a broker down with it.
    fn read(mut object: Map<String, Value>) -> Result<Self, String> {
        let Some(Value::Array(entries)) = object.remove("services") else {
            return Err("services is not an array".to_owned());
        };
        let mut reading = Reading::default();
        for (at, entry) in entries.into_iter().enumerate() {
            reading.service(at, entry);
        }
        Ok(Self {
            services: reading.services,
            refused: reading.refused,
        })
    }
}

/// A catalog that is read entry by entry.
#[derive(Default)]
struct Reading {
    services: Vec<Service>,
    refused: Vec<String>,
    service_ids: HashSet<String>,
    service_names: HashSet<String>,
    plan_ids: HashSet<String>,
}

impl Reading {
    fn service(&mut self, at: usize, mut entry: Value) {
        let here = format!("service {} ({})", at + 1, named(&entry));
        let Some(Value::Array(plans)) = entry.get_mut("plans").map(Value::take) else {
            return self.refuse(&here, "plans is not an array");
        };
        entry["plans"] = Value::Array(Vec::new());
        let mut service = match Service::deserialize(entry) {
            Ok(service) => service,
            Err(e) => return self.refuse(&here, &e.to_string()),
        };
        if service.id.is_empty() || service.name.is_empty() {
            return self.refuse(&here, "its id or name is empty");
        }
        if self.service_ids.contains(&service.id) {
            return self.refuse(&here, &format!("its id {:?} occurs twice", service.id));
        }
        if self.service_names.contains(&service.name) {
            return self.refuse(&here, "its name occurs twice");
        }
        service.plans = self.plans(&here, plans);
        if service.plans.is_empty() {
            return self.refuse(&here, "it has no plan that could be used");
        }
        self.service_ids.insert(service.id.clone());
        self.service_names.insert(service.name.clone());
        self.services.push(service);
    }

    fn plans(&mut self, service: &str, entries: Vec<Value>) -> Vec<Plan> {
        let mut names = HashSet::new();
        let mut plans = Vec::new();
        for (at, entry) in entries.into_iter().enumerate() {
            let here = format!("{service}, plan {} ({})", at + 1, named(&entry));
            match Plan::deserialize(entry) {
                Err(e) => self.refuse(&here, &e.to_string()),
                Ok(plan) if plan.id.is_empty() || plan.name.is_empty() => {
                    self.refuse(&here, "its id or name is empty");
                }
                Ok(plan) if self.plan_ids.contains(&plan.id) => {
                    self.refuse(&here, &format!("its id {:?} occurs twice", plan.id));
                }
                Ok(plan) if names.contains(&plan.name) => {
                    self.refuse(&here, "its name occurs twice");
                }
                Ok(plan) => {
                    self.plan_ids.insert(plan.id.clone());
                    names.insert(plan.name.clone());
                    plans.push(plan);
                }
            }
        }
        plans
    }

    fn refuse(&mut self, here: &str, why: &str) {
        self.refused.push(format!("{here}: {why}"));
    }
}

fn named(entry: &Value) -> &str {
    entry
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or("unnamed")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Result<Catalog, String> {
        let Value::Object(object) = value else {
            panic!("not an object")
        };
        Catalog::read(object)
    }

    fn small() -> Value {
        json!({"services": [{
        "id": "s", "name": "pg", "description": "d", "bindable": true,
        "plan_updateable": true, "vendor": {"x": 1},
        "plans": [
            {"id": "p", "name": "a", "description": "d"},
            {"id": "q", "name": "b", "description": "d", "free": false, "bindable": false,
             "plan_updateable": false, "maximum_polling_duration": "soon",
             "maintenance_info": {"version": "1.2.3"},
             "schemas": {"service_instance": {"create": {"parameters": {"type": "object"}}}}},
        ]}]})
    }

    #[test]
    fn plans_inherit_and_unknown_fields_are_ignored() {
        let catalog = read(small()).unwrap();
        let service = &catalog.services[0];
        let [a, b] = service.plans.as_slice() else {
            panic!("two plans")
        };
        assert!(a.free && bindable(service, a) && updateable(service, a) && !a.binding_rotatable);
        assert!(!b.free && !bindable(service, b) && !updateable(service, b));
        assert_eq!(b.maximum_polling_duration, None);
        assert_eq!(b.maintenance_info.as_ref().unwrap().version, "1.2.3");
        let schemas = b.schemas.as_ref().unwrap();
        assert_eq!(
            schemas.service_instance.create(),
            Some(&json!({"type": "object"}))
        );
        assert_eq!(schemas.service_instance.update(), None);
        assert_eq!(schemas.service_binding.create(), None);
        assert!(catalog.refused.is_empty());
    }

    #[test]
    fn what_is_no_catalog_is_refused_whole() {
        assert!(read(json!({})).is_err());
        assert!(read(json!({"services": {}})).is_err());
        assert_eq!(read(json!({"services": []})).unwrap(), Catalog::default());
    }

    #[test]
    fn a_bad_entry_is_left_out_and_named() {
        let mut value = small();
        value["services"][0]["plans"][1]
            .as_object_mut()
            .unwrap()
            .remove("id");
        value["services"].as_array_mut().unwrap().extend([
            json!({"id": "t", "name": "x", "plans": [{"id": "r", "name": "a"}]}),
            json!({"id": "t", "name": "y", "bindable": true, "plans": []}),
            json!({"id": "", "name": "z", "bindable": true, "plans": []}),
            json!("nonsense"),
        ]);
        let catalog = read(value).unwrap();
        assert_eq!(catalog.services.len(), 1);
        assert_eq!(catalog.services[0].plans.len(), 1);
        assert_eq!(
            catalog.refused,
            [
                "service 1 (pg), plan 2 (b): missing field `id`",
                "service 2 (x): missing field `bindable`",
                "service 3 (y): it has no plan that could be used",
                "service 4 (z): its id or name is empty",
                "service 5 (unnamed): plans is not an array",
            ]
        );
    }

    #[test]
    fn of_two_entries_with_one_id_or_name_the_first_counts() {
        let mut value = small();
        value["services"][0]["plans"][1]["id"] = json!("p");
        let mut twin = value["services"][0].clone();
        value["services"].as_array_mut().unwrap().push(twin.clone());
        twin["id"] = json!("other");
        value["services"].as_array_mut().unwrap().push(twin.clone());
        twin["name"] = json!("other");
        value["services"].as_array_mut().unwrap().push(twin);
        let catalog = read(value).unwrap();
        assert_eq!(catalog.services.len(), 1);
        assert_eq!(
            catalog.refused,
            [
                r#"service 1 (pg), plan 2 (b): its id "p" occurs twice"#,
                r#"service 2 (pg): its id "s" occurs twice"#,
                "service 3 (pg): its name occurs twice",
                r#"service 4 (other), plan 1 (a): its id "p" occurs twice"#,
                r#"service 4 (other), plan 2 (b): its id "p" occurs twice"#,
                "service 4 (other): it has no plan that could be used",
            ]
        );
    }
}
