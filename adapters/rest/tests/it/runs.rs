//! Runs, by the endpoints of the original and by the generic one.

use std::time::Duration;

use adapter_kit::{Blobs as _, Digest};
use bytes::Bytes;
use engine_model::{RunCommand, RunId, RunReply};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::dispatch::Fault;
use crate::support::{House, Said, config, house, house_with, said};

#[tokio::test]
async fn a_blocking_run_is_answered_with_its_record() {
    let house = house().await;
    let body = json!({ "blocking": true, "input": { "num": 1 }, "secrets": ["s"] });
    let ran = house.post("/v1/runs?functionName=f", body).await;
    assert_eq!(ran.is(200)["status"], "READY");
    assert_eq!(ran.body["output"], json!({ "num": 1 }));
    let id = ran.body["name"].as_str().unwrap();
    assert_eq!(ran.header("location"), format!("/v1/runs/{id}"));
    assert_eq!(
        house.get(&format!("/v1/runs/{id}")).await.is(200),
        &ran.body
    );
    let state = house.dispatch.state();
    let (command, actor, wait) = &state.started[0];
    assert_eq!(
        (command.secrets[0].as_str(), actor.0.as_str()),
        ("s", "account:ci")
    );
    assert_eq!(*wait, Some(Duration::from_secs(300)));
    assert_eq!(state.queries[0].runs_at_least.0, 40);
}

#[tokio::test]
async fn a_run_that_is_not_waited_for_is_accepted() {
    let house = house().await;
    let accepted = house
        .post("/v1/runs", json!({ "functionName": "f", "input": 1 }))
        .await;
    assert_eq!(accepted.is(202)["status"], "INITIALIZED");
    assert_eq!(house.dispatch.state().started[0].2, None);
}

#[tokio::test]
async fn a_record_that_was_read_back_can_be_run_again() {
    let house = house().await;
    let first = house
        .post("/v1/runs?functionName=f", json!({ "input": [1] }))
        .await;
    let again = house.post("/v1/runs", first.body.clone()).await;
    assert_eq!(again.is(202)["input"], json!([1]));
    assert_ne!(again.body["name"], first.body["name"]);
}

#[tokio::test]
async fn a_failed_run_is_a_record_in_status_error() {
    let house = house().await;
    let ran = house
        .post("/v1/runs?functionName=broken", json!({ "blocking": true }))
        .await;
    assert_eq!(ran.is(200)["status"], "ERROR");
}

#[tokio::test]
async fn a_run_that_cannot_begin_is_refused() {
    let house = house().await;
    let run = |query: &'static str, body: Value| house_post(&house, query, body);
    run("?functionName=sleepy", json!({ "blocking": true }))
        .await
        .refuses(409, "not-ready");
    let refused = run("", json!({})).await;
    assert_eq!(
        refused.refuses(400, "malformed-command"),
        "Bad Request: No function specified"
    );
    let refused = run("?functionName=f", json!(7)).await;
    assert_eq!(refused.refuses(400, "malformed-command"), "Invalid Payload");
    run("?functionName=a.b", json!({}))
        .await
        .refuses(422, "invalid-name");
    run("?functionName=f", json!({ "colour": 1 }))
        .await
        .refuses(400, "malformed-command");
    run("?functionName=f", json!({ "event": {} }))
        .await
        .refuses(422, "invalid-field");
    run("?functionName=f&wait=long", json!({ "blocking": true }))
        .await
        .refuses(422, "invalid-field");
    let empty = said(house.request(Method::POST, "/v1/runs?functionName=f")).await;
    assert_eq!(empty.refuses(400, "malformed-command"), "Invalid Payload");
}

async fn house_post(house: &House, query: &str, body: Value) -> Said {
    house.post(&format!("/v1/runs{query}"), body).await
}

#[tokio::test]
async fn runs_are_listed_as_their_filters_ask() {
    let house = house().await;
    for function in ["f", "g"] {
        let path = format!("/v1/runs?functionName={function}");
        house
            .post(&path, json!({ "blocking": function == "f" }))
            .await;
    }
    let count = async |query: &str| {
        house
            .get(&format!("/v1/runs{query}"))
            .await
            .is(200)
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(count("").await, 2);
    assert_eq!(count("?functionName=f").await, 1);
    assert_eq!(count("?state=ready").await, 1);
    assert_eq!(count("?tags=a=b").await, 0);
    assert_eq!(count("?limit=1").await, 1);
    assert_eq!(count("?since=1700000000").await, 2);
    let asked = house
        .dispatch
        .state()
        .queries
        .last()
        .unwrap()
        .filter
        .clone();
    let engine_model::Filter::Runs { since, limit, .. } = asked else {
        panic!()
    };
    assert_eq!((since.unwrap().0, limit), (1_700_000_000_000, 1000));
    house
        .get("/v1/runs?since=monday")
        .await
        .refuses(422, "invalid-field");
}

#[tokio::test]
async fn a_run_of_another_function_is_not_found() {
    let house = house().await;
    let ran = house.post("/v1/runs?functionName=f", json!({})).await;
    let path = format!("/v1/runs/{}", ran.body["name"].as_str().unwrap());
    house.get(&format!("{path}?functionName=f")).await.is(200);
    house
        .get(&format!("{path}?functionName=g"))
        .await
        .refuses(404, "not-found");
    let unknown = format!("/v1/runs/{}", Uuid::now_v7());
    house.get(&unknown).await.refuses(404, "not-found");
}

async fn run(house: &House, function: &str, id: RunId, wait: u64, command: &RunCommand) -> Said {
    let request = house
        .request(Method::POST, &format!("/v1/commands/run/{function}/{id}"))
        .query(&[("wait", wait)])
        .header("X-Dispatch-Actor", "user:someone")
        .json(command);
    said(request).await
}

#[tokio::test]
async fn a_run_command_is_answered_with_its_reply_or_its_position() {
    let house = house().await;
    let (id, command) = (
        RunId(Uuid::now_v7()),
        RunCommand {
            input: json!(7),
            ..Default::default()
        },
    );
    let accepted = run(&house, "f", id, 0, &command).await;
    assert_eq!(accepted.is(202), &json!({ "run": id, "seq": 39 }));
    let finished = run(&house, "f", id, 5, &command).await;
    let reply: RunReply = serde_json::from_value(finished.is(200).clone()).unwrap();
    assert_eq!((reply.run, reply.result.output), (id, json!(7)));
    assert_eq!(
        house.dispatch.state().started[1].2,
        Some(Duration::from_secs(5))
    );
    let broken = run(&house, "broken", id, 5, &command).await;
    let reply: RunReply = serde_json::from_value(broken.is(200).clone()).unwrap();
    assert_eq!(reply.result.error.unwrap().message, "it broke");
    run(&house, "sleepy", id, 5, &command)
        .await
        .refuses(409, "not-ready");
    let path = "/v1/commands/run/f/7";
    house
        .post(path, json!(command))
        .await
        .refuses(422, "invalid-name");
    let path = format!("/v1/commands/run/f/{id}");
    house
        .post(&path, json!({ "colour": 1 }))
        .await
        .refuses(400, "malformed-command");
}

#[tokio::test]
async fn nobody_waits_for_longer_than_the_server_allows() {
    let wait_max = Duration::from_millis(100);
    let house = house_with(adapter_rest::Config {
        wait_max,
        ..config()
    })
    .await;
    let (id, command) = (RunId(Uuid::now_v7()), RunCommand::default());
    run(&house, "f", id, 3600, &command).await.is(200);
    assert_eq!(house.dispatch.state().started[0].2, Some(wait_max));
    for fault in [Fault::Late, Fault::Silent] {
        house.dispatch.state().runs_fault = Some(fault);
        let late = run(&house, "f", id, 3600, &command).await;
        assert!(late.refuses(504, "unavailable").contains("it goes on"));
        assert_eq!(late.header("retry-after"), "1");
    }
}

#[tokio::test]
async fn large_inputs_and_outputs_go_by_the_blob_store() {
    let house = house().await;
    let input = json!("x".repeat(100_000));
    let digest = Digest::of(input.to_string().as_bytes()).to_string();
    let id = RunId(Uuid::now_v7());
    let command = RunCommand {
        input: input.clone(),
        ..Default::default()
    };
    run(&house, "f", id, 0, &command).await.is(202);
    house
        .post("/v1/runs?functionName=f", json!({ "input": input }))
        .await
        .is(202);
    // The record shows it, so that it can be run again.
    let record = house
        .post("/v1/runs?functionName=f", json!({ "input": input }))
        .await;
    assert_eq!(record.is(202)["input"], input);
    house.post("/v1/runs", record.body.clone()).await.is(202);
    for (command, ..) in &house.dispatch.state().started {
        assert_eq!(
            (&command.input, command.input_blob.as_deref()),
            (&Value::Null, Some(&*digest))
        );
    }

    let output = house.blobs.put(Bytes::from("[1,2]")).await.unwrap();
    house.dispatch.state().output_blob = Some(output.to_string());
    let record = house
        .post("/v1/runs?functionName=f", json!({ "blocking": true }))
        .await;
    assert_eq!(record.is(200)["output"], json!([1, 2]));
    assert!(record.body.get("outputBlob").is_none());
    let reply = run(&house, "f", id, 5, &RunCommand::default()).await;
    assert_eq!(reply.is(200)["result"]["output"], json!([1, 2]));
}

#[tokio::test]
async fn a_run_bears_the_id_of_its_command() {
    let house = house().await;
    let id = Uuid::now_v7().to_string();
    let request = house
        .request(Method::POST, "/v1/runs?functionName=f")
        .json(&json!({}));
    let ran = said(request.header("X-Dispatch-Command-Id", &id)).await;
    assert_eq!(ran.is(202)["name"], id);
    assert_eq!(ran.header("x-dispatch-command-id"), id);
}
