//! Large bytes in the object bucket `dispatch_blobs`, under their digest.

use std::time::Duration;

use adapter_kit::{BlobError, Blobs, Digest};
use async_nats::jetstream::object_store::{GetErrorKind, InfoErrorKind, ObjectStore};
use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

use crate::link::Link;
use crate::streams::BLOBS_BUCKET;

/// How long the next piece of a blob is awaited before the read is given up.
const PIECE_WAIT: Duration = Duration::from_secs(15);

/// The content-addressed store on the server.
#[derive(Debug, Clone)]
pub struct JetBlobs {
    link: Link,
}

impl JetBlobs {
    pub(crate) fn new(link: &Link) -> Self {
        Self { link: link.clone() }
    }

    async fn store(&self) -> Result<ObjectStore, BlobError> {
        self.link
            .jetstream
            .get_object_store(BLOBS_BUCKET)
            .await
            .map_err(store_error)
    }
}

fn store_error(error: impl std::fmt::Display) -> BlobError {
    BlobError::Store(error.to_string())
}

#[async_trait]
impl Blobs for JetBlobs {
    async fn put(&self, bytes: Bytes) -> Result<Digest, BlobError> {
        let digest = Digest::of(&bytes);
        let store = self.store().await?;
        // Its description is written after its last piece: what has one is whole.
        if let Ok(info) = store.info(digest.as_str()).await
            && !info.deleted
            && info.size == bytes.len()
        {
            return Ok(digest);
        }
        let mut reader = bytes.as_ref();
        store
            .put(digest.as_str(), &mut reader)
            .await
            .map_err(store_error)?;
        Ok(digest)
    }

    async fn get(&self, digest: &Digest) -> Result<Bytes, BlobError> {
        let store = self.store().await?;
        let mut object = store
            .get(digest.as_str())
            .await
            .map_err(|error| match error.kind() {
                GetErrorKind::NotFound => BlobError::Absent(digest.clone()),
                _ => store_error(error),
            })?;
        let mut bytes = Vec::with_capacity(object.info().size);
        while bytes.len() < object.info().size {
            let read = timeout(PIECE_WAIT, object.read_buf(&mut bytes)).await;
            match read {
                Ok(Ok(0)) => break,
                Ok(Ok(_)) => {}
                Ok(Err(error)) if error.kind() == std::io::ErrorKind::InvalidData => {
                    return Err(BlobError::Corrupt(digest.clone()));
                }
                Ok(Err(error)) => return Err(store_error(error)),
                Err(_) => return Err(store_error("the next piece did not come")),
            }
        }
        if Digest::of(&bytes) == *digest {
            Ok(bytes.into())
        } else {
            Err(BlobError::Corrupt(digest.clone()))
        }
    }

    async fn has(&self, digest: &Digest) -> Result<bool, BlobError> {
        match self.store().await?.info(digest.as_str()).await {
            Ok(info) => Ok(!info.deleted),
            Err(error) if error.kind() == InfoErrorKind::NotFound => Ok(false),
            Err(error) => Err(store_error(error)),
        }
    }

    async fn remove(&self, digest: &Digest) -> Result<(), BlobError> {
        if !self.has(digest).await? {
            return Ok(());
        }
        let removed = self.store().await?.delete(digest.as_str()).await;
        removed.map_err(store_error)
    }
}
