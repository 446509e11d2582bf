//! The gateway over real sockets.

#![expect(
    clippy::unwrap_used,
    reason = "a helper that cannot go on fails its test"
)]

mod context;
mod drain;
mod inputs;
mod limits;
mod outputs;
mod routing;
mod support;
mod tls;
