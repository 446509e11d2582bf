//! Schedules: what is due, for whoever looks, whenever it looks.

use engine_core::{LATE_MS_MAX, Turn, before, latest, next_due, passed, schedules, turn};
use engine_model::spec::{ScheduleSpec, Spec};
use engine_model::{Code, Kind, Outcome, ResourceKey, RunId, ScheduleOutcome, Status, Timestamp};
use proptest::prelude::*;

use crate::support::*;

fn schedule(platform: &mut Platform, spec: ScheduleSpec) -> ResourceKey {
    let key = key(Kind::Schedule, "s");
    platform.must(key.clone(), create(Spec::Schedule(spec)));
    key
}

fn make_function(platform: &mut Platform) {
    let base = base_image_spec("python3");
    platform.must(key(Kind::BaseImage, "base"), create(base));
    platform.must(key(Kind::Image, "python"), create(image_spec("base", "")));
    platform.must(key(Kind::Function, "f"), create(function_spec("good")));
    platform.run();
}

fn with_function() -> Platform {
    let mut platform = Platform::new();
    make_function(&mut platform);
    platform
}

fn due(turn: &Turn, since: Timestamp) -> Vec<i64> {
    turn.due.iter().map(|due| due.at.since_ms(since)).collect()
}

#[test]
fn a_schedule_waits_for_its_function_and_counts_from_then() {
    let mut platform = Platform::new();
    let created = platform.now;
    let key = schedule(&mut platform, schedule_of("f", "10s"));
    let (status, reason) = platform.status(Kind::Schedule, "s");
    assert_eq!(status, Status::Initialized);
    assert_eq!(reason, ["function f does not exist yet"]);
    assert!(schedules(&platform.world).is_empty());
    platform.now = platform.now.plus_ms(34_000);
    make_function(&mut platform);
    assert_eq!(
        platform.status(Kind::Schedule, "s"),
        (Status::Ready, vec![])
    );
    assert_eq!(schedules(&platform.world)[0].0, key);
    let now = created.plus_ms(44_000);
    assert_eq!(
        next_due(&platform.world, &key, now),
        Some(created.plus_ms(50_000)),
        "it does not drift from its creation"
    );
    let turn = turn(&platform.world, &key, created, now).unwrap();
    assert_eq!(
        due(&turn, created),
        [40_000],
        "what was due before it began is not run"
    );
    assert_eq!(turn.missed, None);
    platform.check();
}

#[test]
fn what_is_a_little_late_is_all_run_and_what_is_very_late_only_once() {
    let mut platform = with_function();
    let key = schedule(&mut platform, schedule_of("f", "1s"));
    let t0 = platform.now;
    let at = |ms| turn(&platform.world, &key, t0, t0.plus_ms(ms)).unwrap();
    assert_eq!(due(&at(999), t0), Vec::<i64>::new());
    assert_eq!(at(999).next, Some(t0.plus_ms(1_000)));
    assert_eq!(due(&at(3_500), t0), [1_000, 2_000, 3_000]);
    let just = at(1_000 + LATE_MS_MAX);
    assert_eq!((just.due.len(), just.missed, just.late), (16, None, false));
    let late = at(60_500);
    assert_eq!(due(&late, t0), [60_000]);
    assert_eq!(late.next, Some(t0.plus_ms(61_000)));
    let Some(ScheduleOutcome::Missed {
        first, last, count, ..
    }) = late.missed
    else {
        panic!("it is recorded")
    };
    assert_eq!((first.since_ms(t0), last.since_ms(t0)), (1_000, 59_000));
    assert_eq!(count, 59);
    let known = turn(
        &platform.world,
        &key,
        t0.plus_ms(59_000),
        t0.plus_ms(60_500),
    );
    let known = known.unwrap();
    assert_eq!(due(&known, t0), [60_000]);
    assert_eq!(known.missed, None, "the node knows that they were run");
}

#[test]
fn one_that_is_due_seldom_is_made_up_for_however_late_and_nothing_was_missed() {
    let mut platform = with_function();
    let key = schedule(&mut platform, schedule_of("f", "1d"));
    let t0 = platform.now;
    let turn = turn(&platform.world, &key, t0, t0.plus_ms(2 * 86_400_000 - 1)).unwrap();
    assert_eq!(due(&turn, t0), [86_400_000]);
    assert!(turn.late && turn.missed.is_none());
}

#[test]
fn the_record_is_moved_once_an_hour_and_never_back() {
    let mut platform = with_function();
    let key = schedule(&mut platform, schedule_of("f", "1s"));
    let t0 = platform.now;
    assert_eq!(passed(&platform.world, &key, t0.plus_ms(3_599_000)), None);
    let outcome = passed(&platform.world, &key, t0.plus_ms(3_600_000)).unwrap();
    let outcome = Outcome::Schedule(outcome);
    assert_eq!(platform.learn(&key, &outcome), 1);
    assert_eq!(platform.learn(&key, &outcome), 0, "a repeat says nothing");
    let missed = |first, last| {
        let id = turn(&platform.world, &key, t0, t0).unwrap().id;
        Outcome::Schedule(ScheduleOutcome::Missed {
            id,
            first: t0.plus_ms(first),
            last: t0.plus_ms(last),
            count: 1,
        })
    };
    let (stale, fresh) = (missed(3_599_000, 3_601_000), missed(3_601_000, 3_700_000));
    assert_eq!(platform.learn(&key, &stale), 0);
    assert_eq!(platform.learn(&key, &fresh), 1);
    assert_eq!(platform.learn(&key, &fresh), 0);
    let now = t0.plus_ms(3_701_500);
    let turn = turn(&platform.world, &key, t0, now).unwrap();
    assert_eq!(due(&turn, t0), [3_701_000]);
    assert_eq!(latest(&platform.world, &key, t0.plus_ms(3_700_500)), None);
    platform.check();
}

#[test]
fn what_was_said_of_another_of_the_same_name_does_not_count() {
    let mut platform = with_function();
    let key = schedule(&mut platform, schedule_of("f", "1s"));
    let t0 = platform.now;
    let old = passed(&platform.world, &key, t0.plus_ms(7_200_000)).unwrap();
    let run = |platform: &Platform| {
        let turn = turn(&platform.world, &key, t0, t0.plus_ms(1_000)).unwrap();
        turn.due[0].run
    };
    let before = run(&platform);
    platform.must(key.clone(), delete());
    platform.must(key.clone(), create(Spec::Schedule(schedule_of("f", "1s"))));
    assert_eq!(platform.learn(&key, &Outcome::Schedule(old)), 0);
    assert_ne!(run(&platform), before, "and its runs are others");
}

#[test]
fn a_paused_schedule_is_not_due_and_what_it_leaves_out_is_not_made_up_for() {
    let mut platform = with_function();
    let key = schedule(&mut platform, schedule_of("f", "10s"));
    let t0 = platform.now;
    platform.now = t0.plus_ms(25_000);
    let paused = ScheduleSpec {
        paused: true,
        ..schedule_of("f", "10s")
    };
    platform.must(key.clone(), update(Spec::Schedule(paused)));
    assert!(schedules(&platform.world).is_empty());
    assert_eq!(turn(&platform.world, &key, t0, t0.plus_ms(99_000)), None);
    let (status, why) = platform.status(Kind::Schedule, "s");
    assert_eq!(status, Status::Ready);
    assert!(why[0].contains("--resume"), "{why:?}");
    let last = before(&platform.world, &key, t0.plus_ms(99_000)).unwrap();
    assert_eq!(last.at, t0.plus_ms(20_000), "its last run is still known");
    platform.now = t0.plus_ms(1_000_500);
    platform.must(key.clone(), update(Spec::Schedule(schedule_of("f", "10s"))));
    platform.run();
    let turn = turn(&platform.world, &key, t0, t0.plus_ms(1_010_100)).unwrap();
    assert_eq!(due(&turn, t0), [1_010_000]);
    assert_eq!(turn.missed, None);
    platform.check();
}

#[test]
fn a_change_of_the_input_leaves_the_moments_as_they_are() {
    let mut platform = with_function();
    let key = schedule(&mut platform, schedule_of("f", "10s"));
    let t0 = platform.now;
    platform.now = t0.plus_ms(25_000);
    let other = ScheduleSpec {
        input: serde_json::json!(7),
        ..schedule_of("f", "10s")
    };
    platform.must(key.clone(), update(Spec::Schedule(other)));
    let turn = turn(&platform.world, &key, t0, t0.plus_ms(25_000)).unwrap();
    assert_eq!(due(&turn, t0), [10_000, 20_000]);
    assert_eq!(turn.command.input, serde_json::json!(7));
}

#[test]
fn another_rhythm_counts_from_when_it_was_asked_for() {
    let mut platform = with_function();
    let key = schedule(&mut platform, schedule_of("f", "10s"));
    let t0 = platform.now;
    platform.now = t0.plus_ms(25_000);
    platform.must(key.clone(), update(Spec::Schedule(schedule_of("f", "7s"))));
    let turn = turn(&platform.world, &key, t0, t0.plus_ms(33_000)).unwrap();
    assert_eq!(due(&turn, t0), [32_000]);
    let last = before(&platform.world, &key, turn.due[0].at).unwrap();
    assert_eq!(last.at, t0.plus_ms(20_000));
    assert_eq!(last.run, RunId::of_schedule(&key.org, turn.id, last.at));
}

#[test]
fn a_function_that_a_schedule_runs_is_kept_unless_both_are_to_go() {
    let mut platform = with_function();
    schedule(&mut platform, schedule_of("f", "10s"));
    let refused = platform.refused(key(Kind::Function, "f"), delete());
    assert_eq!(refused.code, Code::InUse);
    assert!(refused.message.contains("Schedule s"), "{refused}");
    platform.must(key(Kind::Function, "f"), cascade());
    platform.run();
    assert_eq!(platform.status(Kind::Schedule, "s").0, Status::Deleted);
    platform.check();
}

#[test]
fn a_schedule_waits_for_its_secrets_and_keeps_them() {
    let mut platform = with_function();
    let spec = ScheduleSpec {
        secrets: vec![name("sesame")],
        ..schedule_of("f", "10s")
    };
    schedule(&mut platform, spec);
    let (status, reason) = platform.status(Kind::Schedule, "s");
    assert_eq!(status, Status::Initialized);
    assert_eq!(reason, ["secret sesame does not exist yet"]);
    platform.must(key(Kind::Secret, "sesame"), create(secret_spec()));
    platform.run();
    assert_eq!(platform.status(Kind::Schedule, "s").0, Status::Ready);
    let refused = platform.refused(key(Kind::Secret, "sesame"), delete());
    assert_eq!(refused.code, Code::InUse);
}

#[test]
fn what_is_never_due_or_too_large_is_refused() {
    let mut platform = Platform::new();
    let s = key(Kind::Schedule, "s");
    let spec = ScheduleSpec {
        cron: "0 0 30 2 *".into(),
        ..schedule_of("f", "")
    };
    let refused = platform.refused(s.clone(), create(Spec::Schedule(spec)));
    assert_eq!(refused.code, Code::InvalidField);
    let spec = ScheduleSpec {
        input: "x".repeat(70_000).into(),
        ..schedule_of("f", "1s")
    };
    let refused = platform.refused(s, create(Spec::Schedule(spec)));
    assert_eq!(refused.code, Code::TooLarge);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Nodes that look at any moments, and know or do not know what was run, run each occurrence
    /// once as long as none of them comes too late.
    #[test]
    fn whoever_looks_and_whenever_each_occurrence_has_its_one_run(
        pauses in prop::collection::vec((1..14_000_i64, any::<bool>()), 1..60), every in 1..20_u32
    ) {
        let mut platform = with_function();
        let key = schedule(&mut platform, schedule_of("f", &format!("{every}s")));
        let (t0, mut now) = (platform.now, platform.now);
        let mut runs = std::collections::BTreeMap::new();
        let mut known = t0;
        for (pause, forgets) in pauses {
            now = now.plus_ms(pause);
            // One that knows nothing finds in the log of runs which was the last.
            let through = if forgets {
                runs.last_key_value().map_or(t0, |(at, _): (&Timestamp, _)| *at)
            } else {
                known
            };
            let turn = turn(&platform.world, &key, through, now).unwrap();
            prop_assert_eq!(turn.missed, None);
            for due in turn.due {
                let before = runs.insert(due.at, due.run);
                prop_assert!(before.is_none_or(|before| before == due.run));
                known = due.at;
            }
            prop_assert!(turn.next.unwrap() > now);
        }
        let ms = i64::from(every) * 1000;
        let expected = now.since_ms(t0) / ms;
        prop_assert_eq!(i64::try_from(runs.len()).unwrap(), expected);
        let ids: std::collections::BTreeSet<_> = runs.values().collect();
        prop_assert_eq!(ids.len(), runs.len());
    }
}
