//! When a schedule is due. Pure: the moments are a set, and what comes next after a moment does not
//! depend on where one began to count, so that every node finds the same.
//!
//! A cron pattern speaks of the clock on the wall. Where the clocks are set forward, what would be
//! due in the time that is left out is due once, at the moment when they are. Where they are set
//! back, a pattern whose hours begin with `*` is due at both of the equal times, and any other only
//! at the first.

use chrono::{DateTime, Duration, MappedLocalTime, NaiveDateTime, Offset, TimeZone, Utc};
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use engine_model::spec::ScheduleSpec;
use engine_model::{Rejection, Timestamp};

use crate::refuse;

/// Shortest time between two occurrences, in milliseconds.
const EVERY_MS_MIN: i64 = 1_000;

/// Longest, in milliseconds: ten years, so that no sum overflows.
const EVERY_MS_MAX: i64 = 10 * 366 * 86_400_000;

/// The longest pattern: no real one comes near.
const CRON_BYTES_MAX: usize = 200;

/// How far clocks are set back at most: before that, an earlier time on the wall may come again.
const SET_BACK_MAX: Duration = Duration::hours(3);

/// How far a time on the wall is from the same time in UTC, at most, and a gap's length.
const ANY_OFFSET: Duration = Duration::hours(40);

/// How far back the latest occurrence is looked for, in ever larger steps: a second, a minute, an
/// hour, a day, a month, a year and a bit, and 28 years, after which the calendar repeats.
const LOOK_BACK_MS: &[i64] = &[
    1_000,
    61_000,
    3_601_000,
    86_401_000,
    32 * 86_400_000,
    367 * 86_400_000,
    28 * 366 * 86_400_000,
];

/// When a schedule is due.
#[derive(Debug, Clone)]
pub(crate) enum Rhythm {
    /// Every so many milliseconds after a moment.
    Every { anchor: Timestamp, ms: i64 },
    /// By the clock on the wall somewhere.
    Cron {
        pattern: Box<Cron>,
        zone: Tz,
        /// Whether it is due at both of two equal times.
        both: bool,
    },
}

impl Rhythm {
    /// Reads what a document says.
    ///
    /// # Errors
    /// `invalid-field`, naming the field.
    pub(crate) fn read(spec: &ScheduleSpec, anchor: Timestamp) -> Result<Self, Rejection> {
        match (spec.cron.as_str(), spec.every.as_str()) {
            ("", "") => Err(refuse::invalid("cron", "say 'cron' or 'every'")),
            ("", every) if spec.time_zone.is_empty() => {
                let ms = milliseconds(every)?;
                Ok(Self::Every { anchor, ms })
            }
            ("", _) => Err(refuse::invalid(
                "timeZone",
                "it goes with 'cron'; 'every' is the same everywhere",
            )),
            (cron, "") => by_clock(cron, &spec.time_zone),
            (_, _) => Err(refuse::invalid("every", "say 'cron' or 'every', not both")),
        }
    }

    /// The first occurrence after a moment.
    pub(crate) fn next(&self, after: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Every { anchor, ms } => {
                let passed = after.since_ms(*anchor).max(0) / ms;
                anchor.plus_ms((passed + 1).checked_mul(*ms)?).writable()
            }
            Self::Cron {
                pattern,
                zone,
                both,
            } => {
                let next = next_by_clock(pattern, *zone, *both, utc(after)?)?;
                // A moment within a second is still before the second's end.
                Timestamp(next.timestamp_millis()).writable()
            }
        }
    }

    /// The latest occurrence that is not after a moment.
    pub(crate) fn last(&self, until: Timestamp) -> Option<Timestamp> {
        if let Self::Every { anchor, ms } = self {
            let passed = until.since_ms(*anchor) / ms;
            return (passed >= 1).then(|| anchor.plus_ms(passed * ms));
        }
        // The later one begins to look, the later what comes next: the latest moment to begin at,
        // so that it is not after `until`, is found by halving, however many there are between.
        let reaches = |at: Timestamp| self.next(at).filter(|next| *next <= until);
        let (mut late, mut found) = (until, None);
        for back in LOOK_BACK_MS {
            let early = until.plus_ms(-back);
            found = reaches(early).map(|next| (early, next));
            if found.is_some() {
                break;
            }
            late = early;
        }
        let (mut early, mut last) = found?;
        while late.since_ms(early) > 1 {
            let middle = early.plus_ms(late.since_ms(early) / 2);
            match reaches(middle) {
                Some(next) => (early, last) = (middle, next),
                None => late = middle,
            }
        }
        Some(last)
    }

    /// How many occurrences there are from one to another, both counted; at most `most`.
    pub(crate) fn count(&self, first: Timestamp, last: Timestamp, most: u32) -> u32 {
        let (mut count, mut at) = (0, first);
        while at <= last && count < most {
            count += 1;
            let Some(next) = self.next(at) else { break };
            at = next;
        }
        count
    }
}

/// Reads a length of time: numbers with units, from long to short.
fn milliseconds(text: &str) -> Result<i64, Rejection> {
    let wrong = || {
        let shown: String = text.chars().take(40).collect();
        let why = format!("'{shown}' is no length of time, as 30s, 10m, 2h, 1d or 1h30m");
        refuse::invalid("every", why)
    };
    let (mut ms, mut number) = (0_i64, String::new());
    for c in text.chars() {
        if c.is_ascii_digit() {
            number.push(c);
            continue;
        }
        let unit = match c {
            's' => 1_000,
            'm' => 60_000,
            'h' => 3_600_000,
            'd' => 86_400_000,
            _ => return Err(wrong()),
        };
        let count: i64 = number.parse().map_err(|_| wrong())?;
        let more = count
            .checked_mul(unit)
            .and_then(|more| ms.checked_add(more));
        ms = more.ok_or_else(wrong)?;
        number.clear();
    }
    if !number.is_empty() {
        return Err(wrong());
    }
    if !(EVERY_MS_MIN..=EVERY_MS_MAX).contains(&ms) {
        return Err(refuse::invalid(
            "every",
            "it is 1s at least, and 3660d at most",
        ));
    }
    Ok(ms)
}

fn by_clock(cron: &str, zone: &str) -> Result<Rhythm, Rejection> {
    let zone: Tz = match zone {
        "" => Tz::UTC,
        zone => zone.parse().map_err(|_| {
            let shown: String = zone.chars().take(60).collect();
            let why = format!("'{shown}' is no time zone of the IANA database, as Europe/Berlin");
            refuse::invalid("timeZone", why)
        })?,
    };
    let shown = || cron.chars().take(60).collect::<String>();
    if cron.len() > CRON_BYTES_MAX {
        return Err(refuse::invalid("cron", "it is too long"));
    }
    let parser = CronParser::builder()
        .seconds(Seconds::Optional)
        .year(Year::Disallowed)
        .build();
    let pattern = parser.parse(cron).map_err(|error| {
        let why = format!("'{}' is no cron pattern, as */5 * * * *: {error}", shown());
        refuse::invalid("cron", why)
    })?;
    let rhythm = Rhythm::Cron {
        pattern: Box::new(pattern),
        zone,
        both: hours_are_open(cron),
    };
    if rhythm.next(Timestamp(0)).is_none() {
        let why = format!("'{}' is never due", shown());
        return Err(refuse::invalid("cron", why));
    }
    Ok(rhythm)
}

/// Whether the pattern speaks of all hours, or of every so many.
fn hours_are_open(cron: &str) -> bool {
    let fields: Vec<&str> = cron.split_whitespace().collect();
    match fields[..] {
        [_, hours, _, _, _] | [_, _, hours, _, _, _] => hours.starts_with('*'),
        [nickname] => nickname.eq_ignore_ascii_case("@hourly"),
        _ => false,
    }
}

fn utc(at: Timestamp) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis(at.writable()?.0)
}

/// The first moment after `after`. Times on the wall are taken in their order; the first of the
/// moments that a time stands for never comes before that of an earlier time, so that the search
/// ends at the first time all of whose moments are to come.
fn next_by_clock(cron: &Cron, zone: Tz, both: bool, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let shown = zone.from_utc_datetime(&after.naive_utc()).naive_local();
    let offset = |at: DateTime<Utc>| {
        let offset = zone.offset_from_utc_datetime(&at.naive_utc()).fix();
        i64::from(offset.local_minus_utc())
    };
    let set_back = offset(after) - offset(after + SET_BACK_MAX);
    let begin = shown - Duration::seconds(set_back.max(0));
    let mut best: Option<DateTime<Utc>> = None;
    let mut from = (begin, set_back > 0);
    loop {
        let wall: NaiveDateTime = cron.find_next_occurrence(&from.0, from.1).ok()?;
        from = (wall, false);
        let (first, second) = moments(zone, wall, both)?;
        let coming = [Some(first), second].into_iter().flatten();
        let coming = coming.filter(|moment| *moment > after);
        best = coming.chain(best).min();
        if first > after {
            return best;
        }
    }
}

/// The moments that a time on the wall stands for.
fn moments(
    zone: Tz,
    wall: NaiveDateTime,
    both: bool,
) -> Option<(DateTime<Utc>, Option<DateTime<Utc>>)> {
    Some(match zone.from_local_datetime(&wall) {
        MappedLocalTime::Single(at) => (at.to_utc(), None),
        MappedLocalTime::Ambiguous(first, second) => {
            (first.to_utc(), both.then(|| second.to_utc()))
        }
        MappedLocalTime::None => (set_forward(zone, wall)?, None),
    })
}

/// The moment when the clocks are set forward past a time on the wall.
fn set_forward(zone: Tz, wall: NaiveDateTime) -> Option<DateTime<Utc>> {
    let shows = |at: i64| {
        let at = DateTime::from_timestamp(at, 0)?;
        Some(zone.from_utc_datetime(&at.naive_utc()).naive_local())
    };
    let middle = wall.and_utc();
    let mut before = (middle - ANY_OFFSET).timestamp();
    let mut behind = (middle + ANY_OFFSET).timestamp();
    while behind - before > 1 {
        let between = before + (behind - before) / 2;
        if shows(between)? > wall {
            behind = between;
        } else {
            before = between;
        }
    }
    DateTime::from_timestamp(behind, 0)
}

#[cfg(test)]
mod tests;
