//! The shell around the decisions. It owns order, time, ids and I/O, and decides nothing: it
//! pulls, calls [`engine_core`], appends, performs, acknowledges.
//!
//! ```text
//!  commands ─► command loop ─┐                       ┌─► fold (the world, read by everyone)
//!                            ├─► ledger ─► log ─► tail┘
//!  commits ─► reactor loop ──┤   (decides, commits in groups)
//!  alarms ──► alarm loop ────┤
//!  sweep ────────────────────┘
//!  run commands ─► run loop ─► runner (reads the world, writes only its own run)
//! ```

mod alarms;
mod clock;
mod commands;
mod confirm;
mod fold;
mod hands;
mod hold;
mod ledger;
mod node;
mod polls;
mod pull;
mod reactor;
mod runs;
mod schedules;
mod sealing;
mod sweep;
pub mod task;
mod underway;

pub use clock::now;
pub use fold::{Fold, FoldError};
pub use hands::{Context, Hands};
pub use ledger::{Ask, Decided, Ledger, LedgerError, Request};
pub use node::{MakePerformers, Node, NodeConfig, NodeError};
pub use runs::Caller;
