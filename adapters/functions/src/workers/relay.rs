//! The way from a sandbox to the service endpoints it was promised, and to nothing else.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use adapter_sandbox::Endpoint;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

/// Connections of one worker to one endpoint at a time; a function has one or a small pool.
const CONNECTIONS_MAX: usize = 64;
/// A service that takes longer to accept is down; the function sees its connection close.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// The relays of one worker; dropping it closes their listeners and all their connections.
#[derive(Debug, Default)]
pub(crate) struct Relays {
    _tasks: JoinSet<()>,
}

impl Relays {
    /// Starts relaying from each listener, which lies in the worker's network namespace.
    pub(crate) fn start(listeners: Vec<(Endpoint, OwnedFd)>) -> std::io::Result<Self> {
        let mut relays = JoinSet::new();
        for (endpoint, listener) in listeners {
            let listener = std::net::TcpListener::from(listener);
            listener.set_nonblocking(true)?;
            relays.spawn(serve(TcpListener::from_std(listener)?, endpoint));
        }
        Ok(Self { _tasks: relays })
    }
}

async fn serve(listener: TcpListener, endpoint: Endpoint) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let slot = Arc::clone(&slots)
            .acquire_owned()
            .await
            .expect("nobody closes it");
        match listener.accept().await {
            Ok((inside, _)) => {
                connections.spawn(relay(inside, endpoint.clone(), slot));
            }
            Err(error) => {
                // Out of descriptors: wait for some to be freed rather than spin.
                tracing::warn!(endpoint = %endpoint, %error, "accept from a sandbox failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

/// Copies both ways until both sides are done; each side's end of writing is passed on by itself.
async fn relay(mut inside: TcpStream, endpoint: Endpoint, _slot: OwnedSemaphorePermit) {
    let connecting = TcpStream::connect((endpoint.host.as_str(), endpoint.port));
    let mut outside = match tokio::time::timeout(CONNECT_MAX, connecting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(endpoint = %endpoint, %error, "a service endpoint refused");
            return;
        }
        Err(_) => {
            tracing::debug!(endpoint = %endpoint, "a service endpoint did not answer");
            return;
        }
    };
    let _ = (inside.set_nodelay(true), outside.set_nodelay(true));
    // A reset by either side ends both; there is nobody to tell but the two who know.
    let _ = tokio::io::copy_bidirectional(&mut inside, &mut outside).await;
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn relayed_to(service: &TcpListener) -> (Relays, TcpStream) {
        let inside = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
        let address = inside.local_addr().expect("is bound");
        let endpoint = Endpoint::from(service.local_addr().expect("is bound"));
        let relays = Relays::start(vec![(endpoint, inside.into())]).expect("starts");
        (relays, TcpStream::connect(address).await.expect("connects"))
    }

    #[tokio::test]
    async fn the_end_of_one_direction_leaves_the_other_open() {
        let service = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let (_relays, mut function) = relayed_to(&service).await;
        let (mut peer, _) = service.accept().await.expect("accepts");
        function.write_all(b"question").await.expect("writes");
        function.shutdown().await.expect("half-closes");
        let mut asked = String::new();
        peer.read_to_string(&mut asked)
            .await
            .expect("reads to the end");
        assert_eq!(asked, "question");
        peer.write_all(b"answer").await.expect("writes");
        drop(peer);
        let mut answered = String::new();
        function
            .read_to_string(&mut answered)
            .await
            .expect("reads to the end");
        assert_eq!(answered, "answer");
    }

    #[tokio::test]
    async fn dropping_the_relays_closes_what_they_carried() {
        let service = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let (relays, mut function) = relayed_to(&service).await;
        let (mut peer, _) = service.accept().await.expect("accepts");
        drop(relays);
        let mut rest = Vec::new();
        assert_eq!(peer.read_to_end(&mut rest).await.expect("is closed"), 0);
        let _ = function.read_to_end(&mut rest).await;
        assert!(rest.is_empty());
    }
}
