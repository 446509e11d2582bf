//! What people see.

use engine_model::*;
use serde_json::{Value, json};

use super::fixture::*;
use crate::view::*;

/// What a failure says at its end.
const WAYS_OUT: &str = "`dispatch retry` tries again, `dispatch delete` takes it away";

#[test]
fn the_storys_documents_are_these() {
    let house = House::of(&story());
    insta::assert_json_snapshot!("base_images", house.all::<BaseImages>());
    insta::assert_json_snapshot!("images", house.all::<Images>());
    insta::assert_json_snapshot!("functions", house.all::<Functions>());
    insta::assert_json_snapshot!("secrets", house.all::<Secrets>());
    insta::assert_json_snapshot!("brokers", house.all::<Brokers>());
    insta::assert_json_snapshot!("classes", house.all::<Classes>());
    insta::assert_json_snapshot!("instances", house.all::<Instances>());
    insta::assert_json_snapshot!("bindings", house.all::<Bindings>());
    insta::assert_json_snapshot!("apis", house.all::<Apis>());
    insta::assert_json_snapshot!("schedules", house.all::<Schedules>());
    insta::assert_json_snapshot!("organizations", house.all::<Organizations>());
    insta::assert_json_snapshot!("service_accounts", house.all::<ServiceAccounts>());
    insta::assert_json_snapshot!("applications", house.all::<Applications>());
}

#[test]
fn no_document_shows_what_is_sealed_or_hashed() {
    let house = House::of(&story());
    let stored: Vec<u8> = house.dump().into_iter().flat_map(|(_, row)| row).collect();
    let stored = String::from_utf8(stored).unwrap();
    for canary in ["Y2lwaGVy", "bm9uY2U=", "c0ffee"] {
        assert!(!stored.contains(canary), "{canary}");
    }
}

/// Status and reasons of the instance after each step about it or its binding.
fn instance_statuses(steps: impl Fn(&mut Tape)) -> Vec<(Value, Value)> {
    let mut tape = Tape::default();
    tape.broker("azure", registered());
    steps(&mut tape);
    let mut house = House::empty();
    let mut statuses = Vec::new();
    for recorded in &tape.0 {
        house.fold(std::slice::from_ref(recorded));
        let kind = recorded.commit.key.kind;
        if matches!(kind, Kind::ServiceInstance | Kind::ServiceBinding) {
            let shown = house.one::<Instances>("azure-pg").unwrap_or_default();
            statuses.push((shown["status"].clone(), shown["reason"].clone()));
        }
    }
    statuses
}

#[test]
fn an_instance_is_ready_when_it_is_provisioned_and_bound() {
    let statuses = instance_statuses(|tape| {
        *tape = story();
    });
    let statuses: Vec<_> = statuses.into_iter().map(|(status, _)| status).collect();
    assert_eq!(
        statuses,
        [
            "INITIALIZED",
            "INITIALIZED",
            "CREATING",
            "CREATING",
            "CREATING",
            "CREATING",
            "CREATING",
            "READY"
        ]
    );
}

#[test]
fn an_instance_without_bindings_is_ready_when_it_is_provisioned() {
    let statuses = instance_statuses(|tape| {
        tape.instance("azure-pg", created())
            .instance("azure-pg", provision_requested(false))
            .instance("azure-pg", provisioned());
    });
    assert_eq!(statuses[2], (json!("READY"), Value::Null));
}

#[test]
fn a_failed_binding_makes_its_instance_fail_with_the_reason() {
    let statuses = instance_statuses(|tape| {
        tape.instance("azure-pg", created())
            .binding("azure-pg", wanted())
            .instance("azure-pg", provision_requested(true))
            .instance("azure-pg", provisioned())
            .binding(
                "azure-pg",
                BindingEvent::BindFailed {
                    request: request(2),
                    reason: "quota exceeded".into(),
                    orphan: false,
                    again: false,
                },
            );
    });
    assert_eq!(
        statuses[4],
        (json!("ERROR"), json!(["binding: quota exceeded", WAYS_OUT]))
    );
}

#[test]
fn a_failed_instance_says_that_its_remains_are_being_removed() {
    let statuses = instance_statuses(|tape| {
        tape.instance("azure-pg", created())
            .instance("azure-pg", provision_requested(true))
            .instance(
                "azure-pg",
                InstanceEvent::ProvisionFailed {
                    request: request(1),
                    reason: "time-out".into(),
                    orphan: true,
                },
            )
            .instance("azure-pg", deprovision_requested())
            .instance(
                "azure-pg",
                InstanceEvent::OrphanRemoved {
                    request: request(3),
                },
            )
            .instance("azure-pg", provision_requested(true));
    });
    let orphaned = "time-out; what may have been left at the broker is being removed (attempt 1)";
    assert_eq!(
        statuses[2..],
        [
            (json!("ERROR"), json!(["time-out", WAYS_OUT])),
            (json!("ERROR"), json!([orphaned])),
            (json!("ERROR"), json!(["time-out", WAYS_OUT])),
            (json!("CREATING"), Value::Null),
        ]
    );
}

#[test]
fn an_instance_that_is_to_go_goes_whatever_comes_of_its_making() {
    let statuses = instance_statuses(|tape| {
        tape.instance("azure-pg", created())
            .instance("azure-pg", provision_requested(true))
            .instance("azure-pg", InstanceEvent::DeleteRequested)
            .instance("azure-pg", provisioned())
            .instance("azure-pg", deprovision_requested())
            .instance(
                "azure-pg",
                InstanceEvent::DeprovisionFailed {
                    request: request(3),
                    reason: "503".into(),
                    next_at: Timestamp(START),
                },
            )
            .instance(
                "azure-pg",
                InstanceEvent::Deprovisioned {
                    request: request(3),
                },
            );
    });
    let shown: Vec<_> = statuses[2..]
        .iter()
        .map(|(status, _)| status.clone())
        .collect();
    let deleting = json!("DELETING");
    assert_eq!(
        shown[..4],
        [
            deleting.clone(),
            deleting.clone(),
            deleting.clone(),
            deleting
        ]
    );
    assert_eq!(
        statuses[5].1,
        json!(["503; tried again at 2023-11-14T22:13:20.000Z"])
    );
    assert_eq!(statuses[6].0, Value::Null);
}

#[test]
fn a_request_to_a_broker_that_is_gone_says_the_way_out() {
    let mut tape = story();
    tape.instance("azure-pg", InstanceEvent::DeleteRequested)
        .instance("azure-pg", deprovision_requested())
        .broker("azure", BrokerEvent::Deleted);
    let shown = House::of(&tape).one::<Instances>("azure-pg").unwrap();
    let reason = shown["reason"][0].as_str().unwrap();
    assert!(
        reason.contains("register it again under that name"),
        "{reason}"
    );
}

#[test]
fn the_binding_of_an_earlier_instance_is_not_shown_with_a_later_one() {
    let mut tape = story();
    let later = InstanceId::derived(format_args!("later"));
    tape.instance(
        "azure-pg",
        InstanceEvent::Abandoned {
            reason: "broker lost".into(),
        },
    )
    .instance(
        "azure-pg",
        InstanceEvent::Created {
            id: later,
            spec: instance_spec(),
        },
    );
    let house = House::of(&tape);
    let shown = house.one::<Instances>("azure-pg").unwrap();
    assert_eq!(
        (&shown["bound"], &shown["binding"]["status"]),
        (&json!(false), &Value::Null)
    );
    assert_eq!(shown["id"], json!(later));
}

#[test]
fn credentials_are_a_secret_from_bound_until_unbound() {
    let names = |tape: &Tape| -> Vec<Value> {
        House::of(tape)
            .all::<Secrets>()
            .iter()
            .map(|secret| secret["name"].clone())
            .collect()
    };
    let mut tape = story();
    let (stored, bound) = (json!("open-sesame"), json!(instance_id().to_string()));
    assert_eq!(names(&tape), [bound.clone(), stored.clone()]);
    tape.binding("azure-pg", BindingEvent::DeleteRequested)
        .binding(
            "azure-pg",
            BindingEvent::UnbindRequested {
                request: request(4),
                replaced: None,
                attempt: 1,
            },
        );
    assert_eq!(names(&tape), [bound, stored.clone()]);
    tape.binding(
        "azure-pg",
        BindingEvent::Unbound {
            request: request(4),
            replaced: None,
        },
    );
    assert_eq!(names(&tape), [stored]);
}

#[test]
fn a_function_says_all_that_it_waits_for() {
    let mut tape = Tape::default();
    let spec = function_spec();
    tape.function(
        "f",
        FunctionEvent::Created {
            id: id("f").into(),
            spec,
        },
    );
    let shown = House::of(&tape).one::<Functions>("f").unwrap();
    assert_eq!(shown["status"], "INITIALIZED");
    let all = json!([
        "image python3-pg does not exist yet",
        "secret open-sesame does not exist yet",
        "service instance azure-pg does not exist yet",
    ]);
    assert_eq!(shown["reason"], all);
}

#[test]
fn a_function_serves_its_old_revision_until_the_new_one_is_loaded() {
    let mut tape = story();
    let changed = engine_model::spec::FunctionSpec {
        timeout: 7,
        ..function_spec()
    };
    let (old, new) = (revision(1), revision(2));
    let status = |tape: &Tape| {
        let shown = House::of(tape).one::<Functions>("pg-example").unwrap();
        (shown["status"].clone(), shown["faasId"].clone())
    };
    tape.function(
        "pg-example",
        FunctionEvent::Updated {
            spec: function_spec(),
        },
    );
    assert_eq!(
        status(&tape),
        (json!("READY"), json!(old)),
        "nothing changed"
    );
    tape.function("pg-example", FunctionEvent::Updated { spec: changed });
    assert_eq!(status(&tape), (json!("UPDATING"), json!(old)));
    tape.function("pg-example", load(new));
    assert_eq!(status(&tape), (json!("UPDATING"), json!(old)));
    let reason = "no module named x".to_owned();
    tape.function(
        "pg-example",
        FunctionEvent::LoadFailed {
            revision: new,
            reason,
        },
    );
    assert_eq!(status(&tape), (json!("ERROR"), json!(old)));
    tape.function("pg-example", load(revision(3))).function(
        "pg-example",
        FunctionEvent::Loaded {
            revision: revision(3),
        },
    );
    assert_eq!(status(&tape), (json!("READY"), json!(revision(3))));
}

#[test]
fn a_withdrawn_class_is_shown_as_long_as_it_is_used() {
    let mut tape = story();
    tape.class("azure-postgresql", ClassEvent::Withdrawn);
    let shown = House::of(&tape).one::<Classes>("azure-postgresql").unwrap();
    assert_eq!(
        (&shown["status"], &shown["withdrawn"]),
        (&json!("ERROR"), &json!(true))
    );
    tape.instance(
        "azure-pg",
        InstanceEvent::Deprovisioned {
            request: request(3),
        },
    );
    assert_eq!(House::of(&tape).one::<Classes>("azure-postgresql"), None);
    tape.class(
        "azure-postgresql",
        ClassEvent::Offered {
            id: id("class"),
            broker: name("azure"),
            offering: offering(),
        },
    );
    let shown = House::of(&tape).one::<Classes>("azure-postgresql").unwrap();
    assert_eq!(shown["status"], "READY");
}

#[test]
fn a_broker_shows_what_it_knows_while_its_catalog_cannot_be_read() {
    let mut tape = story();
    tape.broker(
        "azure",
        BrokerEvent::CatalogFailed {
            reason: "refused".into(),
            failures: 2,
            next_at: Timestamp(START + 900_000),
        },
    );
    let shown = House::of(&tape).one::<Brokers>("azure").unwrap();
    assert_eq!(shown["status"], "ERROR");
    assert_eq!(shown["lastError"], "refused");
    assert_eq!(shown["nextRefresh"], (START + 900_000) / 1000);
    assert_eq!(shown["serviceClasses"], json!(["azure-postgresql"]));
}

#[test]
fn what_is_deleted_is_not_shown() {
    let mut tape = story();
    tape.api("post-pg-example", ApiEvent::Deleted)
        .function("pg-example", FunctionEvent::Deleted)
        .image("python3-pg", ImageEvent::Deleted)
        .base_image("python3-base", BaseImageEvent::Deleted)
        .secret("open-sesame", SecretEvent::DeleteRequested);
    let house = House::of(&tape);
    assert!(house.all::<Apis>().is_empty() && house.all::<Functions>().is_empty());
    assert!(house.all::<Images>().is_empty() && house.all::<BaseImages>().is_empty());
    assert_eq!(
        house.one::<Secrets>("open-sesame").unwrap()["status"],
        "DELETING"
    );
}

fn created() -> InstanceEvent {
    InstanceEvent::Created {
        id: instance_id(),
        spec: instance_spec(),
    }
}

fn provisioned() -> InstanceEvent {
    InstanceEvent::Provisioned {
        request: request(1),
        dashboard_url: None,
    }
}

fn deprovision_requested() -> InstanceEvent {
    InstanceEvent::DeprovisionRequested {
        request: request(3),
        attempt: 1,
    }
}

fn wanted() -> BindingEvent {
    let spec = engine_model::spec::BindingSpec::default();
    BindingEvent::Created {
        id: id("binding"),
        instance: instance_id(),
        owner: None,
        function: None,
        tags: engine_model::spec::Tags::new(),
        spec,
    }
}

fn revision(n: u32) -> RevisionId {
    RevisionId::derived(format_args!("{n}"))
}

fn load(revision: RevisionId) -> FunctionEvent {
    FunctionEvent::LoadRequested {
        revision,
        number: 2,
        language: "python3".into(),
        root: None,
        layer: None,
        endpoints: vec![],
        because: Because::Updated,
    }
}
