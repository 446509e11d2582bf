//! The performer of the service effects, with a real vault, against a broker that goes wrong.

use std::sync::Arc;

use adapter_kit::{KeyStore, Performer, Vault, VaultError};
use adapter_osb::Services;
use adapter_osb::fake::{Fault, On, Pace};
use adapter_vault::{EnvelopeVault, MasterKeys};
use async_trait::async_trait;
use engine_model::broker::{Progress, Verdict};
use engine_model::{Actor, BrokerOutcome, Effect, KeyId, Outcome};
use serde_json::json;
use uuid::Uuid;

use crate::scene::{Scene, bound, deleted, operation, polled, provisioned, seal};

#[tokio::test]
async fn a_catalog_is_read_and_then_known() {
    let scene = Scene::new(Pace::Sync).await;
    let read = |etag| Effect::ReadCatalog {
        target: scene.target.clone(),
        etag,
    };
    let Outcome::Broker(BrokerOutcome::Read {
        etag,
        offerings,
        refused,
        api_version: _,
    }) = scene.perform(&read(None)).await.unwrap()
    else {
        panic!("not read")
    };
    assert_eq!((offerings[0].plans.len(), refused.len()), (2, 0));
    let again = scene.perform(&read(etag)).await.unwrap();
    assert_eq!(again, Outcome::Broker(BrokerOutcome::Unchanged));
    scene.fake.script(On::Catalog, [Fault::html(502)]);
    let failed = scene.perform(&read(None)).await.unwrap();
    let Outcome::Broker(BrokerOutcome::Failed { reason }) = failed else {
        panic!("{failed:?}")
    };
    assert!(reason.contains("502"), "{reason}");
    assert!(scene.fake.violations().is_empty());
}

#[tokio::test]
async fn a_synchronous_life_leaves_nothing_behind_however_often_each_effect_is_performed() {
    let scene = Scene::new(Pace::Sync).await;
    let mut seen = Vec::new();
    for _ in 0..2 {
        let verdict = provisioned(scene.perform(&scene.provision()).await.unwrap());
        assert!(matches!(verdict, Verdict::Done(p) if p.dashboard_url.is_some()));
    }
    for _ in 0..2 {
        let verdict = bound(scene.perform(&scene.bind()).await.unwrap());
        let Verdict::Done(bound) = verdict else {
            panic!("{verdict:?}")
        };
        assert_eq!(bound.endpoints.len(), 1);
        assert_eq!(
            (bound.endpoints[0].host.as_str(), bound.endpoints[0].port),
            ("127.0.0.1", 5432)
        );
        assert_eq!(
            bound.credentials.key,
            KeyId(format!("binding-{}", scene.binding))
        );
        assert!(!format!("{bound:?}").contains("canary"));
        seen.push(scene.opened(&bound).await);
    }
    assert_eq!(seen[0], seen[1], "a repeat gives the same credentials");
    assert_eq!(seen[0]["port"], "5432", "a number becomes a string");
    assert_eq!(
        (scene.fake.instances().len(), scene.fake.bindings().len()),
        (1, 1)
    );
    assert_eq!(
        deleted(scene.perform(&scene.unbind()).await.unwrap()),
        Verdict::Done(())
    );
    assert_eq!(
        deleted(scene.perform(&scene.unbind()).await.unwrap()),
        Verdict::Gone
    );
    assert_eq!(
        deleted(scene.perform(&scene.deprovision()).await.unwrap()),
        Verdict::Done(())
    );
    assert_eq!(
        deleted(scene.perform(&scene.deprovision()).await.unwrap()),
        Verdict::Gone
    );
    assert!(scene.fake.instances().is_empty() && scene.fake.bindings().is_empty());
    assert_eq!(scene.fake.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn an_asynchronous_life_fetches_its_credentials_when_the_bind_is_done() {
    let scene = Scene::new(Pace::Polls(1)).await;
    let op = operation(provisioned(
        scene.perform(&scene.provision()).await.unwrap(),
    ));
    let poll = scene.poll_instance(op);
    assert!(matches!(
        polled(scene.perform(&poll).await.unwrap()),
        Progress::InProgress { .. }
    ));
    assert_eq!(
        polled(scene.perform(&poll).await.unwrap()),
        Progress::Succeeded
    );

    let op = operation(bound(scene.perform(&scene.bind()).await.unwrap()));
    let poll = scene.poll_binding(op, false);
    assert!(matches!(
        polled(scene.perform(&poll).await.unwrap()),
        Progress::InProgress { .. }
    ));
    scene.fake.script(
        On::FetchBinding,
        [Fault::say(503, "soon").header("retry-after", 1)],
    );
    let Progress::NoAnswer { reason, .. } = polled(scene.perform(&poll).await.unwrap()) else {
        panic!("the fetch has failed")
    };
    assert!(reason.contains("503: soon"), "{reason}");
    let verdict = bound(scene.perform(&poll).await.unwrap());
    let Verdict::Done(bound) = verdict else {
        panic!("{verdict:?}")
    };
    assert!(
        scene.opened(&bound).await["password"]
            .as_str()
            .unwrap()
            .starts_with("canary-binding")
    );

    let op = operation(deleted(scene.perform(&scene.unbind()).await.unwrap()));
    let poll = scene.poll_binding(op, true);
    assert!(matches!(
        polled(scene.perform(&poll).await.unwrap()),
        Progress::InProgress { .. }
    ));
    assert_eq!(
        polled(scene.perform(&poll).await.unwrap()),
        Progress::Succeeded
    );
    assert_eq!(polled(scene.perform(&poll).await.unwrap()), Progress::Gone);
    let op = operation(deleted(scene.perform(&scene.deprovision()).await.unwrap()));
    let poll = scene.poll_instance(op);
    while polled(scene.perform(&poll).await.unwrap()) != Progress::Gone {}
    assert!(scene.fake.instances().is_empty());
    assert_eq!(scene.fake.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn every_request_names_itself_and_the_user() {
    let scene = Scene::new(Pace::Sync).await;
    scene.perform(&scene.provision()).await.unwrap();
    scene.perform(&scene.poll_instance(None)).await.unwrap();
    let mut own = scene.deprovision();
    let Effect::Deprovision { call, .. } = &mut own else {
        unreachable!()
    };
    call.actor = Actor::engine();
    scene.perform(&own).await.unwrap();
    let requests = scene.fake.requests();
    let ids: Vec<_> = requests
        .iter()
        .map(|r| r.header("x-broker-api-request-identity").to_owned())
        .collect();
    assert_eq!(ids[0], scene.call.request.to_string());
    assert_ne!(ids[1], ids[0], "a poll is a request of its own");
    let users: Vec<_> = requests
        .iter()
        .map(|r| r.headers.contains_key("x-broker-api-originating-identity"))
        .collect();
    assert_eq!(users, [true, true, false], "the engine is no user");
    let sent = requests[0].json();
    assert_eq!(sent["parameters"], json!({"location": "westus"}));
    assert_eq!(sent["context"]["organization_name"], "demo");
    assert_eq!(sent["context"]["instance_name"], "azure-pg");
    let guid = sent["organization_guid"].as_str().unwrap();
    assert!(guid.parse::<Uuid>().is_ok());
    assert_eq!(sent["context"]["organization_guid"], guid);
}

#[tokio::test]
async fn secrets_are_merged_into_the_parameters_and_shown_nowhere_else() {
    let scene = Scene::new(Pace::Sync).await;
    let first = seal(
        scene.vault.as_ref(),
        "s1",
        &json!({"password": "old", "tier": "x"}),
    )
    .await;
    let last = seal(
        scene.vault.as_ref(),
        "s2",
        &json!({"password": "canary-param"}),
    )
    .await;
    let mut effect = scene.provision();
    let Effect::Provision {
        secret_parameters,
        schema,
        ..
    } = &mut effect
    else {
        unreachable!()
    };
    *secret_parameters = vec![first, last];
    *schema = json!({"properties": {"password": {"type": "string"}}, "required": ["tier"]});
    let refuse = Fault::error(400, "BadRequest", "canary-param is too weak");
    scene.fake.script(On::Provision, [refuse]);
    let verdict = provisioned(scene.perform(&effect).await.unwrap());
    assert_eq!(
        verdict,
        Verdict::Rejected {
            reason: "BadRequest: (hidden) is too weak (status 400)".to_owned()
        }
    );
    let sent = scene.fake.requests().pop().unwrap().json();
    let expected = json!({"location": "westus", "password": "canary-param", "tier": "x"});
    assert_eq!(sent["parameters"], expected);
}

#[tokio::test]
async fn parameters_that_do_not_fit_never_leave() {
    let scene = Scene::new(Pace::Sync).await;
    let mut effect = scene.bind();
    let Effect::Bind {
        schema, parameters, ..
    } = &mut effect
    else {
        unreachable!()
    };
    *schema = json!({"properties": {"role": {"enum": ["reader"]}}});
    *parameters = json!({"role": "owner"});
    let verdict = bound(scene.perform(&effect).await.unwrap());
    let Verdict::Rejected { reason } = verdict else {
        panic!("{verdict:?}")
    };
    assert!(
        reason.contains("/role") && !reason.contains("owner"),
        "{reason}"
    );
    assert!(scene.fake.requests().is_empty());
}

#[tokio::test]
async fn what_a_repeated_bind_gives_is_taken_from_a_look_at_the_binding_or_doubted() {
    let scene = Scene::new(Pace::Sync).await;
    provisioned(scene.perform(&scene.provision()).await.unwrap());
    let Verdict::Done(first) = bound(scene.perform(&scene.bind()).await.unwrap()) else {
        panic!("it is bound")
    };
    let repeated = |can_look: bool| {
        let mut effect = scene.bind();
        let Effect::Bind {
            repeat,
            retrievable,
            ..
        } = &mut effect
        else {
            unreachable!()
        };
        (*repeat, *retrievable) = (true, can_look);
        effect
    };
    let looked = bound(scene.perform(&repeated(true)).await.unwrap());
    let Verdict::Done(looked) = looked else {
        panic!("{looked:?}")
    };
    assert_eq!(scene.opened(&looked).await, scene.opened(&first).await);
    let last = scene.fake.requests().pop().unwrap();
    assert_eq!(
        (last.on, last.method.as_str()),
        (Some(On::FetchBinding), "GET")
    );
    let doubted = bound(scene.perform(&repeated(false)).await.unwrap());
    assert!(matches!(doubted, Verdict::Doubt { .. }), "{doubted:?}");
    scene.fake.script(On::FetchBinding, [Fault::say(404, "{}")]);
    let doubted = bound(scene.perform(&repeated(true)).await.unwrap());
    assert!(matches!(doubted, Verdict::Doubt { .. }), "{doubted:?}");
}

#[tokio::test]
async fn doubts_and_waits_reach_the_engine() {
    let scene = Scene::new(Pace::Sync).await;
    let faults = [
        Fault::say(500, "oops").after_work(),
        Fault::too_many(2),
        Fault::concurrency(),
        Fault::async_required(),
        Fault::maintenance_conflict(),
    ];
    scene.fake.script(On::Provision, faults);
    let ask = async || provisioned(scene.perform(&scene.provision()).await.unwrap());
    assert!(matches!(ask().await, Verdict::Unknown { orphan: true, .. }));
    assert!(matches!(
        ask().await,
        Verdict::Busy {
            retry_after_ms: Some(2000),
            ..
        }
    ));
    assert!(matches!(
        ask().await,
        Verdict::Busy {
            retry_after_ms: None,
            ..
        }
    ));
    assert!(matches!(
        ask().await,
        Verdict::Again {
            stale_catalog: false,
            ..
        }
    ));
    assert!(matches!(
        ask().await,
        Verdict::Again {
            stale_catalog: true,
            ..
        }
    ));
    assert!(matches!(ask().await, Verdict::Done(_)));
    scene.fake.script(On::Unbind, [Fault::drop()]);
    let verdict = deleted(scene.perform(&scene.unbind()).await.unwrap());
    assert!(
        matches!(verdict, Verdict::Unknown { orphan: false, .. }),
        "{verdict:?}"
    );
    scene
        .fake
        .script(On::PollInstance, [Fault::say(404, "{}"), Fault::gone()]);
    let poll = scene.poll_instance(None);
    assert_eq!(
        polled(scene.perform(&poll).await.unwrap()),
        Progress::NotFound
    );
    assert_eq!(polled(scene.perform(&poll).await.unwrap()), Progress::Gone);
}

#[tokio::test]
async fn credentials_that_no_event_could_hold_are_cleaned_up() {
    let scene = Scene::new(Pace::Sync).await;
    scene.perform(&scene.provision()).await.unwrap();
    scene
        .fake
        .set_binding(json!({"credentials": {"blob": "x".repeat(200_000)}}));
    let verdict = bound(scene.perform(&scene.bind()).await.unwrap());
    assert!(matches!(verdict, Verdict::Unknown { orphan: true, .. }));
}

#[tokio::test]
async fn a_broker_that_is_not_there_was_not_asked_and_one_that_moved_is_found() {
    let mut scene = Scene::new(Pace::Sync).await;
    let there = scene.target.url.clone();
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    scene.target.url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let verdict = provisioned(scene.perform(&scene.provision()).await.unwrap());
    assert!(matches!(verdict, Verdict::NotSent { .. }), "{verdict:?}");
    scene.target.url = there;
    let verdict = provisioned(scene.perform(&scene.provision()).await.unwrap());
    assert!(matches!(verdict, Verdict::Done(_)), "{verdict:?}");
    scene.target.url = "no url".to_owned();
    let verdict = provisioned(scene.perform(&scene.provision()).await.unwrap());
    assert!(matches!(verdict, Verdict::Rejected { .. }), "{verdict:?}");
    let progress = polled(scene.perform(&scene.poll_instance(None)).await.unwrap());
    assert!(
        matches!(progress, Progress::NoAnswer { .. }),
        "{progress:?}"
    );
}

#[tokio::test]
async fn credentials_whose_key_is_erased_are_told_and_other_effects_are_left_alone() {
    let scene = Scene::new(Pace::Sync).await;
    scene
        .vault
        .erase(&scene.target.credentials.key)
        .await
        .unwrap();
    let verdict = provisioned(scene.perform(&scene.provision()).await.unwrap());
    assert!(matches!(verdict, Verdict::Rejected { reason } if reason.contains("erased")));
    let other = Effect::ServeApi { generation: 1 };
    assert!(!scene.services.performs(&other));
}

/// A key store that cannot be reached.
struct Down;

#[async_trait]
impl KeyStore for Down {
    async fn get(&self, _: &KeyId) -> Result<Option<Vec<u8>>, VaultError> {
        Err(VaultError::Store("down".to_owned()))
    }

    async fn create(&self, _: &KeyId, _: Vec<u8>) -> Result<Vec<u8>, VaultError> {
        Err(VaultError::Store("down".to_owned()))
    }

    async fn erase(&self, _: &KeyId) -> Result<(), VaultError> {
        Err(VaultError::Store("down".to_owned()))
    }
}

#[tokio::test]
async fn a_key_store_that_is_down_means_to_come_again_and_nothing_is_sent() {
    let mut scene = Scene::new(Pace::Sync).await;
    let masters = MasterKeys::create(&tempfile::tempdir().unwrap().path().join("master")).unwrap();
    scene.services = Services::new(Arc::new(EnvelopeVault::new(masters, Arc::new(Down))));
    let effects = [
        scene.provision(),
        scene.bind(),
        scene.poll_instance(None),
        scene.poll_binding(None, false),
        scene.unbind(),
        scene.deprovision(),
        Effect::ReadCatalog {
            target: scene.target.clone(),
            etag: None,
        },
    ];
    for effect in &effects {
        let later = scene.perform(effect).await.unwrap_err();
        assert_eq!(later.reason, "key store: down");
    }
    assert!(scene.fake.requests().is_empty());
}
