//! The views that people query.
//!
//! ```text
//! events ──► follower ──► fold ──► one sled batch: rows + position ──► queries
//! runs   ──► follower ──► fold ──► one sled batch: rows + position ──► queries
//! ```
//!
//! A view is a pure fold of a stream and can always be rebuilt from it, so nothing waits for a
//! disk: a batch carries the rows that changed and the position that they show, and after a crash
//! both are found again together, or neither. What a view has seen it skips, so that a delivery
//! which comes twice changes nothing.
//!
//! There is one file per view: the document that people see, the row that is stored, and the fold.
//! [`Views`] is the handle on all of them.

mod batch;
mod error;
mod events;
mod follow;
mod history;
mod query;
mod runs;
mod shown;
mod store;
mod table;
mod tag;
mod views;

pub mod view;

#[cfg(test)]
mod tests;

pub use error::Error;
pub use history::HistoryEntry;
pub use runs::{AttemptDocument, RunDocument};
pub use tag::Tag;
pub use views::{Limits, Rebuilt, Views};
