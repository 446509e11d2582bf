//! The people's side: commands, runs, queries, blobs and a look at what happens, with the
//! permissions of a client only.

mod permissions;

pub use permissions::{Permissions, User, permissions};
