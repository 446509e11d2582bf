//! The REST API, version 1, of Dispatch, over ports.
//!
//! ```text
//! socket ─► connection ─► guard: request id, place, token, metrics, log
//!                           └─► table ─► group or route ─► ask ─► Commands, Runs, Queries, Blobs
//! ```
//!
//! A [`Server`] knows how a request is read and how an answer is written; what is decided and what
//! is shown it asks of its [`Ports`]. A write answers with the document as the views show it at
//! the position of the decision, so that who writes reads what was written.
//!
//! Every refusal has the body `{"code": <http status>, "message": …, "error": <stable code>}`.
//! Secrets are sealed before they leave the request, and neither bodies nor tokens are logged.

mod app;
mod ask;
mod body;
mod caller;
mod config;
mod connection;
mod document;
mod filter;
mod group;
mod guard;
mod metrics;
mod openapi;
mod path;
mod ports;
mod refusal;
mod routes;
mod server;
mod spill;
mod table;
mod tls;

pub use config::{Config, Tls};
pub use ports::{Authenticator, Identity, Info, Ports, Scope, Seal};
pub use server::{Drained, Error, Server};
pub use tls::Error as TlsError;
