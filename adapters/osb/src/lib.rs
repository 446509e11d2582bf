//! A client of the Open Service Broker API, version 2.17: the platform's side.
//!
//! ```text
//!  call + request ──► Client ──► HTTP ──► Reply ──► verdict ──► Answer | Progress
//! ```
//!
//! [`Client`] only speaks HTTP and never decides anything: what came of a request is a [`Reply`],
//! a plain value. [`verdict`] turns it, with what was sent, into a closed enum that also says
//! whether something may be left behind at the broker. Neither retries, waits or remembers.
//!
//! [`Services`] performs the engine's effects with them: it opens what is sealed, checks
//! parameters against the plan's schema, asks the broker, and seals the credentials that it gives.

mod call;
mod client;
mod endpoint;
#[cfg(feature = "fake")]
pub mod fake;
mod path;
mod reply;
mod retry_after;
mod services;
mod text;
pub mod verdict;
pub mod wire;

pub use call::{Call, Originator, PLATFORM};
pub use client::{
    BODY_BYTES_MAX, CATALOG_BYTES_MAX, CatalogAnswer, Client, Error, Outbound, Transport,
};
pub use endpoint::{ApiVersion, BadVersion, Credentials, Endpoint, TIMEOUT_DEFAULT};
pub use reply::{Body, Headers, Reply, What};
pub use retry_after::RETRY_AFTER_MAX;
pub use services::Services;
pub use text::{Hide, TEXT_CHARS_MAX};
