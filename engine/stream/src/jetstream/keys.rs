//! Wrapped data keys in the key-value bucket `dispatch_keys`.
//!
//! A key is erased by deleting its message, which the server overwrites in its file; a tombstone
//! of the key-value layer would leave the old value on the disk until the block is rewritten.

use std::fmt::Write as _;

use adapter_kit::{KeyStore, VaultError};
use async_nats::HeaderMap;
use async_nats::header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE;
use async_trait::async_trait;
use engine_model::KeyId;

use super::read;
use crate::link::{Fault, Link};
use crate::streams::{KEY_PREFIX, KEYS};

/// The store of wrapped data keys on the server.
#[derive(Debug, Clone)]
pub struct JetKeys {
    link: Link,
}

impl JetKeys {
    pub(crate) fn new(link: &Link) -> Self {
        Self { link: link.clone() }
    }
}

fn store_error(error: impl std::fmt::Display) -> VaultError {
    VaultError::Store(error.to_string())
}

/// A key's id may hold what a subject may not: it is spelt in hexadecimal.
fn subject(key: &KeyId) -> String {
    let mut subject = format!("{KEY_PREFIX}.");
    for byte in key.0.bytes() {
        let _ = write!(subject, "{byte:02x}");
    }
    subject
}

#[async_trait]
impl KeyStore for JetKeys {
    async fn get(&self, key: &KeyId) -> Result<Option<Vec<u8>>, VaultError> {
        let last = read::last_message(&self.link, KEYS, &subject(key)).await;
        let last = last.map_err(store_error)?;
        Ok(last
            .filter(|message| !message.payload.is_empty())
            .map(|m| m.payload.to_vec()))
    }

    async fn create(&self, key: &KeyId, wrapped: Vec<u8>) -> Result<Vec<u8>, VaultError> {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, "0");
        let (subject, body) = (subject(key), wrapped.clone().into());
        match self.link.publish_patiently(&subject, headers, body).await {
            Ok(_) => Ok(wrapped),
            // One is there; if it is mine, an earlier try was stored.
            Err(Fault::Expected { .. }) => self
                .get(key)
                .await?
                .ok_or_else(|| store_error("the key was made and erased at the same time")),
            Err(fault) => Err(store_error(crate::port::Error::from(fault))),
        }
    }

    async fn erase(&self, key: &KeyId) -> Result<(), VaultError> {
        let last = read::last_message(&self.link, KEYS, &subject(key)).await;
        let Some(last) = last.map_err(store_error)? else {
            return Ok(());
        };
        let stream = self
            .link
            .jetstream
            .get_stream_no_info(KEYS)
            .await
            .map_err(store_error)?;
        match stream.delete_message(last.sequence).await {
            Ok(_) => Ok(()),
            // Another may have erased it in this moment.
            Err(error) => match read::last_message(&self.link, KEYS, &subject(key)).await {
                Ok(None) => Ok(()),
                _ => Err(store_error(error)),
            },
        }
    }
}
