//! The listener: connections in bounded number, with TLS if configured, drained at shutdown.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::config::TlsFiles;
use crate::error::Error;

/// Connections at once. A platform needs a few; each costs some tens of kilobytes.
const CONNECTIONS_MAX: usize = 1_024;
/// How long a client may take over a handshake or over the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long requests may take to end at shutdown. Those that wait for an operation are cut off, and
/// the platform repeats them.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);
/// Pause after a connection could not be accepted, which means that descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound socket and what is served on it.
pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    pub(crate) tls: Option<TlsAcceptor>,
    pub(crate) router: Router,
}

/// Reads certificate and key.
pub(crate) fn tls(files: &TlsFiles) -> Result<TlsAcceptor, Error> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| Error::Tls(error);
    let chain = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| failed(error.into()))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| failed(error.into()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring supports the default protocol versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| failed(error.into()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

impl Listener {
    /// Serves until `shutdown`, then waits a little for requests to end.
    pub(crate) async fn serve(self, shutdown: CancellationToken) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let graceful = GracefulShutdown::new();
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = accept(&self.socket, &places) => accepted,
                Some(_) = connections.join_next() => continue,
            };
            let Some((stream, place)) = accepted else {
                sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let (tls, router, watcher) =
                (self.tls.clone(), self.router.clone(), graceful.watcher());
            connections.spawn(async move {
                match tls {
                    None => serve_one(stream, router, watcher).await,
                    Some(tls) => {
                        if let Ok(Ok(stream)) = timeout(HEAD_TIMEOUT, tls.accept(stream)).await {
                            serve_one(stream, router, watcher).await;
                        }
                    }
                }
                drop(place);
            });
        }
        drop(self.socket);
        let _ = timeout(DRAIN_TIMEOUT, graceful.shutdown()).await;
        connections.shutdown().await;
    }
}

async fn accept(
    socket: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match socket.accept().await {
        Ok((stream, _)) => {
            // Answers are small and waited for.
            let _ = stream.set_nodelay(true);
            Some((stream, place))
        }
        Err(error) => {
            tracing::warn!(error = %error, "connection not accepted");
            None
        }
    }
}

async fn serve_one<S>(stream: S, router: Router, watcher: hyper_util::server::graceful::Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT);
    builder.http2().timer(TokioTimer::new());
    let service = TowerToHyperService::new(router);
    let connection = builder
        .serve_connection(TokioIo::new(stream), service)
        .into_owned();
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(error = %error, "connection ended");
    }
}
