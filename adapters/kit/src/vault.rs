//! The vault port: who may open and close secrets, and where wrapped keys lie.

use std::collections::HashMap;
use std::fmt;
use std::sync::Mutex;

use async_trait::async_trait;
use engine_model::{ClientSealed, KeyId, Sealed};
use zeroize::Zeroizing;

/// Opened bytes: wiped when dropped, and never shown.
pub struct Plain(Zeroizing<Vec<u8>>);

impl Plain {
    /// Takes care of `bytes`.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes; do not keep a copy.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Plain(hidden)")
    }
}

/// Why a secret could not be opened or closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// The data key was erased: the secret is gone for ever.
    #[error("the data key {} is erased", .0.0)]
    Erased(KeyId),
    /// It was sealed to a key that this vault does not have.
    #[error("sealed to the unknown key '{0}'")]
    UnknownKey(String),
    /// It was tampered with, or is not what it claims to be.
    #[error("the sealed value cannot be opened")]
    Unreadable,
    /// The key store did not answer; it is safe to repeat.
    #[error("key store: {0}")]
    Store(String),
}

/// Opens and closes secrets.
#[async_trait]
pub trait Vault: Send + Sync + 'static {
    /// The public key that clients seal to, as text: `<key id>:<base64 of 32 bytes>`.
    fn public_key(&self) -> String;

    /// Seals `plain` under the data key `key`, which is made when it is not there.
    ///
    /// # Errors
    /// `Store`; it is safe to repeat.
    async fn seal(&self, key: &KeyId, plain: &Plain) -> Result<Sealed, VaultError>;

    /// Opens what a client sealed. What it was sealed for is not checked here.
    ///
    /// # Errors
    /// `UnknownKey` or `Unreadable`.
    fn open_client(&self, sealed: &ClientSealed) -> Result<Plain, VaultError>;

    /// Opens what the vault sealed.
    ///
    /// # Errors
    /// `Erased`, `Unreadable` or `Store`.
    async fn open(&self, sealed: &Sealed) -> Result<Plain, VaultError>;

    /// Erases the data key: all that it sealed can never be read again. Erasing it twice is the
    /// same as once.
    ///
    /// # Errors
    /// `Store`; it is safe to repeat.
    async fn erase(&self, key: &KeyId) -> Result<(), VaultError>;
}

/// Where wrapped data keys lie.
#[async_trait]
pub trait KeyStore: Send + Sync + 'static {
    /// The wrapped key; `None` when it was never made or is erased.
    ///
    /// # Errors
    /// `Store` when the store did not answer.
    async fn get(&self, key: &KeyId) -> Result<Option<Vec<u8>>, VaultError>;

    /// Stores a wrapped key durably unless one is there, and returns the one that is there then.
    ///
    /// # Errors
    /// `Store`; it is safe to repeat.
    async fn create(&self, key: &KeyId, wrapped: Vec<u8>) -> Result<Vec<u8>, VaultError>;

    /// Overwrites and removes a wrapped key.
    ///
    /// # Errors
    /// `Store`; it is safe to repeat.
    async fn erase(&self, key: &KeyId) -> Result<(), VaultError>;
}

/// A key store in memory, for tests.
#[derive(Debug, Default)]
pub struct MemoryKeys(Mutex<HashMap<KeyId, Vec<u8>>>);

#[async_trait]
impl KeyStore for MemoryKeys {
    async fn get(&self, key: &KeyId) -> Result<Option<Vec<u8>>, VaultError> {
        Ok(self.0.lock().expect("no holder panics").get(key).cloned())
    }

    async fn create(&self, key: &KeyId, wrapped: Vec<u8>) -> Result<Vec<u8>, VaultError> {
        Ok(self
            .0
            .lock()
            .expect("no holder panics")
            .entry(key.clone())
            .or_insert(wrapped)
            .clone())
    }

    async fn erase(&self, key: &KeyId) -> Result<(), VaultError> {
        self.0.lock().expect("no holder panics").remove(key);
        Ok(())
    }
}
