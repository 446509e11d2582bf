//! The order of requests, by hand and at random.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const START: Timestamp = Timestamp(1_000_000);

fn limits(concurrent: u32, per_second: u32) -> BrokerLimits {
    BrokerLimits {
        concurrent,
        per_second,
    }
}

fn lane(concurrent: u32, per_second: u32) -> Lane {
    Lane::new(limits(concurrent, per_second), START)
}

fn poll(org: &str) -> Wish {
    Wish {
        org: OrgName::new(org).unwrap(),
        background: false,
        changes: None,
    }
}

fn change(org: &str, instance: u128) -> Wish {
    Wish {
        changes: Some(InstanceId(Uuid::from_u128(instance))),
        ..poll(org)
    }
}

fn clean(instance: u128) -> Wish {
    Wish {
        background: true,
        ..change("demo", instance)
    }
}

fn enter(lane: &mut Lane, wishes: impl IntoIterator<Item = Wish>) {
    for (ticket, wish) in (1..).zip(wishes) {
        assert_eq!(lane.enter(ticket, wish, START), Ok(()));
    }
}

fn after(ms: i64) -> Timestamp {
    START.plus_ms(ms)
}

#[test]
fn no_more_are_under_way_than_the_budget_says() {
    let mut lane = lane(2, 1000);
    enter(&mut lane, [poll("a"), poll("a"), poll("a")]);
    assert_eq!(lane.admit(false, START).go, [1, 2]);
    assert_eq!(lane.admit(false, START), Admitted::default());
    lane.leave(1);
    assert_eq!(lane.admit(false, START).go, [3]);
    lane.leave(2);
    lane.leave(3);
    assert!(lane.is_idle());
}

#[test]
fn a_burst_may_be_as_large_as_a_second_and_then_the_rate_is_kept() {
    let mut lane = lane(1000, 10);
    enter(&mut lane, vec![poll("a"); 30]);
    let admitted = lane.admit(false, START);
    assert_eq!(admitted.go.len(), 10);
    assert_eq!(admitted.wake, Some(after(100)));
    assert_eq!(lane.admit(false, after(99)).go.len(), 0);
    assert_eq!(lane.admit(false, after(100)).go.len(), 1);
    assert_eq!(lane.admit(false, after(1100)).go.len(), 10);
    // An hour of rest earns no more than a burst.
    assert_eq!(lane.admit(false, after(3_600_000)).go.len(), 9);
    enter(&mut lane, vec![poll("a"); 30]);
    assert_eq!(lane.admit(false, after(3_600_000)).go.len(), 1);
}

#[test]
fn organizations_take_turns_however_many_requests_one_has() {
    let mut lane = lane(1, 1000);
    let mut wishes = vec![poll("big"); 5];
    wishes.extend([poll("small"), poll("small"), poll("tiny")]);
    enter(&mut lane, wishes);
    let mut order = Vec::new();
    loop {
        let go = lane.admit(false, START).go;
        let [ticket] = go[..] else { break };
        order.push(ticket);
        lane.leave(ticket);
    }
    assert_eq!(order, [1, 6, 8, 2, 7, 3, 4, 5]);
}

#[test]
fn of_an_instance_one_change_is_under_way_and_polls_are_exempt() {
    let mut lane = lane(10, 1000);
    enter(
        &mut lane,
        [change("a", 7), change("a", 7), change("a", 8), poll("a")],
    );
    assert_eq!(lane.admit(false, START).go, [1, 3, 4]);
    lane.leave(3);
    assert_eq!(lane.admit(false, START).go, [0; 0]);
    lane.leave(1);
    assert_eq!(lane.admit(false, START).go, [2]);
}

#[test]
fn cleaning_up_comes_after_all_else_one_at_a_time_and_one_in_a_second() {
    let mut lane = lane(2, 1000);
    enter(
        &mut lane,
        [clean(1), clean(2), poll("a"), poll("a"), poll("a")],
    );
    assert_eq!(lane.admit(false, START).go, [3, 4]);
    lane.leave(3);
    assert_eq!(lane.admit(false, START).go, [5]);
    lane.leave(4);
    assert_eq!(lane.admit(false, START).go, [1]);
    lane.leave(5);
    assert_eq!(
        lane.admit(false, after(5000)),
        Admitted::default(),
        "the first is under way"
    );
    lane.leave(1);
    let early = lane.admit(false, after(999));
    assert_eq!((early.go.len(), early.wake), (0, Some(after(1000))));
    assert_eq!(lane.admit(false, after(1000)).go, [2]);
}

#[test]
fn cleaning_up_that_has_waited_long_is_not_put_off_for_ever() {
    let mut lane = lane(1, 1000);
    enter(&mut lane, [clean(1), poll("a"), poll("a")]);
    assert_eq!(lane.admit(false, START).go, [2]);
    lane.leave(2);
    assert_eq!(lane.admit(false, after(BACKGROUND_WAIT_MS)).go, [1]);
}

#[test]
fn one_at_a_time_while_the_broker_is_being_tried() {
    let mut lane = lane(10, 1000);
    enter(&mut lane, [poll("a"), poll("b")]);
    assert_eq!(lane.admit(true, START).go, [1]);
    assert_eq!(lane.admit(true, START).go, [0; 0]);
    lane.leave(1);
    assert_eq!(lane.admit(true, START).go, [2]);
}

#[test]
fn whoever_leaves_frees_a_place_wherever_he_was() {
    let mut lane = lane(1, 1000);
    enter(&mut lane, [change("a", 7), change("a", 7), poll("b")]);
    assert_eq!(lane.admit(false, START).go, [1]);
    lane.leave(2);
    lane.leave(1);
    lane.leave(99);
    assert_eq!(lane.admit(false, START).go, [3]);
    lane.leave(3);
    assert!(lane.is_idle() && lane.turns.is_empty() && lane.queues.is_empty());
    assert!(lane.changing.is_empty());
    enter(&mut lane, [poll("a"), clean(1)]);
    lane.dismiss();
    assert!(lane.is_idle() && lane.turns.is_empty() && lane.background.is_empty());
}

#[test]
fn those_sent_away_are_told_to_come_one_after_the_other() {
    let mut lane = lane(1, 100);
    enter(&mut lane, vec![poll("a"); 1000]);
    let away: Vec<u64> = (0..500)
        .map(|n| lane.enter(5000 + n, poll("b"), START).unwrap_err())
        .collect();
    assert_eq!(away[0], 10 * 1000 + 10);
    assert_eq!(away[499], 10 * 1000 + 5000);
    assert_eq!(lane.waiting.len(), 1000, "ten seconds of work");
    for (per_second, waiting) in [(1, 100), (50, 500), (100_000, 10_000)] {
        assert_eq!(Budget::of(limits(1, per_second)).waiting(), waiting);
    }
}

#[test]
fn a_clock_that_is_set_back_stops_nothing_for_long() {
    let mut lane = lane(100, 10);
    enter(&mut lane, vec![poll("a"); 12]);
    assert_eq!(lane.admit(false, START).go.len(), 10);
    let past = after(-60_000);
    assert_eq!(lane.admit(false, past).go.len(), 0);
    assert_eq!(lane.admit(false, past.plus_ms(100)).go.len(), 1);
}

#[derive(Debug, Clone)]
enum Step {
    Enter(Wish),
    Leave(u64),
    Wait(i64),
    Try(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let wish = (0..3_u8, any::<bool>(), proptest::option::of(0..4_u128)).prop_map(
        |(org, background, instance)| Wish {
            org: OrgName::new(["a", "b", "c"][usize::from(org)]).unwrap(),
            background,
            changes: instance.map(|id| InstanceId(Uuid::from_u128(id))),
        },
    );
    prop_oneof![
        4 => wish.prop_map(Step::Enter),
        3 => (0..40_u64).prop_map(Step::Leave),
        2 => (0..400_i64).prop_map(Step::Wait),
        1 => any::<bool>().prop_map(Step::Try),
    ]
}

proptest! {
    #[test]
    fn budgets_hold_and_everyone_gets_through(steps in proptest::collection::vec(step(), 1..120)) {
        let mut lane = lane(3, 20);
        let (mut now, mut entered, mut spent) = (START, 0, 0);
        let mut wished = HashMap::new();
        let mut gone = BTreeSet::new();
        let mut single = false;
        let check = |lane: &Lane, admitted: &Admitted, single: bool| {
            let running: Vec<_> = lane.running.values().collect();
            assert!(running.len() <= 3);
            assert!(!(single && running.len() > 1 && !admitted.go.is_empty()));
            assert!(running.iter().filter(|wish| wish.background).count() <= 1);
            let changed: Vec<_> = running.iter().filter_map(|wish| wish.changes).collect();
            let distinct: HashSet<_> = changed.iter().collect();
            assert_eq!(changed.len(), distinct.len());
        };
        for step in steps {
            match step {
                Step::Enter(wish) => {
                    entered += 1;
                    wished.insert(entered, wish.clone());
                    lane.enter(entered, wish, now).unwrap();
                }
                Step::Leave(ticket) => {
                    lane.leave(ticket);
                    if wished.contains_key(&ticket) {
                        gone.insert(ticket);
                    }
                }
                Step::Wait(ms) => now = now.plus_ms(ms),
                Step::Try(only) => single = only,
            }
            let admitted = lane.admit(single, now);
            spent += admitted.go.len() as i64;
            check(&lane, &admitted, single);
            prop_assert!(spent * 1000 <= 20_000 + now.since_ms(START) * 20);
        }
        // Whoever is under way ends, and time goes on: nobody waits for ever.
        for _ in 0..10_000 {
            for ticket in lane.running.keys().copied().collect::<Vec<_>>() {
                lane.leave(ticket);
            }
            let admitted = lane.admit(false, now);
            if lane.is_idle() {
                break;
            }
            prop_assert!(!lane.running.is_empty() || admitted.wake.is_some(), "stuck");
            now = admitted.wake.unwrap_or(now).max(now);
        }
        prop_assert!(lane.is_idle() && lane.changing.is_empty() && lane.turns.is_empty());
    }
}
