//! What people see of updates, of more than one binding, and of brokers that serve others.

use engine_model::broker::BoundCredentials;
use engine_model::spec::*;
use engine_model::*;
use serde_json::{Value, json};

use super::fixture::*;
use crate::view::*;

fn proposed() -> InstanceEvent {
    InstanceEvent::UpdateProposed {
        plan: Some("premium".into()),
        parameters: json!({ "location": "eastus", "size": 2 }),
        secret_parameters: vec![name("open-sesame")],
        maintenance_version: Some("2.0.0".into()),
    }
}

fn update_requested() -> InstanceEvent {
    InstanceEvent::UpdateRequested {
        request: request(7),
        attempt: 1,
        plan_id: Some("plan-2".into()),
        bindable: true,
        deadline: Timestamp(START + 3_600_000),
    }
}

fn instance(tape: &Tape) -> Value {
    House::of(tape).one::<Instances>("azure-pg").unwrap()
}

#[test]
fn what_an_instance_is_stays_until_the_update_has_succeeded() {
    let mut tape = story();
    tape.instance("azure-pg", proposed());
    let shown = instance(&tape);
    assert_eq!(shown["status"], "UPDATING");
    assert_eq!(
        (&shown["servicePlan"], &shown["parameters"]),
        (&json!("basic50"), &json!({ "location": "westus" }))
    );
    let update = json!({
        "state": "proposed", "servicePlan": "premium", "parameters": ["location", "size"],
        "secretParameters": ["open-sesame"], "maintenanceVersion": "2.0.0", "reason": null,
        "instanceUsable": true, "updateRepeatable": true,
    });
    assert_eq!(shown["update"], update);

    tape.instance("azure-pg", update_requested()).instance(
        "azure-pg",
        InstanceEvent::OperationProgressed {
            request: request(7),
            description: Some("moving".into()),
            polls: 3,
            next_at: Timestamp(START + 90_000),
        },
    );
    let shown = instance(&tape);
    assert_eq!(shown["update"]["state"], "in progress");
    assert_eq!(shown["reason"], json!(["moving"]));
    assert_eq!(
        (
            &shown["lastOperation"]["type"],
            &shown["lastOperation"]["polls"]
        ),
        (&json!("update"), &json!(3))
    );

    tape.instance(
        "azure-pg",
        InstanceEvent::Updated {
            request: request(7),
            dashboard_url: Some("https://elsewhere.example".into()),
        },
    );
    let shown = instance(&tape);
    assert_eq!(
        (&shown["servicePlan"], &shown["update"]),
        (&json!("premium"), &Value::Null)
    );
    assert_eq!(
        shown["parameters"],
        json!({ "location": "eastus", "size": 2 })
    );
    assert_eq!(shown["secretParameters"], json!(["open-sesame"]));
    assert_eq!(shown["maintenanceVersion"], "2.0.0");
    assert_eq!(shown["dashboardUrl"], "https://elsewhere.example");
    assert_eq!(shown["lastOperation"]["state"], "succeeded");
}

#[test]
fn a_failed_update_is_told_beside_an_instance_that_works() {
    let mut tape = story();
    tape.instance("azure-pg", proposed())
        .instance("azure-pg", update_requested())
        .instance(
            "azure-pg",
            InstanceEvent::UpdateFailed {
                request: request(7),
                reason: "too many rows".into(),
                instance_usable: true,
                update_repeatable: false,
            },
        );
    let shown = instance(&tape);
    assert_eq!(
        (&shown["status"], &shown["servicePlan"]),
        (&json!("READY"), &json!("basic50"))
    );
    assert_eq!(shown["update"]["state"], "failed");
    assert_eq!(shown["update"]["reason"], "too many rows");
    assert_eq!(shown["update"]["updateRepeatable"], false);
    assert!(shown["reason"][0].as_str().unwrap().contains("as before"));
}

#[test]
fn a_plan_that_the_catalog_has_no_more_is_shown_as_long_as_it_is_used() {
    let mut tape = story();
    let mut next = offering();
    next.plans[0].id = "plan-9".into();
    next.plans[0].name = "other".into();
    let diff = vec!["- plan basic50".into()];
    tape.class(
        "azure-postgresql",
        ClassEvent::Changed {
            offering: next,
            diff,
        },
    );
    let plans = |tape: &Tape| -> Vec<(Value, Value)> {
        let class = House::of(tape).one::<Classes>("azure-postgresql").unwrap();
        let plans = class["plans"].as_array().unwrap().clone();
        plans
            .iter()
            .map(|plan| (plan["name"].clone(), plan["gone"].clone()))
            .collect()
    };
    let (other, old) = (
        (json!("other"), json!(false)),
        (json!("basic50"), json!(true)),
    );
    assert_eq!(plans(&tape), [other.clone(), old]);
    tape.instance(
        "azure-pg",
        InstanceEvent::Deprovisioned {
            request: request(3),
        },
    );
    assert_eq!(plans(&tape), [other]);
}

#[test]
fn a_plan_with_a_newer_maintenance_version_offers_an_upgrade() {
    let mut tape = story();
    let mut next = offering();
    next.plans[0].maintenance_version = Some("2.1.0".into());
    tape.class(
        "azure-postgresql",
        ClassEvent::Changed {
            offering: next,
            diff: vec![],
        },
    );
    assert_eq!(instance(&tape)["upgradeAvailable"], "2.1.0");
}

#[test]
fn an_adopted_instance_tells_its_id_at_the_broker() {
    let mut tape = story();
    let there = InstanceId::derived(format_args!("there"));
    tape.instance(
        "old",
        InstanceEvent::Created {
            id: InstanceId::derived(format_args!("old")),
            spec: instance_spec(),
        },
    )
    .instance(
        "old",
        InstanceEvent::AdoptRequested {
            request: request(20),
            attempt: 1,
            instance: there,
            broker: name("azure"),
            broker_org: None,
            service_id: "service-1".into(),
            plan_id: "plan-1".into(),
            bindable: true,
            deadline: Timestamp(START + 3_600_000),
        },
    );
    let shown = House::of(&tape).one::<Instances>("old").unwrap();
    assert_eq!(
        (&shown["adopted"], &shown["brokerInstanceId"]),
        (&json!(true), &json!(there))
    );
    assert_eq!(shown["lastOperation"]["type"], "adopt");
    assert_eq!(instance(&tape).get("brokerInstanceId"), None);
}

fn rotate(number: u32) -> BindingEvent {
    BindingEvent::RotateRequested {
        request: request(number),
        binding: BindingId::derived(format_args!("{number}")),
        predecessor: None,
        attempt: number,
        deadline: Timestamp(START + 3_600_000),
    }
}

fn rotated(number: u32, expires_at: Timestamp) -> BindingEvent {
    BindingEvent::Rotated {
        request: request(number),
        bound: BoundCredentials {
            expires_at: Some(expires_at),
            ..bound()
        },
        drained_at: Timestamp(START + 300_000),
    }
}

#[test]
fn what_happens_beside_the_credentials_in_use_does_not_disturb_them() {
    let mut tape = story();
    let shown = |tape: &Tape| House::of(tape).one::<Bindings>("azure-pg").unwrap();
    assert_eq!(shown(&tape)["rotation"], Value::Null);
    tape.binding("azure-pg", rotate(30)).binding(
        "azure-pg",
        BindingEvent::OperationAccepted {
            request: request(30),
            operation: None,
            next_at: Timestamp(START + 60_000),
        },
    );
    let during = shown(&tape);
    assert_eq!(
        (&during["status"], &during["bound"]),
        (&json!("READY"), &json!(true))
    );
    assert_eq!(during["rotation"]["state"], "in progress");
    assert_eq!(during["lastOperation"]["type"], "rotate");

    tape.binding("azure-pg", rotated(30, Timestamp(START + 7_200_000)));
    let after = shown(&tape);
    assert_eq!(after["rotation"]["state"], "succeeded");
    assert_eq!(after["expiresAt"], (START + 7_200_000) / 1000);
    let old = BindingId::derived(format_args!("1"));
    assert_eq!(after["rotation"]["replaced"][0]["bindingId"], json!(old));

    tape.binding(
        "azure-pg",
        BindingEvent::UnbindRequested {
            request: request(31),
            replaced: Some(old),
            attempt: 1,
        },
    )
    .binding(
        "azure-pg",
        BindingEvent::UnbindFailed {
            request: request(31),
            reason: "503".into(),
            next_at: Timestamp(START + 400_000),
        },
    );
    let failing = shown(&tape);
    assert_eq!(failing["status"], "READY");
    let why = failing["reason"][0].as_str().unwrap();
    assert!(
        why.starts_with("replaced credentials are being unbound: 503"),
        "{why}"
    );
    tape.binding(
        "azure-pg",
        BindingEvent::Unbound {
            request: request(31),
            replaced: Some(old),
        },
    );
    let done = shown(&tape);
    assert_eq!(
        (&done["rotation"]["replaced"], &done["reason"]),
        (&json!([]), &Value::Null)
    );
}

#[test]
fn a_binding_tells_its_instance_its_function_and_what_came_with_it() {
    let mut tape = story();
    tape.binding(
        "azure-pg--pg-example",
        BindingEvent::Created {
            id: id("own"),
            instance: instance_id(),
            owner: Some(name("azure-pg")),
            function: Some(name("pg-example")),
            tags: tags(),
            spec: BindingSpec::default(),
        },
    )
    .binding(
        "azure-pg--pg-example",
        BindingEvent::BindRequested {
            request: request(40),
            binding: BindingId::derived(format_args!("own")),
            attempt: 1,
            deadline: Timestamp(START + 3_600_000),
        },
    );
    let mut given = bound();
    given.extras.syslog_drain_url = Some("syslog://logs.example".into());
    given.extras.volume_mounts = vec!["{\"driver\":\"nfs\"}".into()];
    tape.binding(
        "azure-pg--pg-example",
        BindingEvent::Bound {
            request: request(40),
            bound: given,
        },
    );
    let house = House::of(&tape);
    let shown = house.one::<Bindings>("azure-pg--pg-example").unwrap();
    assert_eq!(
        (&shown["instance"], &shown["function"]),
        (&json!("azure-pg"), &json!("pg-example"))
    );
    assert_eq!(shown["serviceInstance"], json!(instance_id()));
    assert_eq!(shown["tags"], json!([{ "key": "role", "value": "test" }]));
    assert_eq!(shown["syslogDrainUrl"], "syslog://logs.example");
    assert_eq!(shown["volumeMounts"], json!(["{\"driver\":\"nfs\"}"]));
    // The secret of that name is of the instance's own binding.
    let secrets = house.all::<Secrets>();
    assert_eq!(secrets[0]["serviceInstance"], "azure-pg");
    assert_eq!(secrets.len(), 2);
}

#[test]
fn a_broker_tells_its_scope_its_version_and_its_circuit() {
    let mut tape = story();
    let until = Timestamp(START + 60_000);
    tape.broker(
        "azure",
        BrokerEvent::CircuitOpened {
            reason: "connection refused".into(),
            failures: 5,
            opened: 1,
            until,
        },
    );
    let shown = House::of(&tape).one::<Brokers>("azure").unwrap();
    assert_eq!(
        (&shown["status"], &shown["scope"]),
        (&json!("ERROR"), &json!("organization"))
    );
    let circuit = json!({
        "failures": 5, "opened": 1, "reason": "connection refused",
        "until": until.unix_seconds(),
    });
    assert_eq!(shown["circuit"], circuit);
    tape.broker("azure", BrokerEvent::CircuitClosed);
    let shown = House::of(&tape).one::<Brokers>("azure").unwrap();
    assert_eq!(
        (&shown["status"], &shown["circuit"]),
        (&json!("READY"), &Value::Null)
    );
}

/// Commits of the common organization, as those of ours are made.
fn common(tape: &mut Tape, kind: Kind, text: &str, event: Event) {
    tape.commit(kind, text, vec![event]);
    let org = OrgName::new("dispatch").unwrap();
    let last = tape.0.last_mut().unwrap();
    last.commit.key = ResourceKey::new(org, kind, name(text));
}

#[test]
fn classes_of_brokers_that_serve_all_are_listed_with_their_organization() {
    let mut tape = story();
    let broker = |scope| {
        let BrokerEvent::Registered {
            id,
            url,
            credentials,
            ca,
            limits,
            tags,
            ..
        } = registered()
        else {
            panic!()
        };
        Event::ServiceBroker(BrokerEvent::Registered {
            id,
            url,
            credentials,
            ca,
            scope,
            limits,
            tags,
        })
    };
    common(&mut tape, Kind::ServiceBroker, "shared", broker(Scope::All));
    for class in ["azure-postgresql", "redis"] {
        let mut offering = offering();
        offering.name = class.into();
        let offered = Event::ServiceClass(ClassEvent::Offered {
            id: id(class),
            broker: name("shared"),
            offering,
        });
        common(&mut tape, Kind::ServiceClass, class, offered);
    }
    let house = House::of(&tape);
    let listed = |house: &House| -> Vec<(Value, Value)> {
        let all = class::all(&house.reader(), &org()).unwrap();
        all.iter()
            .map(|class| (class["name"].clone(), class["organization"].clone()))
            .collect()
    };
    let own = (json!("azure-postgresql"), Value::Null);
    assert_eq!(
        listed(&house),
        [own.clone(), (json!("redis"), json!("dispatch"))]
    );
    common(
        &mut tape,
        Kind::ServiceBroker,
        "shared",
        broker(Scope::Organization),
    );
    assert_eq!(listed(&House::of(&tape)), [own]);
}

/// What was read can be written again.
#[test]
fn documents_that_were_read_are_understood_again() {
    let mut tape = story();
    tape.binding(
        "more",
        BindingEvent::Created {
            id: id("more"),
            instance: instance_id(),
            owner: Some(name("azure-pg")),
            function: None,
            tags: tags(),
            spec: BindingSpec::default(),
        },
    );
    let house = House::of(&tape);
    let seal = |_: &[u8]| ClientSealed {
        key: "k".into(),
        encapsulated: String::new(),
        ciphertext: String::new(),
    };
    let read =
        |kind, document: Option<Value>| document::read(kind, document.unwrap(), &seal).unwrap().1;
    let Spec::ServiceInstance(again) =
        read(Kind::ServiceInstance, house.one::<Instances>("azure-pg"))
    else {
        panic!()
    };
    assert_eq!(again, instance_spec());
    let Spec::ServiceBinding(again) = read(Kind::ServiceBinding, house.one::<Bindings>("more"))
    else {
        panic!()
    };
    assert_eq!(again.service_instance, name("azure-pg"));
    let Spec::ServiceBroker(again) = read(Kind::ServiceBroker, house.one::<Brokers>("azure"))
    else {
        panic!()
    };
    assert_eq!((again.scope, again.tags), (Scope::Organization, tags()));
}
