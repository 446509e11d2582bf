//! What one can type about how a function is run: its limits, workers, isolation and runs.

use clap::{Args, ValueEnum};
use engine_model::RunErrorKind;
use engine_model::spec::Isolation;
use serde_json::{Map, Value, json};

/// How a function is run; what is not given is the node's own choice, or stays.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "How it is run")]
pub struct Policy {
    /// Workers kept even when nobody calls
    #[arg(long, value_name = "N")]
    pub min: Option<u32>,
    /// Workers at most
    #[arg(long, value_name = "N")]
    pub max: Option<u32>,
    /// Seconds that a worker may be idle before it is ended
    #[arg(long, value_name = "SECONDS")]
    pub idle: Option<u32>,
    /// A process of its own for each call ('call'), or a new one after a call that failed ('error',
    /// also without a word)
    #[arg(
        long,
        value_enum,
        value_name = "WHEN",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "error"
    )]
    pub isolate: Option<Isolate>,
    /// Megabytes of memory that a worker may use
    #[arg(long, value_name = "MB")]
    pub memory: Option<u64>,
    /// Processors that a worker may use, such as 0.5
    #[arg(long, value_name = "N", value_parser = hundredths)]
    pub cpu: Option<u32>,
    /// Processes and threads of a worker at one time
    #[arg(long, value_name = "N")]
    pub processes: Option<u32>,
    /// Open files of each process
    #[arg(long, value_name = "N")]
    pub open_files: Option<u32>,
    /// Megabytes in /tmp
    #[arg(long, value_name = "MB")]
    pub tmp_size: Option<u32>,
    /// Kilobytes that are kept of what one run prints, on each of its two streams
    #[arg(long, value_name = "KB")]
    pub log_limit: Option<u32>,
    /// Attempts at one run whose error may be repeated
    #[arg(long, value_name = "N")]
    pub attempts: Option<u32>,
    /// Milliseconds before the second attempt, doubled before each further one
    #[arg(long, value_name = "MS")]
    pub backoff: Option<u64>,
    /// Milliseconds between two attempts that are never exceeded
    #[arg(long, value_name = "MS")]
    pub backoff_max: Option<u64>,
    /// The errors that are repeated; may be repeated or comma-separated
    #[arg(long, value_enum, value_name = "TYPE", value_delimiter = ',')]
    pub retry_on: Vec<RetryOn>,
    /// Never begin a run again that was begun, not even when its node is lost; '=false' takes it back
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub at_most_once: Option<bool>,
    /// Runs under way at once on one node
    #[arg(long, value_name = "N")]
    pub concurrency: Option<u32>,
}

/// What of one call the next one must not see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Isolate {
    /// A call that failed takes its process along.
    Error,
    /// Each call has a process of its own.
    Call,
    /// Calls share a process, as without the flag.
    Shared,
}

impl From<Isolate> for Isolation {
    fn from(isolate: Isolate) -> Self {
        match isolate {
            Isolate::Error => Self::Error,
            Isolate::Call => Self::Call,
            Isolate::Shared => Self::Shared,
        }
    }
}

/// A type of error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RetryOn {
    /// The caller's fault.
    #[value(name = "InputError", alias = "input-error")]
    Input,
    /// The function's.
    #[value(name = "FunctionError", alias = "function-error")]
    Function,
    /// Dispatch's, or the machine's.
    #[value(name = "SystemError", alias = "system-error")]
    System,
}

impl From<RetryOn> for RunErrorKind {
    fn from(on: RetryOn) -> Self {
        match on {
            RetryOn::Input => Self::InputError,
            RetryOn::Function => Self::FunctionError,
            RetryOn::System => Self::SystemError,
        }
    }
}

impl Policy {
    /// Puts what was given into a function's document, and leaves the rest of it as it is.
    pub(crate) fn put(&self, fields: &mut Map<String, Value>) {
        let retry_on: Vec<RunErrorKind> = self.retry_on.iter().copied().map(Into::into).collect();
        let retry_on = (!retry_on.is_empty()).then_some(retry_on);
        let parts = [
            ("workers", "min", self.min.map(Value::from)),
            ("workers", "max", self.max.map(Value::from)),
            ("workers", "idle", self.idle.map(Value::from)),
            ("limits", "cpu", self.cpu.map(Value::from)),
            ("limits", "processes", self.processes.map(Value::from)),
            ("limits", "openFiles", self.open_files.map(Value::from)),
            ("limits", "tmp", self.tmp_size.map(Value::from)),
            ("limits", "output", self.log_limit.map(Value::from)),
            ("runs", "attempts", self.attempts.map(Value::from)),
            ("runs", "backoff", self.backoff.map(Value::from)),
            ("runs", "backoffMax", self.backoff_max.map(Value::from)),
            ("runs", "retryOn", retry_on.map(|types| json!(types))),
            ("runs", "atMostOnce", self.at_most_once.map(Value::from)),
            ("runs", "concurrent", self.concurrency.map(Value::from)),
        ];
        for (part, field, value) in parts {
            let Some(value) = value else { continue };
            let part = fields.entry(part).or_insert_with(|| json!({}));
            if !part.is_object() {
                *part = json!({});
            }
            part[field] = value;
        }
        if let Some(memory) = self.memory {
            fields.insert("memory".into(), json!(memory));
        }
        if let Some(isolate) = self.isolate {
            fields.insert("isolation".into(), json!(Isolation::from(isolate)));
        }
    }
}

/// Reads `0.5` as 50 hundredths.
fn hundredths(text: &str) -> Result<u32, String> {
    /// More than any machine has.
    const PROCESSORS_MAX: f64 = 10_000.0;
    let number: f64 = text
        .parse()
        .map_err(|_| "say a number of processors, such as 0.5 or 2".to_owned())?;
    if !(number == 0.0 || (0.01..=PROCESSORS_MAX).contains(&number)) {
        return Err("it is 0.01 at least, or 0 for the node's own limit".into());
    }
    let hundredths = (number * 100.0).round() as u32;
    Ok(hundredths)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, FromArgMatches, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Words {
        #[command(flatten)]
        policy: Policy,
    }

    fn put(words: &[&str], document: Value) -> Value {
        let words = std::iter::once(&"f").chain(words);
        let matches = Words::command().try_get_matches_from(words).unwrap();
        let words = Words::from_arg_matches(&matches).unwrap();
        let Value::Object(mut fields) = document else {
            panic!("a document is an object")
        };
        words.policy.put(&mut fields);
        Value::Object(fields)
    }

    #[test]
    fn half_a_processor_is_fifty_hundredths() {
        assert_eq!(hundredths("0.5"), Ok(50));
        assert_eq!(hundredths("0.29"), Ok(29));
        assert_eq!(hundredths("0"), Ok(0));
        for bad in ["-1", "0.001", "NaN", "inf", "two", "1e9"] {
            assert!(hundredths(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_flag_has_its_place_in_the_document() {
        let words = "--min 1 --max 4 --idle 60 --isolate=call --memory 128 --cpu 0.5 \
                     --processes 8 --open-files 64 --tmp-size 16 --log-limit 32 --attempts 3 \
                     --backoff 100 --backoff-max 1000 --retry-on SystemError,FunctionError \
                     --at-most-once --concurrency 2";
        let words: Vec<&str> = words.split_whitespace().collect();
        let whole = json!({
            "workers": {"min": 1, "max": 4, "idle": 60},
            "isolation": "call",
            "memory": 128,
            "limits": {"cpu": 50, "processes": 8, "openFiles": 64, "tmp": 16, "output": 32},
            "runs": {
                "attempts": 3, "backoff": 100, "backoffMax": 1000,
                "retryOn": ["SystemError", "FunctionError"],
                "atMostOnce": true, "concurrent": 2,
            },
        });
        assert_eq!(put(&words, json!({})), whole);
        assert_eq!(put(&[], whole.clone()), whole, "what is not given stays");
    }

    #[test]
    fn what_is_given_changes_within_its_part_alone() {
        let known = json!({"workers": {"min": 1, "max": 4}, "isolation": "call"});
        assert_eq!(
            put(&["--max", "8", "--isolate"], known),
            json!({"workers": {"min": 1, "max": 8}, "isolation": "error"})
        );
    }
}
