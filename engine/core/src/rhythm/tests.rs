//! Moments are a set: counted from anywhere, they are the same.

use engine_model::Name;
use engine_model::spec::{Overlap, Tags};
use proptest::prelude::*;
use serde_json::json;

use super::*;

const ANCHOR: Timestamp = Timestamp(1_700_000_000_123);

fn spec(cron: &str, zone: &str, every: &str) -> ScheduleSpec {
    ScheduleSpec {
        function: Name::new("f").unwrap(),
        cron: cron.into(),
        time_zone: zone.into(),
        every: every.into(),
        input: json!({}),
        secrets: vec![],
        overlap: Overlap::Allow,
        paused: false,
        tags: Tags::new(),
    }
}

fn cron(pattern: &str, zone: &str) -> Rhythm {
    Rhythm::read(&spec(pattern, zone, ""), ANCHOR).unwrap()
}

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

/// What is due after one moment, up to another.
fn between(rhythm: &Rhythm, after: &str, until: &str) -> Vec<String> {
    let (mut found, mut from, until) = (Vec::new(), at(after), at(until));
    while let Some(next) = rhythm.next(from).filter(|next| *next <= until) {
        assert!(next > from, "{from} then {next}");
        found.push(next.rfc3339()[11..16].to_owned());
        from = next;
    }
    found
}

#[test]
fn a_pattern_is_due_by_the_clock_of_its_zone() {
    let nine = cron("0 9 * * MON-FRI", "Europe/Berlin");
    let friday = at("2026-01-30T09:00:00Z");
    assert_eq!(nine.next(friday), Some(at("2026-02-02T08:00:00Z")));
    let summer = at("2026-07-01T08:00:00Z");
    assert_eq!(nine.next(summer), Some(at("2026-07-02T07:00:00Z")));
    assert_eq!(
        cron("*/5 * * * *", "").next(at("2026-01-01T00:04:59.999Z")),
        Some(at("2026-01-01T00:05:00Z"))
    );
    let seconds = cron("*/10 * * * * *", "");
    assert_eq!(
        seconds.next(at("2026-01-01T00:00:10.5Z")),
        Some(at("2026-01-01T00:00:20Z"))
    );
}

#[test]
fn what_is_due_while_the_clocks_are_set_forward_is_due_once_when_they_are() {
    // Berlin, 29 March 2026: 02:00 becomes 03:00, at 01:00 UTC.
    let night = ("2026-03-28T23:30:00Z", "2026-03-29T03:30:00Z");
    let due = |pattern| between(&cron(pattern, "Europe/Berlin"), night.0, night.1);
    assert_eq!(due("30 2 * * *"), ["01:00"]);
    assert_eq!(due("*/20 2 * * *"), ["01:00"]);
    assert_eq!(due("0 2,3 * * *"), ["01:00"]);
    assert_eq!(
        due("30 * * * *"),
        ["00:30", "01:00", "01:30", "02:30", "03:30"]
    );
    assert_eq!(due("0 * * * *"), ["00:00", "01:00", "02:00", "03:00"]);
}

#[test]
fn what_is_due_at_two_equal_times_is_due_at_the_first_unless_it_is_due_at_all_hours() {
    // Berlin, 25 October 2026: 03:00 becomes 02:00, at 01:00 UTC.
    let night = ("2026-10-24T23:30:00Z", "2026-10-25T02:30:00Z");
    let due = |pattern| between(&cron(pattern, "Europe/Berlin"), night.0, night.1);
    assert_eq!(due("30 2 * * *"), ["00:30"]);
    assert_eq!(due("*/30 2 * * *"), ["00:00", "00:30"]);
    assert_eq!(due("15 1-3 * * *"), ["00:15", "02:15"]);
    assert_eq!(due("15 * * * *"), ["00:15", "01:15", "02:15"]);
    assert_eq!(due("@hourly"), ["00:00", "01:00", "02:00"]);
}

#[test]
fn equal_lengths_of_time_are_counted_from_the_anchor() {
    let every = Rhythm::read(&spec("", "", "90s"), ANCHOR).unwrap();
    assert_eq!(every.next(ANCHOR), Some(ANCHOR.plus_ms(90_000)));
    assert_eq!(every.next(ANCHOR.plus_ms(-5)), Some(ANCHOR.plus_ms(90_000)));
    let far = ANCHOR.plus_ms(90_000 * 1_000_000 + 17);
    assert_eq!(every.next(far), Some(ANCHOR.plus_ms(90_000 * 1_000_001)));
    assert_eq!(every.last(far), Some(ANCHOR.plus_ms(90_000 * 1_000_000)));
    assert_eq!(every.last(ANCHOR), None, "its beginning is no occurrence");
    assert_eq!(every.count(ANCHOR.plus_ms(90_000), far, 1000), 1000);
}

#[test]
fn what_cannot_be_is_refused_with_its_field() {
    let refused = |cron, zone, every| {
        let refused = Rhythm::read(&spec(cron, zone, every), ANCHOR);
        refused.unwrap_err().message
    };
    for (cron, zone, every, says) in [
        ("", "", "", "cron: say 'cron' or 'every'"),
        ("* * * * *", "", "1s", "every: say"),
        ("", "Europe/Berlin", "1s", "timeZone: it goes with"),
        (
            "* * * * *",
            "Europe/Atlantis",
            "",
            "timeZone: 'Europe/Atlantis'",
        ),
        ("* * *", "", "", "cron: '* * *' is no cron pattern"),
        (
            "61 * * * *",
            "",
            "",
            "cron: '61 * * * *' is no cron pattern",
        ),
        ("0 0 1 1 * * 2030", "", "", "is no cron pattern"),
        ("0 0 30 2 *", "", "", "cron: '0 0 30 2 *' is never due"),
        ("", "", "0s", "every: it is 1s at least"),
        ("", "", "500", "is no length of time"),
        ("", "", "99999d", "3660d at most"),
        ("", "", "9999999999999999999d", "is no length of time"),
    ] {
        let told = refused(cron, zone, every);
        assert!(told.contains(says), "{cron} {zone} {every}: {told}");
    }
}

#[test]
fn what_is_due_seldom_is_found_in_both_directions() {
    let leap = cron("0 0 29 2 *", "");
    assert_eq!(
        leap.next(at("2026-01-01T00:00:00Z")),
        Some(at("2028-02-29T00:00:00Z"))
    );
    assert_eq!(
        leap.last(at("2027-06-01T00:00:00Z")),
        Some(at("2024-02-29T00:00:00Z"))
    );
    // Millions before it in the same month.
    let january = cron("* * * * 1 *", "");
    assert_eq!(
        january.last(at("2026-11-01T00:00:00Z")),
        Some(at("2026-01-31T23:59:59Z"))
    );
}

const PATTERNS: &[&str] = &[
    "*/5 * * * *",
    "30 2 * * *",
    "0 * * * *",
    "15 1-3 * * *",
    "* 2 * * *",
    "0 0 * * *",
    "0 0 1 * *",
    "0 9 * * MON-FRI",
    "0 0 L * *",
    "*/10 30 */3 * * *",
    "59 23 31 12 *",
];

const ZONES: &[&str] = &[
    "",
    "Europe/Berlin",
    "America/New_York",
    // Half an hour of summer time.
    "Australia/Lord_Howe",
    // Midnight itself was left out, or came twice.
    "America/Sao_Paulo",
    "Asia/Beirut",
    // A whole day was left out.
    "Pacific/Apia",
    "Africa/Casablanca",
];

fn rhythm() -> impl Strategy<Value = Rhythm> {
    let by_clock = (0..PATTERNS.len(), 0..ZONES.len())
        .prop_map(|(pattern, zone)| cron(PATTERNS[pattern], ZONES[zone]));
    let every = (1..200_000_i64, any::<i32>()).prop_map(|(seconds, shift)| Rhythm::Every {
        anchor: ANCHOR.plus_ms(shift.into()),
        ms: seconds * 1000,
    });
    prop_oneof![4 => by_clock, 1 => every]
}

/// Around the days on which the clocks change, more often than not.
fn moment() -> impl Strategy<Value = Timestamp> {
    let changes = [
        "2026-03-29T01:00:00Z",
        "2026-10-25T01:00:00Z",
        "2026-11-01T06:00:00Z",
        "2018-11-04T03:00:00Z",
        "2018-02-18T02:00:00Z",
        "2011-12-30T10:00:00Z",
        "2026-04-04T15:00:00Z",
        "2023-10-28T21:00:00Z",
    ];
    let near = (0..changes.len(), -20_000_000..20_000_000_i64)
        .prop_map(move |(which, ms)| at(changes[which]).plus_ms(ms));
    prop_oneof![3 => near, 1 => (1_262_304_000_000..2_500_000_000_000_i64).prop_map(Timestamp)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_next_moment_does_not_depend_on_where_one_counts_from(
        rhythm in rhythm(), from in moment(), part in 0.0..1.0_f64
    ) {
        let next = rhythm.next(from).unwrap();
        prop_assert!(next > from);
        #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "a moment between the two")]
        let between = from.plus_ms((next.since_ms(from) as f64 * part) as i64);
        prop_assert_eq!(rhythm.next(between), Some(next));
        prop_assert_eq!(rhythm.next(next.plus_ms(-1)), Some(next));
        prop_assert!(rhythm.next(next).unwrap() > next);
    }

    #[test]
    fn the_last_moment_is_the_one_whose_next_is_to_come(rhythm in rhythm(), until in moment()) {
        if let Some(last) = rhythm.last(until) {
            prop_assert!(last <= until);
            prop_assert!(rhythm.next(last).unwrap() > until);
            prop_assert_eq!(rhythm.next(last.plus_ms(-1)), Some(last));
        }
    }

    #[test]
    fn a_pattern_shows_the_time_that_it_names_unless_that_is_left_out(
        zone in 0..ZONES.len(), from in moment()
    ) {
        let half_past_two = cron("30 2 * * *", ZONES[zone]);
        let Rhythm::Cron { zone, .. } = &half_past_two else { unreachable!() };
        let next = half_past_two.next(from).unwrap();
        let wall = zone.from_utc_datetime(&utc(next).unwrap().naive_utc()).naive_local();
        let shown = wall.format("%H:%M").to_string();
        let just_before = zone.from_utc_datetime(&utc(next.plus_ms(-1000)).unwrap().naive_utc()).naive_local();
        let left_out = wall - just_before > Duration::seconds(1);
        prop_assert!(shown == "02:30" || left_out, "{shown}");
        prop_assert!(next.since_ms(from) <= 50 * 3_600_000, "no day goes without");
    }
}
