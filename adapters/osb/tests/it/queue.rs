//! Turns, budgets and circuits, against a real broker.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adapter_kit::{Performer as _, Unquestioned, Vault};
use adapter_osb::fake::{Fault, On, Pace};
use adapter_osb::{Outbound, Services, Transport, What};
use engine_model::broker::{Progress, Verdict};
use engine_model::spec::BrokerLimits;
use engine_model::{
    BrokerOutcome, Effect, EffectId, InstanceId, OrgName, Outcome, Seq, ServiceTarget, Timestamp,
};
use uuid::Uuid;

use crate::scene::{Scene, deleted, polled, provisioned};
use crate::within;

const AMPLE: Duration = Duration::from_secs(20);

fn in_ms(ms: i64) -> Timestamp {
    Timestamp(chrono::Utc::now().timestamp_millis() + ms)
}

impl Scene {
    async fn limited(concurrent: u32, per_second: u32) -> Arc<Self> {
        let mut scene = Self::new(Pace::Sync).await;
        scene.target.limits = BrokerLimits {
            concurrent,
            per_second,
        };
        Arc::new(scene)
    }

    /// A provision of another instance, for an organization.
    fn another(&self, org: &str) -> Effect {
        let mut effect = self.provision();
        if let Effect::Provision { call, .. } = &mut effect {
            call.instance = InstanceId(Uuid::new_v4());
            call.org = OrgName::new(org).unwrap();
        }
        effect
    }

    /// What was remarked of the broker, one remark at most.
    fn remark(&self) -> Option<BrokerOutcome> {
        let mut remarks = self.services.remarks();
        let last = remarks.pop();
        assert!(remarks.is_empty());
        last.map(|(key, outcome)| {
            assert_eq!(key, self.target.broker);
            match outcome {
                Outcome::Broker(outcome) => outcome,
                other => panic!("{other:?}"),
            }
        })
    }
}

fn perform(scene: &Arc<Scene>, effect: Effect) -> tokio::task::JoinHandle<Outcome> {
    let scene = scene.clone();
    tokio::spawn(async move { scene.perform(&effect).await.unwrap() })
}

/// Waits until `there` holds.
async fn until(there: impl Fn() -> bool) {
    within(AMPLE, async {
        while !there() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn no_more_requests_are_under_way_than_the_broker_may_be_given() {
    let scene = Scene::limited(3, 1000).await;
    scene.fake.script(On::Provision, vec![Fault::hang(); 3]);
    let hanging: Vec<_> = (0..3)
        .map(|_| perform(&scene, scene.another("demo")))
        .collect();
    until(|| scene.fake.count(On::Provision) == 3).await;
    let fourth = perform(&scene, scene.another("demo"));
    let poll = perform(&scene, scene.poll_instance(None));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(scene.fake.requests().len(), 3, "the others wait");
    // A future that is dropped frees its place.
    hanging[0].abort();
    within(AMPLE, fourth).await.unwrap();
    within(AMPLE, poll).await.unwrap();
    assert_eq!(scene.fake.requests().len(), 5);
}

#[tokio::test]
async fn a_broker_is_asked_no_faster_than_its_budget_after_a_burst() {
    let scene = Scene::limited(50, 40).await;
    let began = Instant::now();
    let all: Vec<_> = (0..60)
        .map(|_| perform(&scene, scene.another("demo")))
        .collect();
    within(AMPLE, async {
        for one in all {
            let verdict = provisioned(one.await.unwrap());
            assert!(matches!(verdict, Verdict::Done(_)), "{verdict:?}");
        }
    })
    .await;
    // 40 at once, and 20 more at 40 a second.
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(450), "{took:?}");
}

#[tokio::test]
async fn an_organization_with_many_requests_does_not_keep_another_waiting() {
    let scene = Scene::limited(1, 1000).await;
    let slow = Fault::none().delayed(Duration::from_millis(30));
    scene.fake.script(On::Provision, vec![slow; 12]);
    let first = perform(&scene, scene.another("big"));
    until(|| scene.fake.count(On::Provision) == 1).await;
    let mut all: Vec<_> = (0..10)
        .map(|_| perform(&scene, scene.another("big")))
        .collect();
    tokio::time::sleep(Duration::from_millis(10)).await;
    let small = perform(&scene, scene.another("small"));
    all.push(first);
    within(AMPLE, small).await.unwrap();
    assert!(scene.fake.count(On::Provision) <= 4, "it had to queue up");
    within(AMPLE, async {
        for one in all {
            one.await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn one_change_of_an_instance_at_a_time_while_polls_pass() {
    let scene = Scene::limited(10, 1000).await;
    scene.fake.script(On::Provision, [Fault::hang()]);
    let changing = perform(&scene, scene.provision());
    until(|| scene.fake.count(On::Provision) == 1).await;
    let removal = perform(&scene, scene.deprovision());
    polled(
        within(AMPLE, scene.perform(&scene.poll_instance(None)))
            .await
            .unwrap(),
    );
    assert_eq!(scene.fake.count(On::Deprovision), 0);
    changing.abort();
    assert_eq!(
        deleted(within(AMPLE, removal).await.unwrap()),
        Verdict::Gone
    );
}

#[tokio::test]
async fn cleaning_up_keeps_a_second_between_its_requests() {
    let mut scene = Scene::new(Pace::Sync).await;
    scene.call.background = true;
    let began = Instant::now();
    for _ in 0..2 {
        within(AMPLE, scene.perform(&scene.deprovision()))
            .await
            .unwrap();
    }
    assert!(began.elapsed() >= Duration::from_millis(990));
}

#[tokio::test]
async fn a_429_rests_the_whole_broker_for_as_long_as_it_says() {
    let scene = Scene::limited(10, 1000).await;
    scene.fake.script(On::Provision, [Fault::too_many(1)]);
    let busy = provisioned(scene.perform(&scene.provision()).await.unwrap());
    assert!(matches!(
        busy,
        Verdict::Busy {
            retry_after_ms: Some(1000),
            ..
        }
    ));
    // A short rest is waited out, a long one is told.
    let began = Instant::now();
    let next = scene.another("other");
    provisioned(within(AMPLE, scene.perform(&next)).await.unwrap());
    assert!(began.elapsed() >= Duration::from_millis(900));
    scene.fake.script(On::Provision, [Fault::too_many(60)]);
    scene.perform(&scene.another("other")).await.unwrap();
    let asked = scene.fake.requests().len();
    let verdict = provisioned(scene.perform(&scene.another("demo")).await.unwrap());
    let Verdict::Busy { retry_after_ms, .. } = verdict else {
        panic!("{verdict:?}")
    };
    assert!(retry_after_ms.is_some_and(|ms| ms > 55_000 && ms <= 60_000));
    assert_eq!(scene.fake.requests().len(), asked);
}

#[tokio::test]
async fn failures_in_a_row_are_remarked_and_an_answer_ends_the_row() {
    let mut scene = Scene::new(Pace::Sync).await;
    let there = scene.target.url.clone();
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let refusing = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    for round in 0..2 {
        scene.target.url.clone_from(&refusing);
        for _ in 0..4 {
            scene.perform(&scene.provision()).await.unwrap();
        }
        assert_eq!(scene.remark(), None, "{round}");
        scene.target.url.clone_from(&there);
        scene.perform(&scene.provision()).await.unwrap();
    }
    scene.target.url = refusing;
    for _ in 0..2 {
        scene.perform(&scene.provision()).await.unwrap();
    }
    scene.target.url = there;
    scene
        .fake
        .script(On::PollInstance, vec![Fault::html(502); 3]);
    for _ in 0..3 {
        scene.perform(&scene.poll_instance(None)).await.unwrap();
    }
    let remark = scene.remark();
    let Some(BrokerOutcome::Unwell { reason, failures }) = remark else {
        panic!("{remark:?}")
    };
    assert_eq!(failures, 5);
    assert!(reason.contains("502"), "{reason}");
    assert_eq!(scene.remark(), None, "it is told once");
}

#[tokio::test]
async fn an_open_circuit_lets_nothing_leave_and_says_for_how_long() {
    let mut scene = Scene::new(Pace::Sync).await;
    scene.target.paused_until = Some(in_ms(60_000));
    let soon = |ms: Option<u64>| ms.is_some_and(|ms| (50_000..=60_000).contains(&ms));
    let verdict = provisioned(scene.perform(&scene.provision()).await.unwrap());
    assert!(matches!(verdict, Verdict::Busy { retry_after_ms, .. } if soon(retry_after_ms)));
    let verdict = deleted(scene.perform(&scene.unbind()).await.unwrap());
    assert!(matches!(verdict, Verdict::Busy { retry_after_ms, .. } if soon(retry_after_ms)));
    let progress = polled(scene.perform(&scene.poll_instance(None)).await.unwrap());
    assert!(matches!(progress, Progress::NoAnswer { retry_after_ms, .. } if soon(retry_after_ms)));
    let catalog = scene.perform(&catalog(&scene.target)).await.unwrap();
    assert!(matches!(
        catalog,
        Outcome::Broker(BrokerOutcome::Failed { .. })
    ));
    assert!(scene.fake.requests().is_empty());
    assert_eq!(scene.remark(), None);
}

#[tokio::test]
async fn after_the_pause_one_request_tries_and_its_answer_lets_the_others_go() {
    let mut scene = Scene::new(Pace::Sync).await;
    scene.target.paused_until = Some(in_ms(-1));
    scene.fake.script(On::Provision, [Fault::hang()]);
    let scene = Arc::new(scene);
    let trying = perform(&scene, scene.provision());
    until(|| scene.fake.count(On::Provision) == 1).await;
    let others: Vec<_> = (0..3)
        .map(|_| perform(&scene, scene.another("demo")))
        .collect();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(scene.fake.count(On::Provision), 1, "one at a time");
    trying.abort();
    within(AMPLE, async {
        for other in others {
            provisioned(other.await.unwrap());
        }
    })
    .await;
    assert_eq!(scene.remark(), Some(BrokerOutcome::Well));
}

#[tokio::test]
async fn a_try_that_fails_is_remarked_though_it_is_the_first_failure() {
    let mut scene = Scene::new(Pace::Sync).await;
    scene.target.paused_until = Some(in_ms(-1));
    scene
        .fake
        .script(On::Provision, [Fault::say(503, "not yet")]);
    scene.perform(&scene.provision()).await.unwrap();
    let remark = scene.remark();
    assert!(
        matches!(&remark, Some(BrokerOutcome::Unwell { failures: 1, reason }) if reason.contains("not yet")),
        "{remark:?}"
    );
}

fn catalog(target: &ServiceTarget) -> Effect {
    Effect::ReadCatalog {
        target: target.clone(),
        etag: None,
    }
}

#[tokio::test]
async fn limits_and_pauses_that_change_need_no_new_connection() {
    let mut scene = Scene::new(Pace::Sync).await;
    scene.perform(&scene.provision()).await.unwrap();
    // The vault can open nothing any more: only what is kept still works.
    scene
        .vault
        .erase(&scene.target.credentials.key)
        .await
        .unwrap();
    scene.target.limits.concurrent = 3;
    scene.target.paused_until = Some(in_ms(-1));
    scene.target.api_version = Some("2.16".to_owned());
    let verdict = provisioned(scene.perform(&scene.provision()).await.unwrap());
    assert!(matches!(verdict, Verdict::Done(_)), "{verdict:?}");
    scene.target.ca = "another".to_owned();
    let verdict = provisioned(scene.perform(&scene.provision()).await.unwrap());
    assert!(matches!(verdict, Verdict::Rejected { .. }), "{verdict:?}");
}

#[tokio::test]
async fn requests_of_other_brokers_are_not_held_up() {
    let scene = Scene::limited(1, 1000).await;
    scene.fake.script(On::Provision, [Fault::hang()]);
    let hanging = perform(&scene, scene.provision());
    until(|| scene.fake.count(On::Provision) == 1).await;
    let mut other = scene.another("demo");
    if let Effect::Provision { target, .. } = &mut other {
        target.broker.name = engine_model::Name::new("elsewhere").unwrap();
    }
    let id = EffectId {
        seq: Seq(8),
        index: 0,
    };
    let services = &scene.services;
    let done = services.perform(id, &scene.target.broker, &other, &Unquestioned);
    provisioned(within(AMPLE, done).await.unwrap().unwrap());
    hanging.abort();
}

/// A broker that is never reached.
#[derive(Debug)]
struct Nowhere;

#[async_trait::async_trait]
impl Transport for Nowhere {
    async fn exchange(&self, _: Outbound) -> What {
        What::NotSent("refused".to_owned())
    }
}

#[tokio::test]
async fn another_transport_has_circuits_by_the_clock_that_is_given_and_no_queue() {
    let mut scene = Scene::new(Pace::Sync).await;
    let vault: Arc<dyn Vault> = scene.vault.clone();
    scene.services = Services::over(vault.clone(), Arc::new(Nowhere));
    for _ in 0..9 {
        scene.perform(&scene.provision()).await.unwrap();
    }
    assert_eq!(scene.remark(), None, "no clock, no circuit");
    scene.services = Services::over(vault, Arc::new(Nowhere)).watching_by(|| Timestamp(7_000));
    for _ in 0..5 {
        scene.perform(&scene.provision()).await.unwrap();
    }
    let remark = scene.remark();
    assert!(
        matches!(remark, Some(BrokerOutcome::Unwell { failures: 5, .. })),
        "{remark:?}"
    );
    scene.target.paused_until = Some(Timestamp(7_500));
    let verdict = provisioned(scene.perform(&scene.provision()).await.unwrap());
    assert!(
        matches!(
            verdict,
            Verdict::Busy {
                retry_after_ms: Some(500),
                ..
            }
        ),
        "{verdict:?}"
    );
}
