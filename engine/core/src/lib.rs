//! The decisions of Dispatch, pure: state, evolve, decide, react, due, check.
//!
//! Values in, values out: nothing here awaits, reads a clock, draws a random id or logs. The
//! moment is a parameter, ids are derived, and the same events fold into the same [`World`].
//!
//! ```text
//!  command, outcome, word, alarm ──► decide ──► events ──► World::apply
//!                                       ▲                      │
//!                                       │                    react ──► effects
//!                                       └── outcome ◄── performed outside ──┘
//! ```
//!
//! [`due`] looks at the whole world for what lost messages have left undone, [`check`] for what
//! must never be.

mod account;
mod aggregate;
mod check;
mod decide;
mod due;
mod life;
mod live;
mod operation;
mod pace;
mod pending;
mod poll;
mod react;
mod refuse;
mod rhythm;
mod run;
mod schedule;
mod schema;
mod service;
mod state;
mod status;
mod used;
mod world;

pub use account::{Account, accounts};
pub use check::{Violation, check};
pub use decide::{Decision, Input, decide};
pub use due::{Overdue, alarm, due};
pub use live::{Orphan, drift, live_request, orphans};
pub use poll::{next_poll, poll, polls};
pub use react::{is_wanted, outstanding, react};
pub use run::{BoundService, Refused, Route, RunPlan, active, kept, loads, plan_run, routes};
pub use schedule::{
    LATE_MS_MAX, Occurrence, Turn, before, latest, next_due, passed, recorded, request, schedules,
    turn,
};
pub use used::used;
pub use world::{IllegalEvent, World};
