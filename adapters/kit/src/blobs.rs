//! Content-addressed storage for what is too large for a message: function sources and layers.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The address of a blob: the SHA-256 of its bytes, as 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(String);

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut hex = String::with_capacity(64);
        for byte in Sha256::digest(bytes) {
            let _ = write!(hex, "{byte:02x}");
        }
        Self(hex)
    }

    /// The 64 hexadecimal digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads 64 lower-case hexadecimal digits; anything else is `None`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        (text.len() == 64 && text.bytes().all(hex)).then(|| Self(text.to_owned()))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a blob could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No blob has this digest.
    #[error("no blob has the digest {0}")]
    Absent(Digest),
    /// What came back does not have the digest that was asked for.
    #[error("blob {0} is corrupt")]
    Corrupt(Digest),
    /// The store did not answer, or refused.
    #[error("blob store: {0}")]
    Store(String),
}

/// A content-addressed store. Putting the same bytes twice is the same as putting them once.
#[async_trait]
pub trait Blobs: Send + Sync + 'static {
    /// Stores `bytes` and returns their digest.
    ///
    /// # Errors
    /// `Store` when they could not be stored durably; it is safe to repeat.
    async fn put(&self, bytes: Bytes) -> Result<Digest, Error>;

    /// Reads the blob of a digest.
    ///
    /// # Errors
    /// `Absent`, `Corrupt`, or `Store` when the store did not answer.
    async fn get(&self, digest: &Digest) -> Result<Bytes, Error>;

    /// Whether there is a blob of that digest.
    ///
    /// # Errors
    /// `Store` when the store did not answer.
    async fn has(&self, digest: &Digest) -> Result<bool, Error>;

    /// Removes the blob of a digest, if it is there.
    ///
    /// # Errors
    /// `Store` when the store did not answer.
    async fn remove(&self, digest: &Digest) -> Result<(), Error>;
}

/// A store in memory, for tests.
#[derive(Debug, Default)]
pub struct MemoryBlobs(Mutex<HashMap<Digest, Bytes>>);

#[async_trait]
impl Blobs for MemoryBlobs {
    async fn put(&self, bytes: Bytes) -> Result<Digest, Error> {
        let digest = Digest::of(&bytes);
        self.0
            .lock()
            .expect("no holder panics")
            .insert(digest.clone(), bytes);
        Ok(digest)
    }

    async fn get(&self, digest: &Digest) -> Result<Bytes, Error> {
        let found = self
            .0
            .lock()
            .expect("no holder panics")
            .get(digest)
            .cloned();
        found.ok_or_else(|| Error::Absent(digest.clone()))
    }

    async fn has(&self, digest: &Digest) -> Result<bool, Error> {
        let blobs = self.0.lock().expect("no holder panics");
        Ok(blobs.contains_key(digest))
    }

    async fn remove(&self, digest: &Digest) -> Result<(), Error> {
        self.0.lock().expect("no holder panics").remove(digest);
        Ok(())
    }
}
