//! HTTP and HTTPS endpoints in front of functions.
//!
//! ```text
//!  client ──► accept ──► connection ──► handle ─┬─► routes   which API is meant
//!             (http,     (http1, http2) │       ├─► body     bounded in size and time
//!              https)                   │       ├─► input    what the function gets
//!                                       │       ├─► context  httpContext
//!                                       │       └─► Invoker  the engine, behind a port
//!                                       └─◄ answer           status and JSON
//! ```
//!
//! The gateway keeps nothing but the table of routes, which its owner replaces as a whole with
//! [`Gateway::set_routes`]; it knows neither NATS nor the engine.

mod answer;
mod api;
mod body;
mod certificate;
mod config;
mod connection;
mod context;
mod gateway;
mod handle;
mod input;
mod invoker;
mod media;
mod multipart;
mod routes;

pub use api::Api;
pub use certificate::{Error as CertificateError, ensure_certificate};
pub use config::{Config, Pair};
pub use gateway::{Drained, Error, Gateway};
pub use invoker::{Failure, Invocation, Invoked, Invoker};
pub use routes::{Claimant, Conflict, Routes};
