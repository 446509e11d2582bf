//! The decisions, told as stories: given what happened, when this comes, then that is recorded.

#![expect(
    clippy::unwrap_used,
    reason = "a story that cannot be told on is a failed test"
)]

mod apis;
mod attempts;
mod bindings;
mod brokers;
mod commands;
mod deletions;
mod doubts;
mod functions;
mod images;
mod instances;
mod operations;
mod random;
mod revisions;
mod rotations;
mod runs;
mod schedules;
mod size;
mod support;
mod sweeps;
mod updates;
