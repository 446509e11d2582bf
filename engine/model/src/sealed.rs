//! Secrets as they travel and as they are kept. Only the vault can open either.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A value that a client sealed to the engine's public key: HPKE base mode (RFC 9180), DHKEM
/// X25519 with HKDF-SHA256 and ChaCha20-Poly1305. Both fields are standard base64.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClientSealed {
    /// Which of the engine's public keys it was sealed to.
    pub key: String,
    /// The encapsulated key.
    pub encapsulated: String,
    /// The ciphertext with its tag.
    pub ciphertext: String,
}

/// Names the data key of one secret; erasing that key shreds the secret.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(pub String);

/// A value that the vault sealed under the data key `key` (ChaCha20-Poly1305, base64).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sealed {
    /// The data key, kept wrapped in the key store.
    pub key: KeyId,
    /// 12 bytes, drawn for each sealing.
    pub nonce: String,
    /// The ciphertext with its tag.
    pub ciphertext: String,
}

impl fmt::Debug for ClientSealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientSealed(to {})", self.key)
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed(under {})", self.key.0)
    }
}
