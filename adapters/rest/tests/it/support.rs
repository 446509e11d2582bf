//! A server with its Dispatch, and a client of both.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use adapter_kit::MemoryBlobs;
use adapter_rest::{Config, Info, Ports, Server};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::dispatch::{Dispatch, ROOT, seal};

/// No test waits for longer than this.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A server with its Dispatch, and a client of both.
pub(crate) struct House {
    pub(crate) server: Server,
    pub(crate) dispatch: Arc<Dispatch>,
    pub(crate) blobs: Arc<MemoryBlobs>,
    pub(crate) client: Client,
    pub(crate) shutdown: CancellationToken,
}

pub(crate) fn config() -> Config {
    Config::new(SocketAddr::from(([127, 0, 0, 1], 0)))
}

pub(crate) fn ports(dispatch: &Arc<Dispatch>, blobs: &Arc<MemoryBlobs>) -> Ports {
    Ports {
        commands: dispatch.clone(),
        runs: dispatch.clone(),
        queries: dispatch.clone(),
        blobs: blobs.clone(),
        authenticator: dispatch.clone(),
        seal: Arc::new(seal),
        info: Info::of_this_build(),
    }
}

/// A client builder that needs no system certificates.
pub(crate) fn client() -> reqwest::ClientBuilder {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().timeout(PATIENCE)
}

pub(crate) async fn house() -> House {
    house_with(config()).await
}

pub(crate) async fn house_with(config: Config) -> House {
    let (dispatch, blobs) = (Arc::<Dispatch>::default(), Arc::<MemoryBlobs>::default());
    let shutdown = CancellationToken::new();
    let server = Server::start(config, ports(&dispatch, &blobs), shutdown.clone())
        .await
        .unwrap();
    House {
        server,
        dispatch,
        blobs,
        client: client().build().unwrap(),
        shutdown,
    }
}

impl House {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.local_addr())
    }

    /// A request with a token for everything, in the organization `dispatch`.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, self.url(path));
        request
            .bearer_auth(ROOT)
            .header("X-Dispatch-Org", "dispatch")
    }

    pub(crate) async fn get(&self, path: &str) -> Said {
        said(self.request(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Said {
        said(self.request(Method::POST, path).json(&body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Said {
        said(self.request(Method::PUT, path).json(&body)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Said {
        said(self.request(Method::PATCH, path).json(&body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Said {
        said(self.request(Method::DELETE, path)).await
    }
}

/// An answer, read.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) text: String,
    /// Null when it is not JSON.
    pub(crate) body: Value,
}

impl Said {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// It is a refusal with this status and code, of the shape that every refusal has.
    #[track_caller]
    pub(crate) fn refuses(&self, status: u16, code: &str) -> &str {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.body["code"], status, "{}", self.text);
        assert_eq!(self.body["error"], code, "{}", self.text);
        assert_eq!(self.body.as_object().unwrap().len(), 3, "{}", self.text);
        self.body["message"].as_str().unwrap()
    }

    /// It has this status.
    #[track_caller]
    pub(crate) fn is(&self, status: u16) -> &Value {
        assert_eq!(self.status, status, "{}", self.text);
        &self.body
    }
}

/// Sends a request. Every answer is checked for what all answers have.
pub(crate) async fn said(request: RequestBuilder) -> Said {
    read(request.send().await.unwrap()).await
}

pub(crate) async fn read(response: Response) -> Said {
    let (status, headers) = (response.status(), response.headers().clone());
    let text = response.text().await.unwrap();
    assert!(headers.contains_key("x-request-id"), "{status}");
    if status == StatusCode::METHOD_NOT_ALLOWED {
        assert!(headers.contains_key("allow"));
    }
    let body = serde_json::from_str(&text).unwrap_or(Value::Null);
    Said {
        status: status.as_u16(),
        headers,
        text,
        body,
    }
}
