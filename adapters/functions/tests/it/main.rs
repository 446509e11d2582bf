//! Functions in the real sandbox, with the real interpreters and build tools.

mod support;

mod handlers;
