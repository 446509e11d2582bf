//! Schedules: what is run again and again, and when.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::spec::Tags;
use crate::{Name, OrgName, ResourceId, RunError, RunErrorKind, RunId, RunResult, Timestamp};

/// A function that is run again and again: by the clock (`cron`), or after equal lengths of time
/// (`every`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScheduleSpec {
    /// The function, by name; it may be created later.
    pub function: Name,
    /// Minute, hour, day of month, month and day of week, with seconds before them if six fields
    /// are given; empty where `every` is said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cron: String,
    /// The IANA time zone of `cron`, such as `Europe/Berlin`; empty for UTC.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub time_zone: String,
    /// A length of time, such as `30s`, `10m` or `1h30m`; empty where `cron` is said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub every: String,
    /// The input of each run.
    #[serde(default = "nothing")]
    pub input: Value,
    /// Secrets of each run, besides the function's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Name>,
    /// What is done when the run before is still going.
    #[serde(default, skip_serializing_if = "Overlap::is_allow")]
    pub overlap: Overlap,
    /// Whether nothing is run until it is resumed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// Labels.
    #[serde(default, skip_serializing_if = "Tags::is_empty")]
    pub tags: Tags,
}

fn nothing() -> Value {
    json!({})
}

impl ScheduleSpec {
    /// Whether both are due at the same moments.
    #[must_use]
    pub fn is_as_often(&self, other: &Self) -> bool {
        self.cron == other.cron && self.time_zone == other.time_zone && self.every == other.every
    }

    /// Whether both name the same resources.
    #[must_use]
    pub fn names_as(&self, other: &Self) -> bool {
        self.function == other.function && self.secrets == other.secrets
    }

    /// When it is due, for a person.
    #[must_use]
    pub fn when(&self) -> String {
        match (self.every.as_str(), self.time_zone.as_str()) {
            ("", "") => self.cron.clone(),
            ("", zone) => format!("{} {zone}", self.cron),
            (every, _) => format!("every {every}"),
        }
    }
}

/// What is done at an occurrence when the run of the one before is still going.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Overlap {
    /// It is run beside it.
    #[default]
    Allow,
    /// It is left out, which its run says.
    Skip,
}

impl Overlap {
    fn is_allow(&self) -> bool {
        *self == Self::Allow
    }
}

/// Of a schedule: created → (waits for its function) → begun. Its runs are in the log of runs; here
/// stands only what changes seldom.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ScheduleEvent {
    /// It was asked for.
    Created {
        /// Its id for ever.
        id: ResourceId,
        /// What was asked for.
        spec: ScheduleSpec,
    },
    /// It was asked to be otherwise.
    Updated {
        /// What is asked for now.
        spec: ScheduleSpec,
    },
    /// All that it names is there: what is due after this moment is run.
    Begun,
    /// Everything that was due up to this moment has its run. Recorded once an hour at most, and
    /// for those that are due less often each time: the log of runs does not go back for ever.
    Passed {
        /// The moment.
        through: Timestamp,
    },
    /// No node was there in time: what was due then is not run, except the latest of it.
    Missed {
        /// The first that is not run.
        first: Timestamp,
        /// The last that is not run.
        last: Timestamp,
        /// How many they are; no more than a thousand are counted.
        count: u32,
    },
    /// It is gone.
    Deleted,
}

/// What a node found when it did what a schedule asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScheduleOutcome {
    /// All that was due up to this moment has its run.
    Passed {
        /// The schedule, of this name perhaps not the last.
        id: ResourceId,
        /// The moment.
        through: Timestamp,
    },
    /// It is too late for these.
    Missed {
        /// The schedule, of this name perhaps not the last.
        id: ResourceId,
        /// The first.
        first: Timestamp,
        /// The last.
        last: Timestamp,
        /// How many they are.
        count: u32,
    },
}

/// Field of the output of a run that was left out: the run that was still going.
const STILL_GOING: &str = "stillGoing";

/// Field beside it: the function of that run.
const FUNCTION: &str = "function";

/// A run that was still going when another one of its schedule came due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StillGoing {
    /// The run.
    pub run: RunId,
    /// Its function, which need not be that of the other. Older programs did not say.
    pub function: Option<Name>,
}

impl RunId {
    /// The one run of a schedule at a moment, whoever asks for it and however often.
    #[must_use]
    pub fn of_schedule(org: &OrgName, schedule: ResourceId, at: Timestamp) -> Self {
        Self::derived(format_args!("schedule/{org}/{schedule}/{}", at.0))
    }
}

impl RunResult {
    /// How the run of an occurrence ends that is left out because `other`, of a function, is still
    /// going.
    #[must_use]
    pub fn left_out(schedule: &Name, other: RunId, function: &Name) -> Self {
        let message = format!("left out: run {other} of schedule {schedule} was still going");
        Self {
            output: json!({ STILL_GOING: other, FUNCTION: function }),
            error: Some(RunError {
                kind: RunErrorKind::Cancelled,
                message,
                stacktrace: Vec::new(),
            }),
            ..Self::default()
        }
    }

    /// The run because of which this one was left out.
    #[must_use]
    pub fn still_going(&self) -> Option<StillGoing> {
        let text = |field| self.output.get(field)?.as_str();
        Some(StillGoing {
            run: text(STILL_GOING)?.parse().ok()?,
            function: text(FUNCTION).and_then(|name| Name::new(name).ok()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_needs_no_more_than_a_function_and_a_rhythm() {
        let spec: ScheduleSpec =
            serde_json::from_value(json!({ "function": "f", "every": "30s" })).unwrap();
        assert_eq!(spec.input, json!({}));
        assert_eq!((spec.overlap, spec.paused), (Overlap::Allow, false));
        assert_eq!(spec.when(), "every 30s");
        let again = serde_json::to_value(&spec).unwrap();
        assert_eq!(
            again,
            json!({ "function": "f", "every": "30s", "input": {} })
        );
    }

    #[test]
    fn an_occurrence_has_one_run_and_each_has_another() {
        let org = OrgName::new("acme").unwrap();
        let schedule = |text: &str| ResourceId::derived(format_args!("{text}"));
        let run = |of: &str, at| RunId::of_schedule(&org, schedule(of), Timestamp(at));
        assert_eq!(run("a", 1000), run("a", 1000));
        assert_ne!(run("a", 1000), run("a", 2000));
        assert_ne!(run("a", 1000), run("b", 1000));
    }

    #[test]
    fn a_run_that_was_left_out_says_because_of_which() {
        let other = RunId::derived(format_args!("other"));
        let (schedule, function) = (Name::new("s").unwrap(), Name::new("f").unwrap());
        let mut result = RunResult::left_out(&schedule, other, &function);
        let mut still = StillGoing {
            run: other,
            function: Some(function),
        };
        assert_eq!(result.still_going(), Some(still.clone()));
        // As older programs wrote it.
        result.output = json!({ "stillGoing": other });
        still.function = None;
        assert_eq!(result.still_going(), Some(still));
        assert_eq!(RunResult::default().still_going(), None);
    }
}
