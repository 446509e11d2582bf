//! The simulation: some seeds end well, and each way to break the platform is found.

use harness::sim::{Sabotage, Settings, tell};

/// Few enough to be told within seconds without optimisation; `make sim` tells thousands.
const SEEDS: std::ops::Range<u64> = 0..25;

/// Most seeds that a broken platform may survive.
const SURVIVED_MAX: u64 = 200;

#[test]
fn whatever_breaks_all_comes_to_rest_and_nothing_is_left_behind() {
    for seed in SEEDS {
        let told = tell(seed, &Settings::default());
        assert_eq!(
            told.violation, None,
            "look at it with: sim --seed {seed} --trace"
        );
        assert!(
            told.commits > 50 && told.requests > 20,
            "seed {seed} does little"
        );
    }
}

#[test]
fn the_same_seed_tells_the_same_story_in_every_word() {
    let settings = Settings {
        trace: true,
        ..Settings::default()
    };
    let (one, other) = (tell(7, &settings), tell(7, &settings));
    assert!(one.trace.len() > 200);
    assert_eq!(one.trace, other.trace);
    assert_ne!(one.trace, tell(8, &settings).trace);
}

#[test]
fn each_way_to_break_the_platform_is_found() {
    for (name, way) in Sabotage::ALL {
        // The rarest is looked for from just before where it was seen.
        let first = if way == Sabotage::ActBlindly { 250 } else { 0 };
        let settings = Settings {
            sabotage: Some(way),
            ..Settings::default()
        };
        let found = (first..first + SURVIVED_MAX).find_map(|seed| {
            let violation = tell(seed, &settings).violation?;
            expected(way)
                .iter()
                .any(|text| violation.contains(text))
                .then_some(seed)
        });
        assert!(
            found.is_some(),
            "{name} was not found in {SURVIVED_MAX} seeds"
        );
    }
}

/// What a way to break the platform leads to.
fn expected(way: Sabotage) -> &'static [&'static str] {
    match way {
        Sabotage::DropOrphanRemovals => &["nothing shows it"],
        Sabotage::ForgetErase => &["is alive, and what it belongs to is gone"],
        Sabotage::AckFirst => &["was lost"],
        Sabotage::TrustIds => &["cannot fold its log", "another world"],
        Sabotage::ActBlindly => &["nothing shows it", "used again", "is unanswered"],
    }
}
