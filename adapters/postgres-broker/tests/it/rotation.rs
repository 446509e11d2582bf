//! Credentials that expire, and bindings that take the place of others.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::support::{
    EXPIRING, PLANS, Reply, SMALL, SharedServer, TestBroker, connect, eventually, plans_config,
};

fn binding(id: &str) -> String {
    format!("/v2/service_instances/i/service_bindings/{id}")
}

/// A moment in the metadata of a binding, which must be written as the specification says.
fn moment(reply: &Reply, field: &str) -> DateTime<Utc> {
    let text = reply.body["metadata"][field]
        .as_str()
        .unwrap_or_else(|| panic!("{reply:?}"));
    let (shape, pattern) = ("dddd-dd-ddTdd:dd:dd.dZ", |c: char| {
        if c.is_ascii_digit() { 'd' } else { c }
    });
    assert_eq!(text.chars().map(pattern).collect::<String>(), shape);
    text.parse().unwrap()
}

#[tokio::test]
async fn a_credential_lifetime_is_told_and_repeated() {
    let (server, state) = (SharedServer::start(), tempfile::tempdir().unwrap());
    let broker = TestBroker::start(plans_config(state.path(), &server, |text| text)).await;
    let platform = &broker.platform;
    platform.provision_plan("i", EXPIRING).await;
    let bound = platform.bind("i", "b", PLANS, EXPIRING).await;
    let (expires_at, renew_before) = (moment(&bound, "expires_at"), moment(&bound, "renew_before"));
    let left = expires_at - Utc::now();
    assert!(left > TimeDelta::hours(23) && left <= TimeDelta::hours(24));
    assert_eq!(expires_at - renew_before, TimeDelta::hours(8));
    let repeated = platform.bind("i", "b", PLANS, EXPIRING).await;
    assert_eq!((repeated.status, &repeated.body), (200, &bound.body));
    let fetched = platform.get(&binding("b")).await;
    assert_eq!(fetched.body["metadata"], bound.body["metadata"]);
    let login = bound.body["credentials"]["username"].as_str().unwrap();
    let valid_until: i64 = server
        .admin()
        .await
        .query_one(
            "SELECT extract(epoch FROM rolvaliduntil)::bigint FROM pg_roles WHERE rolname = $1",
            &[&login],
        )
        .await
        .unwrap()
        .get(0);
    assert_eq!(valid_until, expires_at.timestamp());

    platform.provision_plan("j", SMALL).await;
    let lasting = platform.bind("j", "b", PLANS, SMALL).await;
    assert_eq!(lasting.body.get("metadata"), None);
}

#[tokio::test]
async fn an_expired_password_opens_nothing_and_has_no_successor() {
    let (server, state) = (SharedServer::start(), tempfile::tempdir().unwrap());
    let config = plans_config(state.path(), &server, |text| text.replace("24h", "8s"));
    let broker = TestBroker::start(config).await;
    let platform = &broker.platform;
    platform.provision_plan("i", EXPIRING).await;
    let uri = &platform.bind("i", "old", PLANS, EXPIRING).await.uri();
    connect(uri).await.unwrap();
    eventually("the password has expired", || async {
        connect(uri).await.is_err()
    })
    .await;
    let body = json!({
        "service_id": PLANS, "plan_id": EXPIRING, "predecessor_binding_id": "old",
    });
    let late = platform.put(&binding("new"), &body).await;
    assert_eq!(late.word(), "400 BadRequest");
    let unbound = platform.unbind("i", "old", PLANS, EXPIRING).await;
    assert_eq!(unbound.word(), "200");
    let anew = platform.bind("i", "new", PLANS, EXPIRING).await.uri();
    connect(&anew).await.unwrap();
}

#[tokio::test]
async fn a_successor_works_beside_its_predecessor_and_after_it() {
    let (server, state) = (SharedServer::start(), tempfile::tempdir().unwrap());
    let broker = TestBroker::start(plans_config(state.path(), &server, |text| text)).await;
    let platform = &broker.platform;
    platform.provision_plan("i", EXPIRING).await;
    let body = json!({
        "service_id": PLANS, "plan_id": EXPIRING, "parameters": { "note": "first" },
        "bind_resource": { "app_guid": "app" },
    });
    let old = platform.put(&binding("old"), &body).await;
    assert_eq!(old.status, 201);
    let old_client = connect(&old.uri()).await.unwrap();
    old_client
        .batch_execute("CREATE TABLE kept (n int)")
        .await
        .unwrap();

    // Later than its predecessor by the clock of the broker, so that it lasts longer.
    eventually("a second has passed", || async {
        Utc::now() - (moment(&old, "expires_at") - TimeDelta::hours(24)) > TimeDelta::seconds(1)
    })
    .await;
    let rotate = json!({ "predecessor_binding_id": "old" });
    let new = platform.put(&binding("new"), &rotate).await;
    assert_eq!(new.status, 201);
    assert!(moment(&new, "expires_at") > moment(&old, "expires_at"));
    assert_ne!(
        new.body["credentials"]["password"],
        old.body["credentials"]["password"]
    );
    let new_client = connect(&new.uri()).await.unwrap();
    for client in [&old_client, &new_client] {
        client
            .batch_execute("INSERT INTO kept VALUES (1)")
            .await
            .unwrap();
    }
    connect(&old.uri()).await.unwrap();
    let fetched = platform.get(&binding("new")).await;
    assert_eq!(
        fetched.body["parameters"]["note"], "first",
        "what a rotation does not say is as it was"
    );

    let unbound = platform.unbind("i", "old", PLANS, EXPIRING).await;
    assert_eq!(unbound.word(), "200");
    assert!(connect(&old.uri()).await.is_err());
    assert_eq!(
        new_client
            .query("SELECT n FROM kept", &[])
            .await
            .unwrap()
            .len(),
        2
    );
    let repeated = platform.put(&binding("new"), &rotate).await;
    assert_eq!((repeated.status, repeated.uri()), (200, new.uri()));
    let refused = |body: Value| async move { platform.put(&binding("new"), &body).await.word() };
    assert_eq!(
        refused(json!({ "predecessor_binding_id": "other" })).await,
        "409 Conflict"
    );
    assert_eq!(
        refused(json!({ "predecessor_binding_id": "old", "parameters": {} })).await,
        "409 Conflict"
    );
}
