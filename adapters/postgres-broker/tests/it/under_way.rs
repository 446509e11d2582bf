//! What may be asked while an operation is under way. The test holds the lock of the instance in
//! PostgreSQL, so the operation stands still for as long as it likes.

use serde_json::json;

use crate::support::{
    POSTGRESQL, Platform, SHARED_DB, SharedServer, TestBroker, eventually, ids, instance_body,
    shared_config,
};

const INSTANCE: &str = "/v2/service_instances/i";
const LATER: &str = "accepts_incomplete=true";

async fn begin(platform: &Platform) -> String {
    let body = instance_body(POSTGRESQL, SHARED_DB);
    platform
        .put(&format!("{INSTANCE}?{LATER}"), &body)
        .await
        .operation()
}

/// Waits until the broker's work stands at the lock.
async fn stands(server: &SharedServer) {
    let admin = &server.admin().await;
    eventually("the broker waits for the lock", || async move {
        let waiting = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
        !admin.query(waiting, &[]).await.unwrap().is_empty()
    })
    .await;
}

#[tokio::test]
async fn a_create_under_way_is_joined_protected_and_shown() {
    let (server, state) = (SharedServer::start(), tempfile::tempdir().unwrap());
    let broker = TestBroker::start(shared_config(state.path(), &server)).await;
    let platform = &broker.platform;
    let held = server.hold("i").await;
    let operation = begin(platform).await;
    stands(&server).await;

    assert_eq!(
        begin(platform).await,
        operation,
        "a repeat names the same operation"
    );
    let mut other = instance_body(POSTGRESQL, SHARED_DB);
    other["parameters"] = json!({ "x": 1 });
    assert_eq!(platform.put(INSTANCE, &other).await.word(), "409 Conflict");
    assert_eq!(platform.get(INSTANCE).await.status, 404);
    let bound = platform.bind("i", "b", POSTGRESQL, SHARED_DB).await;
    assert_eq!(bound.word(), "422 ConcurrencyError");
    let patch = json!({ "service_id": POSTGRESQL });
    assert_eq!(
        platform.patch(INSTANCE, &patch).await.word(),
        "422 ConcurrencyError"
    );
    let poll = |query: String| platform.get_owned(format!("{INSTANCE}/last_operation?{query}"));
    assert_eq!(
        poll(format!("operation={operation}")).await.body["state"],
        "in progress"
    );
    assert_eq!(
        poll(ids(POSTGRESQL, SHARED_DB)).await.body["state"],
        "in progress"
    );
    assert_eq!(poll(ids("other", SHARED_DB)).await.status, 400);
    assert_eq!(poll("operation=none".to_owned()).await.status, 400);

    // One who cannot wait for a poll waits for the answer.
    let body = instance_body(POSTGRESQL, SHARED_DB);
    let waiting = tokio::spawn({
        let (platform, body) = (platform.clone(), body.clone());
        async move { platform.put(INSTANCE, &body).await.status }
    });
    drop(held);
    assert_eq!(waiting.await.unwrap(), 201);
    platform.succeed("i", &operation).await;
    assert_eq!(platform.put(INSTANCE, &body).await.status, 200);
}

#[tokio::test]
async fn a_delete_during_create_halts_it_and_leaves_nothing() {
    let (server, state) = (SharedServer::start(), tempfile::tempdir().unwrap());
    let broker = TestBroker::start(shared_config(state.path(), &server)).await;
    let platform = &broker.platform;
    let held = server.hold("i").await;
    let create = begin(platform).await;
    stands(&server).await;
    let path = format!("{INSTANCE}?{}&{LATER}", ids(POSTGRESQL, SHARED_DB));
    let delete = platform.delete(&path).await.operation();
    assert_eq!(platform.delete(&path).await.operation(), delete);
    let halted = platform.poll("i", &create).await;
    assert_eq!(halted.body["state"], "failed");
    let body = instance_body(POSTGRESQL, SHARED_DB);
    assert_eq!(
        platform.put(INSTANCE, &body).await.word(),
        "422 ConcurrencyError"
    );
    drop(held);
    assert_eq!(platform.poll("i", &delete).await.status, 410);
    assert!(
        server.objects().await.is_empty(),
        "{:?}",
        server.objects().await
    );
    assert_eq!(platform.delete(&path).await.status, 410);
    platform.provision_shared("i").await;
}

#[tokio::test]
async fn a_bind_under_way_is_joined_and_an_unbind_halts_it() {
    let (server, state) = (SharedServer::start(), tempfile::tempdir().unwrap());
    let broker = TestBroker::start(shared_config(state.path(), &server)).await;
    let platform = &broker.platform;
    platform.provision_shared("i").await;
    let held = server.hold("i").await;
    let binding = format!("{INSTANCE}/service_bindings/b");
    let body = json!({ "service_id": POSTGRESQL, "plan_id": SHARED_DB });
    let bind = platform
        .put(&format!("{binding}?{LATER}"), &body)
        .await
        .operation();
    stands(&server).await;
    assert_eq!(
        platform
            .put(&format!("{binding}?{LATER}"), &body)
            .await
            .operation(),
        bind
    );
    assert_eq!(platform.get(&binding).await.status, 404);
    let ids = ids(POSTGRESQL, SHARED_DB);
    let deprovision = platform.delete(&format!("{INSTANCE}?{ids}")).await;
    assert_eq!(deprovision.word(), "422 ConcurrencyError");
    let unbind = platform
        .delete(&format!("{binding}?{ids}&{LATER}"))
        .await
        .operation();
    let halted = platform.poll("i/service_bindings/b", &bind).await;
    assert_eq!(halted.body["state"], "failed");
    drop(held);
    assert_eq!(
        platform.poll("i/service_bindings/b", &unbind).await.status,
        410
    );
    assert_eq!(
        server.objects().await.len(),
        2,
        "database and owner, no login"
    );
}

#[tokio::test]
async fn operations_beyond_the_limit_are_refused_and_nothing_is_kept_of_them() {
    let (server, state) = (SharedServer::start(), tempfile::tempdir().unwrap());
    let mut config = shared_config(state.path(), &server);
    config.limits.waiting_operations = 1;
    let broker = TestBroker::start(config).await;
    let platform = &broker.platform;
    let held = server.hold("i").await;
    let operation = begin(platform).await;
    let other = format!("/v2/service_instances/j?{LATER}");
    let body = instance_body(POSTGRESQL, SHARED_DB);
    let refused = platform.put(&other, &body).await;
    assert_eq!(refused.word(), "429 TooManyOperations");
    assert!(refused.headers.contains_key("retry-after"));
    assert_eq!(
        platform
            .get("/v2/service_instances/j/last_operation")
            .await
            .status,
        404
    );
    drop(held);
    platform.succeed("i", &operation).await;
    let operation = platform.put(&other, &body).await.operation();
    platform.succeed("j", &operation).await;
}

#[tokio::test]
async fn a_synchronous_request_does_not_wait_for_ever() {
    let (server, state) = (SharedServer::start(), tempfile::tempdir().unwrap());
    let mut config = shared_config(state.path(), &server);
    config.limits.answer_timeout = std::time::Duration::from_millis(200);
    let broker = TestBroker::start(config).await;
    let platform = &broker.platform;
    let held = server.hold("i").await;
    let body = instance_body(POSTGRESQL, SHARED_DB);
    assert_eq!(
        platform.put(INSTANCE, &body).await.word(),
        "504 StillUnderWay"
    );
    drop(held);
    eventually("the create has gone on", || async {
        platform.get(INSTANCE).await.status == 200
    })
    .await;
}

#[tokio::test]
async fn who_waits_for_what_is_halted_is_told_that_it_failed() {
    let (server, state) = (SharedServer::start(), tempfile::tempdir().unwrap());
    let broker = TestBroker::start(shared_config(state.path(), &server)).await;
    let platform = &broker.platform;
    let binding = format!("{INSTANCE}/service_bindings/b");
    let query = ids(POSTGRESQL, SHARED_DB);
    let of_binding = json!({ "service_id": POSTGRESQL, "plan_id": SHARED_DB });
    for (path, resource, body) in [
        (
            INSTANCE.to_owned(),
            "i",
            instance_body(POSTGRESQL, SHARED_DB),
        ),
        (binding, "i/service_bindings/b", of_binding),
    ] {
        let held = server.hold("i").await;
        let waiting = tokio::spawn({
            let (platform, path) = (platform.clone(), path.clone());
            async move { platform.put(&path, &body).await }
        });
        stands(&server).await;
        let delete = platform
            .delete(&format!("{path}?{query}&{LATER}"))
            .await
            .operation();
        drop(held);
        let told = waiting.await.unwrap();
        assert_eq!(told.word(), "500 OperationFailed", "{path}");
        let description = told.body["description"].as_str().unwrap();
        assert!(description.contains("halted"), "{description}");
        assert_eq!(platform.poll(resource, &delete).await.status, 410);
        if path == INSTANCE {
            platform.provision_shared("i").await;
        }
    }
    assert_eq!(server.objects().await.len(), 2, "database and owner");
}

#[tokio::test]
async fn an_update_under_way_is_joined_and_keeps_everything_else_out() {
    use crate::support::{LARGE, PLANS, SMALL, plans_config};
    let (server, state) = (SharedServer::start(), tempfile::tempdir().unwrap());
    let broker = TestBroker::start(plans_config(state.path(), &server, |text| text)).await;
    let platform = &broker.platform;
    platform.provision_plan("i", SMALL).await;
    let bound = platform.bind("i", "b", PLANS, SMALL).await;
    assert_eq!(bound.status, 201);
    let held = server.hold("i").await;
    let (later, to_large) = (
        format!("{INSTANCE}?{LATER}"),
        json!({ "service_id": PLANS, "plan_id": LARGE }),
    );
    let operation = platform.patch(&later, &to_large).await.operation();
    stands(&server).await;
    assert_eq!(
        platform.patch(&later, &to_large).await.operation(),
        operation,
        "a repeat names the same operation"
    );
    let to_small = json!({ "service_id": PLANS, "maintenance_info": { "version": "1.0.0" } });
    let query = ids(PLANS, SMALL);
    for refused in [
        platform.patch(&later, &to_small).await,
        platform.get(INSTANCE).await,
        platform.bind("i", "c", PLANS, SMALL).await,
        platform.unbind("i", "b", PLANS, SMALL).await,
        platform.delete(&format!("{INSTANCE}?{query}")).await,
    ] {
        assert_eq!(refused.word(), "422 ConcurrencyError");
    }
    let repeated = platform.bind("i", "b", PLANS, SMALL).await;
    assert_eq!((repeated.status, repeated.uri()), (200, bound.uri()));
    drop(held);
    platform.succeed("i", &operation).await;
    assert_eq!(platform.get(INSTANCE).await.body["plan_id"], LARGE);
    platform.succeed("i", &operation).await;
}
