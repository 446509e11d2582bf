//! Filters that the original declared and ignored.

use engine_model::Kind;
use serde_json::{Value, json};

use crate::support::{House, house};

fn know(house: &House, kind: Kind, name: &str, mut document: Value) {
    document["name"] = json!(name);
    let place = ("dispatch".to_owned(), kind, name.to_owned());
    house.dispatch.state().documents.insert(place, document);
}

async fn names(house: &House, path: &str) -> Vec<String> {
    let listed = house.get(path).await;
    let names = listed.is(200).as_array().unwrap().iter();
    names
        .map(|document| document["name"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn a_list_shows_what_its_filters_ask_for() {
    let house = house().await;
    let cases = [
        (Kind::Function, "/v1/function?state=", "status", "READY"),
        (
            Kind::BaseImage,
            "/v1/baseimage?language=",
            "language",
            "nodejs",
        ),
        (Kind::Image, "/v1/image?language=", "language", "python3"),
        (
            Kind::ServiceClass,
            "/v1/serviceclass?broker=",
            "broker",
            "azure",
        ),
        (
            Kind::ServiceInstance,
            "/v1/serviceinstance?serviceclass=",
            "serviceClass",
            "db",
        ),
        (Kind::API, "/v1/api?function=", "function", "f"),
        (Kind::Schedule, "/v1/schedules?function=", "function", "f"),
    ];
    for (kind, path, field, value) in cases {
        know(&house, kind, "yes", json!({ field: value }));
        know(&house, kind, "no", json!({ field: "other" }));
        assert_eq!(
            names(&house, &format!("{path}{value}")).await,
            ["yes"],
            "{path}"
        );
    }
}

#[tokio::test]
async fn tags_choose_resources_in_lists_and_by_name() {
    let house = house().await;
    let shop = json!({ "tags": [{ "key": "Application", "value": "shop" }], "status": "READY" });
    know(&house, Kind::Function, "a", shop);
    know(&house, Kind::Function, "b", json!({ "tags": null }));
    for spelling in [
        "tags=Application=shop",
        "tags=app=shop",
        "tags=Application%3Dshop",
    ] {
        assert_eq!(
            names(&house, &format!("/v1/function?{spelling}")).await,
            ["a"]
        );
    }
    assert!(
        names(&house, "/v1/function?tags=app=shop&tags=x=y")
            .await
            .is_empty()
    );
    house.get("/v1/function/a?tags=app=shop").await.is(200);
    house
        .get("/v1/function/b?tags=app=shop")
        .await
        .refuses(404, "not-found");
    house
        .delete("/v1/function/b?tags=app=shop")
        .await
        .refuses(404, "not-found");
    assert!(house.dispatch.state().submissions.is_empty());
    let refused = house.get("/v1/function?tags=shop").await;
    assert!(
        refused
            .refuses(400, "invalid-field")
            .contains("error parsing tag 'shop'")
    );
}

#[tokio::test]
async fn an_unknown_parameter_is_refused() {
    let house = house().await;
    let refused = house.get("/v1/function?colour=red").await;
    let message = refused.refuses(422, "invalid-field");
    assert!(
        message.contains("'colour'") && message.contains("state"),
        "{message}"
    );
}

#[tokio::test]
async fn lists_keep_organizations_apart() {
    let house = house().await;
    know(&house, Kind::Application, "mine", json!({}));
    let theirs = ("other".to_owned(), Kind::Application, "theirs".to_owned());
    house
        .dispatch
        .state()
        .documents
        .insert(theirs, json!({ "name": "theirs" }));
    assert_eq!(names(&house, "/v1/application").await, ["mine"]);
    house
        .get("/v1/application/theirs")
        .await
        .refuses(404, "not-found");
}

#[tokio::test]
async fn a_reader_may_ask_for_a_position() {
    let house = house().await;
    know(&house, Kind::Application, "a", json!({}));
    let ask = |seq: &'static str| {
        let request = house.request(reqwest::Method::GET, "/v1/application/a");
        crate::support::said(request.header("X-Dispatch-At-Least", seq))
    };
    ask("0").await.is(200);
    ask("9").await.refuses(504, "unavailable");
    ask("soon").await.refuses(422, "invalid-field");
}

#[tokio::test]
async fn the_history_of_a_resource_is_shown() {
    let house = house().await;
    know(&house, Kind::ServiceInstance, "pg", json!({}));
    let history = house.get("/v1/history/serviceinstance/pg").await;
    assert_eq!(history.is(200).as_array().unwrap().len(), 1);
    house
        .get("/v1/history/serviceinstance/other")
        .await
        .refuses(404, "not-found");
    house
        .get("/v1/history/gizmo/pg")
        .await
        .refuses(404, "unknown-kind");
}
