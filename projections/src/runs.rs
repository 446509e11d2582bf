//! Runs: the document that people see, the row that is stored, the fold, and the query.
//!
//! ```text
//! run/<org>/<run>                             the row
//! runat/<org>/<function>/<changed at><run>    finds the latest runs of a function first
//! runseq/<position of the run's first message>   finds the oldest runs first, to drop them
//! ```

mod document;
mod fold;
mod read;
mod row;

pub use document::{AttemptDocument, RunDocument};

pub(crate) use fold::RunFold;
pub(crate) use read::{RunFilter, one, runs};
