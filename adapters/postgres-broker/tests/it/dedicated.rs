//! Plans of kind `dedicated`: a server process per instance.

use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::support::{
    AZURE, BASIC50, BASIC100, Platform, TestBroker, config, connect, connect_plain, ids,
    postmasters, seeded_state,
};

const INSTANCE: &str = "/v2/service_instances/i";
const LATER: &str = "accepts_incomplete=true";

async fn setting(client: &Client, name: &str) -> String {
    client
        .query_one("SELECT current_setting($1)", &[&name])
        .await
        .unwrap()
        .get(0)
}

async fn update(platform: &Platform, change: Value) {
    let mut body = json!({ "service_id": AZURE });
    body.as_object_mut()
        .unwrap()
        .extend(change.as_object().unwrap().clone());
    let operation = platform
        .patch(&format!("{INSTANCE}?{LATER}"), &body)
        .await
        .operation();
    platform.succeed("i", &operation).await;
}

#[tokio::test]
async fn a_whole_life() {
    let state = seeded_state();
    let broker = TestBroker::start(config(state.path())).await;
    let platform = &broker.platform;
    let story = json!({
        "service_id": AZURE, "plan_id": BASIC50, "organization_guid": "o", "space_guid": "s",
        "parameters": {
            "location": "westus", "resourceGroup": "demo",
            "firewallRules": [{
                "startIPAddress": "0.0.0.0", "endIPAddress": "255.255.255.255", "name": "AllowAll",
            }],
        },
    });
    let operation = platform
        .put(&format!("{INSTANCE}?{LATER}"), &story)
        .await
        .operation();
    platform.succeed("i", &operation).await;
    assert_eq!(
        platform
            .put(&format!("{INSTANCE}?{LATER}"), &story)
            .await
            .status,
        200
    );
    let fetched = platform.get(INSTANCE).await;
    assert_eq!(fetched.body["parameters"], story["parameters"]);
    assert_eq!(postmasters(state.path()).len(), 1);

    let first = platform.bind("i", "one", AZURE, BASIC50).await;
    assert_eq!(first.status, 201);
    let credentials = first.body["credentials"].as_object().unwrap();
    assert!(credentials.values().all(Value::is_string));
    assert_eq!(credentials["host"], "127.0.0.1");
    assert_eq!(credentials["sslRequired"], "true");
    assert_eq!(first.body["endpoints"][0]["ports"][0], credentials["port"]);
    assert!(
        connect_plain(&first.uri()).await.is_err(),
        "TLS is required"
    );
    let wrong = first
        .uri()
        .replace(credentials["password"].as_str().unwrap(), "wrong");
    assert!(connect(&wrong).await.is_err());
    let one = connect(&first.uri()).await.unwrap();
    assert_eq!(setting(&one, "max_connections").await, "53");
    one.batch_execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)")
        .await
        .unwrap();

    // Rotation: the old and the new one work side by side.
    let path = format!("{INSTANCE}/service_bindings/two");
    let rotated = platform
        .put(&path, &json!({ "predecessor_binding_id": "one" }))
        .await;
    assert_eq!(rotated.status, 201);
    let two = connect(&rotated.uri()).await.unwrap();
    assert_eq!(two.query("SELECT n FROM kept", &[]).await.unwrap().len(), 1);
    assert_eq!(
        platform.unbind("i", "one", AZURE, BASIC50).await.status,
        200
    );
    assert!(connect(&first.uri()).await.is_err());
    assert_eq!(two.query("SELECT n FROM kept", &[]).await.unwrap().len(), 1);

    let query = ids(AZURE, BASIC50);
    let sync = platform.delete(&format!("{INSTANCE}?{query}")).await;
    assert_eq!(sync.word(), "422 AsyncRequired");
    let delete = platform
        .delete(&format!("{INSTANCE}?{query}&{LATER}"))
        .await
        .operation();
    assert_eq!(platform.poll("i", &delete).await.status, 410);
    assert!(connect(&rotated.uri()).await.is_err());
    assert!(postmasters(state.path()).is_empty());
    assert!(!state.path().join("servers/i").exists());
    assert!(broker.stop().await);
}

#[tokio::test]
async fn an_update_moves_to_the_other_plan_and_to_other_firewall_rules() {
    let state = seeded_state();
    let broker = TestBroker::start(config(state.path())).await;
    let platform = &broker.platform;
    platform.provision_dedicated("i", BASIC50).await;
    let uri = platform.bind("i", "b", AZURE, BASIC50).await.uri();
    connect(&uri)
        .await
        .unwrap()
        .batch_execute("CREATE TABLE kept (n int)")
        .await
        .unwrap();

    let change = json!({ "service_id": AZURE, "plan_id": BASIC100 });
    assert_eq!(
        platform.patch(INSTANCE, &change).await.word(),
        "422 AsyncRequired"
    );
    update(platform, json!({ "plan_id": BASIC100 })).await;
    let client = connect(&uri).await.unwrap();
    assert_eq!(setting(&client, "max_connections").await, "103");
    assert_eq!(setting(&client, "shared_buffers").await, "64MB");
    client.query("SELECT n FROM kept", &[]).await.unwrap();
    assert_eq!(platform.get(INSTANCE).await.body["plan_id"], BASIC100);
    assert_eq!(
        platform
            .patch(&format!("{INSTANCE}?{LATER}"), &change)
            .await
            .word(),
        "200"
    );

    let rule = |first: &str, last: &str| {
        let rule = json!({ "name": "r", "startIPAddress": first, "endIPAddress": last });
        json!({ "parameters": { "firewallRules": [rule] } })
    };
    update(platform, rule("10.0.0.0", "10.0.0.255")).await;
    let refused = connect(&uri).await.expect_err("refused");
    assert_eq!(
        refused.code().map(|code| code.code()),
        Some("28000"),
        "{refused}"
    );
    update(platform, rule("127.0.0.1", "127.0.0.1")).await;
    connect(&uri).await.unwrap();

    let nonsense = json!({ "service_id": AZURE, "parameters": { "location": 7 } });
    let reply = platform
        .patch(&format!("{INSTANCE}?{LATER}"), &nonsense)
        .await;
    assert_eq!(reply.word(), "400 ParametersInvalid");
}

#[tokio::test]
async fn an_update_that_the_server_refuses_leaves_it_as_it_was() {
    let state = seeded_state();
    let catalog = state.path().join("catalog.yaml");
    let example = std::fs::read_to_string(crate::support::catalog()).unwrap();
    std::fs::write(
        &catalog,
        example.replace("work_mem: 8MB", "work_mem: a lot"),
    )
    .unwrap();
    let mut config = config(state.path());
    config.catalog = catalog;
    let broker = TestBroker::start(config).await;
    let platform = &broker.platform;
    platform.provision_dedicated("i", BASIC50).await;
    let uri = platform.bind("i", "b", AZURE, BASIC50).await.uri();
    let change = json!({ "service_id": AZURE, "plan_id": BASIC100 });
    let operation = platform
        .patch(&format!("{INSTANCE}?{LATER}"), &change)
        .await
        .operation();
    let failed = platform.poll("i", &operation).await;
    assert_eq!(failed.body["state"], "failed");
    assert_eq!(failed.body["instance_usable"], true);
    let description = failed.body["description"].as_str().unwrap();
    assert!(description.contains("work_mem"), "{description}");
    assert_eq!(platform.get(INSTANCE).await.body["plan_id"], BASIC50);
    assert_eq!(
        setting(&connect(&uri).await.unwrap(), "max_connections").await,
        "53"
    );
}

#[tokio::test]
async fn a_delete_right_after_a_create_leaves_no_process_and_no_file() {
    let state = seeded_state();
    let broker = TestBroker::start(config(state.path())).await;
    let platform = &broker.platform;
    let body = crate::support::instance_body(AZURE, BASIC50);
    let create = platform
        .put(&format!("{INSTANCE}?{LATER}"), &body)
        .await
        .operation();
    let path = format!("{INSTANCE}?{}&{LATER}", ids(AZURE, BASIC50));
    let delete = platform.delete(&path).await.operation();
    assert_eq!(platform.poll("i", &create).await.body["state"], "failed");
    assert_eq!(platform.poll("i", &delete).await.status, 410);
    assert!(postmasters(state.path()).is_empty());
    assert!(!state.path().join("servers/i").exists());
}

#[tokio::test]
async fn a_server_of_ones_own_has_the_extensions_of_its_plan() {
    use crate::support::{PLANS, SERVER, SharedServer, instance_body, plans_config};
    let (shared, state) = (SharedServer::start(), seeded_state());
    let broker = TestBroker::start(plans_config(state.path(), &shared, |text| text)).await;
    let platform = &broker.platform;
    let create = platform
        .put(
            &format!("{INSTANCE}?{LATER}"),
            &instance_body(PLANS, SERVER),
        )
        .await
        .operation();
    platform.succeed("i", &create).await;
    let client = connect(&platform.bind("i", "b", PLANS, SERVER).await.uri())
        .await
        .unwrap();
    client
        .batch_execute("CREATE TABLE words (word citext PRIMARY KEY)")
        .await
        .unwrap();
    let moved = json!({ "service_id": PLANS, "plan_id": crate::support::LARGE });
    let refused = platform.patch(&format!("{INSTANCE}?{LATER}"), &moved).await;
    assert_eq!(refused.word(), "422 PlanChangeNotSupported");
}
