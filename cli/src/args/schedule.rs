//! What one can type about a schedule.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::Common;

/// `create schedule`
#[derive(Debug, Args)]
#[command(
    after_help = "EXAMPLES:\n  dispatch create schedule nightly report --cron '0 3 * * *' --time-zone \
    Europe/Berlin\n  dispatch create schedule pulse hello-py --every 30s --input \
    '{\"name\":\"Jon\"}' --overlap skip"
)]
pub struct CreateSchedule {
    /// Its name
    pub name: String,
    /// The function
    pub function: String,
    /// When, and what is run
    #[command(flatten)]
    pub flags: ScheduleFlags,
    /// Run nothing until it is resumed
    #[arg(long)]
    pub paused: bool,
    /// What all understand
    #[command(flatten)]
    pub common: Common,
}

/// `update schedule`
#[derive(Debug, Args)]
#[command(
    after_help = "EXAMPLES:\n  dispatch update schedule nightly --paused\n  dispatch update schedule \
    nightly --resume\n  dispatch update schedule nightly --cron '0 4 * * *'"
)]
pub struct UpdateSchedule {
    /// Its name
    pub name: String,
    /// Another function
    #[arg(long)]
    pub function: Option<String>,
    /// When, and what is run
    #[command(flatten)]
    pub flags: ScheduleFlags,
    /// Run nothing until it is resumed
    #[arg(long, conflicts_with = "resume")]
    pub paused: bool,
    /// Go on
    #[arg(long)]
    pub resume: bool,
    /// What all understand
    #[command(flatten)]
    pub common: Common,
}

/// When a schedule is due, and what is run then.
#[derive(Debug, Clone, Default, Args)]
pub struct ScheduleFlags {
    /// Minute, hour, day of month, month and day of week; with seconds before them if there are six
    #[arg(long, value_name = "PATTERN")]
    pub cron: Option<String>,
    /// The time zone of the pattern, as Europe/Berlin [default: UTC]
    #[arg(long, value_name = "ZONE", conflicts_with = "every")]
    pub time_zone: Option<String>,
    /// Each time after so long, as 30s, 10m, 2h or 1d, counted from its creation
    #[arg(long, value_name = "DURATION", conflicts_with = "cron")]
    pub every: Option<String>,
    /// The input of each run, any JSON value [default: {}]
    #[arg(long, value_name = "JSON")]
    pub input: Option<String>,
    /// A file with the input; '-' for standard input
    #[arg(long, conflicts_with = "input", value_name = "FILE")]
    pub input_file: Option<PathBuf>,
    /// A secret besides the function's own; may be repeated or comma-separated
    #[arg(long, value_delimiter = ',')]
    pub secret: Vec<String>,
    /// What is done when the run before is still going [default: allow]
    #[arg(long, value_enum)]
    pub overlap: Option<Overlap>,
}

/// What is done when the run before is still going.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Overlap {
    /// It is run beside it
    Allow,
    /// It is left out
    Skip,
}
