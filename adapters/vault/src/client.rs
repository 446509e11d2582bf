//! What clients seal, and how the vault opens it: HPKE base mode (RFC 9180), DHKEM X25519 with
//! HKDF-SHA256, ChaCha20-Poly1305, `info` = `dispatch/v1`, no associated data. Any HPKE library
//! makes the same.

use std::fmt;
use std::str::FromStr;

use adapter_kit::{Plain, VaultError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine_model::ClientSealed;
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{
    Deserializable as _, Kem as _, OpModeR, OpModeS, Serializable as _, single_shot_open,
    single_shot_seal,
};
use sha2::{Digest as _, Sha256};

use crate::master::Key;

type Kem = X25519HkdfSha256;
type PublicKey = <Kem as hpke::Kem>::PublicKey;
type PrivateKey = <Kem as hpke::Kem>::PrivateKey;
type EncappedKey = <Kem as hpke::Kem>::EncappedKey;

/// Binds what is sealed to its purpose.
const INFO: &[u8] = b"dispatch/v1";

/// How many hexadecimal digits of a public key's hash name it: enough that no two installations
/// are confused by chance.
const KEY_ID_DIGITS: usize = 16;

/// Why a text is no public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a public key of the form <key id>:<base64 of 32 bytes>")]
pub struct InvalidPublicKey(String);

/// Seals values to the engine's public key, so that only its vault can open them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealer {
    id: String,
    key: PublicKey,
}

impl Sealer {
    /// Reads a public key as the server shows it: `<key id>:<base64 of 32 bytes>`.
    ///
    /// # Errors
    /// `InvalidPublicKey` when it is not of that form.
    pub fn parse(public_key: &str) -> Result<Self, InvalidPublicKey> {
        let read = || {
            let (id, key) = public_key.trim().split_once(':')?;
            let key = PublicKey::from_bytes(&STANDARD.decode(key).ok()?).ok()?;
            // A point of low order would only be noticed when something is sealed to it.
            encrypt(&key, b"").ok()?;
            (!id.is_empty()).then(|| Self {
                id: id.to_owned(),
                key,
            })
        };
        read().ok_or_else(|| InvalidPublicKey(public_key.chars().take(80).collect()))
    }

    /// Seals `plain`. Each sealing is another one, also of the same bytes.
    ///
    /// # Panics
    /// When the system yields no randomness.
    #[must_use]
    pub fn seal(&self, plain: &[u8]) -> ClientSealed {
        let (encapsulated, ciphertext) =
            encrypt(&self.key, plain).expect("the key was tried when it was parsed");
        ClientSealed {
            key: self.id.clone(),
            encapsulated: STANDARD.encode(encapsulated.to_bytes()),
            ciphertext: STANDARD.encode(ciphertext),
        }
    }
}

impl FromStr for Sealer {
    type Err = InvalidPublicKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// One of the vault's key pairs.
pub(crate) struct Opener {
    id: String,
    public: PublicKey,
    private: PrivateKey,
}

impl Opener {
    /// The key pair that belongs to `seed`.
    pub(crate) fn derive(seed: &Key) -> Self {
        let (private, public) = Kem::derive_keypair(seed.as_slice());
        Self {
            id: key_id(&public),
            public,
            private,
        }
    }

    /// The public half as text, as [`Sealer::parse`] reads it.
    pub(crate) fn public_key(&self) -> String {
        format!("{}:{}", self.id, STANDARD.encode(self.public.to_bytes()))
    }

    /// Whether `sealed` says that it was sealed to this key pair.
    pub(crate) fn fits(&self, sealed: &ClientSealed) -> bool {
        self.id == sealed.key
    }

    /// Opens what was sealed to this key pair.
    pub(crate) fn open(&self, sealed: &ClientSealed) -> Result<Plain, VaultError> {
        let decode = |text: &str| STANDARD.decode(text).map_err(|_| VaultError::Unreadable);
        let encapsulated = EncappedKey::from_bytes(&decode(&sealed.encapsulated)?)
            .map_err(|_| VaultError::Unreadable)?;
        single_shot_open::<ChaCha20Poly1305, HkdfSha256, Kem>(
            &OpModeR::Base,
            &self.private,
            &encapsulated,
            INFO,
            &decode(&sealed.ciphertext)?,
            b"",
        )
        .map(Plain::new)
        .map_err(|_| VaultError::Unreadable)
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opener({}, hidden)", self.id)
    }
}

fn encrypt(to: &PublicKey, plain: &[u8]) -> Result<(EncappedKey, Vec<u8>), hpke::HpkeError> {
    single_shot_seal::<ChaCha20Poly1305, HkdfSha256, Kem>(&OpModeS::Base, to, INFO, plain, b"")
}

fn key_id(public: &PublicKey) -> String {
    use std::fmt::Write as _;
    let mut id = String::with_capacity(KEY_ID_DIGITS);
    for byte in &Sha256::digest(public.to_bytes())[..KEY_ID_DIGITS / 2] {
        let _ = write!(id, "{byte:02x}");
    }
    id
}
