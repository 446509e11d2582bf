//! Plain HTTP clients.

use reqwest::{Client, ClientBuilder};

/// A client that takes any certificate, as `curl -k` does.
///
/// # Panics
/// When the client cannot be made.
#[must_use]
pub fn client() -> Client {
    builder().build().expect("a client can be made")
}

/// The beginning of such a client.
pub fn builder() -> ClientBuilder {
    // Another test of this process may have chosen it already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().danger_accept_invalid_certs(true)
}
