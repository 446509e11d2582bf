//! The people's side: a connection, and what the commands do with it.

mod connect;
mod rest;

pub use connect::{Connection, LogLines, add_packs, connect, read_credentials};
pub use rest::RestClient;
