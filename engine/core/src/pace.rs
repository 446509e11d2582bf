//! How long to wait: polls grow with the operation, repeats grow with their number, and the
//! scatter between resources is derived from ids, so that a replay waits the same.

use engine_model::{RequestId, Timestamp};

/// Shortest pause between two polls of one operation, in milliseconds.
const POLL_MS_MIN: i64 = 100;

/// Longest pause between two polls, in milliseconds: a person notices a minute.
const POLL_MS_MAX: i64 = 60_000;

/// A poll waits this fraction (1/20, 5 %) of the time that the operation has taken so far.
const ELAPSED_PER_POLL: i64 = 20;

/// Polls that say nothing new are kept after this fraction of the time that the operation has
/// taken so far, at least and at most so many milliseconds apart. When a node dies whose polls were
/// not kept, another one takes them up so much later.
const ELAPSED_PER_KEPT: i64 = 2;
const KEPT_MS_MIN: i64 = 2_000;
const KEPT_MS_MAX: i64 = 300_000;

/// Longest wait that a broker can ask for, in milliseconds: a day.
const RETRY_AFTER_MS_MAX: i64 = 86_400_000;

/// Longest operation, in milliseconds: 7 days, as Cloud Foundry has it.
pub(crate) const OPERATION_MS_MAX: i64 = 7 * 86_400_000;

/// How repeats slow down.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    first_ms: i64,
    max_ms: i64,
}

/// For what did not reach the broker, or found it busy.
pub(crate) const DELAYED: Backoff = Backoff {
    first_ms: 1_000,
    max_ms: 60_000,
};

/// For what someone asked to delete.
pub(crate) const REMOVAL: Backoff = Backoff {
    first_ms: 2_000,
    max_ms: 600_000,
};

/// For what nobody waits for: what a failed request may have left behind.
pub(crate) const ORPHAN: Backoff = Backoff {
    first_ms: 5_000,
    max_ms: 3_600_000,
};

/// For credentials that could not be replaced.
pub(crate) const ROTATION: Backoff = Backoff {
    first_ms: 5_000,
    max_ms: 600_000,
};

/// For a broker that does not answer.
pub(crate) const CIRCUIT: Backoff = Backoff {
    first_ms: 5_000,
    max_ms: 300_000,
};

/// For a catalog that cannot be read.
pub(crate) const CATALOG: Backoff = Backoff {
    first_ms: 2_000,
    max_ms: 300_000,
};

/// Pause between two readings of a catalog that can be read, in milliseconds.
pub(crate) const CATALOG_MS: i64 = 300_000;

fn asked_for(retry_after_ms: Option<u64>) -> i64 {
    let ms = retry_after_ms.unwrap_or(0);
    i64::try_from(ms)
        .unwrap_or(i64::MAX)
        .min(RETRY_AFTER_MS_MAX)
}

/// When to ask how an operation goes that began at `since` and must be done by `until`.
pub(crate) fn poll_at(
    now: Timestamp,
    since: Timestamp,
    until: Timestamp,
    retry_after_ms: Option<u64>,
) -> Timestamp {
    let own = (now.since_ms(since) / ELAPSED_PER_POLL).clamp(POLL_MS_MIN, POLL_MS_MAX);
    let at = now.plus_ms(own.max(asked_for(retry_after_ms)));
    // One last look at the deadline itself decides what became of it.
    if at > until {
        until.max(now.plus_ms(POLL_MS_MIN))
    } else {
        at
    }
}

/// When an operation is polled again by a node that has just started: within the usual pause, and
/// not all of them at once.
pub(crate) fn scattered_poll_at(now: Timestamp, since: Timestamp, request: RequestId) -> Timestamp {
    let pause = poll_at(now, since, Timestamp(i64::MAX), None).since_ms(now);
    now.plus_ms(pause * fraction(request, 0) / 65_536)
}

/// When the next poll is kept at the latest, whatever it says: an operation that is polled closely
/// leaves few traces, and one whose poller died is found again soon.
pub(crate) fn kept_at(
    now: Timestamp,
    since: Timestamp,
    until: Timestamp,
    retry_after_ms: Option<u64>,
) -> Timestamp {
    let pause = (now.since_ms(since) / ELAPSED_PER_KEPT).clamp(KEPT_MS_MIN, KEPT_MS_MAX);
    let poll = poll_at(now, since, until, retry_after_ms);
    poll.max(now.plus_ms(pause).min(until))
}

/// When to try for the time after the `number`th failure, counted from 1.
pub(crate) fn again_at(
    now: Timestamp,
    backoff: Backoff,
    scatter: RequestId,
    number: u32,
    retry_after_ms: Option<u64>,
) -> Timestamp {
    let doubled = backoff.first_ms << number.saturating_sub(1).min(20);
    let base = doubled.min(backoff.max_ms);
    let ms = base - base / 4 + base / 2 * fraction(scatter, number) / 65_536;
    let asked = asked_for(retry_after_ms);
    // All that a broker sends away at once shall not come back at once.
    let scattered = asked + asked / 10 * fraction(scatter, number) / 65_536;
    now.plus_ms(ms.max(scattered))
}

/// 0 to 65,535, evenly, and the same each time.
fn fraction(scatter: RequestId, number: u32) -> i64 {
    let drawn = RequestId::derived(format_args!("{scatter}:{number}"));
    let bytes = drawn.0.as_bytes();
    i64::from(u16::from_be_bytes([bytes[0], bytes[1]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAR: Timestamp = Timestamp(i64::MAX);

    #[test]
    fn a_poll_comes_at_most_a_twentieth_late_and_never_sooner_than_100_ms() {
        let now = Timestamp(1_000_000);
        let after = |elapsed: i64| poll_at(now, now.plus_ms(-elapsed), FAR, None).since_ms(now);
        assert_eq!(after(0), 100);
        assert_eq!(after(10_000), 500);
        assert_eq!(after(600_000), 30_000);
        assert_eq!(after(86_400_000), 60_000);
    }

    #[test]
    fn what_is_kept_of_polls_grows_rarer_and_never_goes_beyond_the_deadline() {
        let now = Timestamp(1_000_000);
        let after = |elapsed: i64| kept_at(now, now.plus_ms(-elapsed), FAR, None).since_ms(now);
        assert_eq!(after(0), 2_000);
        assert_eq!(after(20_000), 10_000);
        assert_eq!(after(86_400_000), 300_000);
        assert_eq!(kept_at(now, now, now.plus_ms(500), None), now.plus_ms(500));
        assert_eq!(kept_at(now, now, FAR, Some(9_000)), now.plus_ms(9_000));
    }

    #[test]
    fn a_poll_obeys_retry_after_up_to_a_day_and_looks_once_at_the_deadline() {
        let now = Timestamp(0);
        assert_eq!(poll_at(now, now, FAR, Some(5_000)), Timestamp(5_000));
        assert_eq!(
            poll_at(now, now, FAR, Some(u64::MAX)),
            Timestamp(86_400_000)
        );
        assert_eq!(
            poll_at(now, now, Timestamp(300), Some(5_000)),
            Timestamp(300)
        );
        assert_eq!(poll_at(now, now, Timestamp(-1), None), Timestamp(100));
    }

    #[test]
    fn repeats_slow_down_with_a_scatter_that_is_the_same_each_time() {
        let id = RequestId::derived(format_args!("x"));
        let wait = |n| again_at(Timestamp(0), DELAYED, id, n, None).0;
        assert_eq!(wait(1), wait(1));
        for n in 1..40 {
            let base = (1_000_i64 << (n - 1).min(20)).min(60_000);
            assert!(
                (base * 3 / 4..=base * 5 / 4).contains(&wait(n)),
                "{n}: {}",
                wait(n)
            );
        }
        assert!(again_at(Timestamp(0), DELAYED, id, 1, Some(9_000)).0 >= 9_000);
    }
}
