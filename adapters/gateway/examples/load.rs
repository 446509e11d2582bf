//! Measures the gateway with a function that does nothing: requests per second and latency over
//! keep-alive connections of plain HTTP/1.1, gateway and load in one process.
//!
//! `cargo run --release -p adapter-gateway --example load -- [connections] [seconds]`

#![expect(clippy::print_stdout, reason = "the figures are the purpose")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adapter_gateway::{Api, Config, Gateway, Invocation, Invoked, Invoker, Routes};
use async_trait::async_trait;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

struct Trivial;

#[async_trait]
impl Invoker for Trivial {
    async fn invoke(&self, call: Invocation) -> Invoked {
        Invoked::Output(json!({"hello": call.input["name"]}))
    }
}

const REQUEST: &[u8] =
    b"POST /hello HTTP/1.1\r\nhost: localhost\r\nuser-agent: load\r\naccept: */*\r\n\
    content-type: application/json\r\ncontent-length: 18\r\n\r\n{\"name\": \"Jon\"   }";
const BODY: &[u8] = b"{\"hello\":\"Jon\"}";

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let mut number = |default| {
        args.next()
            .map_or(default, |arg| arg.parse().expect("a number"))
    };
    let (connections, seconds) = (number(64), number(5));
    let dir = tempfile::tempdir().expect("a folder");
    let mut config = Config::new(dir.path());
    config.http = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    let started = Gateway::start(config, Arc::new(Trivial), CancellationToken::new()).await;
    let gateway = started.expect("the gateway starts");
    gateway.set_routes(Routes::build(apis()));
    let addr = gateway.http_addr().expect("configured");
    let end = Instant::now() + Duration::from_secs(seconds);
    let clients: Vec<_> = (0..connections)
        .map(|_| tokio::spawn(client(addr, end)))
        .collect();
    let mut latencies = Vec::new();
    for client in clients {
        latencies.extend(client.await.expect("a client ends"));
    }
    latencies.sort_unstable();
    let at = |part: f64| latencies[((latencies.len() - 1) as f64 * part) as usize];
    let rate = latencies.len() as u64 / seconds;
    println!(
        "{connections} connections: {rate} requests/s, p50 {:?}, p99 {:?}",
        at(0.5),
        at(0.99)
    );
    println!("{:?}", gateway.drain().await);
}

/// The one that is called, among a hundred others.
fn apis() -> Vec<Api> {
    let api = |name: String| Api {
        org: "acme".into(),
        function: "hello".into(),
        hosts: vec![],
        methods: vec!["POST".into()],
        protocols: vec![],
        paths: vec![format!("/{name}")],
        authentication: "public".into(),
        cors: false,
        record: true,
        enabled: true,
        name,
    };
    (0..100)
        .map(|n| api(format!("other-{n}")))
        .chain([api("hello".into())])
        .collect()
}

async fn client(addr: SocketAddr, end: Instant) -> Vec<Duration> {
    let mut stream = TcpStream::connect(addr).await.expect("connects");
    stream.set_nodelay(true).expect("is a socket");
    let (mut latencies, mut answer) = (Vec::new(), Vec::new());
    while Instant::now() < end {
        let begin = Instant::now();
        stream.write_all(REQUEST).await.expect("sends");
        answer.clear();
        while !answer.ends_with(BODY) {
            let read = stream.read_buf(&mut answer).await.expect("receives");
            assert!(read > 0, "the gateway hung up");
        }
        assert!(answer.starts_with(b"HTTP/1.1 200"), "the gateway refused");
        latencies.push(begin.elapsed());
    }
    latencies
}
