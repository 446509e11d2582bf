//! What a broker needs to start, and what it says when that is missing.

use std::error::Error as _;

use adapter_postgres_broker::{Broker, Config, Error, TlsFiles};
use tokio_util::sync::CancellationToken;

use crate::support::{SharedServer, TestBroker, config, shared_config};

/// The error that a broker does not start with.
async fn refusal(config: Config) -> Error {
    match Broker::start(config, CancellationToken::new()).await {
        Ok(_) => panic!("it started"),
        Err(error) => error,
    }
}

fn text(error: &Error) -> String {
    format!(
        "{error}: {}",
        error.source().map(ToString::to_string).unwrap_or_default()
    )
}

#[tokio::test]
async fn what_is_wrong_with_a_configuration_is_said_without_its_secrets() {
    let state = tempfile::tempdir().unwrap();
    let good = config(state.path());

    let mut bad = good.clone();
    bad.password.0.clear();
    assert!(matches!(refusal(bad).await, Error::NoCredentials));

    let mut bad = good.clone();
    bad.catalog = state.path().join("none.yaml");
    assert!(text(&refusal(bad).await).contains("none.yaml"));

    let mut bad = good.clone();
    bad.catalog = state.path().join("bad.yaml");
    std::fs::write(&bad.catalog, "services: [{name: s}]").unwrap();
    assert!(text(&refusal(bad).await).contains("`id`"));

    let mut bad = good.clone();
    bad.dedicated.binaries = Some(state.path().to_owned());
    assert!(text(&refusal(bad).await).contains("initdb"));

    for url in [
        "not a url hunter2",
        "postgres://u:hunter2@h/d?sslmode=disable",
    ] {
        let mut bad = good.clone();
        bad.shared = Some(adapter_postgres_broker::SharedServer::new(url));
        assert!(!format!("{bad:?}").contains("hunter2"));
        let error = refusal(bad).await;
        assert!(!format!("{error:?} {}", text(&error)).contains("hunter2"));
    }

    let mut bad = good;
    bad.tls = Some(TlsFiles {
        certificate: state.path().join("none.crt"),
        key: state.path().join("none.key"),
    });
    assert!(matches!(refusal(bad).await, Error::Tls(_)));
}

#[tokio::test]
async fn a_state_directory_serves_one_broker() {
    let state = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(config(state.path())).await;
    let second = refusal(config(state.path())).await;
    assert!(
        text(&second).contains("another broker"),
        "{}",
        text(&second)
    );
    assert!(broker.stop().await);
    assert!(TestBroker::start(config(state.path())).await.stop().await);
}

#[tokio::test]
async fn the_catalog_and_its_ids_are_the_same_after_a_restart() {
    let state = tempfile::tempdir().unwrap();
    let mut seen = Vec::new();
    for _ in 0..2 {
        let broker = TestBroker::start(config(state.path())).await;
        let reply = broker.platform.get("/v2/catalog").await;
        seen.push((reply.headers["etag"].clone(), reply.body));
        assert!(broker.stop().await);
    }
    assert_eq!(seen[0], seen[1]);
}

#[tokio::test]
async fn a_record_that_cannot_be_read_stops_the_start() {
    let state = tempfile::tempdir().unwrap();
    assert!(TestBroker::start(config(state.path())).await.stop().await);
    std::fs::write(state.path().join("instances/x.json"), "{").unwrap();
    assert!(text(&refusal(config(state.path())).await).contains("x.json"));
}

#[tokio::test]
async fn the_listener_speaks_tls_and_records_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let (server, state) = (SharedServer::start(), tempfile::tempdir().unwrap());
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let files = TlsFiles {
        certificate: state.path().join("broker.crt"),
        key: state.path().join("broker.key"),
    };
    std::fs::write(&files.certificate, certified.cert.pem()).unwrap();
    std::fs::write(&files.key, certified.signing_key.serialize_pem()).unwrap();
    let mut config = shared_config(state.path(), &server);
    config.tls = Some(files);
    let broker = TestBroker::start(config).await;
    assert_eq!(broker.platform.get("/v2/catalog").await.status, 200);
    broker.platform.provision_shared("i").await;
    for (path, mode) in [("instances", 0o700), ("instances/i.json", 0o600)] {
        let found = std::fs::metadata(state.path().join(path))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(found & 0o777, mode, "{path}");
    }
    assert!(broker.stop().await);
}
