//! An Open Service Broker (OSB API 2.17) for PostgreSQL, usable by any platform.
//!
//! A plan of kind `shared` is a database and an owner role in a server given by URL; a plan of kind
//! `dedicated` is a PostgreSQL server process of its own, supervised by the broker.
//!
//! ```text
//! HTTP request ─► http ─► desk ─► decide (pure) ─► record stored ─► job ─► sql, server
//!                          ▲                                         │
//!                          └────────────── outcome ──────────────────┘
//! ```
//!
//! The desk is one task that owns all records. What is to be done is stored before it is done, and
//! the record alone says what that is: after a crash the broker reads its records and goes on.

mod answer;
mod broker;
mod catalog;
mod certificates;
mod config;
mod decide;
mod desk;
mod disk;
mod error;
mod http;
mod job;
mod metrics;
mod names;
mod record;
mod server;
mod sql;
mod store;

pub use broker::{Broker, Running, serve};
pub use catalog::Error as CatalogError;
pub use config::{Config, DedicatedServers, Limits, Secret, SharedServer, TlsFiles};
pub use error::Error;
