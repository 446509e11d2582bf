//! What is done with brokers, instances and bindings besides the usual.

use engine_model::{Command, Filter, InstanceId};
use serde_json::{Value, json};

use crate::support::house;

const INSTANCE: &str = "/v1/serviceinstance/pg";

#[tokio::test]
async fn a_change_names_only_what_changes() {
    let house = house().await;
    let instance = json!({
        "name": "pg", "serviceClass": "db", "servicePlan": "small",
        "parameters": { "size": 1 }, "tags": [{ "key": "k", "value": "v" }],
    });
    house.post("/v1/serviceinstance", instance).await.is(201);
    house
        .patch(INSTANCE, json!({ "servicePlan": "large" }))
        .await
        .is(200);
    let Command::Update(spec) = house.dispatch.last_command() else {
        panic!("it is an update")
    };
    let engine_model::spec::Spec::ServiceInstance(spec) = spec else {
        panic!("it is of an instance")
    };
    assert_eq!((&*spec.service_class, &*spec.service_plan), ("db", "large"));
    assert_eq!(spec.parameters, Value::Null, "they do not change");
    assert_eq!(spec.tags["k"], "v", "they stay");
    house
        .patch(INSTANCE, json!({ "serviceClass": "other" }))
        .await
        .refuses(422, "invalid-field");
    house
        .patch(
            "/v1/serviceinstance/none",
            json!({ "servicePlan": "large" }),
        )
        .await
        .refuses(404, "not-found");
}

#[tokio::test]
async fn what_exists_at_a_broker_is_taken_on_record() {
    let house = house().await;
    let id = "0b1b7a52-9b0f-4c14-8f0e-0b5f6c1e2a43";
    let adoption = json!({ "instanceId": id, "serviceClass": "db", "servicePlan": "small" });
    let path = "/v1/serviceinstance/pg/adopt";
    let adopted = house.post(path, adoption).await;
    assert_eq!(adopted.is(201)["name"], "pg");
    let Command::Adopt { spec, instance } = house.dispatch.last_command() else {
        panic!("it is an adoption")
    };
    assert_eq!(instance, id.parse::<InstanceId>().unwrap());
    assert_eq!(spec.service_plan, "small");
    let nameless = json!({ "instanceId": 7, "serviceClass": "db", "servicePlan": "small" });
    house
        .post(path, nameless)
        .await
        .refuses(422, "invalid-field");
}

#[tokio::test]
async fn each_action_is_a_command_of_its_kind() {
    let house = house().await;
    let binding = json!({ "name": "more", "serviceInstance": "pg" });
    house.post("/v1/servicebinding", binding).await.is(201);
    let instance = json!({ "name": "pg", "serviceClass": "db", "servicePlan": "small" });
    house.post("/v1/serviceinstance", instance).await.is(201);
    for (path, command) in [
        ("/v1/servicebinding/more/rotate", Command::Rotate),
        ("/v1/servicebinding/more/retry", Command::Retry),
        ("/v1/serviceinstance/pg/retry", Command::Retry),
    ] {
        house.post(path, json!({})).await.is(202);
        assert_eq!(house.dispatch.last_command(), command, "{path}");
    }
    let why = json!({ "reason": "the broker is gone" });
    for path in [
        "/v1/servicebinding/more/abandon",
        "/v1/serviceinstance/pg/abandon",
    ] {
        house
            .post(path, json!({}))
            .await
            .refuses(400, "malformed-command");
        assert_eq!(house.post(path, why.clone()).await.status, 204, "{path}");
        let reason = "the broker is gone".to_owned();
        let abandoned = Command::Abandon { reason };
        assert_eq!(house.dispatch.last_command(), abandoned, "{path}");
    }
}

#[tokio::test]
async fn what_brokers_say_is_asked_of_the_node() {
    let house = house().await;
    let _ = house.get("/v1/serviceinstance/pg/live").await;
    let name = engine_model::Name::new("pg").unwrap();
    assert_eq!(house.dispatch.last_query(), Filter::Live { name });
    let _ = house.get("/v1/orphans").await;
    assert_eq!(house.dispatch.last_query(), Filter::Orphans);
}
