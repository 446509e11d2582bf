//! Dedicated servers die, and brokers come and go.

use rustix::process::{Signal, kill_process};

use crate::support::{
    AZURE, BASIC50, TestBroker, config, connect, eventually, ids, postmasters, seeded_state,
};

const LATER: &str = "accepts_incomplete=true";

#[tokio::test]
async fn a_server_that_dies_is_started_again() {
    let state = seeded_state();
    let broker = TestBroker::start(config(state.path())).await;
    let platform = &broker.platform;
    platform.provision_dedicated("i", BASIC50).await;
    let uri = &platform.bind("i", "b", AZURE, BASIC50).await.uri();
    let client = connect(uri).await.unwrap();
    client
        .batch_execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)")
        .await
        .unwrap();
    let before = postmasters(state.path());
    kill_process(before[0], Signal::KILL).unwrap();
    eventually("the server is back with its data", || async move {
        let Ok(client) = connect(uri).await else {
            return false;
        };
        client
            .query("SELECT n FROM kept", &[])
            .await
            .is_ok_and(|rows| rows.len() == 1)
    })
    .await;
    let after = postmasters(state.path());
    assert_eq!(after.len(), 1);
    assert_ne!(after, before);
}

#[tokio::test]
async fn servers_end_with_the_broker_and_come_back_on_the_same_port() {
    let state = seeded_state();
    let broker = TestBroker::start(config(state.path())).await;
    for id in ["i", "j"] {
        broker.platform.provision_dedicated(id, BASIC50).await;
    }
    let uri = broker.platform.bind("i", "b", AZURE, BASIC50).await.uri();
    let client = connect(&uri).await.unwrap();
    client
        .batch_execute("CREATE TABLE kept (n int)")
        .await
        .unwrap();
    assert_eq!(postmasters(state.path()).len(), 2);
    assert!(
        broker.stop().await,
        "it ends gracefully although a client is connected"
    );
    assert!(postmasters(state.path()).is_empty());
    assert!(connect(&uri).await.is_err());

    let broker = TestBroker::start(config(state.path())).await;
    let uri = &uri;
    eventually("the server is back", || async move {
        let Ok(client) = connect(uri).await else {
            return false;
        };
        client.query("SELECT n FROM kept", &[]).await.is_ok()
    })
    .await;
    assert_eq!(
        broker.platform.bind("i", "b", AZURE, BASIC50).await.uri(),
        *uri
    );
    let path = format!("/v2/service_instances/j?{}&{LATER}", ids(AZURE, BASIC50));
    let delete = broker.platform.delete(&path).await.operation();
    assert_eq!(broker.platform.poll("j", &delete).await.status, 410);
    assert_eq!(postmasters(state.path()).len(), 1);
    assert!(broker.stop().await);
    assert!(postmasters(state.path()).is_empty());
}
