//! Brokers that do not take the newest version of the API.

use adapter_osb::fake::{Fault, On, Pace};
use engine_model::broker::{Progress, Verdict};
use engine_model::{BrokerOutcome, Effect, Outcome};

use crate::scene::{Scene, polled, provisioned};

impl Scene {
    async fn catalog(&self, etag: Option<&str>) -> BrokerOutcome {
        let effect = Effect::ReadCatalog {
            target: self.target.clone(),
            etag: etag.map(str::to_owned),
        };
        match self.perform(&effect).await.unwrap() {
            Outcome::Broker(outcome) => outcome,
            other => panic!("{other:?}"),
        }
    }

    fn announced(&self) -> Vec<String> {
        let requests = self.fake.requests();
        let version = |r: &adapter_osb::fake::Recorded| r.header("x-broker-api-version").to_owned();
        requests.iter().map(version).collect()
    }
}

#[track_caller]
fn version(outcome: &BrokerOutcome) -> &str {
    match outcome {
        BrokerOutcome::Read { api_version, .. } => api_version.as_deref().unwrap(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_newest_version_that_a_broker_takes_is_found_and_told() {
    let scene = Scene::new(Pace::Sync).await;
    assert_eq!(version(&scene.catalog(None).await), "2.17");
    scene.fake.set_versions(12..=14);
    let read = scene.catalog(Some("\"1\"")).await;
    assert_eq!(version(&read), "2.14", "though the etag was known");
    assert_eq!(scene.announced(), ["2.17", "2.17", "2.16", "2.15", "2.14"]);
}

#[tokio::test]
async fn a_version_that_was_taken_before_is_tried_first_and_then_all_again_from_the_newest() {
    let mut scene = Scene::new(Pace::Sync).await;
    scene.target.api_version = Some("2.13".to_owned());
    assert_eq!(version(&scene.catalog(None).await), "2.13");
    scene.fake.set_versions(15..=16);
    assert_eq!(version(&scene.catalog(None).await), "2.16");
    assert_eq!(scene.announced(), ["2.13", "2.13", "2.17", "2.16"]);
    provisioned(scene.perform(&scene.provision()).await.unwrap());
    assert_eq!(scene.announced().pop().as_deref(), Some("2.13"));
}

#[tokio::test]
async fn a_broker_without_a_common_version_says_so_after_every_one_was_tried_once() {
    let scene = Scene::new(Pace::Sync).await;
    scene.fake.set_versions(3..=11);
    let BrokerOutcome::Failed { reason } = scene.catalog(None).await else {
        panic!("read")
    };
    for word in ["2.17", "2.12", "2.11 is wanted"] {
        assert!(reason.contains(word), "{reason}");
    }
    assert_eq!(scene.announced().len(), 6);
}

#[tokio::test]
async fn a_400_that_names_the_header_is_such_a_refusal_and_another_400_is_not() {
    let scene = Scene::new(Pace::Sync).await;
    let named = Fault::error(400, "Bad", "unknown X-Broker-API-Version");
    scene.fake.script(On::Catalog, [named]);
    assert_eq!(version(&scene.catalog(None).await), "2.16");
    let other = Fault::error(400, "Bad", "no such tenant");
    scene.fake.script(On::Catalog, [other]);
    let BrokerOutcome::Failed { reason } = scene.catalog(None).await else {
        panic!("read")
    };
    assert!(reason.contains("no such tenant"), "{reason}");
    assert_eq!(scene.announced().len(), 3);
}

#[tokio::test]
async fn other_requests_are_refused_with_both_versions_and_never_repeated() {
    let scene = Scene::new(Pace::Sync).await;
    scene.fake.set_versions(12..=13);
    let verdict = provisioned(scene.perform(&scene.provision()).await.unwrap());
    let Verdict::Rejected { reason } = verdict else {
        panic!("{verdict:?}")
    };
    assert!(
        reason.contains("2.17") && reason.contains("2.13"),
        "{reason}"
    );
    let progress = polled(scene.perform(&scene.poll_instance(None)).await.unwrap());
    let Progress::NoAnswer { reason, .. } = progress else {
        panic!("{progress:?}")
    };
    assert!(
        reason.contains("2.17") && reason.contains("2.13"),
        "{reason}"
    );
    assert_eq!(scene.fake.requests().len(), 2);
}
