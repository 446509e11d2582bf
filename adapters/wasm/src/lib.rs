//! The worker of functions that are WebAssembly components.
//!
//! ```text
//! started ─► Ground::lay ── compiled before: mapped ─┐
//! descriptor 3 ─ init ─► Machine::load ──────────────┴► Machine ─ stands ready: Instance
//!              │                        └ otherwise: compiled, kept ─┘  │
//!              └ call ─► Instance::call, under the Watchdog ◄──────────────────────┘
//!                              └─► reply; a new instance is made for the next call
//! ```
//!
//! It speaks the protocol of all workers (`docs/languages.md`) and runs in a sandbox like all others;
//! what a component may not do is forbidden twice. An instance serves one call.
//!
//! Without the feature `engine` this crate is empty: compiling wasmtime takes its time.

#[cfg(feature = "engine")]
mod channel;
#[cfg(feature = "engine")]
mod host;
#[cfg(feature = "engine")]
mod machine;
#[cfg(feature = "engine")]
mod watchdog;
#[cfg(feature = "engine")]
mod worker;

#[cfg(feature = "engine")]
pub use worker::{WASMTIME, worker_arguments, worker_main};
