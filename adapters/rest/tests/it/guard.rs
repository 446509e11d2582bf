//! Who is let in, and where.

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::dispatch::{BOUND, ROOT};
use crate::support::{config, house, house_with, said};

#[tokio::test]
async fn nothing_is_told_without_a_valid_token() {
    let house = house().await;
    let paths = [
        "/v1/function",
        "/v1/runs",
        "/v1/version",
        "/v1/openapi.json",
        "/metrics",
        "/nowhere",
    ];
    for path in paths {
        let bare = || {
            house
                .client
                .get(house.url(path))
                .header("X-Dispatch-Org", "dispatch")
        };
        for request in [
            bare(),
            bare().bearer_auth("guess"),
            bare().bearer_auth(""),
            bare().basic_auth(ROOT, Some("")),
            bare().header("authorization", ROOT),
        ] {
            let refused = said(request).await;
            refused.refuses(401, "unauthenticated");
            assert_eq!(refused.header("www-authenticate"), "Bearer");
        }
        said(bare().header("authorization", format!("bearer {ROOT}"))).await;
    }
    let posted = house
        .client
        .post(house.url("/v1/application"))
        .json(&json!({ "name": "a" }));
    said(posted).await.refuses(401, "unauthenticated");
    let state = house.dispatch.state();
    assert!(state.submissions.is_empty());
}

#[tokio::test]
async fn anyone_may_ask_whether_it_lives() {
    let house = house().await;
    let health = said(house.client.get(house.url("/healthz"))).await;
    assert_eq!(health.is(200), &json!({ "status": "ok" }));
}

#[tokio::test]
async fn an_organization_is_named_or_known_by_default() {
    let house = house().await;
    let bare = house
        .client
        .get(house.url("/v1/function"))
        .bearer_auth(ROOT);
    let refused = said(bare).await;
    assert!(
        refused
            .refuses(422, "invalid-field")
            .contains("X-Dispatch-Org")
    );

    let mut config = config();
    config.default_org = Some(engine_model::OrgName::new("home").unwrap());
    let house = house_with(config).await;
    let ask = |token: &str| {
        house
            .client
            .get(house.url("/v1/function"))
            .bearer_auth(token)
    };
    said(ask(ROOT)).await.is(200);
    said(ask(BOUND)).await.is(200);
    said(ask(ROOT).header("X-Dispatch-Org", "other"))
        .await
        .is(200);
    said(ask(ROOT).header("X-Dispatch-Org", "a b"))
        .await
        .refuses(422, "invalid-name");
    let state = house.dispatch.state();
    let orgs: Vec<_> = state
        .queries
        .iter()
        .map(|query| query.org.as_str())
        .collect();
    assert_eq!(orgs, ["home", "dispatch", "other"]);
}

#[tokio::test]
async fn a_token_of_one_organization_opens_no_other() {
    let house = house().await;
    let ask = |org: &str| {
        let request = house
            .client
            .get(house.url("/v1/function"))
            .bearer_auth(BOUND);
        said(request.header("X-Dispatch-Org", org))
    };
    ask("dispatch").await.is(200);
    ask("other").await.refuses(403, "forbidden");
    assert_eq!(house.dispatch.state().queries.len(), 1);
}

#[tokio::test]
async fn who_asks_is_who_the_token_says() {
    let house = house().await;
    let request = house
        .request(Method::POST, "/v1/application")
        .json(&json!({ "name": "a" }));
    said(request.header("X-Dispatch-Actor", "user:mallory"))
        .await
        .is(200);
    assert_eq!(house.dispatch.state().submissions[0].actor.0, "account:ci");
}

#[tokio::test]
async fn what_is_not_served_is_told_in_the_same_shape() {
    let house = house().await;
    let nowhere = house.get("/v1/gizmo").await;
    assert_eq!(nowhere.refuses(404, "not-found"), "resource does not exist");
    let wrong = said(house.request(Method::PATCH, "/v1/function")).await;
    wrong.refuses(405, "read-only");
    assert_eq!(wrong.header("allow"), "GET,HEAD,POST");
    house
        .get("/v1/function/a.b")
        .await
        .refuses(422, "invalid-name");
    house
        .get("/v1/function/%ff")
        .await
        .refuses(422, "invalid-name");
    house.get("/v1/runs/7").await.refuses(422, "invalid-name");
}

#[tokio::test]
async fn a_plain_request_id_is_kept_and_any_other_is_replaced() {
    let house = house().await;
    let ask = |id: &str| {
        said(
            house
                .request(Method::GET, "/healthz")
                .header("X-Request-Id", id),
        )
    };
    assert_eq!(ask("trace-7").await.header("x-request-id"), "trace-7");
    for strange in ["a b", "\"", &"x".repeat(65)] {
        assert_eq!(ask(strange).await.header("x-request-id").len(), 36);
    }
}

#[tokio::test]
async fn the_version_the_description_and_the_counters_are_shown() {
    let house = house().await;
    let version = house.get("/v1/version").await;
    assert_eq!(version.is(200)["version"], env!("CARGO_PKG_VERSION"));
    let description = house.get("/v1/openapi.json").await;
    assert_eq!(description.is(200)["openapi"], "3.1.0");
    assert_eq!(description.header("content-type"), "application/json");
    house.get("/v1/function/a").await.refuses(404, "not-found");
    house.get("/v1/function/b").await.refuses(404, "not-found");
    house.get("/gizmo").await.refuses(404, "not-found");
    let metrics = house.get("/metrics").await;
    assert_eq!(metrics.status, StatusCode::OK);
    for line in [
        r#"dispatch_rest_requests_total{method="GET",route="/v1/function/{name}",status="404"} 2"#,
        r#"dispatch_rest_requests_total{method="GET",route="none",status="404"} 1"#,
        r#"dispatch_rest_requests_total{method="GET",route="/v1/version",status="200"} 1"#,
        "dispatch_rest_requests_under_way 1",
    ] {
        assert!(
            metrics.text.lines().any(|it| it == line),
            "{line} in {}",
            metrics.text
        );
    }
}
