//! The wire: requests out, replies back. One connection pool per broker.

mod answers;
mod send;
mod transport;

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use url::Url;

pub use answers::CatalogAnswer;
use transport::Carrier;
pub use transport::{Outbound, Transport};

use crate::endpoint::{ApiVersion, Credentials, Endpoint};
use crate::reply::Reply;
use crate::text::Hide;
use crate::wire::Hidden;

/// The largest body that is read; a larger one counts as malformed. The API names no limit: its
/// largest field has 10,000 characters, and credentials are small.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

/// The largest catalog that is read. Every plan may carry several schemas of 64 kB.
pub const CATALOG_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A client of one broker. Cloning it is cheap, and clones share connections.
#[derive(Debug, Clone)]
pub struct Client {
    broker: Arc<Broker>,
    version: HeaderValue,
    watch: Option<Arc<dyn Watch>>,
}

#[derive(Debug)]
struct Broker {
    carrier: Carrier,
    base: Url,
    authorization: Option<HeaderValue>,
    hide: Hide,
}

/// Hears what came of each request.
pub(crate) trait Watch: fmt::Debug + Send + Sync {
    /// A request has ended so.
    fn seen(&self, reply: &Reply);
}

/// Why a client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is not http or https, or has a query or a fragment.
    #[error("the broker's address {0} is not a base URL")]
    Address(String),
    /// The address holds a user name or a password.
    #[error("the broker's address must not hold credentials")]
    CredentialsInAddress,
    /// The token cannot be put into a header.
    #[error("the broker's credentials cannot be sent in a header")]
    Credentials,
    /// The CA bundle is not a list of certificates in PEM.
    #[error("the CA bundle holds no certificate that can be read")]
    Ca,
    /// The client certificate or its key is not PEM.
    #[error("the client certificate and key cannot be read")]
    Identity,
    /// TLS could not be set up, for example because the system trusts no certificate at all.
    #[error("TLS could not be set up: {0}")]
    Tls(String),
}

impl Client {
    /// A client of the broker at `endpoint`. Nothing is sent yet.
    ///
    /// # Errors
    /// When the endpoint cannot be used as it is.
    pub fn new(endpoint: &Endpoint) -> Result<Self, Error> {
        Self::carried(endpoint, || send::http(endpoint).map(Carrier::Http))
    }

    /// A client whose requests are carried by `transport` instead of HTTP.
    ///
    /// # Errors
    /// When the endpoint cannot be used as it is.
    pub fn over(transport: Arc<dyn Transport>, endpoint: &Endpoint) -> Result<Self, Error> {
        Self::carried(endpoint, || Ok(Carrier::Other(transport)))
    }

    fn carried(
        endpoint: &Endpoint,
        carrier: impl FnOnce() -> Result<Carrier, Error>,
    ) -> Result<Self, Error> {
        let base = base(&endpoint.url)?;
        let authorization = authorization(&endpoint.credentials)?;
        let version = version(endpoint.api_version);
        let hide = hide(&endpoint.credentials, authorization.as_ref());
        let carrier = carrier()?;
        Ok(Self {
            broker: Arc::new(Broker {
                carrier,
                base,
                authorization,
                hide,
            }),
            version,
            watch: None,
        })
    }

    /// The same client, whose requests announce another version.
    #[must_use]
    pub fn speaking(&self, version: ApiVersion) -> Self {
        Self {
            version: self::version(version),
            ..self.clone()
        }
    }

    /// The same client, whose requests are watched.
    pub(crate) fn watched_by(&self, watch: Arc<dyn Watch>) -> Self {
        Self {
            watch: Some(watch),
            ..self.clone()
        }
    }
}

fn version(version: ApiVersion) -> HeaderValue {
    HeaderValue::from_str(&version.to_string()).expect("digits and a point are a header value")
}

fn base(url: &Url) -> Result<Url, Error> {
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Error::CredentialsInAddress);
    }
    let plain = url.query().is_none() && url.fragment().is_none() && url.has_host();
    match url.scheme() {
        "http" | "https" if plain => Ok(url.clone()),
        _ => Err(Error::Address(url.to_string())),
    }
}

fn authorization(credentials: &Credentials) -> Result<Option<HeaderValue>, Error> {
    let text = match credentials {
        Credentials::None => return Ok(None),
        Credentials::Basic { username, password } => {
            format!(
                "Basic {}",
                STANDARD.encode(format!("{username}:{}", password.reveal()))
            )
        }
        Credentials::Bearer(token) => format!("Bearer {}", token.reveal()),
    };
    let mut value = HeaderValue::try_from(text).map_err(|_| Error::Credentials)?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// What no text may show: the credentials, bare and as they are sent.
fn hide(credentials: &Credentials, authorization: Option<&HeaderValue>) -> Hide {
    let secret = match credentials {
        Credentials::None => None,
        Credentials::Basic { password, .. } => Some(password.clone()),
        Credentials::Bearer(token) => Some(token.clone()),
    };
    let sent = authorization
        .and_then(|value| value.to_str().ok()?.split_once(' '))
        .map(|(_, sent)| Hidden::new(sent.to_owned()));
    Hide::new(secret.into_iter().chain(sent))
}
