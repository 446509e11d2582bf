//! For tests: a real nats-server of one's own, and the suite that every log passes.

pub mod conformance;
mod server;

pub use server::TestServer;
