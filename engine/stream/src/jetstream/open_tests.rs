//! What opening the log on the wrong server says.

use std::time::Duration;

use async_nats::jetstream::stream::Config;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

use super::JetStream;
use crate::client::{User, permissions};
use crate::link::{Link, OpenError};
use crate::settings::{Auth, Connection, Durability, RunRetention, Settings};
use crate::streams::{EVENTS, RUNS};
use crate::testing::TestServer;

async fn refusal(connection: &Connection, settings: Settings) -> OpenError {
    JetStream::open(connection, settings)
        .await
        .expect_err("it cannot be used")
}

#[tokio::test]
async fn opening_twice_is_opening_once_and_limits_follow_the_settings() {
    let server = TestServer::start();
    let connection = server.connection();
    JetStream::open(&connection, Settings::default())
        .await
        .unwrap();
    let retention = RunRetention {
        messages: 77,
        ..RunRetention::default()
    };
    let settings = Settings {
        run_retention: retention,
        ..Settings::default()
    };
    let log = JetStream::open(&connection, settings).await.unwrap();
    let mut runs = log.link.jetstream.get_stream(RUNS).await.unwrap();
    assert_eq!(runs.info().await.unwrap().config.max_messages, 77);
}

#[tokio::test]
async fn a_stream_that_is_another_is_reported_and_left_alone() {
    let server = TestServer::start();
    let link = Link::connect(&server.connection()).await.unwrap();
    let other = Config {
        name: EVENTS.into(),
        subjects: vec!["dispatch.evt.>".into()],
        ..Config::default()
    };
    link.jetstream.create_stream(other).await.unwrap();
    link.jetstream
        .publish("dispatch.evt.x", "precious".into())
        .await
        .unwrap()
        .await
        .unwrap();
    match refusal(&server.connection(), Settings::default()).await {
        OpenError::Differs {
            stream,
            field,
            asked,
            found,
        } => {
            assert_eq!((stream.as_str(), field), (EVENTS, "deny_delete"));
            assert_eq!((asked.as_str(), found.as_str()), ("true", "false"));
        }
        error => panic!("{error}"),
    }
    let mut stream = link.jetstream.get_stream(EVENTS).await.unwrap();
    assert_eq!(stream.info().await.unwrap().state.messages, 1);
}

#[tokio::test]
async fn a_change_of_durability_is_not_made_behind_ones_back() {
    let server = TestServer::start();
    JetStream::open(&server.connection(), Settings::default())
        .await
        .unwrap();
    let fsync = Settings {
        run_durability: Durability::Fsync,
        ..Settings::default()
    };
    let error = refusal(&server.connection(), fsync).await;
    assert!(
        matches!(
            error,
            OpenError::Differs {
                field: "persist_mode",
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn wrong_credentials_are_said_to_be_wrong() {
    let server = TestServer::with_users(&[("engine", permissions(User::Engine))]);
    let wrong = Auth::Password {
        user: "engine".into(),
        password: "wrong".into(),
    };
    for auth in [wrong, Auth::None] {
        let error = refusal(&server.connection().with_auth(auth), Settings::default()).await;
        assert!(matches!(error, OpenError::Unauthorized { .. }), "{error}");
    }
}

#[tokio::test]
async fn nobody_there_is_said_within_ones_patience() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let mut connection = Connection::to(format!("nats://{address}"));
    connection.patience = Duration::from_millis(200);
    let error = refusal(&connection, Settings::default()).await;
    assert!(matches!(error, OpenError::Unreachable { .. }), "{error}");
}

/// A server that introduces itself as an old one.
#[tokio::test]
async fn an_old_server_is_refused_with_what_to_do() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connection = Connection::to(format!("nats://{}", listener.local_addr().unwrap()));
    let server = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let (read, mut write) = socket.split();
        let info = r#"{"server_id":"X","server_name":"X","version":"2.9.10","proto":1,"go":"go1",
            "host":"127.0.0.1","port":1,"headers":true,"max_payload":1048576,"jetstream":true,
            "client_id":1}"#;
        let info = info.replace('\n', "");
        write
            .write_all(format!("INFO {info}\r\n").as_bytes())
            .await
            .unwrap();
        let mut lines = BufReader::new(read).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if line.starts_with("PING") {
                write.write_all(b"PONG\r\n").await.unwrap();
            }
        }
    });
    let error = refusal(&connection, Settings::default()).await;
    let text = error.to_string();
    assert!(matches!(error, OpenError::TooOld { .. }), "{text}");
    assert!(
        text.contains("2.9.10") && text.contains("2.12 or newer"),
        "{text}"
    );
    server.abort();
}

/// Drawn for this test; it opens nothing else.
const NKEY: (&str, &str) = (
    "SUAPWOLH7G73VBIKYW2VGN5O6TGB7WMMBASZKHPP7GJGMLOCYWYNY35UVA",
    "UDLJGK74QARZ53X4L7ASVGPL2DY3RXI32W5CZ4GIIZM5TEVK5NKQBR4C",
);

#[tokio::test]
async fn an_nkey_opens_an_encrypted_server_whose_certificate_is_trusted() {
    let files = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
    let (certificate, key) = (files.path().join("c.pem"), files.path().join("k.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let (seed, public) = NKEY;
    let server = TestServer::with_configuration(format!(
        "tls {{\n  cert_file: {certificate:?}\n  key_file: {key:?}\n}}\n\
         authorization {{\n  users: [ {{ nkey: {public} }} ]\n}}\n",
    ));
    let mut connection = server.connection().with_auth(Auth::Nkey(seed.into()));
    connection.patience = Duration::from_millis(200);
    let distrusted = refusal(&connection, Settings::default()).await;
    assert!(
        matches!(distrusted, OpenError::Unreachable { .. }),
        "{distrusted}"
    );
    connection.ca = Some(certificate);
    JetStream::open(&connection, Settings::default())
        .await
        .unwrap();
    connection.ca = Some(files.path().join("absent.pem"));
    let absent = refusal(&connection, Settings::default()).await;
    assert!(matches!(absent, OpenError::Credentials { .. }), "{absent}");
}

#[tokio::test]
async fn a_server_without_jetstream_is_told_from_an_absent_one() {
    let nobody = "accounts {\n  A {\n    users: [ { user: a, password: a } ]\n  }\n}\n";
    let server = TestServer::with_configuration(nobody.into());
    let error = refusal(&server.connection_of("a"), Settings::default()).await;
    assert!(matches!(error, OpenError::NoJetStream { .. }), "{error}");
}
