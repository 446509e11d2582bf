//! What every request carries.

use adapter_osb::fake::{PASSWORD, Pace, USERNAME};
use adapter_osb::verdict::{Answer, Polled};
use adapter_osb::{Call, Client, Credentials};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use uuid::Uuid;

use crate::{Stage, call, operation};

#[tokio::test]
async fn every_request_carries_version_identity_and_credentials() {
    let stage = Stage::paced(Pace::Polls(0)).await;
    stage.client.catalog(&call(), None).await;
    let op = operation(stage.provision().await);
    stage.finish(Polled::Provision, op.as_deref()).await;
    let op = operation(stage.bind().await);
    stage.finish(Polled::Bind, op.as_deref()).await;
    let op = operation(stage.unbind().await);
    stage.finish(Polled::Unbind, op.as_deref()).await;
    stage
        .client
        .fetch_instance(&call(), &stage.instance, &stage.offer)
        .await;
    stage.deprovision().await;

    let basic = format!(
        "Basic {}",
        STANDARD.encode(format!("{USERNAME}:{PASSWORD}"))
    );
    let requests = stage.fake.requests();
    assert_eq!(requests.len(), 9);
    let mut ids = std::collections::HashSet::new();
    for request in &requests {
        assert_eq!(request.header("x-broker-api-version"), "2.17");
        assert_eq!(request.header("authorization"), basic);
        assert!(ids.insert(request.header("x-broker-api-request-identity").to_owned()));
        let identity = request.header("x-broker-api-originating-identity");
        let facts = STANDARD
            .decode(identity.strip_prefix("dispatch ").unwrap())
            .unwrap();
        assert_eq!(facts, br#"{"user_id":"user-1"}"#);
        let json = if request.body.is_empty() {
            ""
        } else {
            "application/json"
        };
        assert_eq!(request.header("content-type"), json);
        let query = request.uri.query().unwrap_or_default();
        if request.method != "GET" {
            assert!(query.contains("accepts_incomplete=true"), "{}", request.uri);
        }
    }
    stage.no_rule_was_broken();
}

#[tokio::test]
async fn a_request_has_the_id_that_the_caller_gives_and_no_user_unless_there_is_one() {
    let stage = Stage::new().await;
    let id = Uuid::new_v4();
    stage.client.catalog(&Call::new(id), None).await;
    let request = stage.fake.requests().pop().unwrap();
    assert_eq!(
        request.header("x-broker-api-request-identity"),
        id.to_string()
    );
    assert!(
        !request
            .headers
            .contains_key("x-broker-api-originating-identity")
    );
}

#[tokio::test]
async fn a_body_says_the_context_and_the_deprecated_ids() {
    let stage = Stage::new().await;
    stage.provision().await;
    let sent = stage.fake.requests().pop().unwrap().json();
    assert_eq!(
        sent,
        serde_json::json!({
            "service_id": "fake-service-id", "plan_id": "small-plan-id",
            "organization_guid": "org-guid", "space_guid": "org-guid",
            "context": {
                "platform": "dispatch", "organization_guid": "org-guid",
                "organization_name": "demo", "space_guid": "org-guid", "space_name": "demo",
                "instance_name": "azure-pg",
            },
        })
    );
}

#[tokio::test]
async fn another_version_and_a_bearer_token_are_sent_as_given() {
    let stage = Stage::new().await;
    let mut endpoint = stage
        .fake
        .endpoint()
        .with_credentials(Credentials::bearer("canary-token"));
    endpoint.api_version = "2.13".parse().unwrap();
    let answer = Client::new(&endpoint).unwrap().catalog(&call(), None).await;
    assert!(matches!(answer, Answer::Rejected(refusal) if refusal.status == 401));
    let request = stage.fake.requests().pop().unwrap();
    assert_eq!(request.header("x-broker-api-version"), "2.13");
    assert_eq!(request.header("authorization"), "Bearer canary-token");
}

#[tokio::test]
async fn wrong_credentials_are_told_without_showing_them() {
    let stage = Stage::new().await;
    let wrong = Credentials::basic("platform", "canary-wrong");
    let client = Client::new(&stage.fake.endpoint().with_credentials(wrong)).unwrap();
    let answer = client.catalog(&call(), None).await;
    let Answer::Rejected(refusal) = &answer else {
        panic!("{answer:?}")
    };
    assert_eq!(
        (refusal.status, refusal.description.as_str()),
        (401, "wrong credentials")
    );
    let shown = format!("{client:?} {answer:?}");
    assert!(!shown.contains("canary"), "{shown}");
    assert!(
        !shown.contains(&STANDARD.encode("platform:canary-wrong")),
        "{shown}"
    );
}
