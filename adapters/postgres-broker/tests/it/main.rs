//! The broker over HTTP, on real PostgreSQL servers.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod crash;
mod dedicated;
mod dedicated_restart;
mod foreign_client;
mod killed;
mod measure;
mod plans;
mod rotation;
mod rules;
mod shared;
mod start;
mod support;
mod telling;
mod under_way;
