//! The server as its owner sees it: start, where it listens, drain.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::app::{self, App};
use crate::config::Config;
use crate::connection::{House, accept};
use crate::ports::Ports;
use crate::tls;

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Tokens would travel in clear text over a network.
    #[error("plain http is served on loopback addresses only, and {0} is none")]
    Plain(SocketAddr),
    /// The address could not be had.
    #[error("cannot listen on {addr}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// There is no usable certificate.
    #[error("no usable certificate")]
    Certificate(#[source] tls::Error),
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Every request under way was answered.
    Graceful,
    /// The deadline passed, and this many connections were cut.
    Cut(usize),
}

/// A server that serves. Dropping it stops it as [`Server::drain`] does, without waiting.
pub struct Server {
    addr: SocketAddr,
    ended: JoinHandle<Drained>,
    stop: DropGuard,
}

impl Server {
    /// Binds the listener and serves. When it returns, connections are accepted. Cancelling
    /// `shutdown` begins the drain.
    ///
    /// # Errors
    /// When plain HTTP would leave the machine, the address is taken or forbidden, or the
    /// certificate cannot be used.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub async fn start(
        config: Config,
        ports: Ports,
        shutdown: CancellationToken,
    ) -> Result<Self, Error> {
        let addr = config.listen;
        if config.tls.is_none() && !addr.ip().is_loopback() {
            return Err(Error::Plain(addr));
        }
        let tls = config
            .tls
            .as_ref()
            .map(tls::acceptor)
            .transpose()
            .map_err(Error::Certificate)?;
        let failed = |source| Error::Listen { addr, source };
        let listener = TcpListener::bind(addr).await.map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;
        let stop = shutdown.child_token();
        let drain_timeout = config.drain_timeout;
        let house = Arc::new(House {
            header_timeout: config.header_timeout,
            places: Arc::new(Semaphore::new(config.connections_max)),
            router: app::router(Arc::new(App::new(config, ports))),
            tasks: TaskTracker::new(),
            stop: stop.clone(),
            cut: CancellationToken::new(),
            cut_count: AtomicUsize::new(0),
        });
        let scheme = if tls.is_some() { "https" } else { "http" };
        house.tasks.spawn(accept(house.clone(), listener, tls));
        let ended = tokio::spawn(end(house, drain_timeout));
        info!(%addr, scheme, "rest api listens");
        Ok(Self {
            addr,
            ended,
            stop: stop.drop_guard(),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Stops accepting, lets the requests under way end, and cuts what has not ended within the
    /// configured time.
    pub async fn drain(self) -> Drained {
        drop(self.stop);
        self.ended
            .await
            .expect("ending neither panics nor is aborted")
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("addr", &self.addr)
            .finish_non_exhaustive()
    }
}

/// Waits for the server to be stopped, and for what is under way to end or to be cut.
async fn end(house: Arc<House>, within: Duration) -> Drained {
    house.stop.cancelled().await;
    house.tasks.close();
    if timeout(within, house.tasks.wait()).await.is_err() {
        house.cut.cancel();
        house.tasks.wait().await;
    }
    match house.cut_count.load(Ordering::Relaxed) {
        0 => {
            info!("rest api stopped gracefully");
            Drained::Graceful
        }
        connections => {
            warn!(connections, "rest api stopped, connections were cut");
            Drained::Cut(connections)
        }
    }
}
