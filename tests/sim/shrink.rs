//! A shorter story that breaks the same rule: commands are left out as long as it still does.

use std::collections::BTreeSet;

use super::{Settings, Told, tell};

/// Most stories told to find a shorter one.
const TRIES_MAX: usize = 300;

/// The fewest commands found with which `seed` still breaks the rule, and the story of these.
#[must_use]
pub fn shrunk(seed: u64, settings: &Settings) -> (BTreeSet<usize>, Told) {
    // Those that set the scene are counted as well, and more than there are do no harm.
    let mut kept: Vec<usize> = (0..settings.commands + 16).collect();
    let told = |kept: &[usize]| {
        let settings = Settings {
            keep: Some(kept.iter().copied().collect()),
            ..settings.clone()
        };
        tell(seed, &settings)
    };
    let first = tell(seed, settings).violation;
    let mut tries = 0;
    let mut size = kept.len() / 2;
    while size > 0 {
        let mut from = 0;
        while from < kept.len() && tries < TRIES_MAX {
            let mut fewer = kept.clone();
            fewer.drain(from..(from + size).min(kept.len()));
            tries += 1;
            if same(&told(&fewer).violation, &first) {
                kept = fewer;
            } else {
                from += size;
            }
        }
        size /= 2;
    }
    let story = told(&kept);
    (kept.into_iter().collect(), story)
}

/// Whether the same rule is broken, be it by another resource.
fn same(one: &Option<String>, other: &Option<String>) -> bool {
    one.is_some() && one.as_deref().map(rule) == other.as_deref().map(rule)
}

/// The words of a violation without ids and numbers.
fn rule(violation: &str) -> String {
    let word = |word: &&str| !word.contains(|c: char| c.is_ascii_digit());
    violation
        .split([' ', '/'])
        .filter(word)
        .collect::<Vec<_>>()
        .join(" ")
}
