//! Real sandboxes around real programs: what they see, what they may, what they use, how they end.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod contents;
mod image;
mod limits;
mod network;
mod ordinary_user;
mod privileges;
mod processes;
mod support;
