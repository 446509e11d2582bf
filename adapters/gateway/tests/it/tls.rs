//! HTTPS with the self-made certificate and with the operator's own.

use std::fs;
use std::process::Command;

use adapter_gateway::{CertificateError, Config, Error, Gateway, Pair};
use reqwest::Version;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::support::{Running, api, client, raw, start, start_with, told};

async fn version(running: &Running, client: reqwest::ClientBuilder, host: &str) -> Version {
    let port = running.gateway.https_addr().unwrap().port();
    let client = client.build().unwrap();
    let response = client
        .get(format!("https://{host}:{port}/o"))
        .send()
        .await
        .unwrap();
    let version = response.version();
    assert_eq!(told(response).await.0, 200);
    version
}

#[tokio::test]
async fn who_trusts_the_certificate_gets_http2_under_every_name() {
    let running = start_with(vec![api("output", "/o")], |config| {
        config.cert_names = vec!["api.example".into()];
    })
    .await;
    assert_eq!(
        version(&running, running.trusting(), "localhost").await,
        Version::HTTP_2
    );
    assert_eq!(
        version(&running, running.trusting(), "127.0.0.1").await,
        Version::HTTP_2
    );
    let at = running.gateway.https_addr().unwrap();
    let resolved = running.trusting().resolve("api.example", at);
    assert_eq!(
        version(&running, resolved, "api.example").await,
        Version::HTTP_2
    );
    let old = running.trusting().http1_only();
    assert_eq!(version(&running, old, "localhost").await, Version::HTTP_11);
}

#[tokio::test]
async fn who_does_not_trust_the_certificate_gets_nothing() {
    let running = start(vec![api("output", "/o")]).await;
    let other = start(vec![]).await;
    for client in [other.trusting(), client()] {
        client
            .build()
            .unwrap()
            .get(running.https("/o"))
            .send()
            .await
            .unwrap_err();
    }
    let at = running.gateway.https_addr().unwrap();
    let elsewhere = running
        .trusting()
        .resolve("other.example", at)
        .build()
        .unwrap();
    let url = format!("https://other.example:{}/o", at.port());
    elsewhere.get(url).send().await.unwrap_err();
}

#[tokio::test]
async fn the_certificate_stays_the_same_over_a_restart() {
    let running = start(vec![api("output", "/o")]).await;
    let trusting = running.trusting();
    let dir = running.dir.path().to_owned();
    running.gateway.drain().await;
    let again = start_with(vec![api("output", "/o")], |config| config.cert_dir = dir).await;
    assert_eq!(
        version(&again, trusting, "localhost").await,
        Version::HTTP_2
    );
}

#[tokio::test]
async fn an_own_certificate_takes_the_place_of_the_self_made() {
    let made = start(vec![]).await;
    let (cert, key) = (
        made.dir.path().join("gateway.crt"),
        made.dir.path().join("gateway.key"),
    );
    let own = Pair { cert, key };
    let running = start_with(vec![api("output", "/o")], |config| {
        config.certificate = Some(own.clone());
    })
    .await;
    assert_eq!(
        version(&running, made.trusting(), "localhost").await,
        Version::HTTP_2
    );
    assert_eq!(fs::read_dir(running.dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_gateway_without_a_usable_certificate_or_address_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(vec![]).await;
    let functions = || running.functions.clone();
    let mut config = Config::new(dir.path());
    let start =
        |config: &Config| Gateway::start(config.clone(), functions(), CancellationToken::new());
    assert!(matches!(start(&config).await, Err(Error::NoListener)));

    config.https = Some("127.0.0.1:0".parse().unwrap());
    let (cert, key) = (dir.path().join("absent.crt"), dir.path().join("absent.key"));
    config.certificate = Some(Pair { cert, key });
    let error = start(&config).await.unwrap_err();
    assert!(
        matches!(error, Error::Certificate(CertificateError::Read { .. })),
        "{error:?}"
    );

    config.certificate = None;
    config.http = running.gateway.http_addr();
    let error = start(&config).await.unwrap_err();
    assert!(
        matches!(error, Error::Listen { addr, .. } if Some(addr) == config.http),
        "{error:?}"
    );
}

#[tokio::test]
async fn plain_bytes_on_the_https_port_disturb_nobody() {
    let running = start(vec![api("output", "/o")]).await;
    let mut stream = TcpStream::connect(running.gateway.https_addr().unwrap())
        .await
        .unwrap();
    let said = raw(&mut stream, "GET /o HTTP/1.1\r\nhost: h\r\n\r\n").await;
    assert!(!said.contains("200"), "{said}");
    assert_eq!(
        version(&running, running.trusting(), "localhost").await,
        Version::HTTP_2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_accepts_the_certificate_as_its_own_authority() {
    let running = start(vec![api("output", "/o")]).await;
    let mut curl = Command::new("curl");
    curl.args([
        "--silent",
        "--show-error",
        "--noproxy",
        "*",
        "--max-time",
        "20",
        "--cacert",
    ])
    .arg(running.dir.path().join("gateway.crt"))
    .args(["-H", "Content-type: application/json", "-d", "[1, 2]"])
    .arg(running.https("/o"));
    let output = tokio::task::spawn_blocking(move || curl.output())
        .await
        .unwrap();
    let output = output.expect("curl is installed");
    let (out, err) = (
        output.stdout,
        String::from_utf8_lossy(&output.stderr).into_owned(),
    );
    assert_eq!(
        (String::from_utf8_lossy(&out).as_ref(), err.as_str()),
        ("[1,2]", "")
    );
}
