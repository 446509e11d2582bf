//! The harness, the integration tests and the benchmarks of Dispatch.

pub mod broker;
pub mod faulty;
pub mod http;
mod machine;
pub mod nats;
pub mod oci;
pub mod process;
#[path = "../sim/lib.rs"]
pub mod sim;
pub mod story;

pub use machine::{descendants, say};
