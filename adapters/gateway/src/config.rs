//! Where the gateway listens, and what it grants a client.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Settings of a gateway. [`Config::new`] has the defaults.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to serve plain HTTP, if at all. Port 0 takes a free one.
    pub http: Option<SocketAddr>,
    /// Where to serve HTTPS, if at all. Port 0 takes a free one.
    pub https: Option<SocketAddr>,
    /// Where the self-made certificate is kept, as `gateway.crt` and `gateway.key`.
    pub cert_dir: PathBuf,
    /// Names and addresses for which the self-made certificate holds, besides the loopback's.
    pub cert_names: Vec<String>,
    /// The operator's own certificate, in place of the self-made one.
    pub certificate: Option<Pair>,
    /// The largest request body in bytes.
    pub body_bytes_max: usize,
    /// How many requests are handled at once; one more is told to come back.
    pub requests_max: usize,
    /// How many connections are open at once; one more waits to be accepted.
    pub connections_max: usize,
    /// How long a client may take over a TLS handshake or over a request's headers, and how long
    /// a connection may idle.
    pub header_timeout: Duration,
    /// How long a client may take over a request's body.
    pub body_timeout: Duration,
    /// How long a client waits for a function.
    pub request_timeout: Duration,
    /// How long requests under way may go on once the gateway is stopping.
    pub drain_timeout: Duration,
}

/// Files of a certificate and its key.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The certificate chain in PEM, the server's own first.
    pub cert: PathBuf,
    /// The private key in PEM.
    pub key: PathBuf,
}

impl Config {
    /// The defaults: no listener, 1 MiB bodies, 30 s for headers and bodies, 60 s for a function.
    #[must_use]
    pub fn new(cert_dir: impl Into<PathBuf>) -> Self {
        Self {
            http: None,
            https: None,
            cert_dir: cert_dir.into(),
            cert_names: Vec::new(),
            certificate: None,
            body_bytes_max: 1 << 20,
            // At the largest body each, requests hold 1 GiB; a connection alone holds a few KiB.
            requests_max: 1024,
            connections_max: 4096,
            header_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(10),
        }
    }
}
