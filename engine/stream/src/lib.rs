//! The log: the only crate that names NATS. Commits, commands, runs, timers, refusals, dead
//! letters, blobs and keys, on JetStream or on its in-memory twin; and the people's side of it.

mod client;
mod decode;
mod jetstream;
mod link;
mod memory;
mod message;
mod port;
mod settings;
mod streams;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod wheel;

pub use client::{Client, Permissions, User, permissions};
pub use jetstream::{BATCH_FROM, JetBlobs, JetKeys, JetStream, QueryService};
pub use link::OpenError;
pub use memory::{Fault, Faults, Memory, Operation};
pub use port::{
    Ack, AppendError, CommandDelivery, DeadLetter, Delivery, Error, Inbox, Log, OpenRun, RunAppend,
    RunRecorded, Unreadable,
};
pub use settings::{ACK_WAIT, Auth, Connection, Durability, Replicas, RunRetention, Settings};
