//! Accepting connections, and each one's life.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use http::uri::PathAndQuery;
use http::{Request, Uri};
use hyper::body::Incoming;
use hyper::rt::{Executor, Read, Write};
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

/// How long to let connections close when no more can be accepted, for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a connection may hold of a request that it has not understood yet, its headers above all.
const HEADER_BYTES_MAX: u32 = 64 << 10;

/// Header fields of one request.
const HEADERS_MAX: usize = 100;

/// Requests that one HTTP/2 connection may have under way.
const STREAMS_MAX: u32 = 128;

/// How often the other end of an HTTP/2 connection is asked whether it is still there.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// What all connections share.
pub(crate) struct House {
    pub(crate) router: Router,
    pub(crate) header_timeout: Duration,
    pub(crate) places: Arc<Semaphore>,
    pub(crate) tasks: TaskTracker,
    /// No new requests; those under way may end.
    pub(crate) stop: CancellationToken,
    /// Nothing may go on.
    pub(crate) cut: CancellationToken,
    /// Connections that were cut.
    pub(crate) cut_count: AtomicUsize,
}

/// Accepts connections until the server stops.
pub(crate) async fn accept(house: Arc<House>, listener: TcpListener, tls: Option<TlsAcceptor>) {
    let protocol = Arc::new(protocol(&house));
    let next = async || {
        // When the house is full, guests wait in the kernel's queue.
        let place = house
            .places
            .clone()
            .acquire_owned()
            .await
            .expect("it is never closed");
        (place, listener.accept().await)
    };
    while let Some((place, accepted)) = house.stop.run_until_cancelled(next()).await {
        match accepted {
            Ok((stream, _)) => {
                let guest = Guest {
                    house: house.clone(),
                    protocol: protocol.clone(),
                    place,
                };
                house.tasks.spawn(guest.welcome(stream, tls.clone()));
            }
            Err(error) => {
                warn!(%error, "connection not accepted");
                house.stop.run_until_cancelled(sleep(ACCEPT_PAUSE)).await;
            }
        }
    }
}

type Protocol = auto::Builder<Streams>;

fn protocol(house: &House) -> Protocol {
    let streams = Streams {
        tasks: house.tasks.clone(),
        cut: house.cut.clone(),
    };
    let mut protocol = auto::Builder::new(streams);
    protocol
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(house.header_timeout)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEADER_BYTES_MAX as usize);
    protocol
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_INTERVAL)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX);
    protocol
}

/// Runs the streams of HTTP/2 connections, none of which outlives the server.
#[derive(Clone)]
struct Streams {
    tasks: TaskTracker,
    cut: CancellationToken,
}

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, future: F) {
        self.tasks
            .spawn(self.cut.clone().run_until_cancelled_owned(future));
    }
}

/// What happens to a connection.
enum Event {
    Ended(Option<Box<dyn std::error::Error + Send + Sync>>),
    Silent,
    Stop,
    Cut,
}

/// One connection and the place that it takes.
struct Guest {
    house: Arc<House>,
    protocol: Arc<Protocol>,
    place: OwnedSemaphorePermit,
}

impl Guest {
    async fn welcome(self, stream: TcpStream, tls: Option<TlsAcceptor>) {
        // Answers are written whole; there is nothing to gather.
        let _ = stream.set_nodelay(true);
        let Some(tls) = tls else {
            return self.converse(TokioIo::new(stream)).await;
        };
        let greeting = timeout(self.house.header_timeout, tls.accept(stream));
        match self.house.stop.run_until_cancelled(greeting).await {
            Some(Ok(Ok(stream))) => self.converse(TokioIo::new(stream)).await,
            Some(Ok(Err(error))) => debug!(%error, "tls handshake failed"),
            Some(Err(_)) => debug!("tls handshake took too long"),
            None => {}
        }
    }

    async fn converse(self, io: impl Read + Write + Unpin + Send + 'static) {
        let Self {
            house,
            protocol,
            place,
        } = self;
        let spoken = AtomicBool::new(false);
        let router = TowerToHyperService::new(house.router.clone());
        let service = service_fn(|request| {
            spoken.store(true, Ordering::Relaxed);
            router.call(without_trailing_slash(request))
        });
        let mut connection = pin!(protocol.serve_connection(io, service));
        // Telling HTTP/1 from HTTP/2 has no time limit of its own; a silent client has this one.
        let mut silence = pin!(sleep(house.header_timeout));
        let (mut listening, mut stopping) = (true, false);
        loop {
            let event = tokio::select! {
                biased;
                () = house.cut.cancelled() => Event::Cut,
                () = house.stop.cancelled(), if !stopping => Event::Stop,
                ended = connection.as_mut() => Event::Ended(ended.err()),
                () = silence.as_mut(), if listening => Event::Silent,
            };
            match event {
                Event::Ended(None) => break,
                Event::Ended(Some(error)) => {
                    debug!(error, "connection broke");
                    break;
                }
                Event::Cut => {
                    house.cut_count.fetch_add(1, Ordering::Relaxed);
                    break;
                }
                Event::Stop => {
                    stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
                Event::Silent if !spoken.load(Ordering::Relaxed) => {
                    debug!("no request came");
                    break;
                }
                Event::Silent => listening = false,
            }
        }
        drop(place);
    }
}

/// The original declared some of its collections with a slash at the end and others without; here
/// both are the same.
fn without_trailing_slash(mut request: Request<Incoming>) -> Request<Incoming> {
    if let Some(uri) = trimmed(request.uri()) {
        *request.uri_mut() = uri;
    }
    request
}

fn trimmed(uri: &Uri) -> Option<Uri> {
    let path = uri
        .path()
        .strip_suffix('/')
        .filter(|path| !path.is_empty())?;
    let shorter: PathAndQuery = match uri.query() {
        Some(query) => format!("{path}?{query}").parse().ok()?,
        None => path.parse().ok()?,
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(shorter);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slash_at_the_end_makes_no_difference() {
        let after = |text: &str| trimmed(&text.parse().unwrap()).map(|uri| uri.to_string());
        assert_eq!(after("/v1/secret/").as_deref(), Some("/v1/secret"));
        assert_eq!(
            after("/v1/api/?function=f").as_deref(),
            Some("/v1/api?function=f")
        );
        assert_eq!(
            after("https://h:1/v1/api/").as_deref(),
            Some("https://h:1/v1/api")
        );
        assert_eq!(after("/v1/api"), None);
        assert_eq!(after("/"), None);
    }
}
