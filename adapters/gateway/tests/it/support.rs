//! A gateway on free ports, clients for it, and functions that do as their name says.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use adapter_gateway::{Api, Config, Failure, Gateway, Invocation, Invoked, Invoker, Routes};
use async_trait::async_trait;
use reqwest::{Certificate, Client, ClientBuilder, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Nothing here takes longer unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A function `echo` returns what it was called with; `output` returns its input; `wait` does not
/// return before [`Functions::release`]; `never` never does; `panic` panics; the name of a failure
/// fails so.
pub(crate) struct Functions {
    pub(crate) begun: AtomicUsize,
    pub(crate) dropped: AtomicUsize,
    gate: Semaphore,
}

struct Under<'a>(&'a Functions);

impl Drop for Under<'_> {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

impl Functions {
    pub(crate) fn release(&self) {
        self.gate.add_permits(1);
    }

    pub(crate) async fn begun(&self, count: usize) {
        until("calls begun", || self.begun.load(Ordering::SeqCst) >= count).await;
    }
}

#[async_trait]
impl Invoker for Functions {
    async fn invoke(&self, call: Invocation) -> Invoked {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let fail = |kind| Invoked::Failed {
            kind,
            message: "  bad num: password=hunter2\n  File \"/secret.py\", line 1".into(),
            run_id: Some("run-7".into()),
        };
        if !call.blocking {
            return Invoked::Accepted {
                run_id: "run-8".into(),
            };
        }
        match call.function.as_str() {
            "echo" => Invoked::Output(json!({
                "org": call.org,
                "api": call.api,
                "input": call.input,
                "context": call.http_context,
                "timeout": call.timeout.as_secs(),
            })),
            "output" => Invoked::Output(call.input),
            "wait" => {
                let under = Under(self);
                self.gate.acquire().await.expect("never closed").forget();
                std::mem::forget(under);
                Invoked::Output(json!("done"))
            }
            "never" => std::future::pending().await,
            "panic" => panic!("the invoker's own fault"),
            "InputError" => fail(Failure::InputError),
            "FunctionError" => fail(Failure::FunctionError),
            "SystemError" => fail(Failure::SystemError),
            "NotFound" => Invoked::Failed {
                kind: Failure::NotFound,
                message: "x".into(),
                run_id: None,
            },
            "NotReady" => fail(Failure::NotReady),
            "Unavailable" => fail(Failure::Unavailable),
            "Busy" => fail(Failure::Busy),
            "Timeout" => fail(Failure::Timeout),
            "Cancelled" => fail(Failure::Cancelled),
            "TooLarge" => fail(Failure::TooLarge),
            other => panic!("no function {other}"),
        }
    }
}

/// A gateway under test.
pub(crate) struct Running {
    pub(crate) gateway: Gateway,
    pub(crate) functions: Arc<Functions>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) dir: tempfile::TempDir,
}

pub(crate) async fn start(apis: Vec<Api>) -> Running {
    start_with(apis, |_| {}).await
}

pub(crate) async fn start_with(apis: Vec<Api>, adjust: impl FnOnce(&mut Config)) -> Running {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::new(dir.path());
    let free = "127.0.0.1:0".parse().unwrap();
    (config.http, config.https) = (Some(free), Some(free));
    adjust(&mut config);
    let functions = Arc::new(Functions {
        begun: AtomicUsize::new(0),
        dropped: AtomicUsize::new(0),
        gate: Semaphore::new(0),
    });
    let shutdown = CancellationToken::new();
    let invoker = Arc::clone(&functions) as Arc<dyn Invoker>;
    let gateway = Gateway::start(config, invoker, shutdown.clone())
        .await
        .unwrap();
    gateway.set_routes(Routes::build(apis));
    Running {
        gateway,
        functions,
        shutdown,
        dir,
    }
}

impl Running {
    pub(crate) fn http(&self, path: &str) -> String {
        format!("http://{}{path}", self.gateway.http_addr().unwrap())
    }

    pub(crate) fn https(&self, path: &str) -> String {
        format!(
            "https://localhost:{}{path}",
            self.gateway.https_addr().unwrap().port()
        )
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.gateway.http_addr().unwrap())
            .await
            .unwrap()
    }

    /// Trusts the gateway's certificate and nothing else.
    pub(crate) fn trusting(&self) -> ClientBuilder {
        let pem = std::fs::read(self.dir.path().join("gateway.crt")).unwrap();
        client().tls_certs_only([Certificate::from_pem(&pem).unwrap()])
    }
}

pub(crate) fn client() -> ClientBuilder {
    // Another test may have done it already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().timeout(PATIENCE).no_proxy()
}

/// A public API of organization `acme`, named after its function.
pub(crate) fn api(function: &str, path: &str) -> Api {
    Api {
        org: "acme".into(),
        name: format!("{function}-api"),
        function: function.into(),
        hosts: vec![],
        methods: vec![],
        protocols: vec!["http".into(), "https".into()],
        paths: vec![path.into()],
        authentication: "public".into(),
        cors: false,
        record: true,
        enabled: true,
    }
}

/// Status and body; an empty body is null.
pub(crate) async fn told(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let body = response.bytes().await.unwrap();
    let body = if body.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&body).unwrap()
    };
    (status, body)
}

pub(crate) fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response
        .headers()
        .get(name)
        .map(|value| value.to_str().unwrap())
}

/// Sends bytes on a connection of its own, and reads until the gateway closes it.
pub(crate) async fn raw(stream: &mut TcpStream, bytes: impl AsRef<[u8]>) -> String {
    stream.write_all(bytes.as_ref()).await.unwrap();
    rest(stream).await
}

/// What the gateway says until it closes the connection.
pub(crate) async fn rest(stream: &mut TcpStream) -> String {
    let mut said = Vec::new();
    // A reset after the answer is a close, too.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut said))
        .await
        .expect("connection closes");
    String::from_utf8_lossy(&said).into_owned()
}

pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what} not reached");
        sleep(Duration::from_millis(5)).await;
    }
}
