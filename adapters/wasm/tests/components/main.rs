//! Components as functions: in the real sandbox, by the real engine.

mod support;

mod hand;
mod python;
