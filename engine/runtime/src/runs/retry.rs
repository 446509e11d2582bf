//! Whether a failed run is tried again, and when. Pure: the same run and attempt give the same
//! answer on every node.

use std::time::Duration;

use engine_model::spec::RunPolicy;
use engine_model::{RunErrorKind, RunId};

/// What is never exceeded between two attempts when the policy says nothing.
const BACKOFF_MAX_MS: u64 = 60_000;

/// The least wait, so that a run which fails at once leaves room for others.
const BACKOFF_LEAST_MS: u64 = 10;

/// The longest wait, also of functions that were stored before policies were bounded.
const WAIT_MAX_MS: u64 = 24 * 3600 * 1000;

/// The wait before the next attempt after so many failed ones, the last with `kind`; none when
/// there is no next one.
pub(super) fn wait(
    policy: &RunPolicy,
    run: RunId,
    failures: u32,
    kind: RunErrorKind,
) -> Option<Duration> {
    let retried = match (policy.retry_on.as_slice(), kind) {
        (_, RunErrorKind::Cancelled) => false,
        ([], RunErrorKind::FunctionError | RunErrorKind::SystemError) => true,
        (kinds, kind) => kinds.contains(&kind),
    };
    if !retried || policy.at_most_once || failures >= policy.attempts {
        return None;
    }
    let most = match policy.backoff_max {
        0 => BACKOFF_MAX_MS,
        most => most,
    };
    let doublings = failures.saturating_sub(1).min(63);
    let full = policy.backoff.saturating_mul(1 << doublings).min(most);
    let full = full.min(WAIT_MAX_MS);
    let wait = full - jitter(run, failures, full);
    Some(Duration::from_millis(wait.max(BACKOFF_LEAST_MS)))
}

/// Up to a quarter of the wait is taken off, so that runs which failed together do not come back
/// together.
fn jitter(run: RunId, failures: u32, full: u64) -> u64 {
    let drawn = RunId::derived(format_args!("{run}/{failures}"));
    let (_, low) = drawn.0.as_u64_pair();
    match full / 4 {
        0 => 0,
        quarter => low % (quarter + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> RunPolicy {
        RunPolicy {
            attempts: 4,
            backoff: 1000,
            backoff_max: 3000,
            ..RunPolicy::default()
        }
    }

    fn run(n: u32) -> RunId {
        RunId::derived(format_args!("run {n}"))
    }

    #[test]
    fn the_wait_doubles_up_to_its_limit_less_a_quarter_at_most() {
        let mut seen = std::collections::HashSet::new();
        for n in 0..200 {
            for (failures, full) in [(1, 1000), (2, 2000), (3, 3000)] {
                let one = wait(&policy(), run(n), failures, RunErrorKind::FunctionError).unwrap();
                let again = wait(&policy(), run(n), failures, RunErrorKind::FunctionError);
                assert_eq!(Some(one), again);
                let ms = one.as_millis();
                assert!(ms <= full && ms >= full * 3 / 4, "{failures}: {ms}");
                seen.insert(one);
            }
        }
        assert!(
            seen.len() > 300,
            "runs do not come back together: {}",
            seen.len()
        );
    }

    #[test]
    fn only_what_the_policy_names_is_tried_again_and_only_so_often() {
        let after = |policy: &RunPolicy, failures, kind| wait(policy, run(1), failures, kind);
        assert!(after(&policy(), 4, RunErrorKind::FunctionError).is_none());
        assert!(after(&policy(), 1, RunErrorKind::SystemError).is_some());
        assert!(after(&policy(), 1, RunErrorKind::InputError).is_none());
        assert!(after(&policy(), 1, RunErrorKind::Cancelled).is_none());
        let only_input = RunPolicy {
            retry_on: vec![RunErrorKind::InputError, RunErrorKind::Cancelled],
            ..policy()
        };
        assert!(after(&only_input, 1, RunErrorKind::InputError).is_some());
        assert!(after(&only_input, 1, RunErrorKind::FunctionError).is_none());
        assert!(after(&only_input, 1, RunErrorKind::Cancelled).is_none());
        let once = RunPolicy {
            at_most_once: true,
            ..policy()
        };
        assert!(after(&once, 1, RunErrorKind::FunctionError).is_none());
        assert!(after(&RunPolicy::default(), 1, RunErrorKind::FunctionError).is_none());
    }

    #[test]
    fn a_wait_of_nothing_and_one_of_ages_are_bounded() {
        let at_once = RunPolicy {
            attempts: 100,
            ..RunPolicy::default()
        };
        let zero = wait(&at_once, run(1), 70, RunErrorKind::FunctionError);
        assert_eq!(zero, Some(Duration::from_millis(BACKOFF_LEAST_MS)));
        let ages = RunPolicy {
            attempts: 100,
            backoff: u64::MAX,
            ..RunPolicy::default()
        };
        let minute = wait(&ages, run(1), 70, RunErrorKind::FunctionError).unwrap();
        assert!(minute <= Duration::from_secs(60) && minute >= Duration::from_secs(45));
        let unbounded = RunPolicy {
            backoff_max: u64::MAX,
            ..ages
        };
        let day = wait(&unbounded, run(1), 70, RunErrorKind::FunctionError).unwrap();
        assert!(day <= Duration::from_secs(24 * 3600), "{day:?}");
    }
}
