//! What a plan of the catalog file gives, and how instances move from one to another.

use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::support::{
    LARGE, PLANS, Platform, SERVER, SMALL, SharedServer, TestBroker, connect, ids, instance_body,
    plans_config,
};

const INSTANCE: &str = "/v2/service_instances/i";
const LATER: &str = "accepts_incomplete=true";

async fn extensions(client: &Client) -> Vec<String> {
    let sql = "SELECT extname::text FROM pg_extension WHERE extname <> 'plpgsql' ORDER BY 1";
    let rows = client.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

async fn connections_max(client: &Client) -> i32 {
    let sql = "SELECT datconnlimit FROM pg_database WHERE datname = current_database()";
    client.query_one(sql, &[]).await.unwrap().get(0)
}

fn to_plan(plan: &str) -> Value {
    json!({ "service_id": PLANS, "plan_id": plan })
}

async fn plan_of(platform: &Platform) -> Value {
    platform.get(INSTANCE).await.body["plan_id"].clone()
}

#[tokio::test]
async fn a_plan_shows_what_it_gives_and_keeps_how() {
    let (server, state) = (SharedServer::start(), tempfile::tempdir().unwrap());
    let broker = TestBroker::start(plans_config(state.path(), &server, |text| text)).await;
    let catalog = broker.platform.get("/v2/catalog").await.body;
    let plans = catalog["services"][0]["plans"].as_array().unwrap();
    let small = plans.iter().find(|plan| plan["id"] == SMALL).unwrap();
    let shown = json!({
        "storage": "about 1 GB, by agreement", "connections": 10, "extensions": ["citext"],
    });
    assert_eq!(small["metadata"], shown);
    assert_eq!(small["maintenance_info"]["version"], "1.0.0");
    let text = catalog.to_string();
    for private in ["backing", "kind", "credential_lifetime"] {
        assert!(!text.contains(private), "{private}");
    }
}

#[tokio::test]
async fn an_update_to_a_larger_plan_gives_its_connections_and_extensions() {
    let (server, state) = (SharedServer::start(), tempfile::tempdir().unwrap());
    // An administrator who is no superuser can create extensions that are trusted.
    let create = "CREATE ROLE broker LOGIN CREATEDB CREATEROLE PASSWORD 'modest'";
    server.admin().await.batch_execute(create).await.unwrap();
    let mut config = plans_config(state.path(), &server, |text| text);
    config.shared.as_mut().unwrap().url.0 = server.url_of("broker", "modest");
    let broker = TestBroker::start(config).await;
    let platform = &broker.platform;
    platform.provision_plan("i", SMALL).await;
    let uri = platform.bind("i", "b", PLANS, SMALL).await.uri();
    let client = connect(&uri).await.unwrap();
    assert_eq!(extensions(&client).await, ["citext"]);
    assert_eq!(connections_max(&client).await, 10);
    client
        .batch_execute("CREATE TABLE kept (name citext)")
        .await
        .unwrap();

    let path = format!("{INSTANCE}?{LATER}");
    let operation = platform.patch(&path, &to_plan(LARGE)).await.operation();
    platform.succeed("i", &operation).await;
    assert_eq!(plan_of(platform).await, LARGE);
    assert_eq!(extensions(&client).await, ["citext", "pg_trgm"]);
    assert_eq!(connections_max(&client).await, 50);
    client.query("SELECT name FROM kept", &[]).await.unwrap();
    let again = platform.patch(INSTANCE, &to_plan(LARGE)).await;
    assert_eq!((again.status, again.body), (200, json!({})));

    let deleted = platform
        .delete(&format!("{INSTANCE}?{}", ids(PLANS, LARGE)))
        .await;
    assert_eq!(deleted.word(), "200");
    assert!(server.objects().await.is_empty());
}

#[tokio::test]
async fn a_move_that_is_not_supported_is_refused_and_changes_nothing() {
    let (server, state) = (SharedServer::start(), tempfile::tempdir().unwrap());
    let broker = TestBroker::start(plans_config(state.path(), &server, |text| text)).await;
    let platform = &broker.platform;
    platform.provision_plan("i", LARGE).await;
    let client = connect(&platform.bind("i", "b", PLANS, LARGE).await.uri())
        .await
        .unwrap();
    for (body, expected, said) in [
        (
            to_plan(SMALL),
            "422 PlanChangeNotSupported",
            "the extension pg_trgm",
        ),
        (
            to_plan(SERVER),
            "422 PlanChangeNotSupported",
            "one of its own",
        ),
        (to_plan("unknown"), "400 BadRequest", "plan_id"),
        (
            json!({ "service_id": PLANS, "parameters": { "x": 1 } }),
            "422 ParametersNotUpdateable",
            "parameters",
        ),
        (
            json!({ "service_id": PLANS, "maintenance_info": { "version": "9.9.9" } }),
            "422 MaintenanceInfoConflict",
            "catalog",
        ),
    ] {
        let reply = platform.patch(&format!("{INSTANCE}?{LATER}"), &body).await;
        assert_eq!(reply.word(), expected, "{body}");
        let description = reply.body["description"].as_str().unwrap();
        assert!(description.contains(said), "{description}");
        assert_eq!(plan_of(platform).await, LARGE);
        assert_eq!(connections_max(&client).await, 50);
    }
}

#[tokio::test]
async fn an_update_that_fails_half_way_leaves_the_plan_it_had() {
    let (server, state) = (SharedServer::start(), tempfile::tempdir().unwrap());
    let config = plans_config(state.path(), &server, |text| {
        text.replace("pg_trgm", "hstore, no_such_extension")
    });
    let broker = TestBroker::start(config).await;
    let platform = &broker.platform;
    platform.provision_plan("i", SMALL).await;
    let client = connect(&platform.bind("i", "b", PLANS, SMALL).await.uri())
        .await
        .unwrap();
    let failed = platform.patch(INSTANCE, &to_plan(LARGE)).await;
    assert_eq!(failed.word(), "500 OperationFailed");
    assert_eq!(failed.body["instance_usable"], true);
    assert_eq!(failed.body["update_repeatable"], true);
    let description = failed.body["description"].as_str().unwrap();
    assert!(description.contains("no_such_extension"), "{description}");
    assert_eq!(plan_of(platform).await, SMALL);
    assert_eq!(extensions(&client).await, ["citext"], "nothing of it");
    assert_eq!(connections_max(&client).await, 10);
    // And a create that cannot have what its plan says fails, and is deleted without a trace.
    let create = platform
        .put("/v2/service_instances/j", &instance_body(PLANS, LARGE))
        .await;
    assert_eq!(create.word(), "500 OperationFailed");
    let path = format!("/v2/service_instances/j?{}", ids(PLANS, LARGE));
    assert_eq!(platform.delete(&path).await.word(), "200");
    assert_eq!(server.objects().await.len(), 3, "those of the first one");
}

#[tokio::test]
async fn an_instance_is_maintained_when_it_is_asked_for_and_not_before() {
    let (server, state) = (SharedServer::start(), tempfile::tempdir().unwrap());
    let broker = TestBroker::start(plans_config(state.path(), &server, |text| text)).await;
    broker.platform.provision_plan("i", SMALL).await;
    let uri = broker.platform.bind("i", "b", PLANS, SMALL).await.uri();
    assert!(broker.stop().await);

    let config = plans_config(state.path(), &server, |text| {
        text.replace("version: 1.0.0", "version: 1.1.0")
            .replace("connections_max: 10", "connections_max: 12")
    });
    let broker = TestBroker::start(config).await;
    let platform = &broker.platform;
    let client = connect(&uri).await.unwrap();
    assert_eq!(connections_max(&client).await, 10);
    let version = async || platform.get(INSTANCE).await.body["maintenance_info"]["version"].clone();
    assert_eq!(version().await, "1.0.0");
    let to = |version: &str| json!({ "service_id": PLANS, "maintenance_info": { "version": version, "other": 1 } });
    let old = platform.patch(INSTANCE, &to("1.0.0")).await;
    assert_eq!(old.word(), "422 MaintenanceInfoConflict");
    let mut create = instance_body(PLANS, SMALL);
    create["maintenance_info"] = json!({ "version": "1.0.0" });
    let old = platform.put("/v2/service_instances/j", &create).await;
    assert_eq!(old.word(), "422 MaintenanceInfoConflict");
    assert_eq!(platform.patch(INSTANCE, &to("1.1.0")).await.word(), "200");
    assert_eq!(version().await, "1.1.0");
    assert_eq!(connections_max(&client).await, 12);
    assert_eq!(platform.patch(INSTANCE, &to("1.1.0")).await.word(), "200");
}

#[tokio::test]
async fn a_plan_that_has_left_the_catalog_serves_those_who_have_it_to_the_end() {
    let (server, state) = (SharedServer::start(), tempfile::tempdir().unwrap());
    let broker = TestBroker::start(plans_config(state.path(), &server, |text| text)).await;
    broker.platform.provision_plan("i", SMALL).await;
    let uri = broker.platform.bind("i", "b", PLANS, SMALL).await.uri();
    assert!(broker.stop().await);

    let other = "11111111-2222-4333-8444-555555555555";
    let config = plans_config(state.path(), &server, |text| text.replace(SMALL, other));
    let broker = TestBroker::start(config).await;
    let platform = &broker.platform;
    connect(&uri).await.unwrap();
    assert_eq!(plan_of(platform).await, SMALL);
    let repeated = platform.bind("i", "b", PLANS, SMALL).await;
    assert_eq!((repeated.status, repeated.uri()), (200, uri));
    let new = platform.bind("i", "c", PLANS, SMALL).await;
    assert_eq!(new.word(), "422 PlanWithdrawn");
    let unbound = platform.unbind("i", "b", PLANS, SMALL).await;
    assert_eq!(unbound.word(), "200");
    let path = format!("{INSTANCE}?{}", ids(PLANS, SMALL));
    assert_eq!(platform.delete(&path).await.word(), "200");
    assert!(server.objects().await.is_empty());
}
