//! The integration tests, one binary.

#![expect(
    clippy::unwrap_used,
    reason = "a test that meets what it did not expect fails"
)]

mod bad_input;
mod canary;
mod crash;
mod escape;
mod functions;
mod gateway;
mod logs;
mod nats_pub;
mod oci;
mod osb;
mod person;
mod rest_cli;
mod revisions;
mod runs;
mod schedules;
mod services;
mod sim;
mod tidy;
mod tutorial;
mod up;
mod views;
