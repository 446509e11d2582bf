//! The harness, the integration tests and the benchmarks of Dispatch.

mod machine;
pub mod process;
pub mod story;

pub use machine::{descendants, say};
