//! The decisions, told as stories: given what happened, when this comes, then that is recorded.

mod apis;
mod brokers;
mod commands;
mod deletions;
mod functions;
mod images;
mod instances;
mod operations;
mod random;
mod runs;
mod size;
mod support;
mod sweeps;
