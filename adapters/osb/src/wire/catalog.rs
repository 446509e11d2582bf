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
    /// All or nothing: a catalog of which one entry cannot be read changes nothing, because
    /// leaving the entry out would look as if the service had vanished.
    fn read(mut object: Map<String, Value>) -> Result<Self, String> {
        let Some(Value::Array(entries)) = object.remove("services") else {
            return Err("services is not an array".to_owned());
        };
        let read = |(at, entry): (usize, Value)| {
            let name = entry
                .get("name")
                .and_then(Value::as_str)
                .unwrap_or("unnamed")
                .to_owned();
            Service::deserialize(entry).map_err(|e| format!("services[{at}] ({name}): {e}"))
        };
        let services: Result<_, _> = entries.into_iter().enumerate().map(read).collect();
        Ok(Self {
            services: services?,
        })
    }
}

/// What is wrong with a catalog that could be read: one sentence per entry that breaks a rule.
#[must_use]
pub fn problems(catalog: &Catalog) -> Vec<String> {
    let mut found = Vec::new();
    let (mut ids, mut names) = (HashSet::new(), HashSet::new());
    for service in &catalog.services {
        let here = format!("service {:?}", service.name);
        check_words(&here, &service.id, &service.name, &mut found);
        if !ids.insert(service.id.as_str()) {
            found.push(format!("{here}: its id {:?} occurs twice", service.id));
        }
        if !names.insert(service.name.as_str()) {
            found.push(format!("{here}: its name occurs twice"));
        }
        if service.plans.is_empty() {
            found.push(format!("{here}: it has no plan"));
        }
        let mut plan_names = HashSet::new();
        for plan in &service.plans {
            let here = format!("plan {:?} of service {:?}", plan.name, service.name);
            check_words(&here, &plan.id, &plan.name, &mut found);
            if !ids.insert(plan.id.as_str()) {
                found.push(format!("{here}: its id {:?} occurs twice", plan.id));
            }
            if !plan_names.insert(plan.name.as_str()) {
                found.push(format!("{here}: its name occurs twice"));
            }
        }
    }
    found
}

fn check_words(here: &str, id: &str, name: &str, found: &mut Vec<String>) {
    if id.is_empty() {
        found.push(format!("{here}: its id is empty"));
    }
    if name.is_empty() {
        found.push(format!("{here}: its name is empty"));
    }
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
        assert!(problems(&catalog).is_empty());
    }

    #[test]
    fn one_bad_entry_spoils_the_catalog_and_is_named() {
        let mut value = small();
        value["services"][0]["plans"][1]
            .as_object_mut()
            .unwrap()
            .remove("id");
        assert_eq!(
            read(value).unwrap_err(),
            "services[0] (pg): missing field `id`"
        );
        assert!(read(json!({})).is_err());
        assert!(read(json!({"services": {}})).is_err());
        assert_eq!(read(json!({"services": []})).unwrap(), Catalog::default());
    }

    #[test]
    fn broken_rules_are_told_per_entry() {
        let mut value = small();
        value["services"][0]["plans"][1]["id"] = json!("p");
        value["services"][0]["plans"][1]["name"] = json!("a");
        let twin = value["services"][0].clone();
        value["services"].as_array_mut().unwrap().push(twin);
        value["services"][1]["plans"] = json!([]);
        assert_eq!(
            problems(&read(value).unwrap()),
            [
                r#"plan "a" of service "pg": its id "p" occurs twice"#,
                r#"plan "a" of service "pg": its name occurs twice"#,
                r#"service "pg": its id "s" occurs twice"#,
                r#"service "pg": its name occurs twice"#,
                r#"service "pg": it has no plan"#,
            ]
        );
    }
}
