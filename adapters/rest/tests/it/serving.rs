//! Listening: TLS, both versions of HTTP, limits, and the end.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use adapter_kit::MemoryBlobs;
use adapter_rest::{Config, Drained, Error, Server, Tls};
use reqwest::{Certificate, Method, Version};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::dispatch::{Dispatch, Fault, ROOT};
use crate::support::{PATIENCE, client, config, house, house_with, ports, read};

/// Makes a certificate in `directory`; returns its files and its PEM.
fn certificate(directory: &Path) -> (Tls, String) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into(), "127.0.0.1".into()]);
    let made = made.unwrap();
    let tls = Tls {
        cert: directory.join("rest.crt"),
        key: directory.join("rest.key"),
    };
    fs::write(&tls.cert, made.cert.pem()).unwrap();
    fs::write(&tls.key, made.signing_key.serialize_pem()).unwrap();
    (tls, made.cert.pem())
}

async fn start(config: Config) -> Result<Server, Error> {
    let ports = ports(&Arc::<Dispatch>::default(), &Arc::<MemoryBlobs>::default());
    Server::start(config, ports, CancellationToken::new()).await
}

#[tokio::test]
async fn https_is_served_in_both_versions_of_http() {
    let directory = tempfile::tempdir().unwrap();
    let (tls, pem) = certificate(directory.path());
    let server = start(Config {
        tls: Some(tls),
        ..config()
    })
    .await
    .unwrap();
    let url = format!("https://{}/v1/version", server.local_addr());
    let trusting = || client().tls_certs_only([Certificate::from_pem(pem.as_bytes()).unwrap()]);
    let both = [
        (trusting(), Version::HTTP_2),
        (trusting().http1_only(), Version::HTTP_11),
    ];
    for (client, version) in both {
        let sent = client
            .build()
            .unwrap()
            .get(&url)
            .bearer_auth(ROOT)
            .send()
            .await
            .unwrap();
        assert_eq!(sent.version(), version);
        read(sent).await.is(200);
    }
    // Who does not trust the certificate sends no token.
    let stranger = client().tls_certs_only([]).build().unwrap();
    assert!(stranger.get(&url).send().await.is_err());
}

#[tokio::test]
async fn http_2_is_served_without_tls_as_well() {
    let house = house().await;
    let client = client().http2_prior_knowledge().build().unwrap();
    let request = client.get(house.url("/v1/version")).bearer_auth(ROOT);
    let sent = request.send().await.unwrap();
    assert_eq!(sent.version(), Version::HTTP_2);
    read(sent).await.is(200);
}

#[tokio::test]
async fn plain_http_does_not_leave_the_machine() {
    let everywhere = SocketAddr::from(([0, 0, 0, 0], 0));
    assert!(matches!(
        start(Config::new(everywhere)).await,
        Err(Error::Plain(_))
    ));
    let directory = tempfile::tempdir().unwrap();
    let (tls, _) = certificate(directory.path());
    start(Config {
        tls: Some(tls),
        ..Config::new(everywhere)
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn an_unusable_certificate_and_a_taken_address_are_errors() {
    let directory = tempfile::tempdir().unwrap();
    let (tls, _) = certificate(directory.path());
    fs::write(&tls.key, "no key").unwrap();
    let refused = start(Config {
        tls: Some(tls),
        ..config()
    })
    .await;
    assert!(matches!(refused, Err(Error::Certificate(_))), "{refused:?}");
    let first = start(config()).await.unwrap();
    let refused = start(Config::new(first.local_addr())).await;
    assert!(matches!(refused, Err(Error::Listen { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_request_under_way_is_answered_before_the_end() {
    let config = Config {
        answer_within: Duration::from_millis(300),
        ..config()
    };
    let house = house_with(config).await;
    house.dispatch.state().queries_fault = Some(Fault::Silent);
    let request = house.request(Method::GET, "/v1/application").send();
    let asked = tokio::spawn(request);
    // The request has arrived once the counters say so.
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let metrics = house.get("/metrics").await.text;
        if metrics.contains("requests_under_way 2") {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{metrics}");
    }
    house.shutdown.cancel();
    let addr = house.server.local_addr();
    assert_eq!(
        timeout(PATIENCE, house.server.drain()).await.unwrap(),
        Drained::Graceful
    );
    read(asked.await.unwrap().unwrap())
        .await
        .refuses(504, "unavailable");
    assert!(TcpStream::connect(addr).await.is_err());
}

#[tokio::test]
async fn what_does_not_end_in_time_is_cut() {
    let house = house_with(Config {
        drain_timeout: Duration::from_millis(50),
        ..config()
    })
    .await;
    house.dispatch.state().queries_fault = Some(Fault::Silent);
    let asked = tokio::spawn(house.request(Method::GET, "/v1/application").send());
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !house
        .get("/metrics")
        .await
        .text
        .contains("requests_under_way 2")
    {
        assert!(tokio::time::Instant::now() < deadline);
    }
    assert_eq!(
        timeout(PATIENCE, house.server.drain()).await.unwrap(),
        Drained::Cut(1)
    );
    assert!(asked.await.unwrap().is_err());
}

#[tokio::test]
async fn a_client_that_says_nothing_is_let_go() {
    let house = house_with(Config {
        header_timeout: Duration::from_millis(50),
        ..config()
    })
    .await;
    for beginning in ["", "GET /v1/ver"] {
        let mut socket = TcpStream::connect(house.server.local_addr()).await.unwrap();
        socket.write_all(beginning.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        let closed = timeout(PATIENCE, socket.read_to_end(&mut rest))
            .await
            .unwrap();
        assert!(
            closed.is_ok() && !String::from_utf8_lossy(&rest).contains("200"),
            "{rest:?}"
        );
    }
}

#[tokio::test]
async fn one_more_connection_than_allowed_waits_for_its_place() {
    let house = house_with(Config {
        connections_max: 1,
        ..config()
    })
    .await;
    let first = TcpStream::connect(house.server.local_addr()).await.unwrap();
    let second = house.request(Method::GET, "/v1/version").send();
    let mut second = tokio::spawn(second);
    assert!(
        timeout(Duration::from_millis(100), &mut second)
            .await
            .is_err()
    );
    drop(first);
    read(second.await.unwrap().unwrap()).await.is(200);
}

#[tokio::test]
async fn too_many_headers_are_refused() {
    let house = house().await;
    let mut request = house.request(Method::GET, "/v1/version");
    for index in 0..200 {
        request = request.header(format!("x-{index}"), "y");
    }
    assert_eq!(request.send().await.unwrap().status(), 431);
    let big = house
        .request(Method::GET, "/v1/version")
        .header("x-big", "y".repeat(100_000));
    assert_eq!(big.send().await.unwrap().status(), 431);
    house.get("/v1/version").await.is(200);
}

#[tokio::test]
async fn expectations_are_met_before_a_large_body_is_sent() {
    let house = house().await;
    let mut socket = TcpStream::connect(house.server.local_addr()).await.unwrap();
    let body = json!({ "name": "a" }).to_string();
    for (length, answer) in [(body.len(), "HTTP/1.1 100"), (64 << 20, "HTTP/1.1 413")] {
        let head = format!(
            "POST /v1/application HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ROOT}\r\n\
             x-dispatch-org: dispatch\r\ncontent-type: application/json\r\n\
             expect: 100-continue\r\ncontent-length: {length}\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut start = vec![0; 12];
        timeout(PATIENCE, socket.read_exact(&mut start))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(String::from_utf8(start).unwrap(), answer);
        socket = TcpStream::connect(house.server.local_addr()).await.unwrap();
    }
}
