//! What the broker tells of itself: metrics, and its log.

use std::io::Write;
use std::sync::{Arc, Mutex};

use reqwest::Method;
use serde_json::json;

use crate::support::{
    PASSWORD, POSTGRESQL, Platform, SHARED_DB, SharedServer, TestBroker, USERNAME, ids,
    instance_body, shared_config,
};

async fn metrics(platform: &Platform) -> String {
    let response = platform
        .bare(Method::GET, "/metrics")
        .basic_auth(USERNAME, Some(PASSWORD))
        .send()
        .await
        .unwrap();
    let kind = response.headers()["content-type"].to_str().unwrap();
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    response.text().await.unwrap()
}

/// The value of a sample.
fn value(page: &str, sample: &str) -> Option<f64> {
    let line = page.lines().find(|line| {
        line.rsplit_once(' ')
            .is_some_and(|(name, _)| name == sample)
    })?;
    line.rsplit_once(' ')?.1.parse().ok()
}

#[tokio::test]
async fn metrics_count_requests_and_operations_and_hold_no_secret() {
    let (server, state) = (SharedServer::start(), tempfile::tempdir().unwrap());
    let broker = TestBroker::start(shared_config(state.path(), &server)).await;
    let platform = &broker.platform;
    platform.provision_shared("an-instance").await;
    let bound = platform
        .bind("an-instance", "a-binding", POSTGRESQL, SHARED_DB)
        .await;
    platform.get("/v2/service_instances/none").await;
    let held = server.hold("an-instance").await;
    let path = "/v2/service_instances/an-instance/service_bindings/other?accepts_incomplete=true";
    let body = json!({ "service_id": POSTGRESQL, "plan_id": SHARED_DB });
    let operation = platform.put(path, &body).await.operation();

    let page = metrics(platform).await;
    let expect = |page: &str, sample: &str, expected: f64| {
        let name = format!("postgres_broker_{sample}");
        assert_eq!(value(page, &name), Some(expected), "{name}\n{page}");
    };
    expect(
        &page,
        r#"requests_total{operation="provision",status="201"}"#,
        1.0,
    );
    expect(
        &page,
        r#"requests_total{operation="bind",status="202"}"#,
        1.0,
    );
    expect(
        &page,
        r#"requests_total{operation="get_instance",status="404"}"#,
        1.0,
    );
    expect(
        &page,
        r#"request_duration_seconds_count{operation="bind"}"#,
        2.0,
    );
    expect(&page, r#"operations_in_progress{operation="bind"}"#, 1.0);
    expect(&page, r#"operations_in_progress{operation="update"}"#, 0.0);
    let ended = r#"operation_duration_seconds_count{operation="bind",result="succeeded"}"#;
    expect(&page, ended, 1.0);
    expect(&page, "instances", 1.0);
    expect(&page, "bindings", 2.0);
    drop(held);
    let resource = "an-instance/service_bindings/other";
    platform.succeed(resource, &operation).await;
    let page = metrics(platform).await;
    expect(&page, r#"operations_in_progress{operation="bind"}"#, 0.0);
    expect(&page, ended, 2.0);

    let secret = bound.body["credentials"]["password"].as_str().unwrap();
    for private in [secret, PASSWORD, "an-instance", "a-binding"] {
        assert!(!page.contains(private), "{private}");
    }
}

#[tokio::test]
async fn metrics_keep_the_conventions_of_their_format() {
    let state = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(crate::support::config(state.path())).await;
    broker.platform.get("/v2/catalog").await;
    let page = metrics(&broker.platform).await;
    let mut families = std::collections::HashMap::new();
    for line in page.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            let (name, kind) = family.split_once(' ').unwrap();
            assert!(families.insert(name, kind).is_none(), "{name} twice");
            assert!(page.contains(&format!("# HELP {name} ")), "{name}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
            assert_eq!(kind == "histogram", name.ends_with("_seconds"), "{name}");
        } else if !line.starts_with('#') {
            let (sample, number) = line.rsplit_once(' ').unwrap();
            number.parse::<f64>().unwrap();
            let name = sample.split('{').next().unwrap();
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix))
                .unwrap_or(name);
            assert!(families.contains_key(family), "{name} has no family");
        }
    }
    assert!(families.len() >= 5, "{families:?}");
}

/// Where the log of a test is written.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_log_names_the_request_identity_and_no_secret() {
    let written = Written::default();
    let writer = written.clone();
    // Each test is a process of its own, so this is the log of nothing else.
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();
    let (server, state) = (SharedServer::start(), tempfile::tempdir().unwrap());
    let broker = TestBroker::start(shared_config(state.path(), &server)).await;
    let platform = &broker.platform;
    let body = instance_body(POSTGRESQL, SHARED_DB);
    let request = platform
        .request(Method::PUT, "/v2/service_instances/i")
        .header("X-Broker-API-Request-Identity", "the-request-identity")
        .json(&body);
    assert_eq!(platform.check(request).await.status, 201);
    let bound = platform.bind("i", "b", POSTGRESQL, SHARED_DB).await;
    let path = format!("/v2/service_instances/i?{}", ids(POSTGRESQL, SHARED_DB));
    assert_eq!(platform.delete(&path).await.status, 200);
    assert!(broker.stop().await);

    let log = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    let line = log
        .lines()
        .find(|line| line.contains("the-request-identity"));
    let line = line.unwrap_or_else(|| panic!("{log}"));
    assert!(
        line.contains("INFO") && line.contains("request answered"),
        "{line}"
    );
    let password = bound.body["credentials"]["password"].as_str().unwrap();
    for secret in [password, PASSWORD, "admin-of-the-shared-server"] {
        assert!(!log.contains(secret), "a secret was logged");
    }
}
