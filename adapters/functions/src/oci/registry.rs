//! A registry: manifests and blobs by the distribution protocol, checked against their digests,
//! and taken up again where a connection broke.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::TryStreamExt as _;
use oci_client::client::{BlobResponse, Client, ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::secrets::RegistryAuth;
use oci_client::{Reference, RegistryOperation};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;

use super::manifest::{DOCUMENT_BYTES_MAX, Descriptor, MANIFEST_TYPES, digest_of, digits};
use crate::config::Images;
use crate::error::{Failure, chain};

/// How often what may have been an accident is tried.
const ATTEMPTS_MAX: u32 = 5;
/// The wait after the first failed attempt, which doubles with each.
const PAUSE: Duration = Duration::from_millis(200);
/// For a connection to be made, and for the next bytes to come.
const CONNECT_MAX: Duration = Duration::from_secs(10);
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// A repository, with what is known of who may read it.
pub(super) struct Registry {
    client: Client,
    reference: Reference,
    auth: RegistryAuth,
}

impl Registry {
    pub(super) fn new(reference: &Reference, settings: &Images) -> Self {
        // The first to come decides for the process, and all choose the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let registry = reference.resolve_registry();
        let plain = is_loopback(registry) || settings.insecure.iter().any(|r| r == registry);
        let config = ClientConfig {
            protocol: if plain {
                ClientProtocol::Http
            } else {
                ClientProtocol::Https
            },
            connect_timeout: Some(CONNECT_MAX),
            read_timeout: Some(SILENCE_MAX),
            user_agent: concat!("dispatch/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        Self {
            client: Client::new(config),
            reference: reference.clone(),
            auth: credentials(settings.credentials.as_deref(), registry),
        }
    }

    /// An index or a manifest, by the reference's own tag or by digest.
    pub(super) async fn document(&self, digest: Option<&str>) -> Result<Vec<u8>, Failure> {
        let reference = match digest {
            Some(digest) => self.reference.clone_with_digest(digest.to_owned()),
            None => self.reference.clone(),
        };
        let mut attempt = 1;
        let (bytes, _) = loop {
            match self.ask(&reference).await {
                Ok(answer) => break answer,
                Err(error) => self.pause(error, &mut attempt).await?,
            }
        };
        if bytes.len() as u64 > DOCUMENT_BYTES_MAX {
            return Err(Failure::of(format!(
                "its manifest is longer than {DOCUMENT_BYTES_MAX} bytes"
            )));
        }
        match digest.or(reference.digest()) {
            Some(digest) if digest_of(&bytes) != digest => Err(Failure::of(format!(
                "the registry gave a manifest whose digest is not {digest}"
            ))),
            _ => Ok(bytes.to_vec()),
        }
    }

    async fn ask(
        &self,
        reference: &Reference,
    ) -> Result<(bytes::Bytes, String), OciDistributionError> {
        self.client
            .auth(reference, &self.auth, RegistryOperation::Pull)
            .await?;
        self.client
            .pull_manifest_raw(reference, &self.auth, &MANIFEST_TYPES)
            .await
    }

    /// Writes a blob to a file that is not there yet, whole and as its descriptor says.
    pub(super) async fn blob(&self, wanted: &Descriptor, to: &Path) -> Result<(), Failure> {
        let failed = |e| Failure::io("keep a part of an image", &e);
        let mut got = Got {
            file: tokio::fs::File::create_new(to).await.map_err(failed)?,
            hash: Sha256::new(),
            bytes: 0,
        };
        let mut attempt = 1;
        while got.bytes < wanted.size {
            let before = got.bytes;
            match self.continue_blob(wanted, &mut got).await {
                Ok(()) if got.bytes == wanted.size => break,
                Ok(()) => {
                    let short = OciDistributionError::IoError(std::io::Error::new(
                        std::io::ErrorKind::UnexpectedEof,
                        format!("a blob ended after {} of {} bytes", got.bytes, wanted.size),
                    ));
                    self.pause(short, &mut attempt).await?;
                }
                Err(Broken::Final(failure)) => return Err(failure),
                Err(Broken::Registry(error)) => {
                    if got.bytes > before {
                        attempt = 1; // it moves
                    }
                    self.pause(error, &mut attempt).await?;
                }
            }
        }
        got.file.flush().await.map_err(failed)?;
        let found = format!("sha256:{}", digits(&got.hash.finalize()));
        if found == wanted.digest {
            Ok(())
        } else {
            Err(Failure::of(format!(
                "the registry gave a blob with the digest {found} instead of {}",
                wanted.digest
            )))
        }
    }

    async fn continue_blob(&self, wanted: &Descriptor, got: &mut Got) -> Result<(), Broken> {
        let asked = self.client.pull_blob_stream_partial(
            &self.reference,
            wanted.digest.as_str(),
            got.bytes,
            None,
        );
        let mut stream = match asked.await.map_err(Broken::Registry)? {
            BlobResponse::Partial(rest) => rest.stream,
            BlobResponse::Full(whole) => {
                got.restart().await.map_err(Broken::file)?;
                whole.stream
            }
        };
        let read = |e| Broken::Registry(OciDistributionError::IoError(e));
        while let Some(chunk) = stream.try_next().await.map_err(read)? {
            if got.bytes + chunk.len() as u64 > wanted.size {
                return Err(Broken::Final(Failure::of(format!(
                    "the registry gave a blob that is longer than the {} bytes its manifest says",
                    wanted.size
                ))));
            }
            got.file.write_all(&chunk).await.map_err(Broken::file)?;
            got.hash.update(&chunk);
            got.bytes += chunk.len() as u64;
        }
        Ok(())
    }

    /// Waits before the next attempt, or says why there is none.
    async fn pause(&self, error: OciDistributionError, attempt: &mut u32) -> Result<(), Failure> {
        let passing = passes(&error);
        if !passing || *attempt >= ATTEMPTS_MAX {
            return Err(self.explain(&error, passing));
        }
        tracing::debug!(image = %self.reference, error = %chain(&error), attempt, "asked again");
        tokio::time::sleep(PAUSE * 2_u32.pow(*attempt - 1)).await;
        *attempt += 1;
        Ok(())
    }

    fn explain(&self, error: &OciDistributionError, passing: bool) -> Failure {
        let registry = self.reference.resolve_registry();
        let who = match &self.auth {
            RegistryAuth::Basic(user, _) => format!("{user:?}"),
            _ => "anybody".to_owned(),
        };
        match error {
            OciDistributionError::UnauthorizedError { .. }
            | OciDistributionError::AuthenticationFailure(_) => Failure::of(format!(
                "the registry {registry} does not let {who} read it: check the name, and log in on \
                 this node (its credentials are read from the configuration file of docker login)"
            )),
            OciDistributionError::ImageManifestNotFoundError(_)
            | OciDistributionError::RegistryError { .. }
            | OciDistributionError::ServerError { code: 404, .. }
                if is_absent(error) =>
            {
                Failure::of(format!(
                    "the registry {registry} does not have it: check the name and the tag"
                ))
            }
            _ if passing => Failure::now(format!(
                "the registry {registry} could not be read after {ATTEMPTS_MAX} attempts: {}; check \
                 that this node reaches it, and retry",
                chain(error)
            )),
            _ => Failure::of(format!(
                "the registry {registry} gave no image: {}",
                chain(error)
            )),
        }
    }
}

struct Got {
    file: tokio::fs::File,
    hash: Sha256,
    bytes: u64,
}

impl Got {
    async fn restart(&mut self) -> std::io::Result<()> {
        use tokio::io::AsyncSeekExt as _;
        self.file.set_len(0).await?;
        self.file.rewind().await?;
        (self.hash, self.bytes) = (Sha256::new(), 0);
        Ok(())
    }
}

enum Broken {
    Registry(OciDistributionError),
    Final(Failure),
}

impl Broken {
    fn file(error: std::io::Error) -> Self {
        Self::Final(Failure::io("keep a part of an image", &error))
    }
}

/// Whether the same request may be answered otherwise in a moment.
fn passes(error: &OciDistributionError) -> bool {
    match error {
        OciDistributionError::RequestError(error) => !error.is_builder() && !error.is_redirect(),
        OciDistributionError::IoError(error) => {
            !error.to_string().contains("digest") // a digest that fails is no accident
        }
        OciDistributionError::ServerError { code, .. } => matches!(code, 408 | 429 | 500..),
        OciDistributionError::RegistryError { envelope, .. } => {
            let codes = envelope.errors.iter().map(|error| &error.code);
            codes
                .into_iter()
                .any(|code| matches!(code, OciErrorCode::Toomanyrequests))
        }
        _ => false,
    }
}

fn is_absent(error: &OciDistributionError) -> bool {
    match error {
        OciDistributionError::RegistryError { envelope, .. } => envelope.errors.iter().any(|e| {
            matches!(
                e.code,
                OciErrorCode::ManifestUnknown
                    | OciErrorCode::NameUnknown
                    | OciErrorCode::BlobUnknown
                    | OciErrorCode::NotFound
            )
        }),
        _ => true,
    }
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

/// What `docker login` and its likes have noted for a registry; nobody otherwise.
fn credentials(file: Option<&Path>, registry: &str) -> RegistryAuth {
    #[derive(Deserialize)]
    struct Logins {
        #[serde(default)]
        auths: std::collections::HashMap<String, Login>,
    }
    #[derive(Deserialize)]
    struct Login {
        #[serde(default)]
        auth: String,
    }
    let path: Option<PathBuf> = file.map(Path::to_owned);
    let noted = path.and_then(|path| std::fs::read(path).ok());
    let logins = noted.and_then(|text| serde_json::from_slice::<Logins>(&text).ok());
    let host = |key: &str| {
        let plain = key
            .trim_start_matches("https://")
            .trim_start_matches("http://");
        plain.split('/').next().unwrap_or_default().to_owned()
    };
    let login = logins.and_then(|logins| {
        let found = logins
            .auths
            .into_iter()
            .find(|(key, _)| host(key) == registry);
        let pair = STANDARD.decode(found?.1.auth).ok()?;
        let (user, password) = String::from_utf8(pair)
            .ok()?
            .split_once(':')
            .map(|(u, p)| (u.to_owned(), p.to_owned()))?;
        Some(RegistryAuth::Basic(user, password))
    });
    login.unwrap_or(RegistryAuth::Anonymous)
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

    #[test]
    fn credentials_are_those_of_the_very_registry() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let auth = STANDARD.encode("joe:s3:cret");
        let text =
            format!(r#"{{"auths":{{"https://a.example/v1/":{{"auth":"{auth}"}},"b:5000":{{}}}}}}"#);
        std::fs::write(file.path(), text).expect("it is written");
        let of = |registry| credentials(Some(file.path()), registry);
        assert_eq!(
            of("a.example"),
            RegistryAuth::Basic("joe".into(), "s3:cret".into())
        );
        for other in ["b:5000", "example", "a.example.org"] {
            assert_eq!(of(other), RegistryAuth::Anonymous, "{other}");
        }
    }
}
