//! What people ask for when they ask for a function.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::spec::{ServiceUse, Tags};
use crate::{Name, RunErrorKind};

/// A function.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FunctionSpec {
    /// The image, by name; it may be created later.
    pub image: Name,
    /// The code.
    pub source: Source,
    /// What to call: `module.function` for Python, a module's path for Node. Empty for a single
    /// file means its default.
    #[serde(default)]
    pub handler: String,
    /// JSON schemas of input and output.
    #[serde(default)]
    pub schema: FunctionSchema,
    /// Secrets whose keys are merged into `context.secrets`, later ones winning.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Name>,
    /// Service instances whose credentials appear in `context.serviceBindings`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<ServiceUse>,
    /// Milliseconds that a run may take; 0 for the node's own limit.
    #[serde(default)]
    pub timeout: u64,
    /// What the function may reach.
    #[serde(default)]
    pub network: NetworkPolicy,
    /// Megabytes of memory that a worker may use; 0 for the node's own limit.
    #[serde(default)]
    pub memory: u64,
    /// What a worker may use up besides memory.
    #[serde(default, skip_serializing_if = "is_default")]
    pub limits: FunctionLimits,
    /// How many workers there are, and how long they stay.
    #[serde(default, skip_serializing_if = "is_default")]
    pub workers: WorkerScale,
    /// What of one call the next one may see.
    #[serde(default, skip_serializing_if = "is_default")]
    pub isolation: Isolation,
    /// How its runs are begun and repeated.
    #[serde(default, skip_serializing_if = "is_default")]
    pub runs: RunPolicy,
    /// Labels.
    #[serde(default, skip_serializing_if = "Tags::is_empty")]
    pub tags: Tags,
}

/// What a worker may use up; 0 means the node's own limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct FunctionLimits {
    /// Hundredths of a processor.
    pub cpu: u32,
    /// Processes and threads at one time.
    pub processes: u32,
    /// Open files of each process.
    pub open_files: u32,
    /// Megabytes in `/tmp`.
    pub tmp: u32,
    /// Kilobytes that are kept of what one run prints, on each of its two streams.
    pub output: u32,
}

/// How many workers one node has of a function; 0 means the node's own choice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WorkerScale {
    /// Kept even when nobody calls; 0 lets a function scale to nothing.
    pub min: u32,
    /// Never more.
    pub max: u32,
    /// Seconds that a worker may be idle before it is ended.
    pub idle: u32,
}

/// What of one call the next one may see.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// Whatever the handler leaves in its process.
    #[default]
    Shared,
    /// The same, but a call that failed takes its process along.
    Error,
    /// Nothing: each call has a process of its own.
    Call,
}

/// How runs of a function are begun and repeated.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RunPolicy {
    /// Attempts at one run whose error may be repeated; 0 and 1 mean no repeat.
    pub attempts: u32,
    /// Milliseconds before the second attempt; doubled before each further one.
    pub backoff: u64,
    /// Milliseconds that are never exceeded between two attempts; 0 means a minute.
    pub backoff_max: u64,
    /// The errors that are repeated; empty means `FunctionError` and `SystemError`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub retry_on: Vec<RunErrorKind>,
    /// Whether a run that was begun is never begun again, not even when its node is lost.
    pub at_most_once: bool,
    /// Runs under way at once on one node; 0 means no limit but that of its workers.
    pub concurrent: u32,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A function's code. What is larger than 64 KB goes to the blob store first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// One file.
    File {
        /// Its name, without directories.
        name: String,
        /// Its text.
        text: String,
    },
    /// A gzipped tar archive, in standard base64.
    Archive(String),
    /// The digest of a gzipped tar archive in the blob store: 64 hexadecimal digits.
    Blob(String),
}

/// JSON schemas of what goes in and what comes out; draft 4 unless `$schema` says otherwise.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FunctionSchema {
    /// The input's schema; null for any.
    #[serde(default, rename = "in", skip_serializing_if = "Value::is_null")]
    pub input: Value,
    /// The output's schema; null for any.
    #[serde(default, rename = "out", skip_serializing_if = "Value::is_null")]
    pub output: Value,
}

/// What a function may reach.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkPolicy {
    /// Nothing at all.
    None,
    /// The services that it is bound to, and nothing else.
    #[default]
    Services,
    /// Whatever the node reaches.
    Host,
}
