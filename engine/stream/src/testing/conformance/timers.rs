//! Rules of timers.

use std::time::Duration;

use engine_model::{Alarm, Due, RequestId, TimerRequest, Timestamp};
use tokio::time::{Instant, timeout};

use super::bed::Bed;
use super::samples::{PATIENCE, key, nothing, pull_one};
use crate::message::wall_clock;

fn due(name: &str, request: u32) -> Due {
    let request = RequestId::derived(format_args!("{request}"));
    Due::new(key(name), Alarm::Poll { request })
}

fn timer(due: &Due, at: Timestamp) -> TimerRequest {
    TimerRequest {
        due: due.clone(),
        at,
    }
}

/// Not early, hardly late, and once when it is acknowledged; short waits to within a few
/// milliseconds of an idle machine.
pub async fn a_timer_fires_once_and_on_time(bed: &mut dyn Bed) {
    let log = bed.log();
    let mut alarms = log.alarms().await.expect("opened");
    let late_by_at_most = bed.late_by_at_most();
    for (wait, late) in [(100, Duration::from_millis(80)), (900, late_by_at_most)] {
        let due = due(&format!("timed-{wait}"), 1);
        let began = Instant::now();
        log.set_timer(&timer(&due, wall_clock().plus_ms(wait)))
            .await
            .expect("set");
        let rung = pull_one(alarms.as_mut()).await;
        let wait = Duration::from_millis(wait.unsigned_abs());
        assert_eq!(rung.item, due);
        // The moment is cut to a millisecond.
        assert!(
            began.elapsed() + Duration::from_millis(2) >= wait,
            "{:?}",
            began.elapsed()
        );
        assert!(
            began.elapsed() <= wait + late,
            "{:?} for {wait:?}",
            began.elapsed()
        );
        rung.ack.ack().await.expect("acknowledged");
        nothing(alarms.as_mut(), bed.ack_wait() + Duration::from_millis(300)).await;
    }
    // What is due already rings at once, and until it is acknowledged.
    let past = due("past", 1);
    log.set_timer(&timer(&past, Timestamp(1)))
        .await
        .expect("set");
    let first = pull_one(alarms.as_mut()).await;
    assert_eq!(first.item, past);
    drop(first);
    let again = pull_one(alarms.as_mut()).await;
    assert_eq!((again.item, again.deliveries), (past, 2));
    again.ack.ack().await.expect("acknowledged");
}

/// One timer for each resource and alarm: the later set one holds.
pub async fn a_timer_set_again_replaces_the_first(bed: &mut dyn Bed) {
    let log = bed.log();
    let mut alarms = log.alarms().await.expect("opened");
    let (first, second, other) = (due("again", 1), due("again", 2), due("other", 3));
    let now = wall_clock();
    log.set_timer(&timer(&first, now.plus_ms(600)))
        .await
        .expect("set");
    log.set_timer(&timer(&other, now.plus_ms(700)))
        .await
        .expect("set");
    log.set_timer(&timer(&second, now.plus_ms(1600)))
        .await
        .expect("set");
    for expected in [other, second] {
        let rung = pull_one(alarms.as_mut()).await;
        assert_eq!(rung.item, expected);
        rung.ack.ack().await.expect("acknowledged");
    }
    nothing(alarms.as_mut(), Duration::from_millis(500)).await;
}

/// A timer that is taken back does not ring, and who took it back learns what it was for.
pub async fn a_timer_that_is_taken_back_does_not_ring(bed: &mut dyn Bed) {
    let log = bed.log();
    let mut alarms = log.alarms().await.expect("opened");
    let (gone, other) = (due("gone", 1), due("other", 2));
    let now = wall_clock();
    log.set_timer(&timer(&gone, now.plus_ms(900)))
        .await
        .expect("set");
    log.set_timer(&timer(&other, now.plus_ms(1000)))
        .await
        .expect("set");
    let taken = log.drop_timer(&gone).await.expect("taken back");
    assert_eq!(taken, Some(gone.clone()));
    assert_eq!(log.drop_timer(&gone).await.expect("looked for"), None);
    let rung = pull_one(alarms.as_mut()).await;
    assert_eq!(rung.item, other);
    rung.ack.ack().await.expect("acknowledged");
    nothing(alarms.as_mut(), Duration::from_secs(1)).await;
    // It can be set again.
    log.set_timer(&timer(&gone, wall_clock().plus_ms(600)))
        .await
        .expect("set");
    let rung = pull_one(alarms.as_mut()).await;
    assert_eq!(rung.item, gone);
    rung.ack.ack().await.expect("acknowledged");
}

/// A timer can be looked at without taking it back, also once it has rung, until that is ended.
pub async fn a_timer_is_seen_until_it_is_ended(bed: &mut dyn Bed) {
    let log = bed.log();
    let mut alarms = log.alarms().await.expect("opened");
    let (seen, other) = (due("seen", 1), due("other", 2));
    assert_eq!(log.timer(&seen).await.expect("looked at"), None);
    let at = wall_clock().plus_ms(900);
    log.set_timer(&timer(&seen, at)).await.expect("set");
    for _ in 0..2 {
        let found = log.timer(&seen).await.expect("looked at");
        assert_eq!(found, Some(seen.clone()));
    }
    assert_eq!(log.timer(&other).await.expect("looked at"), None);
    let rung = pull_one(alarms.as_mut()).await;
    assert_eq!(rung.item, seen);
    let found = log.timer(&seen).await.expect("looked at");
    assert_eq!(found, Some(seen.clone()), "nobody has ended it");
    rung.ack.ack().await.expect("acknowledged");
    let gone = async {
        while log.timer(&seen).await.expect("looked at").is_some() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, gone).await.expect("it is gone");
}

/// A set timer needs neither its setter nor the server's process.
pub async fn a_timer_survives_the_death_of_the_server(bed: &mut dyn Bed) {
    let log = bed.log();
    let due = due("durable", 1);
    log.set_timer(&timer(&due, wall_clock().plus_ms(1500)))
        .await
        .expect("set");
    bed.restart().await;
    let mut alarms = loop {
        match log.alarms().await {
            Ok(alarms) => break alarms,
            Err(crate::port::Error::Unavailable(_)) => {}
            Err(error) => panic!("{error}"),
        }
    };
    let rung = pull_one(alarms.as_mut()).await;
    assert_eq!(rung.item, due);
    rung.ack.ack().await.expect("acknowledged");
}
