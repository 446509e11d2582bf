//! The table of what may be left behind at the broker, row by row: what is deleted after which
//! answer, and what is not.

mod bind;
mod delete;
mod limits;
mod provision;
