//! What an answer means: pure functions of what was sent and what came back.
//!
//! Errors are never judged by their type, only by whether bytes may have left the platform and
//! by the status that came back. The duty to clean up is the specification's table, in
//! [`orphan()`], completed by one rule: a connection that ends after bytes may have left, and a
//! redirect, are as bad as a timeout.

mod answer;
mod judge;
mod orphan;
mod poll;

pub use answer::{Accepted, Answer, Doubt, Fetched, Refusal};
pub(crate) use judge::words;
pub use judge::{
    bind, catalog, deprovision, fetch_binding, fetch_instance, provision, unbind, update,
};
pub use orphan::{Mishap, Orphan, Request, orphan};
pub use poll::{Failure, Polled, Progress, poll};

#[cfg(test)]
mod tests;
