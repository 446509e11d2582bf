//! The table of what may be left behind at the broker, row by row: what is deleted after which
//! answer, and what is not.

pub(crate) mod bind;
pub(crate) mod delete;
pub(crate) mod limits;
pub(crate) mod provision;
pub(crate) mod update;
