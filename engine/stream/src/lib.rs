//! The log: the only crate that names NATS. Commits, commands, runs, timers, refusals, dead
//! letters, blobs and keys, on JetStream or on its in-memory twin.

mod port;

pub use port::{
    Ack, AppendError, CommandDelivery, DeadLetter, Delivery, Error, Inbox, Log, RunAppend,
    RunRecorded, Unreadable,
};
