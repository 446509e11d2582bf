//! A vault without cryptography: a sealed value names the generation of its data key, and opens
//! only while that very generation is alive.

use std::collections::BTreeMap;
use std::sync::Mutex;

use adapter_kit::{Plain, Vault, VaultError};
use async_trait::async_trait;
use engine_model::{ClientSealed, KeyId, Sealed};

use super::rng::Rng;

/// The vault and its key store.
#[derive(Debug)]
pub(super) struct SimVault(Mutex<Keys>);

#[derive(Debug)]
struct Keys {
    alive: BTreeMap<KeyId, u64>,
    made: u64,
    rng: Rng,
    fails_per_mille: usize,
    keeps_all: bool,
}

impl SimVault {
    /// An empty vault; one that `keeps_all` forgets to erase.
    pub(super) fn new(rng: Rng, keeps_all: bool) -> Self {
        Self(Mutex::new(Keys {
            alive: BTreeMap::new(),
            made: 0,
            rng,
            fails_per_mille: 0,
            keeps_all,
        }))
    }

    /// How often its store does not answer.
    pub(super) fn fails(&self, per_mille: usize) {
        self.keys().fails_per_mille = per_mille;
    }

    /// The data keys that are alive, each with its generation.
    pub(super) fn alive(&self) -> BTreeMap<KeyId, u64> {
        self.keys().alive.clone()
    }

    fn keys(&self) -> std::sync::MutexGuard<'_, Keys> {
        self.0.lock().expect("no holder panics")
    }
}

/// Under which generation of its key a value was sealed.
pub(super) fn generation(sealed: &Sealed) -> Option<u64> {
    sealed.nonce.parse().ok()
}

/// What a client would have sealed.
pub(super) fn client_sealed(plain: &str) -> ClientSealed {
    ClientSealed {
        key: "sim".into(),
        encapsulated: String::new(),
        ciphertext: plain.into(),
    }
}

impl Keys {
    fn answer(&mut self) -> Result<(), VaultError> {
        if self.rng.chance(self.fails_per_mille) {
            return Err(VaultError::Store("the key store does not answer".into()));
        }
        Ok(())
    }
}

#[async_trait]
impl Vault for SimVault {
    fn public_key(&self) -> String {
        "sim:".into()
    }

    async fn seal(&self, key: &KeyId, plain: &Plain) -> Result<Sealed, VaultError> {
        let mut keys = self.keys();
        keys.answer()?;
        let generation = match keys.alive.get(key) {
            Some(known) => *known,
            None => {
                keys.made += 1;
                let fresh = keys.made;
                keys.alive.insert(key.clone(), fresh);
                fresh
            }
        };
        Ok(Sealed {
            key: key.clone(),
            nonce: generation.to_string(),
            ciphertext: String::from_utf8_lossy(plain.expose()).into_owned(),
        })
    }

    fn open_client(&self, sealed: &ClientSealed) -> Result<Plain, VaultError> {
        Ok(Plain::new(sealed.ciphertext.clone().into_bytes()))
    }

    async fn open(&self, sealed: &Sealed) -> Result<Plain, VaultError> {
        let mut keys = self.keys();
        keys.answer()?;
        match keys.alive.get(&sealed.key) {
            None => Err(VaultError::Erased(sealed.key.clone())),
            Some(known) if generation(sealed) == Some(*known) => {
                Ok(Plain::new(sealed.ciphertext.clone().into_bytes()))
            }
            Some(_) => Err(VaultError::Unreadable),
        }
    }

    async fn erase(&self, key: &KeyId) -> Result<(), VaultError> {
        let mut keys = self.keys();
        keys.answer()?;
        if !keys.keeps_all {
            keys.alive.remove(key);
        }
        Ok(())
    }
}
