//! A registry: manifests and blobs by the distribution protocol, checked against their digests,
//! bounded while they are read, and taken up again where a connection broke.

mod http;
mod login;
mod sent;

use std::path::Path;
use std::time::Duration;

use futures::TryStreamExt as _;
use oci_client::Reference;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;

use self::http::{Http, Refused};
use super::manifest::{DOCUMENT_BYTES_MAX, Descriptor, MANIFEST_TYPES, digest_of, digits};
use crate::config::Images;
use crate::error::{Failure, chain};

/// How often what may have been an accident is tried.
const ATTEMPTS_MAX: u32 = 5;
/// The wait after the first failed attempt, which doubles with each.
const PAUSE: Duration = Duration::from_millis(200);

/// A repository, with what is known of who may read it.
pub(super) struct Registry {
    http: Http,
    reference: Reference,
}

impl Registry {
    pub(super) fn new(reference: &Reference, settings: &Images) -> Result<Self, Failure> {
        Ok(Self {
            http: Http::new(reference, settings)?,
            reference: reference.clone(),
        })
    }

    /// An index or a manifest, by the reference's own tag or by digest.
    pub(super) async fn document(&self, digest: Option<&str>) -> Result<Vec<u8>, Failure> {
        let digest = digest.or(self.reference.digest());
        let which = digest.or(self.reference.tag()).unwrap_or("latest");
        let mut attempt = 1;
        let bytes = loop {
            match self.manifest(which).await {
                Ok(bytes) => break bytes,
                Err(refused) => self.pause(refused, &mut attempt).await?,
            }
        };
        match digest {
            Some(digest) if digest_of(&bytes) != digest => Err(Failure::of(format!(
                "the registry gave a manifest whose digest is not {digest}"
            ))),
            _ => Ok(bytes),
        }
    }

    async fn manifest(&self, which: &str) -> Result<Vec<u8>, Refused> {
        let path = format!("manifests/{which}");
        let response = self.http.get(&path, &MANIFEST_TYPES, 0).await?;
        http::bounded(response, DOCUMENT_BYTES_MAX)
            .await?
            .ok_or_else(|| {
                let what = format!("its manifest is longer than {DOCUMENT_BYTES_MAX} bytes");
                Refused::Wrong(Failure::of(what))
            })
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
                    let short = Refused::Short {
                        bytes: got.bytes,
                        of: wanted.size,
                    };
                    self.pause(short, &mut attempt).await?;
                }
                Err(refused) => {
                    if got.bytes > before {
                        attempt = 1; // it moves
                    }
                    self.pause(refused, &mut attempt).await?;
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

    async fn continue_blob(&self, wanted: &Descriptor, got: &mut Got) -> Result<(), Refused> {
        let kept = |e| Refused::Wrong(Failure::io("keep a part of an image", &e));
        let path = format!("blobs/{}", wanted.digest);
        let response = self.http.get(&path, &["*/*"], got.bytes).await?;
        if got.bytes > 0 && response.status() != reqwest::StatusCode::PARTIAL_CONTENT {
            got.restart().await.map_err(kept)?; // it gives the whole only
        }
        let mut stream = response.bytes_stream();
        while let Some(chunk) = stream.try_next().await.map_err(Refused::Broken)? {
            if got.bytes + chunk.len() as u64 > wanted.size {
                return Err(Refused::Wrong(Failure::of(format!(
                    "the registry gave a blob that is longer than the {} bytes its manifest says",
                    wanted.size
                ))));
            }
            got.file.write_all(&chunk).await.map_err(kept)?;
            got.hash.update(&chunk);
            got.bytes += chunk.len() as u64;
        }
        Ok(())
    }

    /// Waits before the next attempt, or says why there is none.
    async fn pause(&self, refused: Refused, attempt: &mut u32) -> Result<(), Failure> {
        if !refused.passes() || *attempt >= ATTEMPTS_MAX {
            return Err(self.explain(refused));
        }
        tracing::debug!(image = %self.reference, error = %chain(&refused), attempt, "asked again");
        tokio::time::sleep(PAUSE * 2_u32.pow(*attempt - 1)).await;
        *attempt += 1;
        Ok(())
    }

    fn explain(&self, refused: Refused) -> Failure {
        let registry = self.reference.resolve_registry();
        let passing = refused.passes();
        match refused {
            Refused::Wrong(failure) => failure,
            Refused::Login => {
                let who = self.http.user();
                let who = who.map_or("anybody".to_owned(), |user| format!("{user:?}"));
                Failure::of(format!(
                    "the registry {registry} does not let {who} read it: check the name, and log in \
                     on this node (its credentials are read from the configuration file of docker \
                     login)"
                ))
            }
            Refused::Status { code: 404, .. } => Failure::of(format!(
                "the registry {registry} does not have it: check the name and the tag"
            )),
            refused if passing => Failure::now(format!(
                "the registry {registry} could not be read after {ATTEMPTS_MAX} attempts: {}; check \
                 that this node reaches it, and retry",
                chain(&refused)
            )),
            refused => Failure::of(format!(
                "the registry {registry} gave no image: {}",
                chain(&refused)
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
