//! The harness, the integration tests and the benchmarks of Dispatch.

pub mod story;
