//! The vault over a key store.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use adapter_kit::{KeyStore, Plain, Vault, VaultError};
use async_trait::async_trait;
use engine_model::{ClientSealed, KeyId, Sealed};

use crate::cache::Cache;
use crate::client::Opener;
use crate::data_key;
use crate::master::{Key, MasterKeys};

/// Opens and closes secrets by data keys that lie, wrapped by the master key, in a key store.
///
/// Opening uses an unwrapped data key for up to 30 seconds without asking the store again;
/// [`Vault::erase`] and [`EnvelopeVault::forget`] end that at once on this node. Sealing always
/// asks the store, so nothing is ever sealed under a key that is gone.
pub struct EnvelopeVault {
    masters: MasterKeys,
    openers: Vec<Opener>,
    store: Arc<dyn KeyStore>,
    cache: Cache,
}

impl EnvelopeVault {
    /// A vault of the master keys `masters`, whose data keys lie in `store`.
    #[must_use]
    pub fn new(masters: MasterKeys, store: Arc<dyn KeyStore>) -> Self {
        let openers = masters
            .client_seeds()
            .map(|seed| Opener::derive(&seed))
            .collect();
        Self {
            masters,
            openers,
            store,
            cache: Cache::default(),
        }
    }

    /// Drops what this node remembers of a data key that another node has erased.
    pub fn forget(&self, key: &KeyId) {
        self.cache.remove(key);
    }

    /// Wraps a data key anew, by the current master key; `None` when it is already. The old
    /// wrapping may be replaced by the new one at any time: both unwrap to the same key.
    ///
    /// # Errors
    /// `UnknownKey` when its master key is not among this vault's, `Unreadable`.
    pub fn rewrap(&self, key: &KeyId, wrapped: &[u8]) -> Result<Option<Vec<u8>>, VaultError> {
        let data_key = data_key::unwrap(&self.masters, key, wrapped)?;
        let stale = data_key::version(wrapped) != Some(self.masters.version());
        Ok(stale.then(|| data_key::wrap(&self.masters, key, &data_key)))
    }

    async fn make_or_get(&self, id: &KeyId) -> Result<Key, VaultError> {
        let wrapped = match self.store.get(id).await? {
            Some(wrapped) => wrapped,
            None => {
                let wrapped = data_key::wrap(&self.masters, id, &data_key::draw());
                // Another node may have been first: what the store has is what counts.
                self.store.create(id, wrapped).await?
            }
        };
        data_key::unwrap(&self.masters, id, &wrapped)
    }
}

#[async_trait]
impl Vault for EnvelopeVault {
    fn public_key(&self) -> String {
        self.openers
            .last()
            .expect("there is at least one master key")
            .public_key()
    }

    async fn seal(&self, key: &KeyId, plain: &Plain) -> Result<Sealed, VaultError> {
        let data_key = self.make_or_get(key).await?;
        Ok(data_key::seal(&data_key, key, plain))
    }

    fn open_client(&self, sealed: &ClientSealed) -> Result<Plain, VaultError> {
        let opener = self
            .openers
            .iter()
            .find(|opener| opener.fits(sealed))
            .ok_or_else(|| VaultError::UnknownKey(sealed.key.chars().take(80).collect()))?;
        opener.open(sealed)
    }

    async fn open(&self, sealed: &Sealed) -> Result<Plain, VaultError> {
        let id = &sealed.key;
        if let Some(key) = self.cache.get(id, Instant::now()) {
            return data_key::open(&key, sealed);
        }
        let before = self.cache.erasures();
        let wrapped = self
            .store
            .get(id)
            .await?
            .ok_or_else(|| VaultError::Erased(id.clone()))?;
        let key = data_key::unwrap(&self.masters, id, &wrapped)?;
        let plain = data_key::open(&key, sealed)?;
        self.cache.put(id, &key, before, Instant::now());
        Ok(plain)
    }

    async fn erase(&self, key: &KeyId) -> Result<(), VaultError> {
        // Before as well as after: neither a failing store nor a read in between keeps it alive.
        self.cache.remove(key);
        let erased = self.store.erase(key).await;
        self.cache.remove(key);
        erased
    }
}

impl fmt::Debug for EnvelopeVault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnvelopeVault")
            .field("masters", &self.masters)
            .finish_non_exhaustive()
    }
}
