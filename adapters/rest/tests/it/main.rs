//! The REST API over real sockets. Behind it is a Dispatch in memory, which does wrong when asked.

#![expect(
    clippy::unwrap_used,
    reason = "a helper that cannot go on fails its test"
)]

mod bodies;
mod commands;
mod dispatch;
mod faults;
mod functions;
mod groups;
mod guard;
mod lists;
mod runs;
mod secrets;
mod services;
mod serving;
mod support;
