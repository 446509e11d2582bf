//! Updates, differences at the broker, what may have been left there, and what exists there already.

use adapter_osb::fake::{Fault, On, PASSWORD, Pace, USERNAME};
use harness::broker::{CLASS, PLAN};
use harness::process::eventually;
use serde_json::{Value, json};

use super::{Bed, reason};

/// It goes without a trace. The fake broker holds a binding to the plan of the day that it was made
/// in, but what is said of it is the plan that its instance has.
fn goes_in_its_plan(bed: &Bed) {
    bed.goes("db");
    assert_eq!(bed.broker.instances(), [""; 0]);
    assert_eq!(bed.broker.bindings(), [""; 0]);
    let others = |rule: &String| rule != "Unbind: another plan_id";
    let broken: Vec<_> = bed.broker.violations().into_iter().filter(others).collect();
    assert_eq!(broken, [""; 0]);
}

const UPDATE: [&str; 3] = ["update", "serviceinstance", "db"];

#[test]
fn an_instance_keeps_its_plan_until_the_update_has_succeeded() {
    let bed = Bed::start();
    let _ = bed.order("db", &["--wait"]).ok();
    bed.broker.set_pace(Pace::Polls(6));
    let words = [
        &UPDATE[..],
        &["--plan", "large", "--params", r#"{"size":2}"#],
    ]
    .concat();
    let begun = bed.dispatch.cli(&words).ok();
    assert!(begun.contains("Updating serviceinstance: db"), "{begun}");
    let during = bed.dispatch.get("serviceinstance", "db");
    assert_eq!(
        (&during["status"], &during["servicePlan"]),
        (&json!("UPDATING"), &json!(PLAN))
    );
    assert_eq!(during["update"]["servicePlan"], "large");
    assert_eq!(during["update"]["parameters"], json!(["size"]));
    let busy = bed.dispatch.cli(&words);
    assert!(busy.err.contains("[not-ready]"), "{}", busy.err);
    let done = bed
        .dispatch
        .until("serviceinstance", "db", |found| found["status"] == "READY");
    assert_eq!(
        (&done["servicePlan"], &done["parameters"], &done["update"]),
        (&json!("large"), &json!({ "size": 2 }), &Value::Null)
    );
    bed.broker.set_pace(Pace::Sync);
    let labelled = [&UPDATE[..], &["--tag", "team=red", "--wait"]].concat();
    let _ = bed.dispatch.cli(&labelled).ok();
    let labelled = bed.dispatch.get("serviceinstance", "db");
    assert_eq!(labelled["tags"][0]["value"], "red");
    assert_eq!(
        bed.broker.count(On::Update),
        1,
        "labels are not the broker's"
    );
    goes_in_its_plan(&bed);
}

#[test]
fn an_update_that_fails_leaves_the_instance_as_it_was_and_can_be_tried_again() {
    let bed = Bed::start();
    let _ = bed.order("db", &["--wait"]).ok();
    let error = Fault::error(400, "QuotaExceeded", "too large for you");
    bed.broker.script(On::Update, [error]);
    let words = [&UPDATE[..], &["--plan", "large", "--wait"]].concat();
    let failed = bed.dispatch.cli(&words);
    assert_eq!(failed.code, 4, "{} {}", failed.out, failed.err);
    assert!(failed.err.contains("too large for you"), "{}", failed.err);
    let shown = bed.dispatch.get("serviceinstance", "db");
    assert_eq!(
        (&shown["status"], &shown["servicePlan"]),
        (&json!("READY"), &json!(PLAN))
    );
    assert!(reason(&shown).contains("dispatch retry"), "{shown}");
    let _ = bed.dispatch.cli(&["retry", "serviceinstance", "db"]).ok();
    let done = bed.dispatch.until("serviceinstance", "db", |found| {
        found["servicePlan"] == "large"
    });
    assert_eq!(done["reason"], Value::Null);
    goes_in_its_plan(&bed);
}

/// Changes the plan of an instance at the broker, as somebody else would.
fn change_elsewhere(bed: &Bed, instance: &str, plan: &str) {
    let url = bed.broker.url();
    let url = url
        .join(&format!("v2/service_instances/{instance}"))
        .unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let status = runtime.block_on(async {
        let body = json!({ "service_id": "fake-service-id", "plan_id": plan });
        let request = harness::http::client()
            .patch(url)
            .basic_auth(USERNAME, Some(PASSWORD))
            .header("X-Broker-API-Version", "2.17")
            .header("X-Broker-API-Request-Identity", "somebody-else")
            .header("Content-Type", "application/json")
            .body(body.to_string());
        request.send().await.unwrap().status()
    });
    assert!(status.is_success(), "{status}");
}

#[test]
fn a_look_at_the_broker_shows_what_differs_from_the_record() {
    let bed = Bed::start();
    let _ = bed.order("db", &["--wait"]).ok();
    let live = ["get", "serviceinstance", "db", "--live"];
    let as_recorded = bed.dispatch.cli(&live).ok();
    assert!(
        as_recorded.contains("It is as it is on record."),
        "{as_recorded}"
    );
    let id = bed.broker.instances().remove(0);
    change_elsewhere(&bed, &id, "large-plan-id");
    let differs = bed.dispatch.cli(&live);
    assert_eq!(
        differs.code, 0,
        "a difference is no failure: {}",
        differs.err
    );
    assert!(
        differs
            .out
            .contains("plan: small on record, large at the broker"),
        "{}",
        differs.out
    );
    let json = bed.dispatch.cli(&[&live[..], &["--json"]].concat()).json();
    assert_eq!(json["live"]["planId"], "large-plan-id");
    assert_eq!(
        bed.dispatch.get("serviceinstance", "db")["servicePlan"],
        PLAN,
        "nothing is recorded"
    );
    let absent = bed
        .dispatch
        .cli(&["get", "serviceinstance", "none", "--live"]);
    assert!(absent.err.contains("[not-found]"), "{}", absent.err);
    // So that it is deleted under the plan that it has.
    change_elsewhere(&bed, &id, "small-plan-id");
    bed.goes("db");
}

#[test]
fn what_may_have_been_left_is_listed_until_it_is_gone() {
    let bed = Bed::start();
    let orphans = || bed.dispatch.cli(&["get", "orphans", "--json"]).json();
    assert_eq!(orphans(), json!([]));
    bed.broker
        .script(On::Provision, [Fault::html(500).after_work()]);
    bed.broker.script(On::Deprovision, [Fault::html(500)]);
    let _ = bed.order("lost", &[]).ok();
    eventually("it is listed", || orphans() != json!([]));
    let listed = orphans();
    let known = [&listed[0]["kind"], &listed[0]["name"], &listed[0]["broker"]];
    assert_eq!(
        known,
        [&json!("ServiceInstance"), &json!("lost"), &json!("fake")]
    );
    assert!(listed[0]["removals"].as_u64() >= Some(1), "{listed}");
    let table = bed.dispatch.cli(&["get", "orphans"]).ok();
    assert!(table.contains("| ServiceInstance | lost | fake"), "{table}");
    // A person need not wait for the next try.
    eventually("it is removed", || {
        let _ = bed.dispatch.cli(&["retry", "serviceinstance", "lost"]);
        orphans() == json!([])
    });
    bed.goes("lost");
    bed.nothing_is_left();
}

#[test]
fn what_was_abandoned_can_be_taken_on_record_again() {
    let bed = Bed::start();
    let _ = bed.order("db", &["--wait"]).ok();
    let id = bed.broker.instances().remove(0);
    let abandon = [
        "abandon",
        "serviceinstance",
        "db",
        "--reason",
        "registered by mistake",
    ];
    let abandoned = bed.dispatch.cli(&[&abandon[..], &["--yes"]].concat()).ok();
    assert!(
        abandoned.contains("Abandoned service instance: db"),
        "{abandoned}"
    );
    bed.dispatch.until_gone("serviceinstance", "db");
    bed.dispatch.until_gone("servicebinding", "db");
    assert_eq!(
        bed.broker.instances(),
        std::slice::from_ref(&id),
        "it stays there"
    );
    let history = bed.dispatch.cli(&["history", "serviceinstance", "db"]).ok();
    assert!(history.contains("registered by mistake"), "{history}");

    let absent = uuid::Uuid::new_v4().to_string();
    let adopt = [
        "adopt",
        "serviceinstance",
        "old",
        CLASS,
        PLAN,
        "--instance-id",
    ];
    let none = bed
        .dispatch
        .cli(&[&adopt[..], &[&absent, "--wait"]].concat());
    assert_eq!(none.code, 4, "{} {}", none.out, none.err);
    assert!(none.err.contains("no instance of that id"), "{}", none.err);
    bed.goes("old");

    let adopted = bed.dispatch.cli(&[&adopt[..], &[&id, "--wait"]].concat());
    assert_eq!(adopted.code, 0, "{} {}", adopted.out, adopted.err);
    assert!(adopted.out.contains("Adopted serviceinstance: old"));
    let shown = bed.dispatch.get("serviceinstance", "old");
    assert_eq!(
        (&shown["adopted"], &shown["brokerInstanceId"]),
        (&json!(true), &json!(id))
    );
    assert_eq!(bed.broker.count(On::Provision), 1, "it was not made again");
    let twice = [
        "adopt",
        "serviceinstance",
        "again",
        CLASS,
        PLAN,
        "--instance-id",
        &id,
    ];
    let twice = bed.dispatch.cli(&twice);
    assert!(twice.err.contains("[already-exists]"), "{}", twice.err);
}
