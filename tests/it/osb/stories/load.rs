//! Many at once, and brokers that cannot keep up.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use engine_model::Kind;
use harness::faulty::{Fault, On};

use crate::osb::bed::Bed;

/// 21: two people create an instance of one name at the same moment. One of them has it.
#[test]
pub(crate) fn story_21_a_name_is_taken_before_the_broker_hears_of_it() {
    let bed = Bed::start();
    let (at_once, count) = (Barrier::new(8), 8);
    let made = thread::scope(|scope| {
        let orders: Vec<_> = (0..count)
            .map(|_| {
                scope.spawn(|| {
                    at_once.wait();
                    bed.order_of("db", "small", serde_json::json!({}))
                })
            })
            .collect();
        let results = orders.into_iter().map(|order| order.join().unwrap());
        let (made, refused): (Vec<_>, Vec<_>) = results.partition(Result::is_ok);
        for refusal in refused {
            let rejection = refusal.unwrap_err();
            assert_eq!(rejection.code, engine_model::Code::AlreadyExists);
        }
        made.len()
    });
    assert_eq!(made, 1);
    bed.until_ready("db");
    assert_eq!(bed.broker.count(On::Provision), 1, "{}", bed.story());
    bed.lives_and_goes("db");
}

/// 24: a broker that is busy with the resource is waited for, whatever it was asked.
#[test]
pub(crate) fn story_24_a_busy_broker_is_waited_for_and_nobody_is_told_of_a_failure() {
    let bed = Bed::start();
    for on in [On::Provision, On::Bind, On::Unbind, On::Deprovision] {
        bed.broker.script(on, [Fault::concurrency()]);
    }
    bed.order("db");
    bed.lives_and_goes("db");
    for kind in [Kind::ServiceInstance, Kind::ServiceBinding] {
        let events = bed.events(kind, "db");
        assert!(
            !events.iter().any(|event| event.ends_with("Failed")),
            "{events:?}"
        );
        assert_eq!(
            events
                .iter()
                .filter(|event| *event == "OperationDelayed")
                .count(),
            2
        );
    }
    for on in [On::Provision, On::Bind, On::Unbind, On::Deprovision] {
        assert_eq!(bed.broker.count(on), 2, "{}", bed.story());
    }
}

/// 25: a hundred instances at once at a broker that takes a few at a time. All of them come, and
/// none is asked for again before the broker allows it.
#[test]
pub(crate) fn story_25_a_hundred_at_once_wait_for_a_broker_that_says_when() {
    const COUNT: usize = 100;
    let bed = Bed::start();
    let full = || Fault::error(429, "TooManyRequests", "slow down").header("retry-after", 2);
    bed.broker
        .script(On::Provision, (0..COUNT / 2).map(|_| full()));
    let names: Vec<String> = (0..COUNT).map(|number| format!("db-{number}")).collect();
    for name in &names {
        bed.order(name);
    }
    for name in &names {
        bed.until_ready(name);
    }
    assert_eq!(bed.broker.instances().len(), COUNT, "{}", bed.story());
    let sent = bed.broker.sent(On::Provision);
    for refused in sent.iter().filter(|one| one.status == Some(429)) {
        let again = sent
            .iter()
            .find(|one| one.instance == refused.instance && one.at > refused.at);
        let again = again.expect("it was asked again");
        let pause = again.at.duration_since(refused.at);
        assert!(pause >= Duration::from_millis(1_950), "{pause:?}");
    }
    for name in &names {
        bed.delete(name);
    }
    for name in &names {
        bed.until_gone(name);
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    bed.nothing_is_left(&names);
}
