//! Credentials that are replaced, instances that were there before, and brokers that need rest.

use std::time::Duration;

use adapter_osb::fake::{Options, default_catalog};
use engine_model::{Command, InstanceId, Kind};
use harness::faulty::{Fault, On};
use serde_json::json;
use uuid::Uuid;

use crate::osb::bed::Bed;

fn rotatable() -> Bed {
    let mut catalog = default_catalog();
    catalog["services"][0]["plans"][0]["binding_rotatable"] = json!(true);
    Bed::with(Options {
        catalog,
        ..Options::default()
    })
}

/// What is bound lives for so long.
fn mortal(life: Duration) -> Fault {
    Fault::edited(move |body| {
        let end = chrono::Utc::now() + life;
        let end = end.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
        body["metadata"] = json!({ "expires_at": end });
    })
}

/// Asks for other credentials, which goes wrong; returns the old binding and its password.
fn rotation_fails(bed: &Bed) -> (Vec<String>, String) {
    bed.order("db");
    bed.until_ready("db");
    let (old, first) = (bed.broker.bindings(), bed.password("db"));
    let boom = Fault::error(500, "Boom", "out of passwords").applied();
    bed.broker.script(On::Bind, [boom]);
    bed.ask(Kind::ServiceBinding, "db", Command::Rotate)
        .unwrap();
    bed.eventually("the failure is on record", || {
        bed.events(Kind::ServiceBinding, "db")
            .contains(&"RotateFailed".to_owned())
    });
    bed.eventually("what it may have made is removed", || {
        bed.broker.bindings() == old
    });
    assert_eq!(bed.password("db"), first);
    assert!(bed.shown_instance("db").is_ready(), "{}", bed.story());
    bed.until(Kind::ServiceBinding, "db", "says why", |shown| {
        shown.is_ready() && shown.reason().contains("out of passwords")
    });
    (old, first)
}

/// Until the credentials were replaced after all, and the old ones are gone.
fn rotation_succeeds(bed: &Bed, old: &[String], first: &str) {
    bed.eventually("credentials are replaced", || {
        bed.events(Kind::ServiceBinding, "db")
            .contains(&"Rotated".to_owned())
    });
    assert_ne!(bed.password("db"), first);
    bed.eventually("the old binding is gone", || {
        let now = bed.broker.bindings();
        now.len() == 1 && now != old
    });
    let binds = bed.broker.sent(On::Bind);
    assert_eq!(binds.len(), 3, "{}", bed.story());
    for bind in &binds[1..] {
        let said = bind.json();
        assert_eq!(said["predecessor_binding_id"], json!(old[0]), "{said}");
    }
    assert_ne!(binds[1].binding, binds[2].binding);
    assert_eq!(bed.broker.count(On::Deprovision), 0, "{}", bed.story());
    bed.lives_and_goes("db");
}

/// A replacement that fails leaves the credentials as they are, and what it may have made is
/// removed. Before they expire they are replaced after all, and the old ones go once nobody uses
/// them.
#[test]
pub(crate) fn a_rotation_that_fails_changes_nothing_and_succeeds_before_they_expire() {
    let bed = rotatable();
    let life = Duration::from_secs(12);
    bed.broker.script(On::Bind, [mortal(life)]);
    let (old, first) = rotation_fails(&bed);
    rotation_succeeds(&bed, &old, &first);
}

/// The same for credentials that never expire: a person was told when it is tried again.
#[test]
pub(crate) fn a_rotation_that_fails_is_tried_again_when_the_status_says_so() {
    let bed = rotatable();
    let (old, first) = rotation_fails(&bed);
    let shown = bed.shown(Kind::ServiceBinding, "db").unwrap();
    assert!(shown.reason().contains("tried again at"), "{shown:?}");
    rotation_succeeds(&bed, &old, &first);
}

/// An instance that existed before is taken on record. Whatever goes wrong with that, it is not
/// deleted.
#[test]
pub(crate) fn an_adopted_instance_is_never_deleted_because_something_fails() {
    let bed = Bed::start();
    let id = Uuid::now_v7();
    bed.make_by_hand(id);
    bed.broker.script(
        On::FetchInstance,
        [Fault::hang(), Fault::html(502), Fault::reset()],
    );
    bed.broker.script(
        On::Bind,
        [Fault::error(500, "Boom", "out of logins").applied()],
    );
    bed.adopt("db", InstanceId(id)).unwrap();
    bed.eventually("it was asked for", || {
        bed.broker.count(On::FetchInstance) > 0
    });
    bed.eventually("it is on record, or can be tried again", || {
        let shown = bed.shown_instance("db");
        if shown.is_error() {
            let _ = bed.retry("db");
            let _ = bed.ask(Kind::ServiceBinding, "db", Command::Retry);
        }
        shown.is_ready()
    });
    assert_eq!(bed.broker.instances(), [id.to_string()]);
    assert_eq!(bed.broker.count(On::Deprovision), 0, "{}", bed.story());
    assert_eq!(bed.broker.count(On::Provision), 1, "only the one by hand");
    bed.lives_and_goes("db");
}

/// 25: a broker has no more requests at once than it is allowed, however many instances wait.
#[test]
pub(crate) fn story_25_a_broker_is_asked_no_more_at_once_than_its_budget() {
    const COUNT: usize = 30;
    let bed = Bed::start();
    let slow = Fault::none().delayed(Duration::from_millis(30));
    bed.broker.always(On::Provision, slow.clone());
    bed.broker.always(On::Bind, slow);
    bed.limit(json!({"concurrent": 3}));
    let names: Vec<String> = (0..COUNT).map(|number| format!("db-{number}")).collect();
    for name in &names {
        bed.order(name);
    }
    for name in &names {
        bed.until_ready(name);
    }
    assert!(
        (2..=3).contains(&bed.broker.most_at_once()),
        "{} at once",
        bed.broker.most_at_once()
    );
    bed.keeps_the_rules();
}

/// 25: what was dropped while its request waited for its turn is not asked for any more: nobody
/// would look after what came of it.
#[test]
pub(crate) fn story_25_a_request_that_waited_in_vain_is_not_sent() {
    let bed = Bed::start();
    bed.limit(json!({"concurrent": 1}));
    let slow = Fault::none().delayed(Duration::from_millis(800));
    bed.broker.script(On::Provision, [slow]);
    bed.order("first");
    bed.eventually("the first is asked for", || {
        bed.broker.count(On::Provision) == 1
    });
    bed.order("second");
    bed.eventually("the second waits for its turn", || {
        bed.happened("second", "ProvisionRequested") == 1
    });
    let reason = "ordered by mistake".to_owned();
    bed.ask(Kind::ServiceInstance, "second", Command::Abandon { reason })
        .unwrap();
    bed.until_gone("second");
    bed.until_ready("first");
    bed.order("third");
    bed.until_ready("third");
    assert_eq!(bed.broker.count(On::Provision), 2, "{}", bed.story());
    assert_eq!(bed.broker.instances().len(), 2, "{}", bed.story());
    bed.keeps_the_rules();
}

/// 19 and 20: a broker that is down is left alone, says so, and is asked again later. What waits
/// for it goes on then.
#[test]
pub(crate) fn story_19_a_broker_that_is_down_is_left_alone_for_a_while() {
    const COUNT: usize = 8;
    let bed = Bed::start();
    let url = bed.broker.url();
    let away = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = away.local_addr().unwrap();
    drop(away);
    bed.move_broker(&format!("http://{address}"));
    for number in 0..COUNT {
        bed.order(&format!("db-{number}"));
    }
    bed.eventually("its circuit opens", || {
        bed.events(Kind::ServiceBroker, "broker")
            .contains(&"CircuitOpened".to_owned())
    });
    bed.until(Kind::ServiceBroker, "broker", "says why", |shown| {
        !shown.reason().is_empty()
    });
    bed.move_broker(&url);
    for number in 0..COUNT {
        bed.until_ready(&format!("db-{number}"));
    }
    assert_eq!(bed.broker.count(On::Provision), COUNT, "{}", bed.story());
    assert_eq!(bed.broker.count(On::Deprovision), 0, "{}", bed.story());
    bed.keeps_the_rules();
}
