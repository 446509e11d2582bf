//! Ports that go wrong.

use std::time::Duration;

use adapter_rest::Config;
use reqwest::Method;
use serde_json::json;

use crate::dispatch::Fault;
use crate::support::{House, config, house_with, said};

async fn hasty() -> House {
    house_with(Config {
        answer_within: Duration::from_millis(100),
        ..config()
    })
    .await
}

#[tokio::test]
async fn an_engine_that_does_not_answer_is_a_504_under_a_known_command_id() {
    let house = hasty().await;
    for fault in [Fault::Silent, Fault::Late] {
        house.dispatch.state().commands_fault = Some(fault);
        let late = house.post("/v1/application", json!({ "name": "a" })).await;
        late.refuses(504, "unavailable");
        assert_eq!(late.header("retry-after"), "1");
        let id = late.header("x-dispatch-command-id").to_owned();
        house.dispatch.state().commands_fault = None;
        let again = house
            .request(Method::POST, "/v1/application")
            .json(&json!({ "name": "a" }));
        said(again.header("X-Dispatch-Command-Id", &id))
            .await
            .is(200);
        assert_eq!(
            house
                .dispatch
                .state()
                .submissions
                .last()
                .unwrap()
                .id
                .to_string(),
            id
        );
        house.delete("/v1/application/a").await.is(200);
    }
}

#[tokio::test]
async fn an_engine_that_is_away_is_a_503_that_tells_nothing_of_the_inside() {
    let house = hasty().await;
    {
        let mut state = house.dispatch.state();
        state.commands_fault = Some(Fault::Away);
        state.runs_fault = Some(Fault::Away);
        state.queries_fault = Some(Fault::Away);
    }
    for said in [
        house.post("/v1/application", json!({ "name": "a" })).await,
        house.post("/v1/runs?functionName=f", json!({})).await,
        house.get("/v1/application").await,
        house.get("/v1/application/a").await,
        house.delete("/v1/application/a").await,
    ] {
        said.refuses(503, "unavailable");
        assert_eq!(said.header("retry-after"), "1");
        assert!(!said.text.contains("canary"), "{}", said.text);
    }
    house.get("/v1/version").await.is(200);
}

#[tokio::test]
async fn a_view_that_lags_does_not_hide_that_the_command_was_decided() {
    let house = hasty().await;
    house.dispatch.state().queries_fault = Some(Fault::Silent);
    let late = house.post("/v1/application", json!({ "name": "a" })).await;
    late.refuses(504, "unavailable");
    assert_eq!(house.dispatch.state().submissions.len(), 1);
    house.dispatch.state().queries_fault = None;
    let id = late.header("x-dispatch-command-id").to_owned();
    let again = house
        .request(Method::POST, "/v1/application")
        .json(&json!({ "name": "a" }));
    said(again.header("X-Dispatch-Command-Id", id))
        .await
        .is(200);
    assert_eq!(house.dispatch.state().submissions.len(), 1);
}

#[tokio::test]
async fn a_full_house_says_so_and_still_lives() {
    let house = house_with(Config {
        requests_max: 1,
        ..config()
    })
    .await;
    house.dispatch.state().queries_fault = Some(Fault::Silent);
    let waiting = tokio::spawn(house.request(Method::GET, "/v1/application").send());
    let deadline = tokio::time::Instant::now() + crate::support::PATIENCE;
    loop {
        let said = house.get("/v1/version").await;
        if said.status == 429 {
            said.refuses(429, "busy");
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "never full");
    }
    said(house.client.get(house.url("/healthz"))).await.is(200);
    waiting.abort();
}
