//! Bodies: what cannot be read, and what is large.

use adapter_kit::{Blobs as _, Digest};
use adapter_rest::Config;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use engine_model::Command;
use engine_model::spec::{Source, Spec};
use flate2::read::GzDecoder;
use reqwest::Method;
use serde_json::json;

use crate::support::{config, house, house_with, said};

/// Bytes that do not get smaller by packing.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_u32;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..count).map(next).collect()
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_told_why() {
    let house = house().await;
    let send = |kind: &str, body: &str| {
        let request = house.request(Method::POST, "/v1/application");
        said(request.header("content-type", kind).body(body.to_owned()))
    };
    let json = "application/json; charset=utf-8";
    send(json, "{\"name\":")
        .await
        .refuses(400, "malformed-command");
    send(json, &"[".repeat(1000))
        .await
        .refuses(400, "malformed-command");
    send(json, "").await.refuses(400, "malformed-command");
    send(json, "[]").await.refuses(422, "invalid-field");
    send(json, "{}").await.refuses(422, "invalid-field");
    send(json, r#"{"name":"a.b"}"#)
        .await
        .refuses(422, "invalid-name");
    send(json, r#"{"name":"a","colour":1}"#)
        .await
        .refuses(422, "invalid-field");
    send("text/plain", r#"{"name":"a"}"#)
        .await
        .refuses(415, "malformed-command");
    send("application/x-www-form-urlencoded", "name=a")
        .await
        .refuses(415, "malformed-command");
    let request = house
        .request(Method::POST, "/v1/application")
        .body(r#"{"name":"a"}"#);
    said(request).await.refuses(415, "malformed-command");
    assert!(house.dispatch.state().submissions.is_empty());
    send("application/merge-patch+json", r#"{"name":"a"}"#)
        .await
        .is(200);
}

#[tokio::test]
async fn a_body_of_one_byte_too_many_is_refused_and_the_next_one_is_read() {
    let house = house().await;
    let empty = json!({ "name": "a", "tags": { "k": "" } })
        .to_string()
        .len();
    let document =
        |bytes: usize| json!({ "name": "a", "tags": { "k": "x".repeat(bytes - empty) } });
    for path in ["/v1/application", "/v1/runs?functionName=f"] {
        house
            .post(path, document((1 << 20) + 1))
            .await
            .refuses(413, "too-large");
    }
    house
        .post("/v1/application", document(8 << 20))
        .await
        .refuses(413, "too-large");
    house
        .post("/v1/application", document(1 << 20))
        .await
        .is(200);
}

#[tokio::test]
async fn a_large_source_goes_to_the_blob_store_first() {
    let house = house().await;
    let archive = noise(1 << 20);
    let document = json!({ "name": "f", "image": "i", "source": STANDARD.encode(&archive) });
    house.post("/v1/function", document.clone()).await.is(201);
    let digest = Digest::of(&archive).to_string();
    let Command::Create(Spec::Function(function)) = house.dispatch.last_command() else {
        panic!()
    };
    assert_eq!(function.source, Source::Blob(digest.clone()));
    assert_eq!(
        house.blobs.get(&Digest::of(&archive)).await.unwrap(),
        archive
    );

    // The same over the generic endpoint.
    let source = json!({ "Archive": STANDARD.encode(&archive) });
    let command = json!({ "Update": { "Function": { "image": "i", "source": source } } });
    house.post("/v1/commands/function/f", command).await.is(200);
    let Command::Update(Spec::Function(function)) = house.dispatch.last_command() else {
        panic!()
    };
    assert_eq!(function.source, Source::Blob(digest));

    let bad = json!({ "name": "g", "image": "i", "source": "*".repeat(100_000) });
    house
        .post("/v1/function", bad)
        .await
        .refuses(422, "invalid-field");
}

#[tokio::test]
async fn a_small_source_stays_in_its_message() {
    let house = house().await;
    let document = json!({ "name": "f", "image": "i", "source": "AAAA" });
    house.post("/v1/function", document).await.is(201);
    let Command::Create(Spec::Function(function)) = house.dispatch.last_command() else {
        panic!()
    };
    assert_eq!(function.source, Source::Archive("AAAA".into()));
}

#[tokio::test]
async fn a_large_file_becomes_an_archive_of_it() {
    let house = house().await;
    let text = STANDARD.encode(noise(200_000));
    let mut document = json!({ "name": "f", "image": "i", "code": text });
    house
        .post("/v1/function", document.clone())
        .await
        .refuses(422, "invalid-field");
    document["fileName"] = json!("hello.py");
    house.post("/v1/function", document).await.is(201);
    let Command::Create(Spec::Function(function)) = house.dispatch.last_command() else {
        panic!()
    };
    let Source::Blob(digest) = function.source else {
        panic!()
    };
    let packed: Bytes = house
        .blobs
        .get(&Digest::parse(&digest).unwrap())
        .await
        .unwrap();
    let mut archive = tar::Archive::new(GzDecoder::new(&packed[..]));
    let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
    assert_eq!(entry.path().unwrap().to_str(), Some("hello.py"));
    assert_eq!(std::io::read_to_string(&mut entry).unwrap(), text);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let patience = std::time::Duration::from_millis(50);
    let house = house_with(Config {
        body_timeout: patience,
        ..config()
    })
    .await;
    let mut socket = tokio::net::TcpStream::connect(house.server.local_addr())
        .await
        .unwrap();
    let head = "POST /v1/application HTTP/1.1\r\nhost: x\r\nauthorization: Bearer root-token\r\n\
                x-dispatch-org: dispatch\r\ncontent-type: application/json\r\n\
                content-length: 10\r\n\r\n{";
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    let read = socket.read_exact(&mut answer);
    tokio::time::timeout(crate::support::PATIENCE, read)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(String::from_utf8(answer).unwrap(), "HTTP/1.1 408");
}

#[tokio::test]
async fn a_client_that_sends_all_before_it_reads_learns_that_it_was_too_much() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let house = house().await;
    // More than the sockets hold by themselves, less than the server's patience with it.
    let much = vec![b' '; 4 << 20];
    let mut chunked = format!("{:x}\r\n", much.len()).into_bytes();
    chunked.extend_from_slice(&much);
    chunked.extend_from_slice(b"\r\n0\r\n\r\n");
    let length = format!("content-length: {}", much.len());
    for (framing, body) in [
        (length.as_str(), &much),
        ("transfer-encoding: chunked", &chunked),
    ] {
        let mut socket = tokio::net::TcpStream::connect(house.server.local_addr())
            .await
            .unwrap();
        let head = format!(
            "POST /v1/application HTTP/1.1\r\nhost: x\r\nauthorization: Bearer root-token\r\n\
             x-dispatch-org: dispatch\r\ncontent-type: application/json\r\n\
             connection: close\r\n{framing}\r\n\r\n"
        );
        let exchange = async {
            socket.write_all(head.as_bytes()).await?;
            socket.write_all(body).await?;
            let mut answer = vec![0; 12];
            socket.read_exact(&mut answer).await.map(|_| answer)
        };
        let answer = tokio::time::timeout(crate::support::PATIENCE, exchange)
            .await
            .unwrap();
        assert_eq!(answer.unwrap(), b"HTTP/1.1 413", "{framing}");
    }
}
