//! The ports between the engine and the outer world.
//!
//! An adapter performs effects ([`Performer`]) and needs a few things of the engine: a place for
//! large bytes ([`Blobs`]), a way to open and close secrets ([`Vault`]), and, where it faces
//! people, a way to send commands and ask views ([`Commands`], [`Runs`], [`Queries`]).

mod blobs;
mod client;
mod perform;
mod run;
mod vault;

pub use blobs::{Blobs, Digest, Error as BlobError, MemoryBlobs};
pub use client::{ClientError, Commands, Queries, RunTicket, Runs, Submission};
pub use perform::{Later, Performer, Standing, Unquestioned};
pub use run::{LineSink, RunCall, Runner, ServiceFacts};
pub use vault::{KeyStore, MemoryKeys, Plain, Vault, VaultError};
