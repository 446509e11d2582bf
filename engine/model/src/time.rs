//! Moments, and what is to be looked at when one comes.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use crate::{Kind, Name, OrgName, RequestId, ResourceKey, RunId, RunWake};

/// A moment, in milliseconds since the Unix epoch.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// This moment and `ms` milliseconds more.
    #[must_use]
    pub fn plus_ms(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to here; negative when it is later.
    #[must_use]
    pub fn since_ms(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Whole seconds since the Unix epoch, as the v1 documents show times.
    #[must_use]
    pub fn unix_seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// The first moment that RFC 3339 can write: the year 0.
    pub const MIN: Self = Self(-62_167_219_200_000);

    /// The last moment that RFC 3339 can write: the end of the year 9999.
    pub const MAX: Self = Self(253_402_300_799_999);

    /// The moment, when RFC 3339 can write it.
    #[must_use]
    pub fn writable(self) -> Option<Self> {
        (Self::MIN..=Self::MAX).contains(&self).then_some(self)
    }

    /// Reads RFC 3339, of any time zone.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let moment = DateTime::parse_from_rfc3339(text.trim()).ok()?;
        Self(moment.timestamp_millis()).writable()
    }

    /// RFC 3339 in UTC with milliseconds; what it cannot write is its first or last moment.
    #[must_use]
    pub fn rfc3339(self) -> String {
        DateTime::<Utc>::from_timestamp_millis(self.clamp(Self::MIN, Self::MAX).0)
            .unwrap_or(DateTime::<Utc>::MAX_UTC)
            .to_rfc3339_opts(SecondsFormat::Millis, true)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339())
    }
}

/// What is to be looked at when a timer fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Alarm {
    /// Ask the broker how the operation that `request` began is going.
    Poll {
        /// The request that began the operation.
        request: RequestId,
    },
    /// Try again what `request` did not achieve.
    Retry {
        /// The request that is repeated or replaced.
        request: RequestId,
    },
    /// Read the broker's catalog again.
    RefreshCatalog,
    /// Look whether a binding's credentials are to be replaced, or old ones to be unbound.
    Renew,
    /// Run what a schedule has due.
    Occur,
    /// A run's moment has come; [`Due::run`] is what is to be asked for again.
    Wake,
}

impl Alarm {
    /// The alarm as a subject token: one timer per resource and token.
    #[must_use]
    pub fn token(self) -> &'static str {
        match self {
            Self::Poll { .. } => "poll",
            Self::Retry { .. } => "retry",
            Self::RefreshCatalog => "refresh",
            Self::Renew => "renew",
            Self::Occur => "occur",
            Self::Wake => "wake",
        }
    }
}

/// An alarm of a resource that has come due.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Due {
    /// Whose alarm it is.
    pub key: ResourceKey,
    /// What is to be looked at.
    pub alarm: Alarm,
    /// The run that waited, of [`Alarm::Wake`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Box<RunWake>>,
}

impl Due {
    /// An alarm of a resource.
    #[must_use]
    pub fn new(key: ResourceKey, alarm: Alarm) -> Self {
        Self {
            key,
            alarm,
            run: None,
        }
    }

    /// The alarm of a run that waits for its moment.
    ///
    /// # Panics
    /// Never: a UUID is a name.
    #[must_use]
    pub fn wake(run: RunWake) -> Self {
        Self {
            run: Some(Box::new(run.clone())),
            ..Self::of_run(&run.org, run.id)
        }
    }

    /// What names the alarm of a run, without the run.
    ///
    /// # Panics
    /// Never: a UUID is a name.
    #[must_use]
    pub fn of_run(org: &OrgName, run: RunId) -> Self {
        let name = Name::new(run.to_string()).expect("a UUID is a name");
        Self::new(ResourceKey::new(org.clone(), Kind::Run, name), Alarm::Wake)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read_again() {
        for at in [Timestamp::MIN, Timestamp(0), Timestamp::MAX] {
            assert_eq!(Timestamp::parse(&at.rfc3339()), Some(at));
        }
        for far in [Timestamp(i64::MAX), Timestamp::MAX.plus_ms(1)] {
            assert_eq!(Timestamp::parse(&far.rfc3339()), Some(Timestamp::MAX));
        }
        assert_eq!(Timestamp::parse("9999-12-31T23:59:59-01:00"), None);
    }
}
