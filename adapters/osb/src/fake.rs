//! A broker in this process, on real HTTP, with scripted faults: for tests and benchmarks.
//!
//! It keeps instances and bindings in memory, works at once or asynchronously, records what it
//! was asked, and notes each rule of the API that a platform broke. A script of [`Fault`]s makes
//! single requests go wrong, before or after the work was done.

mod fault;
mod rules;
mod serve;
mod world;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Uri};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use url::Url;

pub use fault::{Fault, On};
pub use world::default_catalog;

use crate::endpoint::{Credentials, Endpoint};
use world::World;

/// The user name that a fake broker asks for.
pub const USERNAME: &str = "platform";
/// The password that a fake broker asks for.
pub const PASSWORD: &str = "canary-broker-password";

/// How long work takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// It is done when the answer comes.
    Sync,
    /// So many polls say `in progress` before one says `succeeded`.
    Polls(u32),
    /// It is done this long after it began.
    For(Duration),
}

/// How a fake broker is to be.
#[derive(Debug, Clone)]
pub struct Options {
    /// What it offers.
    pub catalog: Value,
    /// How long its work takes.
    pub pace: Pace,
    /// Whether requests are kept for the test to look at; a benchmark does without.
    pub record: bool,
    /// The configuration of TLS, if it is to be spoken.
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            catalog: default_catalog(),
            pace: Pace::Sync,
            record: true,
            tls: None,
        }
    }
}

/// A request as it came in.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// What it asked for.
    pub on: Option<On>,
    /// Its method.
    pub method: Method,
    /// Its path and query, as they were sent.
    pub uri: Uri,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Recorded {
    /// A header's value, or the empty text.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// The body as JSON, or null.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// A running broker; it stops when this is dropped.
#[derive(Debug)]
pub struct Fake {
    url: Url,
    world: Arc<Mutex<World>>,
    _stop: DropGuard,
}

impl Fake {
    /// Starts a broker that works at once and asks for [`USERNAME`] and [`PASSWORD`].
    ///
    /// # Errors
    /// When no port of the loopback address can be had.
    pub async fn start() -> std::io::Result<Self> {
        Self::start_with(Options::default()).await
    }

    /// Starts a broker.
    ///
    /// # Errors
    /// When no port of the loopback address can be had.
    pub async fn start_with(options: Options) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let scheme = if options.tls.is_some() {
            "https"
        } else {
            "http"
        };
        let url = format!("{scheme}://{}", listener.local_addr()?);
        let url = url
            .parse()
            .expect("a scheme and a socket address are a URL");
        let tls = options.tls.clone();
        let world = Arc::new(Mutex::new(World::new(options)));
        let stop = CancellationToken::new();
        tokio::spawn(serve::serve(
            listener,
            tls,
            Arc::clone(&world),
            stop.clone(),
        ));
        Ok(Self {
            url,
            world,
            _stop: stop.drop_guard(),
        })
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("no holder panics")
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// An endpoint with the right credentials.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::new(self.url.clone()).with_credentials(Credentials::basic(USERNAME, PASSWORD))
    }

    /// The next requests of this sort go wrong so, one fault each, in this order.
    pub fn script(&self, on: On, faults: impl IntoIterator<Item = Fault>) {
        self.world().script(on, faults);
    }

    /// Changes how long work takes that begins from now on.
    pub fn set_pace(&self, pace: Pace) {
        self.world().pace = pace;
    }

    /// Changes what is offered, and with it the ETag.
    pub fn set_catalog(&self, catalog: Value) {
        self.world().set_catalog(catalog);
    }

    /// What every bind from now on answers as its body, instead of credentials of its own.
    pub fn set_binding(&self, body: Value) {
        self.world().binding_body = Some(body);
    }

    /// What the platform is told to echo; `None` leaves it out.
    pub fn set_operation(&self, operation: Option<&str>) {
        self.world().operation = operation.map(str::to_owned);
    }

    /// The minor versions of the API that it takes; another one is answered 412. All, to begin with.
    pub fn set_versions(&self, minors: std::ops::RangeInclusive<u16>) {
        self.world().versions = minors;
    }

    /// The instances that exist now, sorted; also those half made and half deleted.
    #[must_use]
    pub fn instances(&self) -> Vec<String> {
        self.world().instances()
    }

    /// The bindings that exist now, sorted.
    #[must_use]
    pub fn bindings(&self) -> Vec<String> {
        self.world().bindings()
    }

    /// The requests so far, in the order of their arrival.
    #[must_use]
    pub fn requests(&self) -> Vec<Recorded> {
        self.world().requests.clone()
    }

    /// How many requests of a sort there were, recorded or not.
    #[must_use]
    pub fn count(&self, on: On) -> u64 {
        self.world().counts.get(&on).copied().unwrap_or_default()
    }

    /// The rules of the API that the platform broke, a sentence each.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.world().violations.clone()
    }
}
