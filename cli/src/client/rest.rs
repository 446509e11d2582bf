//! The same three things over the REST API, for where NATS cannot be reached.

use std::path::Path;
use std::time::Duration;

use adapter_kit::{ClientError, Commands, Queries, RunTicket, Runs, Submission};
use anyhow::{Context, Result};
use async_trait::async_trait;
use engine_model::{
    Actor, Answer, Code, Name, OrgName, Query, Rejection, Reply, RunCommand, RunId, RunReply, Seq,
};
use reqwest::{Certificate, Method, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::connect::beside;
use crate::config::ClientConfig;

/// What the wire may take besides what the server was given.
const SLACK: Duration = Duration::from_secs(5);

/// A client of the REST API.
pub struct RestClient {
    http: reqwest::Client,
    base: String,
    token: String,
    within: Duration,
}

#[derive(Deserialize)]
struct Accepted {
    seq: Seq,
}

impl RestClient {
    /// A client of the server that `config` names; `path` is where the configuration lies.
    ///
    /// # Errors
    /// When its certificate authority cannot be read.
    pub fn new(config: &ClientConfig, path: &Path, within: Duration) -> Result<Self> {
        // Another part of the process may have chosen the provider already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .danger_accept_invalid_certs(config.insecure)
            .connect_timeout(SLACK);
        if !config.ca_file.is_empty() {
            let file = beside(path, &config.ca_file);
            let pem =
                std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
            builder = builder.tls_certs_merge([Certificate::from_pem(&pem)?]);
        }
        let scheme = if config.scheme.is_empty() {
            "https"
        } else {
            &config.scheme
        };
        Ok(Self {
            http: builder.build()?,
            base: format!("{scheme}://{}:{}/v1", config.host, config.port),
            token: config.token.clone(),
            within,
        })
    }

    fn request(&self, method: Method, path: &str, org: &OrgName) -> RequestBuilder {
        let request = self
            .http
            .request(method, format!("{}/{path}", self.base))
            .header("X-Dispatch-Org", org.as_str());
        if self.token.is_empty() {
            request
        } else {
            request.bearer_auth(&self.token)
        }
    }

    async fn send(
        &self,
        request: RequestBuilder,
        within: Duration,
    ) -> Result<Response, ClientError> {
        let response = request
            .timeout(within + SLACK)
            .send()
            .await
            .map_err(|error| {
                if error.is_timeout() {
                    ClientError::Timeout(within)
                } else {
                    ClientError::Unreachable(chain(&error))
                }
            })?;
        if response.status() == StatusCode::GATEWAY_TIMEOUT {
            return Err(ClientError::Timeout(within));
        }
        Ok(response)
    }
}

/// The innermost cause says what is wrong; the outer ones only say that something is.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// An answer of the wished shape, or the refusal that came instead.
async fn read<T: DeserializeOwned>(response: Response) -> Result<T, ClientError> {
    let status = response.status();
    let bytes = response
        .bytes()
        .await
        .map_err(|e| ClientError::Unreachable(chain(&e)))?;
    if status.is_success() {
        return serde_json::from_slice(&bytes).map_err(|error| {
            ClientError::Unreachable(format!("the server's answer cannot be read: {error}"))
        });
    }
    let rejection = serde_json::from_slice::<Refusal>(&bytes).map_or_else(
        |_| {
            let code = match status {
                StatusCode::UNAUTHORIZED => Code::Unauthenticated,
                StatusCode::FORBIDDEN => Code::Forbidden,
                _ => Code::Unavailable,
            };
            Rejection::new(code, format!("the server answered {status}"))
        },
        |refusal| Rejection::new(refusal.error, refusal.message),
    );
    Err(ClientError::Rejected(rejection))
}

/// The body of every refusal of the REST API.
#[derive(Deserialize)]
struct Refusal {
    error: Code,
    message: String,
}

#[async_trait]
impl Commands for RestClient {
    async fn submit(&self, submission: Submission) -> Result<Reply, ClientError> {
        let Submission {
            id,
            key,
            command,
            actor,
        } = submission;
        let path = format!("commands/{}/{}", key.kind.token(), key.name);
        let request = self
            .request(Method::POST, &path, &key.org)
            .header("X-Dispatch-Command-Id", id.to_string())
            .header("X-Dispatch-Actor", actor.0)
            .json(&command);
        read(self.send(request, self.within).await?).await
    }
}

#[async_trait]
impl Runs for RestClient {
    async fn run(
        &self,
        id: RunId,
        org: &OrgName,
        function: &Name,
        command: RunCommand,
        actor: Actor,
        wait: Option<Duration>,
    ) -> Result<RunTicket, ClientError> {
        let seconds = wait.map_or(0, |wait| wait.as_secs().max(1));
        let request = self
            .request(Method::POST, &format!("commands/run/{function}/{id}"), org)
            .query(&[("wait", seconds)])
            .header("X-Dispatch-Actor", actor.0)
            .json(&command);
        let response = self.send(request, wait.unwrap_or(self.within)).await?;
        if response.status() == StatusCode::ACCEPTED {
            let accepted: Accepted = read(response).await?;
            return Ok(RunTicket::Accepted {
                run: id,
                seq: accepted.seq,
            });
        }
        read::<RunReply>(response).await.map(RunTicket::Finished)
    }

    async fn cancel(
        &self,
        id: RunId,
        org: &OrgName,
        _function: &Name,
        actor: Actor,
    ) -> Result<Seq, ClientError> {
        let request = self
            .request(Method::POST, &format!("runs/{id}/cancel"), org)
            .header("X-Dispatch-Actor", actor.0);
        let response = self.send(request, self.within).await?;
        let seq = response.headers().get("X-Dispatch-At-Least");
        let seq = seq.and_then(|seq| seq.to_str().ok()?.parse().ok());
        read::<serde_json::Value>(response).await?;
        Ok(Seq(seq.unwrap_or(0)))
    }
}

#[async_trait]
impl Queries for RestClient {
    async fn query(&self, query: Query) -> Result<Answer, ClientError> {
        let request = self.request(Method::POST, "query", &query.org).json(&query);
        read(self.send(request, self.within).await?).await
    }
}
