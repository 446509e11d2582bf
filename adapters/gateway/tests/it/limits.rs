//! What a client may not do: send too much, too slowly, too often, or leave.

use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::support::{
    PATIENCE, Running, api, client, header, raw, rest, start, start_with, told, until,
};

const MIB: usize = 1 << 20;

fn clients(running: &Running) -> [(reqwest::Client, String); 4] {
    let (plain, safe) = (running.http("/o"), running.https("/o"));
    [
        (client().http1_only().build().unwrap(), plain.clone()),
        (client().http2_prior_knowledge().build().unwrap(), plain),
        (
            running.trusting().http1_only().build().unwrap(),
            safe.clone(),
        ),
        (running.trusting().build().unwrap(), safe),
    ]
}

#[tokio::test]
async fn a_body_of_one_mebibyte_passes_and_a_byte_more_does_not() {
    let running = start(vec![api("output", "/o")]).await;
    let refused = json!({"message": "request body is larger than 1048576 bytes", "code": 413});
    for (client, url) in clients(&running) {
        for chunked in [false, true] {
            let send = |size: usize| {
                let body = vec![b'x'; size];
                let request = client.post(&url);
                if chunked {
                    let pieces: Vec<_> = body
                        .chunks(50_000)
                        .map(|p| Ok::<_, Infallible>(p.to_vec()))
                        .collect();
                    request
                        .body(reqwest::Body::wrap_stream(stream::iter(pieces)))
                        .send()
                } else {
                    request.body(body).send()
                }
            };
            let (status, body) = told(send(MIB).await.unwrap()).await;
            assert_eq!(
                (status, body.as_str().map(str::len)),
                (200, Some(MIB)),
                "{url} {chunked}"
            );
            let answer = told(send(MIB + 1).await.unwrap()).await;
            assert_eq!(answer, (413, refused.clone()), "{url} {chunked}");
        }
    }
}

#[tokio::test]
async fn a_client_that_reads_only_when_all_is_sent_learns_that_it_was_too_much() {
    let running = start(vec![api("output", "/o")]).await;
    // More than the sockets hold by themselves, less than the gateway's patience with it.
    let (sized, chunked) = (4 * MIB, 5 * MIB - 100_000);
    let head = "POST /o HTTP/1.1\r\nhost: h\r\nconnection: close\r\n";
    for request in [
        format!("{head}content-length: {sized}\r\n\r\n{}", "x".repeat(sized)),
        format!(
            "{head}transfer-encoding: chunked\r\n\r\n{chunked:x}\r\n{}\r\n0\r\n\r\n",
            "x".repeat(chunked)
        ),
    ] {
        let said = raw(&mut running.connect().await, &request).await;
        assert!(
            said.starts_with("HTTP/1.1 413"),
            "{:?} got {said:?}",
            &request[..100]
        );
    }
}

#[tokio::test]
async fn a_body_without_end_is_cut_off() {
    let running = start(vec![api("output", "/o")]).await;
    for (client, url) in clients(&running) {
        let endless = stream::repeat(Bytes::from(vec![b'x'; 64 << 10])).map(Ok::<_, Infallible>);
        let request = client.post(&url).body(reqwest::Body::wrap_stream(endless));
        // Whether the client still reads the answer is up to the client.
        if let Ok(response) = timeout(PATIENCE, request.send()).await.expect("is cut off") {
            assert_eq!(response.status().as_u16(), 413, "{url}");
        }
    }
    assert_eq!(running.functions.begun.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_client_that_asks_first_need_not_send_too_much() {
    let running = start(vec![api("output", "/o")]).await;
    let head = |size: usize| {
        format!("POST /o HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: {size}\r\n")
    };
    let said = raw(&mut running.connect().await, head(MIB + 1) + "\r\n").await;
    assert!(said.starts_with("HTTP/1.1 413"), "{said}");
    let mut stream = running.connect().await;
    stream
        .write_all((head(2) + "connection: close\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut go = [0; 25];
    timeout(PATIENCE, stream.read_exact(&mut go))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&go, b"HTTP/1.1 100 Continue\r\n\r\n");
    let said = raw(&mut stream, "hi").await;
    assert!(
        said.starts_with("HTTP/1.1 200") && said.ends_with("\"hi\""),
        "{said}"
    );
}

#[tokio::test]
async fn headers_that_come_slowly_or_not_at_all_end_the_connection() {
    let brief = Duration::from_millis(200);
    let running = start_with(vec![api("output", "/o")], |config| {
        config.header_timeout = brief
    })
    .await;
    for begun in [
        "",
        "G",
        "PRI * HTTP",
        "GET /o HTTP/1.1\r\n",
        "GET /o HTTP/1.1\r\nhost: h\r\n",
    ] {
        let said = raw(&mut running.connect().await, begun).await;
        assert!(!said.contains("200"), "{begun:?} got {said}");
    }
    let at = running.gateway.https_addr().unwrap();
    let mut silent = tokio::net::TcpStream::connect(at).await.unwrap();
    assert_eq!(rest(&mut silent).await, "");
    let idle = raw(
        &mut running.connect().await,
        "GET /o HTTP/1.1\r\nhost: h\r\n\r\n",
    )
    .await;
    assert!(
        idle.starts_with("HTTP/1.1 200"),
        "a connection that idles is closed: {idle}"
    );
}

#[tokio::test]
async fn a_long_call_is_not_taken_for_silence() {
    let brief = Duration::from_millis(100);
    let running = start_with(vec![api("wait", "/w")], |config| {
        config.header_timeout = brief
    })
    .await;
    let client = client().build().unwrap();
    let call = tokio::spawn(client.get(running.http("/w")).send());
    running.functions.begun(1).await;
    // Another connection that is closed for its silence shows that the time has passed.
    assert_eq!(rest(&mut running.connect().await).await, "");
    running.functions.release();
    assert_eq!(
        told(call.await.unwrap().unwrap()).await,
        (200, json!("done"))
    );
}

#[tokio::test]
async fn a_body_that_comes_slowly_is_refused() {
    let brief = Duration::from_millis(200);
    let running = start_with(vec![api("output", "/o")], |config| {
        config.body_timeout = brief
    })
    .await;
    for head in [
        "content-length: 10\r\n\r\nhalf",
        "transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let request = format!("POST /o HTTP/1.1\r\nhost: h\r\n{head}");
        let said = raw(&mut running.connect().await, request).await;
        assert!(said.starts_with("HTTP/1.1 408"), "{head:?} got {said}");
    }
    assert_eq!(running.functions.begun.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn headers_have_a_size_limit() {
    let running = start(vec![api("output", "/o")]).await;
    let long = format!(
        "GET /o HTTP/1.1\r\nhost: h\r\nx: {}\r\n\r\n",
        "x".repeat(200 << 10)
    );
    let mut stream = running.connect().await;
    // The gateway may close before it has been told everything.
    let _ = stream.write_all(long.as_bytes()).await;
    let said = rest(&mut stream).await;
    assert!(!said.contains("200 OK"), "{said}");
    let (status, _) = told(
        client()
            .build()
            .unwrap()
            .get(running.http("/o"))
            .send()
            .await
            .unwrap(),
    )
    .await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn one_request_too_many_is_told_to_come_back() {
    let running = start_with(vec![api("wait", "/w"), api("output", "/o")], |config| {
        config.requests_max = 1;
    })
    .await;
    let client = client().build().unwrap();
    let first = tokio::spawn(client.get(running.http("/w")).send());
    running.functions.begun(1).await;
    let refused = client.get(running.http("/o")).send().await.unwrap();
    assert!(header(&refused, "retry-after").is_some());
    let expected = json!({"message": "too many requests", "code": 503});
    assert_eq!(told(refused).await, (503, expected));
    running.functions.release();
    assert_eq!(
        told(first.await.unwrap().unwrap()).await,
        (200, json!("done"))
    );
    let after = client.get(running.http("/o")).send().await.unwrap();
    assert_eq!(told(after).await, (200, json!({})));
}

#[tokio::test]
async fn one_connection_too_many_waits_for_another_to_close() {
    let running = start_with(vec![api("output", "/o")], |config| {
        config.connections_max = 1;
        config.header_timeout = PATIENCE * 10;
    })
    .await;
    let mut first = running.connect().await;
    first
        .write_all(b"GET /o HTTP/1.1\r\nhost: h\r\n\r\n")
        .await
        .unwrap();
    let mut status = [0; 12];
    timeout(PATIENCE, first.read_exact(&mut status))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&status, b"HTTP/1.1 200");
    let mut second = running.connect().await;
    second.write_all(b"GET /o HTTP/1.0\r\n\r\n").await.unwrap();
    let early = timeout(Duration::from_millis(200), second.read_exact(&mut status)).await;
    assert!(
        early.is_err(),
        "the second connection was served beside the first"
    );
    drop(first);
    let said = rest(&mut second).await;
    assert!(said.starts_with("HTTP/1.0 200"), "{said}");
}

#[tokio::test]
async fn a_client_that_hangs_up_is_not_waited_for() {
    let running = start(vec![api("wait", "/w"), api("output", "/o")]).await;
    // In the middle of a call, over each protocol.
    let (plain, safe) = (running.http("/w"), running.https("/w"));
    let clients = [
        (client().http1_only(), &plain),
        (client().http2_prior_knowledge(), &plain),
        (running.trusting(), &safe),
    ];
    for (count, (client, url)) in clients.into_iter().enumerate() {
        let client = client.build().unwrap();
        let call = tokio::spawn(client.get(url).send());
        drop(client);
        running.functions.begun(count + 1).await;
        call.abort();
        let dropped = &running.functions.dropped;
        until("call dropped", || {
            dropped.load(Ordering::SeqCst) == count + 1
        })
        .await;
    }
    // In the middle of a body: no function is called for half of one.
    let begun = running.functions.begun.load(Ordering::SeqCst);
    let mut stream = running.connect().await;
    let half = b"POST /o HTTP/1.1\r\nhost: h\r\ncontent-length: 10\r\n\r\nhalf";
    stream.write_all(half).await.unwrap();
    stream.shutdown().await.unwrap();
    rest(&mut stream).await;
    assert_eq!(running.functions.begun.load(Ordering::SeqCst), begun);
    let after = client()
        .build()
        .unwrap()
        .get(running.http("/o"))
        .send()
        .await
        .unwrap();
    assert_eq!(told(after).await, (200, Value::Object(Default::default())));
}
