//! Updates, fetches, rotation and what else came with later versions of the API.

use adapter_osb::fake::{Fault, On, Pace};
use engine_model::broker::{Aftermath, FetchedInstance, Progress, Provisioned, Verdict};
use engine_model::{Actor, BindingId, Effect, InstanceOutcome, Outcome, Timestamp, UpdateCall};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::scene::{Scene, bound, operation, polled, provisioned, seal};

fn nothing() -> UpdateCall {
    UpdateCall {
        plan_id: None,
        parameters: Value::Null,
        secret_parameters: Vec::new(),
        schema: Value::Null,
        maintenance_version: None,
        previous_maintenance_version: None,
    }
}

impl Scene {
    fn update(&self, update: UpdateCall) -> Effect {
        Effect::UpdateInstance {
            target: self.target.clone(),
            call: self.call.clone(),
            update,
        }
    }

    async fn updated(&self, update: UpdateCall) -> (Verdict<Provisioned>, Aftermath) {
        match self.perform(&self.update(update)).await.unwrap() {
            Outcome::Instance(InstanceOutcome::UpdateAnswered {
                request,
                verdict,
                aftermath,
            }) => {
                assert_eq!(request, self.call.request);
                (verdict, aftermath)
            }
            other => panic!("{other:?}"),
        }
    }

    async fn fetched(&self) -> Verdict<FetchedInstance> {
        let effect = Effect::FetchInstance {
            target: self.target.clone(),
            call: self.call.clone(),
        };
        match self.perform(&effect).await.unwrap() {
            Outcome::Instance(InstanceOutcome::Fetched { verdict, .. }) => verdict,
            other => panic!("{other:?}"),
        }
    }

    fn last_json(&self) -> Value {
        self.fake.requests().pop().unwrap().json()
    }
}

#[tokio::test]
async fn an_update_says_what_changes_and_what_was_before_and_nothing_else() {
    let scene = Scene::new(Pace::Sync).await;
    scene.perform(&scene.provision()).await.unwrap();
    let secret = json!({"password": "canary-param"});
    let update = UpdateCall {
        plan_id: Some("large-plan-id".to_owned()),
        parameters: json!({"size": 2}),
        secret_parameters: vec![seal(scene.vault.as_ref(), "secret", &secret).await],
        maintenance_version: Some("2.0.0".to_owned()),
        previous_maintenance_version: Some("1.0.0".to_owned()),
        ..nothing()
    };
    let (verdict, aftermath) = scene.updated(update).await;
    assert!(matches!(verdict, Verdict::Done(_)), "{verdict:?}");
    assert_eq!(aftermath, Aftermath::default());
    let request = scene.fake.requests().pop().unwrap();
    assert_eq!(request.uri.query(), Some("accepts_incomplete=true"));
    let sent = request.json();
    let org = &sent["context"]["organization_guid"];
    let expected = json!({
        "service_id": "fake-service-id", "plan_id": "large-plan-id",
        "parameters": {"size": 2, "password": "canary-param"},
        "maintenance_info": {"version": "2.0.0"},
        "previous_values": {
            "service_id": "fake-service-id", "plan_id": "small-plan-id",
            "organization_id": org, "space_id": org, "maintenance_info": {"version": "1.0.0"},
        },
        "context": {
            "platform": "dispatch", "organization_guid": org, "organization_name": "demo",
            "space_guid": org, "space_name": "demo", "instance_name": "azure-pg",
        },
    });
    assert_eq!(sent, expected);

    scene.updated(nothing()).await;
    let sent = scene.last_json();
    for absent in ["plan_id", "parameters", "maintenance_info"] {
        assert!(sent.get(absent).is_none(), "{sent}");
    }
    assert!(sent["previous_values"].get("maintenance_info").is_none());
    assert_eq!(scene.fake.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn an_asynchronous_update_is_polled_with_the_plan_from_before() {
    let scene = Scene::new(Pace::Sync).await;
    scene.perform(&scene.provision()).await.unwrap();
    scene.fake.set_pace(Pace::Polls(1));
    let update = UpdateCall {
        plan_id: Some("large-plan-id".to_owned()),
        ..nothing()
    };
    let (verdict, _) = scene.updated(update).await;
    let poll = scene.poll_instance(operation(verdict));
    let first = polled(scene.perform(&poll).await.unwrap());
    assert!(matches!(first, Progress::InProgress { .. }), "{first:?}");
    let uri = scene.fake.requests().pop().unwrap().uri;
    assert!(uri.query().unwrap().contains("plan_id=small-plan-id"));
    let last = polled(scene.perform(&poll).await.unwrap());
    assert_eq!(last, Progress::Succeeded);
}

#[tokio::test]
async fn no_outcome_of_an_update_asks_for_a_removal_and_failures_say_how_it_is_left() {
    let scene = Scene::new(Pace::Sync).await;
    scene.perform(&scene.provision()).await.unwrap();
    let denied =
        r#"{"error":"E","description":"no","instance_usable":false,"update_repeatable":false}"#;
    let denials = Aftermath {
        instance_usable: false,
        update_repeatable: false,
    };
    let cases = [
        (Fault::say(400, denied), denials),
        (Fault::say(422, denied), denials),
        (Fault::say(500, denied), denials),
        (Fault::say(202, denied), Aftermath::default()),
        (Fault::say(200, denied), Aftermath::default()),
        (Fault::say(400, "{}"), Aftermath::default()),
        (Fault::say(500, "oops"), Aftermath::default()),
        (Fault::say(204, ""), Aftermath::default()),
        (Fault::say(200, "null"), Aftermath::default()),
        (Fault::say(201, "<html>"), Aftermath::default()),
        (Fault::redirect("http://elsewhere"), Aftermath::default()),
        (Fault::drop().after_work(), Aftermath::default()),
        (Fault::concurrency(), Aftermath::default()),
    ];
    for (fault, left) in cases {
        let case = format!("{fault:?}");
        scene.fake.script(On::Update, [fault]);
        let (verdict, aftermath) = scene.updated(nothing()).await;
        assert_eq!(aftermath, left, "{case}");
        let removal = matches!(verdict, Verdict::Unknown { orphan: true, .. });
        assert!(!removal, "{case}: {verdict:?}");
    }
}

#[tokio::test]
async fn a_poll_tells_how_a_failed_update_leaves_the_instance() {
    let scene = Scene::new(Pace::Sync).await;
    scene.perform(&scene.provision()).await.unwrap();
    let failed = r#"{"state":"failed","instance_usable":false,"update_repeatable":false}"#;
    let going = r#"{"state":"in progress","instance_usable":false}"#;
    let answers = [Fault::say(200, failed), Fault::say(200, going)];
    scene.fake.script(On::PollInstance, answers);
    let expected = [(false, false), (true, true)];
    for (instance_usable, update_repeatable) in expected {
        let poll = scene.poll_instance(None);
        let outcome = scene.perform(&poll).await.unwrap();
        let Outcome::Instance(InstanceOutcome::Polled { aftermath, .. }) = outcome else {
            panic!("{outcome:?}")
        };
        let left = Aftermath {
            instance_usable,
            update_repeatable,
        };
        assert_eq!(aftermath, left);
    }
}

#[tokio::test]
async fn an_instance_is_fetched_as_the_broker_has_it() {
    let scene = Scene::new(Pace::Sync).await;
    assert_eq!(scene.fetched().await, Verdict::Gone);
    let mut effect = scene.provision();
    if let Effect::Provision {
        maintenance_version,
        ..
    } = &mut effect
    {
        *maintenance_version = Some("1.2.3".to_owned());
    }
    provisioned(scene.perform(&effect).await.unwrap());
    assert_eq!(
        scene.last_json()["maintenance_info"],
        json!({"version": "1.2.3"})
    );
    let expected = FetchedInstance {
        service_id: Some("fake-service-id".to_owned()),
        plan_id: Some("small-plan-id".to_owned()),
        dashboard_url: Some(format!("http://fake/{}", scene.call.instance)),
        parameters: json!({"location": "westus"}),
        maintenance_version: Some("1.2.3".to_owned()),
    };
    assert_eq!(scene.fetched().await, Verdict::Done(expected));
    let answers = [
        Fault::say(200, r#"{"parameters":["canary"]}"#),
        Fault::concurrency(),
        Fault::say(200, r#"{"parameters":{"password":"canary"}"#),
        Fault::say(200, r#"["canary"]"#),
    ];
    scene.fake.script(On::FetchInstance, answers);
    let withheld = Verdict::Done(FetchedInstance::default());
    assert_eq!(scene.fetched().await, withheld);
    assert!(matches!(scene.fetched().await, Verdict::Busy { .. }));
    for _ in 0..2 {
        let verdict = scene.fetched().await;
        let Verdict::Unknown { reason, orphan } = verdict else {
            panic!("{verdict:?}")
        };
        assert!(!reason.contains("canary") && !orphan, "{reason}");
    }
    assert_eq!(scene.fake.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn a_rotation_names_its_predecessor_and_keeps_what_comes_with_the_credentials() {
    let scene = Scene::new(Pace::Sync).await;
    scene.perform(&scene.provision()).await.unwrap();
    scene.perform(&scene.bind()).await.unwrap();
    let sent = scene.last_json();
    assert!(sent.get("predecessor_binding_id").is_none(), "{sent}");
    let body = json!({
        "credentials": {"password": "canary"},
        "metadata": {"expires_at": "2030-01-01T00:00:00.5Z", "renew_before": "2029-12-31T00:00:00.0Z"},
        "syslog_drain_url": "syslog://canary@logs.example:514/?t=canary",
        "route_service_url": "https://route.example/",
        "volume_mounts": [{"driver": "nfs", "mode": "r", "device": {"volume_id": "v", "mount_config": "canary"}}],
    });
    scene.fake.set_binding(body);
    let mut effect = scene.bind();
    if let Effect::Bind {
        binding,
        predecessor,
        ..
    } = &mut effect
    {
        *predecessor = Some(*binding);
        *binding = BindingId(Uuid::new_v4());
    }
    for _ in 0..2 {
        let Verdict::Done(bound) = bound(scene.perform(&effect).await.unwrap()) else {
            panic!("not bound")
        };
        assert_eq!(bound.expires_at, Some(Timestamp(1_893_456_000_500)));
        assert_eq!(bound.renew_before, Some(Timestamp(1_893_369_600_000)));
        let drain = bound.extras.syslog_drain_url.as_deref();
        assert_eq!(drain, Some("syslog://logs.example:514/"));
        let route = bound.extras.route_service_url.as_deref();
        assert_eq!(route, Some("https://route.example/"));
        assert_eq!(bound.extras.volume_mounts.len(), 1);
        assert!(!format!("{bound:?}").contains("canary"));
    }
    let sent = scene.last_json();
    assert_eq!(sent["predecessor_binding_id"], scene.binding.0.to_string());
    assert_eq!(
        (&sent["service_id"], &sent["plan_id"]),
        (&json!("fake-service-id"), &json!("small-plan-id"))
    );
    assert_eq!(scene.fake.bindings().len(), 2, "old and new side by side");
}

#[tokio::test]
async fn cleaning_up_bears_nobodys_identity() {
    let mut scene = Scene::new(Pace::Sync).await;
    scene.perform(&scene.deprovision()).await.unwrap();
    scene.call.background = true;
    scene.perform(&scene.deprovision()).await.unwrap();
    scene.call.background = false;
    scene.call.actor = Actor::engine();
    scene.perform(&scene.deprovision()).await.unwrap();
    let named: Vec<bool> = scene
        .fake
        .requests()
        .iter()
        .map(|request| {
            !request
                .header("x-broker-api-originating-identity")
                .is_empty()
        })
        .collect();
    assert_eq!(named, [true, false, false]);
}
