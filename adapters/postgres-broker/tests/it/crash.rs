//! Brokers that are killed at any moment, and what the next one makes of it.

use std::time::Duration;

use crate::support::{
    AZURE, BASIC50, BASIC100, BrokerProcess, POSTGRESQL, SHARED_DB, SharedServer, TestBroker,
    be_the_process, config, connect, eventually, ids, instance_body, postmasters, seeded_state,
    shared_config,
};

const LATER: &str = "accepts_incomplete=true";

/// Moments at which a broker is killed, spread over what an operation takes.
fn moments(last_ms: u64) -> impl Iterator<Item = Duration> {
    (0..6).map(move |step| Duration::from_millis(step * last_ms / 5))
}

#[tokio::test]
async fn a_broker_killed_while_it_creates_binds_or_deletes_goes_on_at_the_next_start() {
    let (server, state) = (SharedServer::start(), tempfile::tempdir().unwrap());
    for (round, moment) in moments(40).enumerate() {
        let id = format!("i{round}");
        let path = format!("/v2/service_instances/{id}");
        let binding = format!("{path}/service_bindings/b");
        let broker = TestBroker::start(shared_config(state.path(), &server)).await;
        let body = instance_body(POSTGRESQL, SHARED_DB);
        let create = broker
            .platform
            .put(&format!("{path}?{LATER}"), &body)
            .await
            .operation();
        tokio::time::sleep(moment).await;
        broker.kill();

        let broker = TestBroker::start(shared_config(state.path(), &server)).await;
        broker.platform.succeed(&id, &create).await;
        let body = serde_json::json!({ "service_id": POSTGRESQL, "plan_id": SHARED_DB });
        let bind = broker
            .platform
            .put(&format!("{binding}?{LATER}"), &body)
            .await
            .operation();
        tokio::time::sleep(moment).await;
        broker.kill();

        let broker = TestBroker::start(shared_config(state.path(), &server)).await;
        broker
            .platform
            .succeed(&format!("{id}/service_bindings/b"), &bind)
            .await;
        let uri = broker.platform.get(&binding).await.uri();
        connect(&uri)
            .await
            .unwrap()
            .batch_execute("CREATE TABLE t (n int)")
            .await
            .unwrap();
        assert_eq!(
            server.objects().await.len(),
            3,
            "one database, one owner, one login"
        );
        let query = format!("{}&{LATER}", ids(POSTGRESQL, SHARED_DB));
        let delete = broker
            .platform
            .delete(&format!("{path}?{query}"))
            .await
            .operation();
        tokio::time::sleep(moment).await;
        broker.kill();

        let broker = TestBroker::start(shared_config(state.path(), &server)).await;
        assert_eq!(broker.platform.poll(&id, &delete).await.status, 410);
        assert!(
            server.objects().await.is_empty(),
            "{:?}",
            server.objects().await
        );
        assert!(broker.stop().await);
    }
}

#[tokio::test]
async fn a_dedicated_server_is_finished_by_the_next_broker_and_never_doubled() {
    let state = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(config(state.path())).await;
    let path = "/v2/service_instances/i";
    let body = instance_body(AZURE, BASIC50);
    let create = broker
        .platform
        .put(&format!("{path}?{LATER}"), &body)
        .await
        .operation();
    broker.kill();
    // The first one is killed within initdb, the later ones while they copy, sync, start or create.
    for moment in moments(600) {
        let broker = TestBroker::start(config(state.path())).await;
        tokio::time::sleep(moment).await;
        broker.kill();
    }
    let broker = TestBroker::start(config(state.path())).await;
    broker.platform.succeed("i", &create).await;
    assert_eq!(postmasters(state.path()).len(), 1);
    let uri = broker.platform.bind("i", "b", AZURE, BASIC50).await.uri();
    connect(&uri)
        .await
        .unwrap()
        .query("SELECT 1", &[])
        .await
        .unwrap();
    let query = format!("{}&{LATER}", ids(AZURE, BASIC50));
    let delete = broker
        .platform
        .delete(&format!("{path}?{query}"))
        .await
        .operation();
    broker.kill();
    let broker = TestBroker::start(config(state.path())).await;
    assert_eq!(broker.platform.poll("i", &delete).await.status, 410);
    assert!(postmasters(state.path()).is_empty());
    assert!(broker.stop().await);
}

#[tokio::test]
async fn a_dedicated_server_is_updated_bound_and_unbound_by_whoever_comes_after_a_kill() {
    let state = seeded_state();
    let broker = TestBroker::start(config(state.path())).await;
    broker.platform.provision_dedicated("i", BASIC50).await;
    broker.kill();
    let path = "/v2/service_instances/i";
    let binding = format!("{path}/service_bindings/b");
    let plans = [(BASIC100, "103"), (BASIC50, "53")].into_iter().cycle();
    for (moment, (plan, connections)) in moments(400).zip(plans) {
        let broker = TestBroker::start(config(state.path())).await;
        let body = serde_json::json!({ "service_id": AZURE, "plan_id": plan });
        let update = broker
            .platform
            .patch(&format!("{path}?{LATER}"), &body)
            .await;
        tokio::time::sleep(moment).await;
        broker.kill();

        let broker = TestBroker::start(config(state.path())).await;
        broker.platform.succeed("i", &update.operation()).await;
        let bind = broker
            .platform
            .put(&format!("{binding}?{LATER}"), &body)
            .await;
        tokio::time::sleep(moment / 4).await;
        broker.kill();

        let broker = TestBroker::start(config(state.path())).await;
        let resource = "i/service_bindings/b";
        broker.platform.succeed(resource, &bind.operation()).await;
        let uri = &broker.platform.get(&binding).await.uri();
        // The server that a killed broker left is started anew.
        eventually("the server has the new plan", || async {
            let Ok(client) = connect(uri).await else {
                return false;
            };
            let sql = "SELECT current_setting('max_connections')";
            let row = client.query_one(sql, &[]).await;
            row.is_ok_and(|row| row.get::<_, &str>(0) == connections)
        })
        .await;
        let query = format!("{}&{LATER}", ids(AZURE, plan));
        let unbind = broker.platform.delete(&format!("{binding}?{query}")).await;
        tokio::time::sleep(moment / 4).await;
        broker.kill();

        let broker = TestBroker::start(config(state.path())).await;
        let polled = broker.platform.poll(resource, &unbind.operation()).await;
        assert_eq!(polled.status, 410);
        assert!(connect(uri).await.is_err());
        broker.kill();
    }
    let broker = TestBroker::start(config(state.path())).await;
    assert!(broker.stop().await);
    assert!(postmasters(state.path()).is_empty());
}

#[tokio::test]
async fn a_server_left_by_a_killed_process_is_replaced_and_keeps_its_data() {
    let state = seeded_state();
    let process = BrokerProcess::start(state.path()).await;
    let platform = process.platform.clone();
    platform.provision_dedicated("i", BASIC50).await;
    let uri = &platform.bind("i", "b", AZURE, BASIC50).await.uri();
    let client = connect(uri).await.unwrap();
    client
        .batch_execute("CREATE TABLE kept (n int)")
        .await
        .unwrap();
    let before = postmasters(state.path());
    drop(process);
    assert_eq!(
        postmasters(state.path()),
        before,
        "the server outlives a broker that is killed"
    );

    let broker = TestBroker::start(config(state.path())).await;
    eventually("another server has its place and its data", || async {
        let Ok(client) = connect(uri).await else {
            return false;
        };
        let there = client.query("SELECT n FROM kept", &[]).await.is_ok();
        there && postmasters(state.path()) != before
    })
    .await;
    assert_eq!(postmasters(state.path()).len(), 1);
    assert!(broker.stop().await);
    assert!(postmasters(state.path()).is_empty());
}

/// Not a test by itself: the process that other tests start and kill.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by other tests, in a process of its own"]
async fn broker_process() {
    be_the_process().await;
}
