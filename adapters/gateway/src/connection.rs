//! Accepting connections, and each one's life.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use hyper::rt::{Executor, Read, Write};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::config::Config;
use crate::handle;
use crate::invoker::Invoker;
use crate::routes::Routes;

/// How long to let connections close when no more can be accepted, for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// What a connection may hold of a request it has not understood yet, its headers above all.
const BUFFER_BYTES_MAX: usize = 64 << 10;
/// Requests that one HTTP/2 connection may have under way.
const STREAMS_MAX: u32 = 128;
/// How often an HTTP/2 connection's other end is asked whether it is still there.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// How a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) invoker: Arc<dyn Invoker>,
    pub(crate) routes: watch::Sender<Arc<Routes>>,
    pub(crate) requests: Semaphore,
    pub(crate) connections: Arc<Semaphore>,
    pub(crate) tasks: TaskTracker,
    /// No new requests; those under way may end.
    pub(crate) stop: CancellationToken,
    /// Nothing may go on.
    pub(crate) cut: CancellationToken,
    /// Connections that were cut with a request under way or unsent.
    pub(crate) cut_count: AtomicUsize,
}

/// Accepts connections until the gateway stops.
pub(crate) async fn accept(shared: Arc<Shared>, listener: TcpListener, tls: Option<TlsAcceptor>) {
    let stop = shared.stop.clone();
    let server = Arc::new(server(&shared));
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "connection not accepted");
                stop.run_until_cancelled(sleep(ACCEPT_PAUSE)).await;
                continue;
            }
        };
        // When the house is full, this one waits here and the others in the kernel's queue. A
        // place taken before there is a guest would be kept from the other listener's.
        let place = Arc::clone(&shared.connections).acquire_owned();
        let Some(Ok(permit)) = stop.run_until_cancelled(place).await else {
            break;
        };
        let guest = Guest {
            server: Arc::clone(&server),
            tls: tls.clone(),
            permit,
        };
        shared
            .tasks
            .spawn(guest.welcome(Arc::clone(&shared), stream));
    }
}

type Server = auto::Builder<Tracked>;

fn server(shared: &Shared) -> Server {
    let tracked = Tracked {
        tasks: shared.tasks.clone(),
        cut: shared.cut.clone(),
    };
    let mut server = auto::Builder::new(tracked);
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.config.header_timeout)
        .max_buf_size(BUFFER_BYTES_MAX);
    server
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_INTERVAL)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(BUFFER_BYTES_MAX as u32);
    server
}

/// Runs the streams of HTTP/2 connections, none of which outlives the gateway.
#[derive(Clone)]
struct Tracked {
    tasks: TaskTracker,
    cut: CancellationToken,
}

impl<F> Executor<F> for Tracked
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.tasks
            .spawn(self.cut.clone().run_until_cancelled_owned(future));
    }
}

/// One connection.
struct Guest {
    server: Arc<Server>,
    tls: Option<TlsAcceptor>,
    permit: OwnedSemaphorePermit,
}

impl Guest {
    async fn welcome(self, shared: Arc<Shared>, stream: TcpStream) {
        // Answers are written at once and whole; there is nothing to gather.
        let _ = stream.set_nodelay(true);
        match &self.tls {
            None => {
                self.converse(&shared, TokioIo::new(stream), Scheme::Http)
                    .await
            }
            Some(tls) => {
                let greeting = timeout(shared.config.header_timeout, tls.accept(stream));
                match shared.stop.run_until_cancelled(greeting).await {
                    Some(Ok(Ok(stream))) => {
                        self.converse(&shared, TokioIo::new(stream), Scheme::Https)
                            .await;
                    }
                    Some(Ok(Err(error))) => debug!(%error, "tls handshake failed"),
                    Some(Err(_)) => debug!("tls handshake took too long"),
                    None => {}
                }
            }
        }
        drop(self.permit);
    }

    async fn converse(
        &self,
        shared: &Arc<Shared>,
        io: impl Read + Write + Unpin + Send + 'static,
        scheme: Scheme,
    ) {
        let spoken = Arc::new(AtomicBool::new(false));
        let service = service_fn(|request| {
            spoken.store(true, Ordering::Relaxed);
            let shared = Arc::clone(shared);
            async move { Ok::<_, Infallible>(handle::request(&shared, scheme, request).await) }
        });
        let mut connection = pin!(self.server.serve_connection(io, service));
        // Telling HTTP/1 from HTTP/2 has no time limit of its own, so a silent client has this.
        let mut silence = pin!(sleep(shared.config.header_timeout));
        let (mut listening, mut stopping) = (true, false);
        loop {
            let event = tokio::select! {
                // First the cut: it also ends the streams, and then the connection ends by itself.
                biased;
                () = shared.cut.cancelled() => Event::Cut,
                () = shared.stop.cancelled(), if !stopping => Event::Stop,
                ended = connection.as_mut() => Event::Ended(ended.err()),
                () = silence.as_mut(), if listening => Event::Silence,
            };
            match event {
                Event::Ended(None) => return,
                Event::Ended(Some(error)) => {
                    debug!(error, "connection broke");
                    return;
                }
                Event::Cut => {
                    shared.cut_count.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                Event::Stop => {
                    stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
                Event::Silence if !spoken.load(Ordering::Relaxed) => {
                    debug!("no request came");
                    return;
                }
                Event::Silence => listening = false,
            }
        }
    }
}

enum Event {
    Ended(Option<Box<dyn std::error::Error + Send + Sync>>),
    Cut,
    Stop,
    Silence,
}
