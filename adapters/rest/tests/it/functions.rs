//! What is done with functions besides the usual.

use engine_model::{Command, Filter, Share};
use serde_json::json;

use crate::support::house;

async fn with_function() -> crate::support::House {
    let house = house().await;
    let function = json!({
        "name": "f", "image": "python3", "code": "def handle(c, p): ...", "fileName": "f.py",
    });
    house.post("/v1/function", function).await.is(201);
    house
}

#[tokio::test]
async fn a_rollback_names_a_revision_or_none() {
    let house = with_function().await;
    for (body, revision) in [
        (json!({}), None),
        (json!({ "revision": null }), None),
        (json!({ "revision": 3 }), Some(3)),
    ] {
        let answer = house.post("/v1/function/f/rollback", body).await;
        assert_eq!(answer.is(202)["name"], "f");
        let sent = Command::Rollback { revision };
        assert_eq!(house.dispatch.last_command(), sent);
    }
    house
        .post("/v1/function/f/rollback", json!({ "to": 3 }))
        .await
        .refuses(400, "malformed-command");
    house
        .post("/v1/function/g/rollback", json!({}))
        .await
        .refuses(404, "not-found");
}

#[tokio::test]
async fn a_route_has_shares() {
    let house = with_function().await;
    let shares = json!([{ "revision": 3, "percent": 90 }, { "revision": 4, "percent": 10 }]);
    house
        .post("/v1/function/f/route", json!({ "shares": shares }))
        .await
        .is(202);
    let share = |revision, percent| Share { revision, percent };
    let shares = vec![share(3, 90), share(4, 10)];
    assert_eq!(house.dispatch.last_command(), Command::Route { shares });
    for bad in [
        json!({}),
        json!({ "shares": [{ "revision": 3, "percent": 256 }] }),
        json!({ "shares": [{ "revision": 3 }] }),
    ] {
        house
            .post("/v1/function/f/route", bad)
            .await
            .refuses(400, "malformed-command");
    }
}

#[tokio::test]
async fn revisions_are_asked_of_the_views() {
    let house = with_function().await;
    let _ = house.get("/v1/function/f/revisions").await;
    let function = engine_model::Name::new("f").unwrap();
    assert_eq!(house.dispatch.last_query(), Filter::Revisions { function });
}
