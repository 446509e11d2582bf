//! What the broker is told at start. Secrets are left out of `Debug`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// Everything that the broker needs to know. [`Config::new`] fills in the defaults.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen. Port 0 takes a free one; `Running::local_addr` says which.
    pub listen: SocketAddr,
    /// The user that platforms authenticate as.
    pub username: String,
    /// The password of that user.
    pub password: Secret,
    /// The catalog file, in YAML.
    pub catalog: PathBuf,
    /// Where records, certificates and dedicated servers are kept. One broker per directory.
    pub state_dir: PathBuf,
    /// The certificate of the broker's own listener; plain HTTP without it.
    pub tls: Option<TlsFiles>,
    /// The server of plans of kind `shared`. Without it these plans are left out of the catalog.
    pub shared: Option<SharedServer>,
    /// How servers of plans of kind `dedicated` are run.
    pub dedicated: DedicatedServers,
    /// Bounds.
    pub limits: Limits,
}

impl Config {
    /// A configuration that listens on a free port of 127.0.0.1 and has no shared server.
    pub fn new(
        username: impl Into<String>,
        password: impl Into<String>,
        catalog: impl Into<PathBuf>,
        state_dir: impl Into<PathBuf>,
    ) -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            username: username.into(),
            password: Secret(password.into()),
            catalog: catalog.into(),
            state_dir: state_dir.into(),
            tls: None,
            shared: None,
            dedicated: DedicatedServers::default(),
            limits: Limits::default(),
        }
    }
}

/// A PEM certificate chain and its key.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The chain, leaf first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// The PostgreSQL server in which plans of kind `shared` make their databases.
#[derive(Clone, Debug)]
pub struct SharedServer {
    /// `postgres://user:password@host:port/database`. The user is a superuser, or has CREATEDB and
    /// CREATEROLE. The server must offer TLS, because bindings ask for it.
    pub url: Secret,
    /// PEM certificates that the server's certificate is verified against, host name included.
    /// Without it the connection is encrypted and not verified, as with `sslmode=require`.
    pub ca_file: Option<PathBuf>,
}

impl SharedServer {
    /// The server at `url`, encrypted and not verified.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: Secret(url.into()),
            ca_file: None,
        }
    }
}

/// How servers of plans of kind `dedicated` are run.
#[derive(Clone, Debug)]
pub struct DedicatedServers {
    /// The directory of `postgres` and `initdb`. Without it: PATH, then the highest version in
    /// `/usr/lib/postgresql`.
    pub binaries: Option<PathBuf>,
    /// The address on which the servers listen.
    pub listen: IpAddr,
    /// The host that bindings name; the listen address without it.
    pub host: Option<String>,
    /// The ports to choose from. The default lies below the ports that the kernel hands out for
    /// outgoing connections, so that a stopped server's port is not taken meanwhile.
    pub ports: RangeInclusive<u16>,
    /// The user to run as when the broker is root, which PostgreSQL refuses to be. Without it
    /// `postgres` if there is one, else `nobody`.
    pub user: Option<String>,
}

impl Default for DedicatedServers {
    fn default() -> Self {
        Self {
            binaries: None,
            listen: IpAddr::V4(Ipv4Addr::LOCALHOST),
            host: None,
            ports: 15_432..=25_431,
            user: None,
        }
    }
}

/// Bounds on what the broker does at once and how long it takes.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How many operations run at once. The default suits two cores: initdb and checkpoints are
    /// bound by CPU and disk.
    pub concurrent_operations: usize,
    /// How many operations may run or wait; one more is answered with 429.
    pub waiting_operations: usize,
    /// How long one operation may take before it has failed.
    pub operation_timeout: Duration,
    /// How long a synchronous request waits. The default lies below the 60 seconds after which
    /// platforms give up.
    pub answer_timeout: Duration,
    /// The largest request body.
    pub body_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            concurrent_operations: 4,
            waiting_operations: 1_000,
            operation_timeout: Duration::from_secs(180),
            answer_timeout: Duration::from_secs(50),
            body_bytes_max: 256 * 1024,
        }
    }
}

/// A text that `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}
