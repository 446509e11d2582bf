//! Every operation, when nothing goes wrong.

use std::time::Duration;

use adapter_osb::fake::{On, Pace};
use adapter_osb::verdict::{Answer, Fetched, Polled, Progress};
use adapter_osb::wire::{Id, MaintenanceVersion, PreviousValues, UpdateRequest};
use serde_json::json;

use crate::{Stage, call, operation, within};

#[tokio::test]
async fn a_catalog_is_fetched_once_and_then_only_when_it_changed() {
    let stage = Stage::new().await;
    let Answer::Done(Fetched::Catalog { etag, catalog }) =
        stage.client.catalog(&call(), None).await
    else {
        panic!("no catalog")
    };
    assert_eq!(catalog.services[0].plans.len(), 2);
    let etag = etag.unwrap();
    let again = stage.client.catalog(&call(), Some(&etag)).await;
    assert_eq!(again, Answer::Done(Fetched::NotModified));
    stage.fake.set_catalog(json!({"services": []}));
    let changed = stage.client.catalog(&call(), Some(&etag)).await;
    assert!(
        matches!(changed, Answer::Done(Fetched::Catalog { catalog, .. }) if catalog.services.is_empty())
    );
    stage.no_rule_was_broken();
}

#[tokio::test]
async fn a_synchronous_life_from_provision_to_deprovision() {
    let stage = Stage::new().await;
    let Answer::Done(provisioned) = stage.provision().await else {
        panic!("not done")
    };
    assert!(
        provisioned
            .dashboard_url
            .unwrap()
            .contains(stage.instance.as_str())
    );
    let Answer::Done(bound) = stage.bind().await else {
        panic!("not bound")
    };
    assert_eq!(bound.credentials.as_ref().unwrap().reveal()["port"], 5432);
    assert_eq!(stage.fake.instances(), [stage.instance.as_str()]);
    assert_eq!(stage.fake.bindings(), [stage.binding.as_str()]);

    // A repeat of either finds the same.
    assert!(matches!(stage.provision().await, Answer::Exists(_)));
    assert_eq!(stage.bind().await, Answer::Exists(bound.clone()));
    let fetched = stage
        .client
        .fetch_binding(&call(), &stage.instance, &stage.binding, &stage.offer)
        .await;
    assert_eq!(fetched, Answer::Done(bound));

    assert_eq!(stage.unbind().await, Answer::Done(()));
    assert_eq!(stage.unbind().await, Answer::Gone);
    assert_eq!(stage.deprovision().await, Answer::Done(()));
    assert_eq!(stage.deprovision().await, Answer::Gone);
    assert!(stage.fake.instances().is_empty() && stage.fake.bindings().is_empty());
    stage.no_rule_was_broken();
}

#[tokio::test]
async fn an_asynchronous_life_from_provision_to_deprovision() {
    let stage = Stage::paced(Pace::Polls(2)).await;
    let op = operation(stage.provision().await);
    assert_eq!(op.as_deref(), Some("work +/=&?%"));
    assert_eq!(
        operation(stage.provision().await),
        op,
        "a repeat is told the same"
    );
    let early = stage
        .client
        .fetch_instance(&call(), &stage.instance, &stage.offer)
        .await;
    assert_eq!(early, Answer::Gone, "it is not there yet");
    let (polls, ended) = stage.finish(Polled::Provision, op.as_deref()).await;
    assert_eq!(
        (polls, ended),
        (
            3,
            Progress::Succeeded {
                description: Some("done".to_owned())
            }
        )
    );

    let op = operation(stage.bind().await);
    let (polls, _) = stage.finish(Polled::Bind, op.as_deref()).await;
    assert_eq!(polls, 3);
    let fetched = stage
        .client
        .fetch_binding(&call(), &stage.instance, &stage.binding, &stage.offer)
        .await;
    assert!(matches!(fetched, Answer::Done(binding) if binding.credentials.is_some()));

    let op = operation(stage.unbind().await);
    assert_eq!(stage.fake.bindings().len(), 1, "it is there until the end");
    let ended = stage.finish(Polled::Unbind, op.as_deref()).await;
    assert_eq!(ended, (3, Progress::Succeeded { description: None }));
    assert_eq!(
        stage.poll(Polled::Unbind, op.as_deref()).await,
        Progress::Gone
    );
    let op = operation(stage.deprovision().await);
    stage.finish(Polled::Deprovision, op.as_deref()).await;
    assert!(stage.fake.instances().is_empty() && stage.fake.bindings().is_empty());
    stage.no_rule_was_broken();
}

#[tokio::test]
async fn an_operation_may_be_missing_and_work_may_take_time() {
    let stage = Stage::paced(Pace::For(Duration::from_millis(50))).await;
    stage.fake.set_operation(None);
    assert_eq!(operation(stage.provision().await), None);
    let ended = within(Duration::from_secs(10), async {
        loop {
            match stage.poll(Polled::Provision, None).await {
                Progress::InProgress { .. } => tokio::task::yield_now().await,
                ended => break ended,
            }
        }
    });
    assert!(matches!(ended.await, Progress::Succeeded { .. }));
    let uri = stage.fake.requests().pop().unwrap().uri;
    assert!(!uri.query().unwrap().contains("operation"), "{uri}");
}

#[tokio::test]
async fn an_operation_of_ten_thousand_characters_comes_back_unchanged() {
    let stage = Stage::paced(Pace::Polls(0)).await;
    let long = "ü &/".repeat(2500);
    stage.fake.set_operation(Some(&long));
    let op = operation(stage.provision().await);
    assert_eq!(op.as_deref(), Some(long.as_str()));
    stage.poll(Polled::Provision, op.as_deref()).await;
    stage.no_rule_was_broken();
}

#[tokio::test]
async fn an_update_says_what_was_before() {
    let stage = Stage::paced(Pace::Polls(1)).await;
    let op = operation(stage.provision().await);
    stage.finish(Polled::Provision, op.as_deref()).await;
    let request = UpdateRequest {
        service_id: stage.offer.service_id.clone(),
        plan_id: Some("large-plan-id".to_owned()),
        context: Some(stage.provision_request().context),
        parameters: Some(json!({"size": 2}).into()),
        previous_values: Some(PreviousValues {
            service_id: stage.offer.service_id.clone(),
            plan_id: stage.offer.plan_id.clone(),
            organization_id: "org-guid".to_owned(),
            space_id: "org-guid".to_owned(),
            maintenance_info: None,
        }),
        maintenance_info: Some(MaintenanceVersion {
            version: "1.0.0".to_owned(),
        }),
    };
    let op = operation(
        stage
            .client
            .update(&call(), &stage.instance, &request, true)
            .await,
    );
    let (_, ended) = stage.finish(Polled::Update, op.as_deref()).await;
    assert!(matches!(ended, Progress::Succeeded { .. }));
    let sent = stage
        .fake
        .requests()
        .into_iter()
        .find(|r| r.on == Some(On::Update))
        .unwrap();
    assert_eq!(sent.json()["previous_values"]["plan_id"], "small-plan-id");
    let fetched = stage
        .client
        .fetch_instance(&call(), &stage.instance, &stage.offer)
        .await;
    let Answer::Done(instance) = fetched else {
        panic!("{fetched:?}")
    };
    assert_eq!(instance.plan_id.as_deref(), Some("large-plan-id"));
    assert_eq!(instance.parameters.unwrap().reveal(), &json!({"size": 2}));
    stage.no_rule_was_broken();
}

#[tokio::test]
async fn a_rotation_names_its_predecessor() {
    let stage = Stage::new().await;
    stage.provision().await;
    stage.bind().await;
    let mut request = stage.bind_request();
    request.predecessor_binding_id = Some(stage.binding.to_string());
    let next = Id::parse("next").unwrap();
    let answer = stage
        .client
        .bind(&call(), &stage.instance, &next, &request, true)
        .await;
    assert!(matches!(answer, Answer::Done(_)));
    let sent = stage.fake.requests().pop().unwrap().json();
    assert_eq!(sent["predecessor_binding_id"], stage.binding.as_str());
    assert_eq!(
        stage.fake.bindings().len(),
        2,
        "old and new are there side by side"
    );
}

#[tokio::test]
async fn ids_of_any_shape_arrive_unchanged() {
    let mut stage = Stage::new().await;
    stage.instance = Id::parse("a/b?c#d%2F e\\ü..").unwrap();
    stage.binding = Id::parse("%").unwrap();
    stage.provision().await;
    stage.bind().await;
    assert_eq!(stage.fake.instances(), ["a/b?c#d%2F e\\ü.."]);
    assert_eq!(stage.fake.bindings(), ["%"]);
    assert_eq!(stage.unbind().await, Answer::Done(()));
    for bad in ["", ".", ".."] {
        assert!(Id::parse(bad).is_err());
    }
}
