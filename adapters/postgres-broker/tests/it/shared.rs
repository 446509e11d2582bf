//! Plans of kind `shared`, from provision to deprovision.

use serde_json::json;

use crate::support::{
    POSTGRESQL, SHARED_DB, SharedServer, TestBroker, connect, connect_plain, ids, instance_body,
    shared_config,
};

/// A broker whose administrator is no superuser, which asks more of its statements.
async fn with_modest_admin(server: &SharedServer, state: &std::path::Path) -> TestBroker {
    let create = "CREATE ROLE broker LOGIN CREATEDB CREATEROLE PASSWORD 'modest'";
    server.admin().await.batch_execute(create).await.unwrap();
    let mut config = shared_config(state, server);
    config.shared.as_mut().unwrap().url.0 = server.url_of("broker", "modest");
    TestBroker::start(config).await
}

#[tokio::test]
async fn what_one_binding_makes_the_next_one_uses_and_unbinding_leaves_it() {
    let (server, state) = (SharedServer::start(), tempfile::tempdir().unwrap());
    let broker = with_modest_admin(&server, state.path()).await;
    let platform = &broker.platform;
    platform.provision_shared("i").await;
    let reply = platform.bind("i", "one", POSTGRESQL, SHARED_DB).await;
    assert_eq!(reply.status, 201);
    let (uri, password) = (reply.uri(), reply.body["credentials"]["password"].clone());
    assert!(uri.ends_with("?sslmode=require"));
    assert!(connect_plain(&uri).await.is_err(), "TLS is required");

    let one = connect(&uri).await.unwrap();
    let users = one
        .query_one("SELECT session_user::text, current_user::text", &[])
        .await
        .unwrap();
    assert_eq!(
        users.get::<_, &str>(0),
        reply.body["credentials"]["username"]
    );
    assert!(users.get::<_, &str>(1).ends_with("_owner"));
    one.batch_execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)")
        .await
        .unwrap();
    one.batch_execute("SET ROLE NONE; CREATE TABLE personal (n int)")
        .await
        .unwrap();

    let second = platform.bind("i", "two", POSTGRESQL, SHARED_DB).await;
    let two = connect(&second.uri()).await.unwrap();
    two.batch_execute("INSERT INTO kept VALUES (2)")
        .await
        .unwrap();
    assert!(
        two.query("SELECT pg_sleep(0) FROM pg_authid", &[])
            .await
            .is_err(),
        "no superuser"
    );

    let unbound = platform.unbind("i", "one", POSTGRESQL, SHARED_DB).await;
    assert_eq!((unbound.status, unbound.body), (200, json!({})));
    assert!(
        one.query("SELECT 1", &[]).await.is_err(),
        "its connections are ended"
    );
    assert!(connect(&uri).await.is_err(), "its role is gone");
    assert_eq!(two.query("SELECT n FROM kept", &[]).await.unwrap().len(), 2);
    two.batch_execute("DROP TABLE personal").await.unwrap();
    assert_eq!(
        platform
            .unbind("i", "one", POSTGRESQL, SHARED_DB)
            .await
            .status,
        410
    );

    let path = format!("/v2/service_instances/i?{}", ids(POSTGRESQL, SHARED_DB));
    assert_eq!(platform.delete(&path).await.word(), "200");
    assert!(
        server.objects().await.is_empty(),
        "{:?}",
        server.objects().await
    );
    assert_eq!(platform.delete(&path).await.word(), "410");
    assert!(server.log().contains("create") || server.log().contains("CREATE ROLE"));
    assert!(
        !server.log().contains(password.as_str().unwrap()),
        "a password was logged"
    );
    assert!(broker.stop().await);
}

#[tokio::test]
async fn a_whole_life_in_asynchronous_steps() {
    let (server, state) = (SharedServer::start(), tempfile::tempdir().unwrap());
    let broker = TestBroker::start(shared_config(state.path(), &server)).await;
    let platform = &broker.platform;
    let (instance, body) = (
        "/v2/service_instances/i",
        instance_body(POSTGRESQL, SHARED_DB),
    );
    let later = "accepts_incomplete=true";
    let operation = platform
        .put(&format!("{instance}?{later}"), &body)
        .await
        .operation();
    platform.succeed("i", &operation).await;
    assert_eq!(
        platform
            .put(&format!("{instance}?{later}"), &body)
            .await
            .word(),
        "200"
    );
    let fetched = platform.get(instance).await;
    assert_eq!(fetched.body["plan_id"], SHARED_DB);

    let binding = format!("{instance}/service_bindings/b");
    let of_binding = json!({ "service_id": POSTGRESQL, "plan_id": SHARED_DB });
    let bind = platform
        .put(&format!("{binding}?{later}"), &of_binding)
        .await
        .operation();
    platform.succeed("i/service_bindings/b", &bind).await;
    let granted = platform.get(&binding).await;
    connect(&granted.uri())
        .await
        .unwrap()
        .query("SELECT 1", &[])
        .await
        .unwrap();
    let repeated = platform.put(&binding, &of_binding).await;
    assert_eq!(repeated.status, 200);
    assert_eq!(repeated.body["credentials"], granted.body["credentials"]);

    let query = format!("{}&{later}", ids(POSTGRESQL, SHARED_DB));
    let unbind = platform
        .delete(&format!("{binding}?{query}"))
        .await
        .operation();
    assert_eq!(
        platform.poll("i/service_bindings/b", &unbind).await.status,
        410
    );
    let delete = platform
        .delete(&format!("{instance}?{query}"))
        .await
        .operation();
    assert_eq!(platform.poll("i", &delete).await.status, 410);
    assert_eq!(platform.get(instance).await.status, 404);
    assert!(server.objects().await.is_empty());
}

#[tokio::test]
async fn an_instance_is_closed_to_the_bindings_of_others() {
    let (server, state) = (SharedServer::start(), tempfile::tempdir().unwrap());
    let broker = TestBroker::start(shared_config(state.path(), &server)).await;
    let platform = &broker.platform;
    platform.provision_shared("mine").await;
    platform.provision_shared("other").await;
    let mine = platform.bind("mine", "b", POSTGRESQL, SHARED_DB).await;
    let other = platform.bind("other", "b", POSTGRESQL, SHARED_DB).await;
    let [from, to] = [&mine, &other].map(|reply| {
        reply.body["credentials"]["database"]
            .as_str()
            .unwrap()
            .to_owned()
    });
    let error = connect(&mine.uri().replace(&format!("/{from}?"), &format!("/{to}?"))).await;
    let error = error.expect_err("refused");
    assert_eq!(error.code().map(|code| code.code()), Some("42501"));
    let limit: i32 = server
        .admin()
        .await
        .query_one(
            "SELECT datconnlimit FROM pg_database WHERE datname = $1",
            &[&from],
        )
        .await
        .unwrap()
        .get(0);
    assert_eq!(limit, 20, "the plan's connections_max");
}

#[tokio::test]
async fn deprovision_takes_bindings_and_connections_with_it() {
    let (server, state) = (SharedServer::start(), tempfile::tempdir().unwrap());
    let broker = TestBroker::start(shared_config(state.path(), &server)).await;
    let platform = &broker.platform;
    platform.provision_shared("i").await;
    let uri = platform.bind("i", "b", POSTGRESQL, SHARED_DB).await.uri();
    let client = connect(&uri).await.unwrap();
    client
        .batch_execute("BEGIN; CREATE TABLE held (n int)")
        .await
        .unwrap();
    let query = ids(POSTGRESQL, SHARED_DB);
    assert_eq!(
        platform
            .delete(&format!("/v2/service_instances/i?{query}"))
            .await
            .status,
        200
    );
    assert!(client.query("SELECT 1", &[]).await.is_err());
    assert!(server.objects().await.is_empty());
}

#[tokio::test]
async fn a_server_that_is_not_there_fails_the_provision_and_the_instance_can_be_deleted() {
    let state = tempfile::tempdir().unwrap();
    let server = SharedServer::start();
    let mut config = shared_config(state.path(), &server);
    config.limits.operation_timeout = std::time::Duration::from_millis(500);
    drop(server);
    let broker = TestBroker::start(config).await;
    let platform = &broker.platform;
    let path = "/v2/service_instances/i";
    let failed = platform
        .put(path, &instance_body(POSTGRESQL, SHARED_DB))
        .await;
    assert_eq!(failed.word(), "500 OperationFailed");
    assert!(failed.body.get("instance_usable").is_none());
    assert_eq!(platform.get(path).await.status, 404);
    let bound = platform.bind("i", "b", POSTGRESQL, SHARED_DB).await;
    assert_eq!(bound.word(), "422 InstanceUnusable");
    let deleted = platform
        .delete(&format!("{path}?{}", ids(POSTGRESQL, SHARED_DB)))
        .await;
    assert_eq!(deleted.word(), "500 OperationFailed");
    assert_eq!(deleted.body["instance_usable"], false);
}

#[tokio::test]
async fn a_binding_may_do_what_it_likes_in_its_database_and_nothing_beside_it() {
    let (server, state) = (SharedServer::start(), tempfile::tempdir().unwrap());
    let broker = with_modest_admin(&server, state.path()).await;
    let platform = &broker.platform;
    platform.provision_shared("i").await;
    let bound = platform.bind("i", "b", POSTGRESQL, SHARED_DB).await;
    let (client, text) = (connect(&bound.uri()).await.unwrap(), |field: &str| {
        bound.body["credentials"][field].as_str().unwrap()
    });
    client
        .batch_execute(
            "CREATE TABLE in_public (n int); CREATE SCHEMA mine; CREATE TABLE mine.t (n int); \
             CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE TEMP TABLE x (n int)",
        )
        .await
        .unwrap();
    let (database, role) = (text("database"), text("username"));
    for refused in [
        format!("ALTER DATABASE {database} CONNECTION LIMIT -1"),
        format!("ALTER DATABASE {database} RENAME TO other"),
        format!("GRANT CONNECT ON DATABASE {database} TO PUBLIC"),
        format!("ALTER ROLE {role} VALID UNTIL 'infinity'"),
        "CREATE DATABASE another".to_owned(),
        "CREATE ROLE another".to_owned(),
        "COPY (SELECT 1) TO PROGRAM 'true'".to_owned(),
        "SELECT pg_read_file('postgresql.conf')".to_owned(),
    ] {
        for role in ["NONE", &format!("{database}_owner")] {
            client
                .batch_execute(&format!("SET ROLE {role}"))
                .await
                .unwrap();
            let result = client.batch_execute(&refused).await;
            // A grant of what one does not have is a warning, so it is looked at afterwards.
            assert!(result.is_err() || refused.starts_with("GRANT"), "{refused}");
        }
    }
    let open = "SELECT has_database_privilege('public', current_database(), 'CONNECT')";
    let open: bool = client.query_one(open, &[]).await.unwrap().get(0);
    assert!(!open);
}

#[tokio::test]
async fn deprovision_follows_a_login_to_the_other_databases_of_the_server() {
    let (server, state) = (SharedServer::start(), tempfile::tempdir().unwrap());
    let broker = with_modest_admin(&server, state.path()).await;
    let platform = &broker.platform;
    let admin = server.admin().await;
    for careless in [
        "CREATE DATABASE careless",
        "GRANT ALL ON DATABASE careless TO PUBLIC",
    ] {
        admin.batch_execute(careless).await.unwrap();
    }
    let query = ids(POSTGRESQL, SHARED_DB);
    for way in ["unbind", "deprovision"] {
        platform.provision_shared("i").await;
        let uri = platform.bind("i", "b", POSTGRESQL, SHARED_DB).await.uri();
        let database = &uri[uri.rfind("/dispatch").unwrap()..];
        let elsewhere = connect(&uri.replace(database, "/careless?sslmode=require"))
            .await
            .unwrap();
        elsewhere
            .batch_execute(
                "SET ROLE NONE; CREATE SCHEMA left_behind; CREATE TABLE left_behind.t (n int)",
            )
            .await
            .unwrap();
        if way == "unbind" {
            let unbound = platform.unbind("i", "b", POSTGRESQL, SHARED_DB).await;
            assert_eq!(unbound.word(), "200");
            assert!(elsewhere.query("SELECT 1", &[]).await.is_err());
        }
        let deleted = platform
            .delete(&format!("/v2/service_instances/i?{query}"))
            .await;
        assert_eq!(deleted.word(), "200");
        assert!(elsewhere.query("SELECT 1", &[]).await.is_err());
        assert!(server.objects().await.is_empty());
    }
}

#[tokio::test]
async fn bindings_are_made_side_by_side_and_a_repeat_gives_the_password_that_works() {
    let (server, state) = (SharedServer::start(), tempfile::tempdir().unwrap());
    let broker = TestBroker::start(shared_config(state.path(), &server)).await;
    let platform = &broker.platform;
    platform.provision_shared("i").await;
    let mut making = tokio::task::JoinSet::new();
    for number in 0..6 {
        let platform = platform.clone();
        making.spawn(async move {
            let id = format!("b{number}");
            platform.bind("i", &id, POSTGRESQL, SHARED_DB).await
        });
    }
    let made = making.join_all().await;
    let mut passwords: Vec<String> = made
        .iter()
        .map(|reply| {
            assert_eq!(reply.status, 201, "{reply:?}");
            reply.body["credentials"]["password"].to_string()
        })
        .collect();
    passwords.sort();
    passwords.dedup();
    assert_eq!(passwords.len(), 6, "each has its own");
    for number in 0..6 {
        let id = format!("b{number}");
        let repeated = platform.bind("i", &id, POSTGRESQL, SHARED_DB).await;
        assert_eq!(repeated.status, 200);
        connect(&repeated.uri()).await.unwrap();
    }
    let path = "/v2/service_instances/i/service_bindings/b0";
    let other = json!({
        "service_id": POSTGRESQL, "plan_id": SHARED_DB, "parameters": { "x": 1 },
    });
    assert_eq!(platform.put(path, &other).await.word(), "409 Conflict");
}
