//! Why the broker does not start or stops by itself.

use std::io;
use std::path::PathBuf;

use crate::{catalog, server, sql, store};

/// Why the broker does not start or stops by itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The catalog file is not a catalog.
    #[error("use the catalog {}", path.display())]
    Catalog {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: catalog::Error,
    },
    /// The state directory cannot be used.
    #[error("use the state directory")]
    State(#[from] store::Error),
    /// Dedicated servers cannot be run here.
    #[error("run dedicated PostgreSQL servers")]
    Dedicated(#[from] server::Error),
    /// The shared server's URL or certificates cannot be used.
    #[error("use the shared PostgreSQL server")]
    Shared(#[source] sql::Error),
    /// The certificate or the key of the listener cannot be used.
    #[error("use the listener's certificate and key")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The address cannot be listened on.
    #[error("listen on {address}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// User name or password is empty.
    #[error("accept an empty user name or password")]
    NoCredentials,
    /// A task of the broker ended that should not.
    #[error("keep the broker's tasks running")]
    TaskLost,
}
