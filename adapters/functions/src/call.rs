//! One call: what goes to a worker, and what is made of its answer.

pub(crate) mod bindings;
pub(crate) mod carried;
pub(crate) mod exchange;
pub(crate) mod run;
pub(crate) mod schema;
pub(crate) mod trace;
