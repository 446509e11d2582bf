//! A broker's catalog in the engine's words.

use adapter_kit::Later;
use engine_model::broker::{Offering, Plan, PlanSchemas};
use engine_model::{BrokerOutcome, Effect, EffectId};
use serde_json::Value;

use super::lane::Wish;
use super::parameters::compile;
use super::{Services, of_effect, translate, version};
use crate::call::Call;
use crate::text::Hide;
use crate::verdict::{Answer, Fetched};
use crate::wire;

/// The largest offering that is taken: an event holds one whole, and a message has a limit.
const OFFERING_BYTES_MAX: usize = 512 * 1024;

impl Services {
    /// Reads the catalog, in the first version of the API that the broker takes.
    pub(super) async fn broker(
        &self,
        id: EffectId,
        effect: &Effect,
    ) -> Result<BrokerOutcome, Later> {
        let Effect::ReadCatalog { target, etag } = effect else {
            unreachable!("only effects on brokers come here")
        };
        let mut refused = None;
        for version in version::candidates(target.api_version.as_deref()) {
            let wish = Wish {
                org: target.broker.org.clone(),
                background: false,
                changes: None,
            };
            let line = match self.line_of(target, wish, version).await {
                Ok(line) => line,
                Err(obstacle) => {
                    let reason = obstacle.reason()?;
                    return Ok(BrokerOutcome::Failed { reason });
                }
            };
            // What is known was said in another version, and the answer is to say which it is.
            let etag = etag.as_deref().filter(|_| refused.is_none());
            // No user causes it, so none is named.
            let answer = line.client.catalog(&Call::new(of_effect(id).0), etag).await;
            if let Answer::Rejected(refusal) = &answer
                && version::is_refused(refusal)
            {
                refused.get_or_insert_with(|| line.settle::<_, ()>(answer).err());
                continue;
            }
            return Ok(match line.settle::<_, ()>(answer) {
                Ok(Fetched::NotModified) => BrokerOutcome::Unchanged,
                Ok(Fetched::Catalog { etag, catalog }) => {
                    let (offerings, refused) = offerings(catalog);
                    BrokerOutcome::Read {
                        etag,
                        offerings,
                        refused,
                        api_version: Some(version.to_string()),
                    }
                }
                Err(verdict) => BrokerOutcome::Failed {
                    reason: translate::reason(verdict),
                },
            });
        }
        let first = refused.flatten().map(translate::reason).unwrap_or_default();
        let reason = version::none(&first);
        Ok(BrokerOutcome::Failed { reason })
    }
}

/// The offerings that can be used, and what could not be taken, each with the reason.
pub(super) fn offerings(catalog: wire::Catalog) -> (Vec<Offering>, Vec<String>) {
    let mut refused = catalog.refused;
    let mut offerings = Vec::new();
    for service in catalog.services {
        let here = format!("service {}", service.name);
        let offering = offering(service, &mut refused);
        let bytes = serde_json::to_vec(&offering).map_or(usize::MAX, |json| json.len());
        if offering.plans.is_empty() {
            refused.push(format!("{here}: it has no plan that could be used"));
        } else if bytes > OFFERING_BYTES_MAX {
            refused.push(format!(
                "{here}: it is larger than {OFFERING_BYTES_MAX} bytes"
            ));
        } else {
            offerings.push(offering);
        }
    }
    let bounded = Hide::default();
    (
        offerings,
        refused.iter().map(|text| bounded.shown(text)).collect(),
    )
}

fn offering(service: wire::Service, refused: &mut Vec<String>) -> Offering {
    let mut plans = Vec::new();
    for plan in service.plans {
        let here = format!("service {}, plan {}", service.name, plan.name);
        let plan = self::plan(plan);
        match unusable(&plan.schemas) {
            Some(why) => refused.push(format!("{here}: {why}")),
            None => plans.push(plan),
        }
    }
    Offering {
        id: service.id,
        name: service.name,
        description: service.description,
        bindable: service.bindable,
        instances_retrievable: service.instances_retrievable,
        bindings_retrievable: service.bindings_retrievable,
        plan_updateable: service.plan_updateable,
        tags: service.tags,
        requires: service.requires,
        metadata: service.metadata.unwrap_or_default(),
        plans,
    }
}

fn plan(plan: wire::Plan) -> Plan {
    let schemas = plan.schemas.unwrap_or_default();
    let given = |schema: Option<&Value>| schema.cloned().unwrap_or_default();
    Plan {
        id: plan.id,
        name: plan.name,
        description: plan.description,
        free: plan.free,
        bindable: plan.bindable,
        plan_updateable: plan.plan_updateable,
        binding_rotatable: plan.binding_rotatable,
        maximum_polling_duration: plan.maximum_polling_duration,
        maintenance_version: plan.maintenance_info.map(|info| info.version),
        metadata: plan.metadata.unwrap_or_default(),
        schemas: PlanSchemas {
            create: given(schemas.service_instance.create()),
            update: given(schemas.service_instance.update()),
            bind: given(schemas.service_binding.create()),
        },
    }
}

/// Why one of a plan's schemas could not be used later, when it is needed.
fn unusable(schemas: &PlanSchemas) -> Option<String> {
    [&schemas.create, &schemas.update, &schemas.bind]
        .into_iter()
        .filter(|schema| !schema.is_null())
        .find_map(|schema| compile(schema).err())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::wire::Message as _;

    fn read(value: Value) -> (Vec<Offering>, Vec<String>) {
        let Value::Object(object) = value else {
            panic!("not an object")
        };
        offerings(wire::Catalog::read(object).unwrap())
    }

    #[test]
    fn a_catalog_is_taken_over_whole() {
        let schema = json!({"type": "object"});
        let (offerings, refused) = read(json!({"services": [{
            "id": "s", "name": "pg", "description": "d", "bindable": true, "tags": ["sql"],
            "requires": ["syslog_drain"], "instances_retrievable": true,
            "bindings_retrievable": true, "plan_updateable": true, "metadata": {"m": 1},
            "plans": [{
                "id": "p", "name": "basic50", "description": "d", "free": false, "bindable": false,
                "plan_updateable": false, "binding_rotatable": true,
                "maximum_polling_duration": 60, "maintenance_info": {"version": "1.0.0"},
                "metadata": {"bullets": []},
                "schemas": {"service_instance": {"create": {"parameters": schema}},
                            "service_binding": {"create": {"parameters": schema}}},
            }],
        }]}));
        assert!(refused.is_empty(), "{refused:?}");
        let plan = &offerings[0].plans[0];
        assert_eq!(offerings[0].requires, ["syslog_drain"]);
        assert!(offerings[0].instances_retrievable && offerings[0].bindings_retrievable);
        assert_eq!(plan.maximum_polling_duration, Some(60));
        assert_eq!(plan.maintenance_version.as_deref(), Some("1.0.0"));
        assert_eq!(
            (&plan.schemas.create, &plan.schemas.bind),
            (&schema, &schema)
        );
        assert!(plan.schemas.update.is_null());
        assert!(!plan.is_bindable(&offerings[0]));
    }

    #[test]
    fn a_plan_whose_schema_cannot_be_used_is_left_out_and_named() {
        let bad = json!({"service_instance": {"create": {"parameters": {"type": "nonsense"}}}});
        let (offerings, refused) = read(json!({"services": [
            {"id": "s", "name": "pg", "bindable": true, "plans": [
                {"id": "p", "name": "a", "schemas": bad}, {"id": "q", "name": "b"}]},
            {"id": "t", "name": "big", "bindable": true, "description": "x".repeat(OFFERING_BYTES_MAX),
             "plans": [{"id": "r", "name": "c"}]},
        ]}));
        assert_eq!(offerings.len(), 1);
        assert_eq!(offerings[0].plans.len(), 1);
        assert_eq!(refused.len(), 2, "{refused:?}");
        assert!(refused[0].starts_with("service pg, plan a: the plan's schema cannot be used"));
        assert!(refused[1].starts_with("service big: it is larger than"));
    }
}
