//! The end of a gateway.

use std::time::Duration;

use adapter_gateway::{Config, Drained};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{PATIENCE, api, client, rest, start_with, told};

/// So long a time for draining that a test which waits for its end fails.
fn long(config: &mut Config) {
    config.drain_timeout = PATIENCE * 10;
}

#[tokio::test]
async fn requests_under_way_are_answered_and_no_new_ones_accepted() {
    let running = start_with(vec![api("wait", "/w")], long).await;
    let addr = running.gateway.http_addr().unwrap();
    let clients = [
        (client().http1_only(), running.http("/w")),
        (client().http2_prior_knowledge(), running.http("/w")),
        (running.trusting(), running.https("/w")),
    ];
    let calls: Vec<_> = clients
        .into_iter()
        .map(|(client, url)| tokio::spawn(client.build().unwrap().get(url).send()))
        .collect();
    running.functions.begun(3).await;
    // One that never said anything, and one that idles after its request.
    let mut silent = running.connect().await;
    let mut idle = running.connect().await;
    idle.write_all(b"GET /none HTTP/1.1\r\nhost: h\r\n\r\n")
        .await
        .unwrap();
    let mut status = [0; 12];
    timeout(PATIENCE, idle.read_exact(&mut status))
        .await
        .unwrap()
        .unwrap();

    let drain = tokio::spawn(async move { running.gateway.drain().await });
    // What idles is closed at once, while the calls still wait.
    rest(&mut silent).await;
    rest(&mut idle).await;
    assert!(!drain.is_finished());
    assert!(
        TcpStream::connect(addr).await.is_err(),
        "nothing listens any more"
    );
    for _ in &calls {
        running.functions.release();
    }
    for call in calls {
        assert_eq!(
            told(call.await.unwrap().unwrap()).await,
            (200, json!("done"))
        );
    }
    assert_eq!(
        timeout(PATIENCE, drain).await.unwrap().unwrap(),
        Drained::Graceful
    );
}

#[tokio::test]
async fn what_does_not_end_in_time_is_cut() {
    let brief = Duration::from_millis(100);
    let running = start_with(vec![api("wait", "/w")], |config| {
        config.drain_timeout = brief
    })
    .await;
    let url = running.http("/w");
    let calls = [client().http1_only(), client().http2_prior_knowledge()]
        .map(|client| tokio::spawn(client.build().unwrap().get(&url).send()));
    running.functions.begun(2).await;
    let drained = timeout(PATIENCE, running.gateway.drain()).await.unwrap();
    assert_eq!(drained, Drained::Cut(2));
    for call in calls {
        call.await.unwrap().unwrap_err();
    }
    assert_eq!(
        running
            .functions
            .dropped
            .load(std::sync::atomic::Ordering::SeqCst),
        2
    );
}

#[tokio::test]
async fn the_shutdown_token_begins_the_drain() {
    let running = start_with(vec![api("wait", "/w")], long).await;
    let addr = running.gateway.http_addr().unwrap();
    let call = tokio::spawn(client().build().unwrap().get(running.http("/w")).send());
    running.functions.begun(1).await;
    let mut idle = running.connect().await;
    running.shutdown.cancel();
    rest(&mut idle).await;
    assert!(TcpStream::connect(addr).await.is_err());
    running.functions.release();
    assert_eq!(
        told(call.await.unwrap().unwrap()).await,
        (200, json!("done"))
    );
    let drained = timeout(PATIENCE, running.gateway.drain()).await.unwrap();
    assert_eq!(drained, Drained::Graceful);
}
