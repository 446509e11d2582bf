//! The integration tests, one binary.

mod crash;
mod functions;
mod gateway;
mod nats_pub;
mod tidy;
mod tutorial;
mod up;
