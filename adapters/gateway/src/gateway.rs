//! The gateway as its owner sees it: start, replace the routes, drain.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::certificate;
use crate::config::Config;
use crate::connection::{Shared, accept};
use crate::invoker::Invoker;
use crate::routes::Routes;

/// Why a gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither HTTP nor HTTPS was configured.
    #[error("the gateway has no address to listen on")]
    NoListener,
    /// An address could not be had.
    #[error("the gateway cannot listen on {addr}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// There is no usable certificate.
    #[error("the gateway has no usable certificate")]
    Certificate(#[source] certificate::Error),
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Every request under way was answered.
    Graceful,
    /// The deadline passed, and this many connections were cut.
    Cut(usize),
}

/// A gateway that serves. Dropping it stops it as [`Gateway::drain`] does, without waiting.
pub struct Gateway {
    shared: Arc<Shared>,
    http: Option<SocketAddr>,
    https: Option<SocketAddr>,
    ended: watch::Receiver<Option<Drained>>,
    _stop: DropGuard,
}

impl Gateway {
    /// Binds the listeners and serves, at first no API at all. When it returns, connections are
    /// accepted. Cancelling `shutdown` begins the drain.
    ///
    /// # Errors
    /// When an address is taken or forbidden, or the certificate cannot be made or read.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub async fn start(
        config: Config,
        invoker: Arc<dyn Invoker>,
        shutdown: CancellationToken,
    ) -> Result<Self, Error> {
        if config.http.is_none() && config.https.is_none() {
            return Err(Error::NoListener);
        }
        let tls = match config.https {
            Some(_) => Some(certificate::server(&config).map_err(Error::Certificate)?),
            None => None,
        };
        let plain = listen(config.http).await?;
        let secure = listen(config.https).await?;
        let (http, https) = (plain.as_ref().map(|l| l.1), secure.as_ref().map(|l| l.1));
        let stop = shutdown.child_token();
        let shared = Arc::new(Shared {
            requests: Semaphore::new(config.requests_max),
            connections: Arc::new(Semaphore::new(config.connections_max)),
            config,
            invoker,
            routes: watch::Sender::new(Arc::new(Routes::default())),
            tasks: TaskTracker::new(),
            stop: stop.clone(),
            cut: CancellationToken::new(),
            cut_count: AtomicUsize::new(0),
        });
        for (listener, tls) in [(plain, None), (secure, tls.map(TlsAcceptor::from))] {
            if let Some((listener, _)) = listener {
                shared
                    .tasks
                    .spawn(accept(Arc::clone(&shared), listener, tls));
            }
        }
        let (tell, ended) = watch::channel(None);
        let ending = end(Arc::clone(&shared));
        tokio::spawn(async move { tell.send_replace(Some(ending.await)) });
        info!(?http, ?https, "gateway listens");
        Ok(Self {
            shared,
            http,
            https,
            ended,
            _stop: stop.drop_guard(),
        })
    }

    /// Where plain HTTP is served.
    #[must_use]
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.http
    }

    /// Where HTTPS is served.
    #[must_use]
    pub fn https_addr(&self) -> Option<SocketAddr> {
        self.https
    }

    /// Replaces all routes at once. A request that arrives after this returns meets the new ones;
    /// one under way keeps those it was found by.
    pub fn set_routes(&self, routes: Routes) {
        for conflict in routes.conflicts() {
            warn!(?conflict, "two apis claim the same requests");
        }
        self.shared.routes.send_replace(Arc::new(routes));
    }

    /// Stops accepting, lets the requests under way end, and cuts what has not ended within the
    /// configured time. Whoever asks again is told the same.
    pub async fn drain(&self) -> Drained {
        self.shared.stop.cancel();
        let mut ended = self.ended.clone();
        let drained = ended.wait_for(Option::is_some).await;
        let drained = drained.expect("ending neither panics nor is aborted");
        drained.expect("it was waited for")
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (http, https) = (&self.http, &self.https);
        f.debug_struct("Gateway")
            .field("http", http)
            .field("https", https)
            .finish_non_exhaustive()
    }
}

async fn listen(addr: Option<SocketAddr>) -> Result<Option<(TcpListener, SocketAddr)>, Error> {
    let Some(addr) = addr else { return Ok(None) };
    let failed = |source| Error::Listen { addr, source };
    let listener = TcpListener::bind(addr).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok(Some((listener, bound)))
}

/// Waits for the gateway to be stopped, and for what is under way to end or to be cut.
async fn end(shared: Arc<Shared>) -> Drained {
    shared.stop.cancelled().await;
    shared.tasks.close();
    if timeout(shared.config.drain_timeout, shared.tasks.wait())
        .await
        .is_err()
    {
        shared.cut.cancel();
        shared.tasks.wait().await;
    }
    match shared.cut_count.load(Ordering::Relaxed) {
        0 => {
            info!("gateway stopped gracefully");
            Drained::Graceful
        }
        connections => {
            warn!(connections, "gateway stopped, connections were cut");
            Drained::Cut(connections)
        }
    }
}
