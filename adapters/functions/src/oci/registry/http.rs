//! Requests to one repository of a registry, with what it asks for before it answers. Whatever it
//! says is bounded while it is read: it may be anybody's.

use std::time::Duration;

use futures::TryStreamExt as _;
use oci_client::Reference;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue, RANGE, WWW_AUTHENTICATE};
use reqwest::{Client, Response, StatusCode, Url};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::login::{Challenge, Login};
use super::sent;
use crate::config::Images;
use crate::error::{Failure, chain};

/// For a connection to be made, and for the next bytes to come.
const CONNECT_MAX: Duration = Duration::from_secs(10);
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// The longest token, and the longest reason of a refusal.
const TOKEN_BYTES_MAX: u64 = 64 << 10;
const REASON_BYTES_MAX: u64 = 16 << 10;

/// Why a registry gave nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("{}", .0.reason)]
    Wrong(Failure),
    #[error("it asks for a login")]
    Login,
    #[error("it answered {code}{said}")]
    Status { code: u16, said: String },
    #[error("a blob ended after {bytes} of {of} bytes")]
    Short { bytes: u64, of: u64 },
    #[error("it sends its readers on")]
    Sent(#[source] reqwest::Error),
    #[error("the connection broke")]
    Broken(#[source] reqwest::Error),
}

impl Refused {
    /// Whether the same request may be answered otherwise in a moment.
    pub(super) fn passes(&self) -> bool {
        match self {
            Self::Wrong(_) | Self::Login | Self::Sent(_) => false,
            Self::Status { code, .. } => matches!(code, 408 | 429 | 500..),
            Self::Short { .. } => true,
            Self::Broken(error) => !error.is_builder(),
        }
    }

    /// Why there is no answer at all. Where it was sent is told without the URL, which may be signed.
    fn unanswered(error: reqwest::Error) -> Self {
        match error.is_redirect() {
            true => Self::Sent(error.without_url()),
            false => Self::Broken(error),
        }
    }
}

/// A repository by HTTP.
pub(super) struct Http {
    client: Client,
    /// Where it is, without a slash at the end.
    repository: String,
    /// What a token is to be good for.
    scope: String,
    plain: bool,
    /// Whether it is at an inner address, and may send its readers to such.
    inner: bool,
    login: Option<Login>,
    /// What the registry was last content with.
    pass: Mutex<Option<HeaderValue>>,
}

impl Http {
    pub(super) fn new(reference: &Reference, settings: &Images) -> Result<Self, Failure> {
        let registry = reference.resolve_registry();
        let plain = is_loopback(registry) || settings.insecure.iter().any(|r| r == registry);
        let scheme = if plain { "http" } else { "https" };
        let name = reference.repository();
        let repository = format!("{scheme}://{registry}/v2/{name}");
        let inner = repository.parse().is_ok_and(|url| sent::is_inner(&url));
        // The first to come decides for the process, and all choose the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .connect_timeout(CONNECT_MAX)
            .read_timeout(SILENCE_MAX)
            .redirect(sent::policy(inner))
            .user_agent(concat!("dispatch/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| Failure::now(format!("no registry can be asked: {}", chain(&e))))?;
        Ok(Self {
            client,
            repository,
            scope: format!("repository:{name}:pull"),
            plain,
            inner,
            login: settings
                .credentials
                .as_deref()
                .and_then(|file| Login::noted(file, registry)),
            pass: Mutex::default(),
        })
    }

    /// In whose name it is asked.
    pub(super) fn user(&self) -> Option<&str> {
        self.login.as_ref().map(|login| login.user.as_str())
    }

    /// A successful answer, of which nothing is read yet; from byte `from` on, if the registry can.
    pub(super) async fn get(
        &self,
        path: &str,
        accept: &[&str],
        from: u64,
    ) -> Result<Response, Refused> {
        let url = format!("{}/{path}", self.repository);
        let mut pass = self.pass.lock().await.clone();
        let mut asked_once = false;
        loop {
            let mut request = self.client.get(&url).header(ACCEPT, accept.join(", "));
            if from > 0 {
                request = request.header(RANGE, format!("bytes={from}-"));
            }
            if let Some(pass) = &pass {
                request = request.header(AUTHORIZATION, pass.clone());
            }
            let response = request.send().await.map_err(Refused::unanswered)?;
            if response.status() != StatusCode::UNAUTHORIZED || asked_once {
                return successful(response).await;
            }
            asked_once = true;
            if !url
                .parse()
                .is_ok_and(|asked: Url| asked.origin() == response.url().origin())
            {
                // Somebody else asks, to whom nothing of this registry's is shown.
                return Err(Refused::Login);
            }
            let new = self.pass_for(&response).await?;
            *self.pass.lock().await = Some(new.clone());
            pass = Some(new);
        }
    }

    /// What a registry that asks for a login is to be shown.
    async fn pass_for(&self, response: &Response) -> Result<HeaderValue, Refused> {
        let all = response.headers().get_all(WWW_AUTHENTICATE);
        let mut all = all.iter().filter_map(|value| value.to_str().ok());
        match all.find_map(Challenge::parse) {
            Some(Challenge::Basic) => {
                let login = self.login.as_ref().ok_or(Refused::Login)?;
                Ok(login.header())
            }
            Some(Challenge::Bearer { realm, service }) => {
                self.token(&realm, service.as_deref()).await
            }
            None => Err(Refused::Login),
        }
    }

    async fn token(&self, realm: &str, service: Option<&str>) -> Result<HeaderValue, Refused> {
        #[derive(Deserialize)]
        struct Token {
            token: Option<String>,
            access_token: Option<String>,
        }
        let no_token = |why: &str| Refused::Wrong(Failure::of(format!("its login {why}")));
        let realm: Url = realm.parse().map_err(|_| no_token("is at no URL"))?;
        let go = sent::go(&realm, !self.plain, self.inner);
        go.map_err(|refusal| {
            no_token(&format!("is not asked for: it sends its readers {refusal}"))
        })?;
        let mut query = vec![("scope", self.scope.as_str())];
        query.extend(service.map(|service| ("service", service)));
        let mut request = self.client.get(realm).query(&query);
        if let Some(login) = &self.login {
            request = request.header(AUTHORIZATION, login.header());
        }
        let response = request.send().await.map_err(Refused::unanswered)?;
        let response = successful(response).await?;
        let bytes = bounded(response, TOKEN_BYTES_MAX).await?;
        let token = bytes.and_then(|bytes| serde_json::from_slice::<Token>(&bytes).ok());
        let token = token.and_then(|given| given.token.or(given.access_token));
        let token = token.ok_or_else(|| no_token("gave no token"))?;
        let mut header = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| no_token("gave something else than a token"))?;
        header.set_sensitive(true);
        Ok(header)
    }
}

async fn successful(response: Response) -> Result<Response, Refused> {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<Reason>,
    }
    #[derive(Deserialize)]
    struct Reason {
        message: String,
    }
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        return Err(Refused::Login);
    }
    let bytes = bounded(response, REASON_BYTES_MAX).await.ok().flatten();
    let errors = bytes.and_then(|bytes| serde_json::from_slice::<Errors>(&bytes).ok());
    let reason = errors.and_then(|all| all.errors.into_iter().next());
    Err(Refused::Status {
        code: status.as_u16(),
        said: reason.map_or(String::new(), |reason| format!(": {}", reason.message)),
    })
}

/// A whole body, unless it is longer than that.
pub(super) async fn bounded(
    response: Response,
    bytes_max: u64,
) -> Result<Option<Vec<u8>>, Refused> {
    if response
        .content_length()
        .is_some_and(|long| long > bytes_max)
    {
        return Ok(None);
    }
    let mut whole = Vec::new();
    let mut stream = response.bytes_stream();
    while let Some(chunk) = stream.try_next().await.map_err(Refused::Broken)? {
        if (whole.len() + chunk.len()) as u64 > bytes_max {
            return Ok(None);
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(Some(whole))
}

/// Whether a registry is this very machine, where a connection needs no encryption.
fn is_loopback(registry: &str) -> bool {
    let host = match registry.rsplit_once(':') {
        Some((host, port)) if port.chars().all(|c| c.is_ascii_digit()) => host,
        _ => registry,
    };
    let ip = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_spoken_to_without_encryption() {
        for registry in ["localhost:5000", "127.0.0.1:1", "localhost", "[::1]:5000"] {
            assert!(is_loopback(registry), "{registry}");
        }
        for registry in ["localhost.evil.example", "127.example", "10.0.0.1:5000"] {
            assert!(!is_loopback(registry), "{registry}");
        }
    }
}
