//! Where the API listens, and what it grants a client.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use engine_model::OrgName;

/// What a function's document holds besides its source.
const SOURCE_SLACK_BYTES: usize = 64 << 10;

/// Settings of a server. [`Config::new`] has the defaults.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// The certificate to serve HTTPS with. Without one plain HTTP is served, on a loopback
    /// address only.
    pub tls: Option<Tls>,
    /// The largest request body in bytes. The document of a function may be larger by what base64
    /// adds to a source of this size.
    pub body_bytes_max: usize,
    /// How long the engine may take over a command or a query.
    pub answer_within: Duration,
    /// The longest that a client can wait for a run; who asks for longer waits this long.
    pub wait_max: Duration,
    /// The organization of requests that name none. Without one, they are refused.
    pub default_org: Option<OrgName>,
    /// How many requests are handled at once; one more is told to come back.
    pub requests_max: usize,
    /// How many connections are open at once; one more waits to be accepted.
    pub connections_max: usize,
    /// How long a client may take over a TLS handshake or over a request's headers, and how long
    /// a connection may idle.
    pub header_timeout: Duration,
    /// How long a client may take over a request's body.
    pub body_timeout: Duration,
    /// How long requests under way may go on once the server is stopping.
    pub drain_timeout: Duration,
}

/// Files of a certificate and its key.
#[derive(Debug, Clone)]
pub struct Tls {
    /// The certificate chain in PEM, the server's own first.
    pub cert: PathBuf,
    /// The private key in PEM.
    pub key: PathBuf,
}

impl Config {
    /// The defaults: plain HTTP, 1 MiB bodies, 30 s for an answer, 5 minutes for a run.
    #[must_use]
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            tls: None,
            body_bytes_max: 1 << 20,
            answer_within: Duration::from_secs(30),
            wait_max: Duration::from_secs(300),
            default_org: None,
            // At the largest body each, requests hold 1.4 GiB; a waiting one holds a few KiB.
            requests_max: 1024,
            connections_max: 4096,
            header_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(10),
        }
    }

    /// The largest body that may carry a function's source.
    pub(crate) fn source_body_bytes_max(&self) -> usize {
        (self.body_bytes_max / 3)
            .saturating_mul(4)
            .saturating_add(SOURCE_SLACK_BYTES)
    }
}
