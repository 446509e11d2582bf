//! The integration tests, one binary.

mod canary;
mod crash;
mod functions;
mod gateway;
mod nats_pub;
mod rest_cli;
mod tidy;
mod tutorial;
mod up;
mod views;
