//! The generic endpoints, asked in the very words of the command line's client.

use engine_model::{
    Answer, Command, CommandId, Deletion, Filter, Kind, Name, OrgName, Query, Reply, Seq,
};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::dispatch::BOUND;
use crate::support::{House, Said, house, said};

async fn submit(house: &House, path: &str, id: CommandId, command: &Command) -> Said {
    let request = house
        .request(Method::POST, path)
        .header("X-Dispatch-Command-Id", id.to_string())
        .header("X-Dispatch-Actor", "user:someone")
        .json(command);
    said(request).await
}

fn create() -> Command {
    let document = json!({ "Create": { "Application": {} } });
    serde_json::from_value(document).unwrap()
}

fn new_id() -> CommandId {
    CommandId(Uuid::now_v7())
}

#[tokio::test]
async fn a_command_is_answered_with_its_reply() {
    let house = house().await;
    let id = new_id();
    let said = submit(&house, "/v1/commands/application/a", id, &create()).await;
    let reply: Reply = serde_json::from_value(said.is(200).clone()).unwrap();
    assert_eq!(
        reply,
        Reply::Done {
            command: id,
            seq: Seq(1)
        }
    );
    assert_eq!(said.header("x-dispatch-command-id"), id.to_string());
    let state = house.dispatch.state();
    let submission = &state.submissions[0];
    assert_eq!(submission.key.to_string(), "dispatch/application/a");
    assert_eq!(
        (submission.id, submission.actor.0.as_str()),
        (id, "account:ci")
    );
}

#[tokio::test]
async fn a_repeated_command_is_answered_with_its_first_outcome() {
    let house = house().await;
    let id = new_id();
    let path = "/v1/commands/application/a";
    let first = submit(&house, path, id, &create()).await;
    assert_eq!(
        submit(&house, path, id, &create()).await.is(200),
        &first.body
    );
    submit(&house, path, new_id(), &create())
        .await
        .refuses(409, "already-exists");

    // The same for the endpoints of the original, also for a deletion.
    let gone = new_id();
    let delete = || {
        let request = house.request(Method::DELETE, "/v1/application/a");
        said(request.header("X-Dispatch-Command-Id", gone.to_string()))
    };
    assert_eq!(delete().await.is(200)["status"], "DELETED");
    assert_eq!(delete().await.is(200)["status"], "DELETED");
    assert_eq!(house.dispatch.state().submissions.len(), 3);
}

#[tokio::test]
async fn a_refused_command_has_the_status_of_its_code() {
    let house = house().await;
    let delete = Command::Delete(Deletion { cascade: false });
    let refused = submit(&house, "/v1/commands/application/a", new_id(), &delete).await;
    assert!(refused.refuses(404, "not-found").contains("Application a"));
}

#[tokio::test]
async fn what_is_no_command_is_refused() {
    let house = house().await;
    house
        .post("/v1/commands/gizmo/a", json!("Retry"))
        .await
        .refuses(404, "unknown-kind");
    house
        .post("/v1/commands/image/a.b", json!("Retry"))
        .await
        .refuses(422, "invalid-name");
    house
        .post("/v1/commands/run/f", json!("Retry"))
        .await
        .refuses(405, "read-only");
    let refused = house
        .post("/v1/commands/image/a", json!({ "Destroy": {} }))
        .await;
    assert!(
        refused
            .refuses(400, "malformed-command")
            .contains("Destroy")
    );
    let unsealed = json!({ "Create": { "Secret": { "secrets": "canary" } } });
    let refused = house.post("/v1/commands/secret/a", unsealed).await;
    refused.refuses(400, "malformed-command");
    assert!(!refused.text.contains("canary"), "{}", refused.text);
    let request = house
        .request(Method::POST, "/v1/commands/image/a")
        .json(&create());
    let strange = request.header("X-Dispatch-Command-Id", "7");
    said(strange).await.refuses(422, "invalid-field");
    house
        .get("/v1/commands/image/a")
        .await
        .refuses(405, "read-only");
}

fn query(filter: Filter) -> Query {
    let org = OrgName::new("dispatch").unwrap();
    Query {
        org,
        filter,
        at_least: Seq(0),
        runs_at_least: Seq(0),
    }
}

#[tokio::test]
async fn a_query_is_answered() {
    let house = house().await;
    submit(&house, "/v1/commands/application/a", new_id(), &create())
        .await
        .is(200);
    let one = Filter::One {
        kind: Kind::Application,
        name: Name::new("a").unwrap(),
    };
    let asked = Query {
        at_least: Seq(1),
        ..query(one.clone())
    };
    let said = house.post("/v1/query", json!(asked)).await;
    let answer: Answer = serde_json::from_value(said.is(200).clone()).unwrap();
    assert_eq!(
        (answer.as_of.seq, answer.documents[0]["name"].as_str()),
        (Seq(1), Some("a"))
    );
    assert_eq!(house.dispatch.state().queries[0], asked);
    let info = house.post("/v1/query", json!(query(Filter::Info))).await;
    assert_eq!(info.is(200)["documents"][0]["publicKey"], "k1:AA==");

    let other = Filter::One {
        kind: Kind::Application,
        name: Name::new("b").unwrap(),
    };
    house
        .post("/v1/query", json!(query(other)))
        .await
        .refuses(404, "not-found");
    house
        .post("/v1/query", json!({ "org": "dispatch" }))
        .await
        .refuses(400, "malformed-command");
}

#[tokio::test]
async fn a_query_is_for_the_organization_of_its_request() {
    let house = house().await;
    let mut asked = query(Filter::Info);
    asked.org = OrgName::new("other").unwrap();
    house
        .post("/v1/query", json!(asked))
        .await
        .refuses(422, "invalid-field");
    assert!(house.dispatch.state().queries.is_empty());
}

#[tokio::test]
async fn what_concerns_everyone_is_not_for_a_token_of_one_organization() {
    let house = house().await;
    let ask = |token: &'static str, filter: Filter| {
        let request = house.client.post(house.url("/v1/query")).bearer_auth(token);
        said(
            request
                .header("X-Dispatch-Org", "dispatch")
                .json(&query(filter)),
        )
    };
    let letters = Filter::DeadLetters { limit: 10 };
    for filter in [letters, Filter::Revive { letter: Seq(1) }, Filter::Rebuild] {
        ask(BOUND, filter.clone()).await.refuses(403, "forbidden");
        assert_eq!(
            ask(crate::dispatch::ROOT, filter).await.is(200)["documents"],
            Value::from(vec![0; 0])
        );
    }
    ask(BOUND, Filter::Info).await.is(200);
}
