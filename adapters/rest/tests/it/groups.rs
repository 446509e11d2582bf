//! Every group of resources: made, shown, listed, changed and taken away in its own way.

use serde_json::{Value, json};

use crate::support::{House, house};

struct Case {
    path: &'static str,
    kind: &'static str,
    document: Value,
    created: u16,
    /// `None` where there is no `PUT`.
    updated: Option<u16>,
    deleted: u16,
}

fn case(path: &'static str, kind: &'static str, document: Value) -> Case {
    Case {
        path,
        kind,
        document,
        created: 201,
        updated: Some(200),
        deleted: 200,
    }
}

fn cases() -> Vec<Case> {
    let api = json!({ "function": "f", "uris": ["/x"], "methods": ["POST"] });
    let secret = json!({ "secrets": { "password": "canary" } });
    let broker = json!({ "url": "http://127.0.0.1:1", "username": "u", "password": "canary" });
    let instance = json!({ "serviceClass": "db", "servicePlan": "small" });
    let binding = json!({ "serviceInstance": "pg" });
    let function = json!({ "image": "i", "code": "def handle(): pass", "main": "handle" });
    vec![
        case("/v1/function", "Function", function),
        case(
            "/v1/baseimage",
            "BaseImage",
            json!({ "language": "python3", "dockerUrl": "x" }),
        ),
        case("/v1/image", "Image", json!({ "baseImageName": "b" })),
        Case {
            updated: Some(201),
            deleted: 204,
            ..case("/v1/secret", "Secret", secret)
        },
        case("/v1/servicebroker", "ServiceBroker", broker),
        case("/v1/serviceinstance", "ServiceInstance", instance),
        Case {
            updated: None,
            ..case("/v1/servicebinding", "ServiceBinding", binding)
        },
        Case {
            created: 200,
            ..case("/v1/api", "API", api)
        },
        case(
            "/v1/schedules",
            "Schedule",
            json!({ "function": "f", "cron": "*/5 * * * *", "timeZone": "Europe/Berlin" }),
        ),
        Case {
            created: 200,
            ..case("/v1/application", "Application", json!({}))
        },
        case("/v1/iam/organization", "Organization", json!({})),
        case(
            "/v1/iam/serviceaccount",
            "ServiceAccount",
            json!({ "tokenSha256": "0".repeat(64) }),
        ),
    ]
}

#[tokio::test]
async fn a_resource_of_every_kind_goes_its_way() {
    for case in cases() {
        goes_its_way(&house().await, case).await;
    }
}

async fn goes_its_way(house: &House, case: Case) {
    let one = format!("{}/thing", case.path);
    let mut document = case.document;
    document["name"] = json!("thing");
    document["tags"] = json!([{ "key": "role", "value": "test" }]);

    house.get(&one).await.refuses(404, "not-found");
    assert_eq!(house.get(case.path).await.is(200), &json!([]));

    let made = house.post(case.path, document.clone()).await;
    assert_eq!(made.is(case.created)["kind"], case.kind);
    assert_eq!(made.body["name"], "thing");
    assert_eq!(made.body["tags"][0]["value"], "test");
    assert_eq!(
        (made.header("location"), made.header("x-dispatch-at-least")),
        (&*one, "1")
    );
    assert!(!made.header("x-dispatch-command-id").is_empty());
    assert!(!made.text.contains("canary"), "{}", made.text);
    // It is shown as it is after the decision, or not at all.
    let asked = house.dispatch.state().queries.last().unwrap().at_least;
    assert_eq!(asked, engine_model::Seq(1));
    let again = house.post(case.path, document.clone()).await;
    assert!(
        again
            .refuses(409, "already-exists")
            .contains("thing already exists")
    );

    let shown = house.get(&one).await;
    assert_eq!(shown.is(200), &made.body);
    assert_eq!(shown.header("x-dispatch-as-of"), "1");
    let slash = format!("{}/", case.path);
    assert_eq!(house.get(&slash).await.is(200), &json!([made.body]));

    document["tags"] = json!([{ "key": "role", "value": "changed" }]);
    let changed = house.put(&one, document.clone()).await;
    match case.updated {
        Some(status) => {
            assert_eq!(changed.is(status)["tags"][0]["value"], "changed");
            assert_eq!(changed.header("x-dispatch-at-least"), "2");
            let other = format!("{}/other", case.path);
            house
                .put(&other, document)
                .await
                .refuses(422, "invalid-field");
        }
        None => {
            changed.refuses(405, "read-only");
            assert_eq!(changed.header("allow"), "GET,HEAD,DELETE");
        }
    }

    let gone = house.delete(&one).await;
    match case.deleted {
        204 => assert_eq!((gone.status, gone.text.as_str()), (204, "")),
        status => {
            assert_eq!(gone.is(status)["status"], "DELETED");
            assert_eq!(gone.body["name"], "thing");
        }
    }
    house.get(&one).await.refuses(404, "not-found");
    house.delete(&one).await.refuses(404, "not-found");
}

#[tokio::test]
async fn classes_are_shown_and_cannot_be_written() {
    let house = house().await;
    let class = json!({ "name": "db", "kind": "ServiceClass", "broker": "b" });
    let place = (
        "dispatch".to_owned(),
        engine_model::Kind::ServiceClass,
        "db".to_owned(),
    );
    house
        .dispatch
        .state()
        .documents
        .insert(place, class.clone());
    assert_eq!(house.get("/v1/serviceclass/db").await.is(200), &class);
    assert_eq!(house.get("/v1/serviceclass").await.is(200), &json!([class]));
    let refused = house.post("/v1/serviceclass", class.clone()).await;
    refused.refuses(405, "read-only");
    assert_eq!(refused.header("allow"), "GET,HEAD");
    house
        .put("/v1/serviceclass/db", class)
        .await
        .refuses(405, "read-only");
    house
        .delete("/v1/serviceclass/db")
        .await
        .refuses(405, "read-only");
}

#[tokio::test]
async fn a_resource_that_takes_time_to_go_answers_as_it_goes() {
    let house = house().await;
    house.dispatch.state().linger = true;
    house
        .post("/v1/application", json!({ "name": "a" }))
        .await
        .is(200);
    assert_eq!(
        house.delete("/v1/application/a").await.is(200)["status"],
        "DELETING"
    );
}

#[tokio::test]
async fn a_deletion_cascades_when_asked() {
    use engine_model::{Command, Deletion};

    let house = house().await;
    house
        .post("/v1/application", json!({ "name": "a" }))
        .await
        .is(200);
    house
        .delete("/v1/application/a?cascade=maybe")
        .await
        .refuses(422, "invalid-field");
    house.delete("/v1/application/a?cascade=true").await.is(200);
    let wanted = Command::Delete(Deletion { cascade: true });
    assert_eq!(house.dispatch.last_command(), wanted);
}

#[tokio::test]
async fn an_update_takes_its_name_from_the_path() {
    let house = house().await;
    house
        .post("/v1/application", json!({ "name": "a" }))
        .await
        .is(200);
    let changed = house
        .put("/v1/application/a", json!({ "tags": { "k": "v" } }))
        .await;
    assert_eq!(changed.is(200)["tags"][0]["key"], "k");
}

#[tokio::test]
async fn a_broker_is_refreshed_on_request() {
    let house = house().await;
    let broker = json!({ "name": "b", "url": "http://127.0.0.1:1", "token": "t" });
    house.post("/v1/servicebroker", broker).await.is(201);
    let refreshed = house.post("/v1/servicebroker/b/refresh", json!({})).await;
    assert_eq!(refreshed.is(202)["name"], "b");
    assert_eq!(
        house.dispatch.last_command(),
        engine_model::Command::Refresh
    );
    house
        .post("/v1/servicebroker/c/refresh", json!({}))
        .await
        .refuses(404, "not-found");
}

#[tokio::test]
async fn what_was_read_can_be_written_again() {
    let house = house().await;
    house
        .post("/v1/image", json!({ "name": "i", "baseImageName": "b" }))
        .await
        .is(201);
    let mut image = house.get("/v1/image/i").await.is(200).clone();
    // As the views show it.
    for (field, value) in [
        ("dockerUrl", "id@sha256:0"),
        ("language", "python3"),
        ("id", "7"),
    ] {
        image[field] = json!(value);
    }
    image["runtimeDependencies"] = json!({ "manifest": "requests" });
    let changed = house.put("/v1/image/i", image).await;
    assert_eq!(
        changed.is(200)["runtimeDependencies"]["manifest"],
        "requests"
    );
}
