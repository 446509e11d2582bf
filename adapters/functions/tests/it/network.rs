//! What of the network a function reaches under each policy.

use adapter_functions::{Endpoint, NetworkPolicy};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::support::{node, python};

const ASK: &str = "import socket
def handle(context, payload):
    try:
        with socket.create_connection((payload['host'], payload['port']), 5) as s:
            s.sendall(payload['text'].encode())
            s.shutdown(socket.SHUT_WR)
            return s.makefile().read()
    except OSError as e:
        return type(e).__name__
";

/// A service that answers with what it was sent, in capitals, once it was sent all of it.
async fn service() -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let endpoint = Endpoint::from(listener.local_addr().expect("is bound"));
    tokio::spawn(async move {
        while let Ok((mut peer, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut text = String::new();
                let _ = peer.read_to_string(&mut text).await;
                let _ = peer.write_all(text.to_uppercase().as_bytes()).await;
            });
        }
    });
    endpoint
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_reaches_its_services_and_nothing_else() {
    let node = node();
    let (bound, other) = (service().await, service().await);
    let mut revision = python(ASK);
    revision.network = NetworkPolicy::Services;
    revision.endpoints = vec![bound.clone(), Endpoint::new("localhost", bound.port)];
    let id = node.load(revision).await;
    let text = "x".repeat(300_000);
    for host in ["127.0.0.1", "localhost"] {
        let asked = json!({"host": host, "port": bound.port, "text": text});
        assert_eq!(
            node.output(&id, asked).await,
            json!(text.to_uppercase()),
            "{host}"
        );
    }
    let asked = json!({"host": "127.0.0.1", "port": other.port, "text": "x"});
    assert_eq!(
        node.output(&id, asked).await,
        json!("ConnectionRefusedError")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_is_what_decides() {
    let node = node();
    let bound = service().await;
    let asked = json!({"host": bound.host, "port": bound.port, "text": "x"});
    for (network, answer) in [
        (NetworkPolicy::None, "ConnectionRefusedError"),
        (NetworkPolicy::Services, "ConnectionRefusedError"),
        (NetworkPolicy::Host, "X"),
    ] {
        let mut revision = python(ASK);
        revision.id = format!("{network:?}");
        revision.network = network;
        let done = node.once(revision, asked.clone()).await;
        assert_eq!(done.output, json!(answer), "{network:?}");
    }
}
