//! Waiting, in time that is only told.

use bytes::Bytes;
use engine_model::{KeyId, Kind, Name, OrgName, Sealed};
use tokio::time::Instant;

use super::*;
use crate::reply::{Body, Headers, What};
use crate::text::Hide;

fn gate() -> Gate {
    let start = Instant::now();
    let clock = move || {
        let elapsed = start.elapsed().as_millis();
        Timestamp(1_000_000 + i64::try_from(elapsed).unwrap())
    };
    Gate::new(Arc::new(clock), true)
}

fn target() -> ServiceTarget {
    let org = OrgName::new("demo").unwrap();
    ServiceTarget {
        broker: ResourceKey::new(org, Kind::ServiceBroker, Name::new("b").unwrap()),
        url: String::new(),
        credentials: Sealed {
            key: KeyId(String::new()),
            nonce: String::new(),
            ciphertext: String::new(),
        },
        ca: String::new(),
        api_version: None,
        limits: BrokerLimits {
            concurrent: 1,
            per_second: 10,
        },
        paused_until: None,
    }
}

fn wish(org: &str) -> Wish {
    Wish {
        org: OrgName::new(org).unwrap(),
        background: false,
        changes: None,
    }
}

fn too_many(seconds: u64) -> Reply {
    Reply {
        what: What::Answered {
            status: 429,
            headers: Headers {
                retry_after: Some(Duration::from_secs(seconds)),
                etag: None,
            },
            body: Body::Whole(Bytes::new()),
        },
        hide: Hide::default(),
    }
}

fn lane_is_idle(gate: &Gate) -> bool {
    let road = gate.road(&target());
    let state = lock(&road.state);
    state.lane.is_idle() && state.waiting.is_empty()
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_does_not_come_is_not_waited_for_without_end() {
    let gate = gate();
    let held = gate.turn(&target(), wish("a")).await.unwrap();
    let began = Instant::now();
    let away = gate.turn(&target(), wish("a")).await.err().unwrap();
    assert_eq!(began.elapsed(), WAIT_MAX);
    assert!(away.reason.contains("too many"), "{away:?}");
    assert_eq!(away.retry_after_ms, 1000);
    drop(held);
    assert!(lane_is_idle(&gate), "it left no place taken");
}

#[tokio::test(start_paused = true)]
async fn whoever_gives_up_waiting_leaves_nothing_behind() {
    let gate = gate();
    let held = gate.turn(&target(), wish("a")).await.unwrap();
    let target = target();
    let waiting = gate.turn(&target, wish("a"));
    let given_up = tokio::time::timeout(Duration::from_secs(1), waiting).await;
    assert!(given_up.is_err());
    drop(held);
    assert!(lane_is_idle(&gate));
    gate.turn(&target, wish("a")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_budget_of_a_second_wakes_the_next_one_in_time() {
    let gate = gate();
    let began = Instant::now();
    for _ in 0..15 {
        drop(gate.turn(&target(), wish("a")).await.unwrap());
    }
    // Ten at once, then one each tenth of a second.
    let took = began.elapsed().as_millis();
    assert!((500..=510).contains(&took), "{took}");
}

#[tokio::test(start_paused = true)]
async fn a_short_rest_is_waited_out_to_its_end() {
    let gate = gate();
    let turn = gate.turn(&target(), wish("a")).await.unwrap();
    turn.watch().seen(&too_many(3));
    drop(turn);
    let began = Instant::now();
    gate.turn(&target(), wish("b")).await.unwrap();
    let took = began.elapsed().as_millis();
    assert!((3000..=3010).contains(&took), "{took}");
}

#[tokio::test(start_paused = true)]
async fn a_long_rest_sends_away_those_who_wait_and_those_who_come() {
    let gate = gate();
    let turn = gate.turn(&target(), wish("a")).await.unwrap();
    let target = target();
    let waiting = gate.turn(&target, wish("b"));
    let hear = async {
        tokio::task::yield_now().await;
        turn.watch().seen(&too_many(60));
        drop(turn);
    };
    let (waited, ()) = tokio::join!(waiting, hear);
    let away = waited.err().unwrap();
    assert_eq!(away.retry_after_ms, 60_000);
    assert!(away.reason.contains("left alone"), "{away:?}");
    let came = gate.turn(&target, wish("c")).await.err().unwrap();
    assert_eq!(came, away);
    assert!(lane_is_idle(&gate));
    tokio::time::sleep(Duration::from_secs(60)).await;
    gate.turn(&target, wish("c")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_circuit_that_opens_sends_away_those_who_wait() {
    let gate = gate();
    let held = gate.turn(&target(), wish("a")).await.unwrap();
    let (target, mut opened) = (target(), target());
    opened.paused_until = Some(Timestamp(1_000_000 + 60_000));
    let waiting = gate.turn(&target, wish("b"));
    let open = async {
        tokio::task::yield_now().await;
        assert!(gate.turn(&opened, wish("c")).await.is_err());
        drop(held);
    };
    let (waited, ()) = tokio::join!(waiting, open);
    assert_eq!(waited.err().unwrap().retry_after_ms, 60_000);
}
