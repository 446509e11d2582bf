//! The launcher of sandboxed processes: namespaces, mounts, seccomp, limits.
//!
//! ```text
//!  engine (many threads)            helper (one thread)               sandbox (namespaces of its own)
//!  Launcher ── spec, descriptors ──► clone ─────────────────────────► init, pid 1: sets up, then reaps
//!  Sandboxed ◄──── reports: pidfd, listeners, failure ──────────────┤   └─ program, pid 2: descriptor 3
//!  Process  ◄──── exit ───────────── waits, removes the cgroup        │       is the engine's channel
//! ```
//!
//! The helper exists so that nobody forks from a process that has threads. As root it keeps one sandbox
//! cloned ahead, which waits to hear what it is to be. It holds no state worth keeping: when the engine
//! goes away it kills every sandbox and ends, and when it is killed itself the kernel ends every sandbox.
//! The same code runs as root and as an ordinary user; what this machine allows is found out once, at
//! start, and told in [`Capabilities`].
//!
//! This is the only crate that holds unsafe code, and within it only `sys`, `wire` and `child` do.

mod capabilities;
mod child;
mod error;
mod helper;
mod inside;
mod launcher;
mod process;
mod queue;
mod seccomp;
mod spec;
mod sys;
mod wire;

pub use capabilities::{Capabilities, Cgroup, Instead, Limit, Unenforced};
pub use child::{Signal, die_with_parent, signal};
pub use error::Error;
pub use helper::launcher_main;
pub use launcher::{Launcher, LauncherConfig};
pub use process::{Exit, Process, Sandboxed};
pub use queue::Queue;

pub use spec::{Access, Endpoint, Limits, Mount, Network, Spec};
pub use sys::readable;
