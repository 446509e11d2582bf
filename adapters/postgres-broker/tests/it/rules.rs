//! The rules that hold of every request, on a broker with nothing in it.

use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{AZURE, BASIC50, PASSWORD, TestBroker, USERNAME, config, ids, instance_body};

async fn broker() -> (TestBroker, Arc<tempfile::TempDir>) {
    let state = Arc::new(tempfile::tempdir().unwrap());
    (TestBroker::start(config(state.path())).await, state)
}

#[tokio::test]
async fn every_page_asks_for_the_password() {
    let (broker, _state) = broker().await;
    let platform = &broker.platform;
    for path in [
        "/v2/catalog",
        "/healthz",
        "/",
        "/nothing",
        "/v2/service_instances/i",
    ] {
        let bare = platform.check(platform.bare(Method::GET, path)).await;
        assert_eq!(bare.status, 401, "{path}");
        assert!(
            bare.headers["www-authenticate"]
                .to_str()
                .unwrap()
                .starts_with("Basic")
        );
        for (user, password) in [
            (USERNAME, "wrong"),
            ("wrong", PASSWORD),
            ("", ""),
            (USERNAME, ""),
        ] {
            let request = platform
                .bare(Method::GET, path)
                .basic_auth(user, Some(password));
            assert_eq!(platform.check(request).await.status, 401, "{path} {user}");
        }
        for header in ["Basic", "Basic !!!", "Bearer abc", "Basic YTpi"] {
            let request = platform
                .bare(Method::GET, path)
                .header("Authorization", header);
            assert_eq!(platform.check(request).await.status, 401, "{path} {header}");
        }
    }
    let request = platform
        .bare(Method::GET, "/healthz")
        .basic_auth(USERNAME, Some(PASSWORD));
    assert_eq!(platform.check(request).await.body["status"], "ok");
    assert_eq!(platform.get("/nothing").await.status, 404);
    let wrong_method = platform.request(Method::POST, "/v2/catalog");
    assert_eq!(platform.check(wrong_method).await.status, 405);
}

#[tokio::test]
async fn the_version_must_be_one_that_is_served() {
    let (broker, _state) = broker().await;
    let platform = &broker.platform;
    for (version, status) in [
        (None, 400),
        (Some("two"), 400),
        (Some("2"), 400),
        (Some("1.9"), 412),
        (Some("3.0"), 412),
        (Some("2.12"), 412),
        (Some("2.13"), 200),
        (Some("2.17"), 200),
        (Some("2.99"), 200),
    ] {
        let mut request = platform
            .bare(Method::GET, "/v2/catalog")
            .basic_auth(USERNAME, Some(PASSWORD));
        if let Some(version) = version {
            request = request.header("X-Broker-API-Version", version);
        }
        let reply = platform.check(request).await;
        assert_eq!(reply.status, status, "{version:?}");
        if status == 412 {
            let description = reply.body["description"].as_str().unwrap();
            assert!(description.contains("2.13 to 2.17"), "{description}");
        }
    }
}

#[tokio::test]
async fn the_request_identity_comes_back_even_with_a_refusal() {
    let (broker, _state) = broker().await;
    let platform = &broker.platform;
    for request in [
        platform.request(Method::GET, "/v2/catalog"),
        platform.bare(Method::GET, "/v2/catalog"),
    ] {
        let reply = platform
            .check(request.header("X-Broker-API-Request-Identity", "id-1"))
            .await;
        assert_eq!(reply.headers["x-broker-api-request-identity"], "id-1");
    }
}

#[tokio::test]
async fn a_known_catalog_is_not_sent_again() {
    let (broker, _state) = broker().await;
    let platform = &broker.platform;
    let first = platform.get("/v2/catalog").await;
    assert_eq!(first.body["services"][0]["name"], "azure-postgresql");
    assert_eq!(
        first.body["services"].as_array().unwrap().len(),
        1,
        "no shared server"
    );
    assert!(!first.body.to_string().contains("backing"));
    let etag = first.headers["etag"].to_str().unwrap().to_owned();
    for (known, status) in [
        (etag.clone(), 304),
        (format!("\"x\", W/{etag}"), 304),
        ("*".to_owned(), 304),
        ("\"x\"".to_owned(), 200),
    ] {
        let request = platform
            .request(Method::GET, "/v2/catalog")
            .header("If-None-Match", &known);
        let reply = platform.check(request).await;
        assert_eq!(
            (reply.status, reply.headers["etag"].to_str().unwrap()),
            (status, &*etag)
        );
    }
}

#[tokio::test]
async fn a_provision_is_refused_for_each_thing_that_is_wrong_with_it() {
    let (broker, _state) = broker().await;
    let platform = &broker.platform;
    let path = "/v2/service_instances/i?accepts_incomplete=true";
    let with = |field: &str, value: Value| {
        let mut body = instance_body(AZURE, BASIC50);
        body[field] = value;
        body
    };
    for (body, expected) in [
        (with("service_id", Value::Null), "400 BadRequest"),
        (with("service_id", json!("")), "400 BadRequest"),
        (with("service_id", json!("unknown")), "400 BadRequest"),
        (with("plan_id", json!("unknown")), "400 BadRequest"),
        (with("plan_id", json!(7)), "400 BadRequest"),
        (with("organization_guid", Value::Null), "400 BadRequest"),
        (with("space_guid", json!("")), "400 BadRequest"),
        (with("parameters", json!("text")), "400 BadRequest"),
        (with("context", json!([])), "400 BadRequest"),
        (
            with("parameters", json!({ "colour": "red" })),
            "400 ParametersInvalid",
        ),
        (
            with("parameters", json!({ "location": 5 })),
            "400 ParametersInvalid",
        ),
        (
            with("maintenance_info", json!({ "version": "9.9.9" })),
            "422 MaintenanceInfoConflict",
        ),
        (with("maintenance_info", json!({})), "400 BadRequest"),
    ] {
        let reply = platform.put(path, &body).await;
        assert_eq!(reply.word(), expected, "{body}");
    }
    let body = instance_body(AZURE, BASIC50);
    let sync = platform.put("/v2/service_instances/i", &body).await;
    assert_eq!(sync.word(), "422 AsyncRequired");
    let maybe = platform
        .put("/v2/service_instances/i?accepts_incomplete=maybe", &body)
        .await;
    assert_eq!(maybe.status, 400);
    assert_eq!(
        platform
            .get("/v2/service_instances/i/last_operation")
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn bodies_that_are_no_json_object_or_too_large_are_refused() {
    let (broker, _state) = broker().await;
    let platform = &broker.platform;
    let send = async |content_type: Option<&str>, body: String| {
        let mut request = platform
            .request(Method::PUT, "/v2/service_instances/i")
            .body(body);
        if let Some(content_type) = content_type {
            request = request.header("Content-Type", content_type);
        }
        platform.check(request).await.word()
    };
    let good = instance_body(AZURE, BASIC50).to_string();
    let json = Some("application/json");
    assert_eq!(send(json, "{".to_owned()).await, "400 BadRequest");
    assert_eq!(send(json, "[]".to_owned()).await, "400 BadRequest");
    assert_eq!(send(json, String::new()).await, "400 BadRequest");
    assert_eq!(
        send(Some("text/plain"), good.clone()).await,
        "400 BadRequest"
    );
    assert_eq!(send(None, good.clone()).await, "422 AsyncRequired");
    assert_eq!(
        send(Some("application/json; charset=utf-8"), good).await,
        "422 AsyncRequired"
    );
    assert_eq!(send(json, "x".repeat(256 * 1024 + 1)).await, "413 TooLarge");
    let secret = "not{json hunter2".to_owned();
    let request = platform
        .request(Method::PUT, "/v2/service_instances/i")
        .body(secret);
    assert!(
        !platform
            .check(request)
            .await
            .body
            .to_string()
            .contains("hunter2")
    );
}

#[tokio::test]
async fn what_is_not_there_is_gone_for_a_delete_and_not_found_for_the_rest() {
    let (broker, _state) = broker().await;
    let platform = &broker.platform;
    let (instance, ids) = ("/v2/service_instances/i", ids(AZURE, BASIC50));
    let binding = format!("{instance}/service_bindings/b");
    for path in [instance, &binding] {
        assert_eq!(platform.get(path).await.status, 404, "{path}");
        assert_eq!(
            platform.get(&format!("{path}/last_operation")).await.status,
            404,
            "{path}"
        );
        assert_eq!(
            platform.delete(&format!("{path}?{ids}")).await.status,
            410,
            "{path}"
        );
        assert_eq!(
            platform.delete(path).await.status,
            400,
            "{path}: ids are required"
        );
        let half = format!("{path}?service_id={AZURE}&plan_id=");
        assert_eq!(platform.delete(&half).await.status, 400, "{path}");
    }
    let patch = json!({ "service_id": AZURE });
    assert_eq!(platform.patch(instance, &patch).await.status, 404);
    assert_eq!(platform.bind("i", "b", AZURE, BASIC50).await.status, 404);
    assert_eq!(platform.put(&binding, &json!({})).await.status, 400);
}

#[tokio::test]
async fn ids_that_are_no_file_names_are_refused() {
    let (broker, state) = broker().await;
    let platform = &broker.platform;
    for id in [
        "%2e%2e%2fescape",
        ".hidden",
        "a%20b",
        "%00",
        &"x".repeat(129),
    ] {
        let path = format!("/v2/service_instances/{id}?accepts_incomplete=true");
        let reply = platform.put(&path, &instance_body(AZURE, BASIC50)).await;
        assert_eq!(reply.status, 400, "{id}");
        let path = format!("/v2/service_instances/i/service_bindings/{id}");
        assert_eq!(platform.get(&path).await.status, 400, "{id}");
    }
    assert_eq!(
        std::fs::read_dir(state.path().join("instances"))
            .unwrap()
            .count(),
        0
    );
}
