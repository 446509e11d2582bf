//! Data keys: how one is wrapped by a master key, and how it seals.
//!
//! ```text
//! wrapped = format 1 (1 byte) ∥ master key version (4 bytes, big endian) ∥ nonce (12) ∥ AEAD (48)
//! ```

use adapter_kit::{Plain, VaultError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{ChaCha20Poly1305, KeyInit as _, Nonce};
use engine_model::{KeyId, Sealed};

use crate::master::{Key, MasterKeys};

const FORMAT: u8 = 1;
const NONCE_BYTES: usize = 12;
const HEADER_BYTES: usize = 5;

/// Draws a data key.
pub(crate) fn draw() -> Key {
    let mut key = Key::default();
    rand::fill(key.as_mut_slice());
    key
}

/// Wraps `data_key` by the current master key.
pub(crate) fn wrap(masters: &MasterKeys, id: &KeyId, data_key: &Key) -> Vec<u8> {
    let (version, master) = masters.wrapping();
    let nonce = draw_nonce();
    let mut wrapped = vec![FORMAT];
    wrapped.extend_from_slice(&version.to_be_bytes());
    wrapped.extend_from_slice(&nonce);
    wrapped.extend_from_slice(&encrypt(
        &master,
        &nonce,
        data_key.as_slice(),
        &wrapping_aad(id),
    ));
    wrapped
}

/// Unwraps what [`wrap`] made under the same `id`, by whichever master key it names.
pub(crate) fn unwrap(masters: &MasterKeys, id: &KeyId, wrapped: &[u8]) -> Result<Key, VaultError> {
    let version = version(wrapped).ok_or(VaultError::Unreadable)?;
    let master = masters
        .unwrapping(version)
        .ok_or_else(|| VaultError::UnknownKey(format!("master key version {version}")))?;
    let (nonce, ciphertext) = wrapped[HEADER_BYTES..]
        .split_at_checked(NONCE_BYTES)
        .ok_or(VaultError::Unreadable)?;
    let plain = Plain::new(decrypt(&master, nonce, ciphertext, &wrapping_aad(id))?);
    let mut key = Key::default();
    if plain.expose().len() != key.len() {
        return Err(VaultError::Unreadable);
    }
    key.copy_from_slice(plain.expose());
    Ok(key)
}

/// The version of the master key that wrapped it; `None` for what [`wrap`] never made.
pub(crate) fn version(wrapped: &[u8]) -> Option<u32> {
    let (header, _) = wrapped.split_at_checked(HEADER_BYTES)?;
    let (format, version) = header.split_first()?;
    (*format == FORMAT)
        .then(|| version.try_into().map(u32::from_be_bytes).ok())
        .flatten()
}

/// Seals `plain` under `data_key`, bound to the key's id.
pub(crate) fn seal(data_key: &Key, id: &KeyId, plain: &Plain) -> Sealed {
    let nonce = draw_nonce();
    let ciphertext = encrypt(data_key, &nonce, plain.expose(), id.0.as_bytes());
    Sealed {
        key: id.clone(),
        nonce: STANDARD.encode(nonce),
        ciphertext: STANDARD.encode(ciphertext),
    }
}

/// Opens what [`seal`] made.
pub(crate) fn open(data_key: &Key, sealed: &Sealed) -> Result<Plain, VaultError> {
    let decode = |text: &str| STANDARD.decode(text).map_err(|_| VaultError::Unreadable);
    let (nonce, ciphertext) = (decode(&sealed.nonce)?, decode(&sealed.ciphertext)?);
    decrypt(data_key, &nonce, &ciphertext, sealed.key.0.as_bytes()).map(Plain::new)
}

fn wrapping_aad(id: &KeyId) -> Vec<u8> {
    format!("dispatch/v1 data key {}", id.0).into_bytes()
}

fn draw_nonce() -> [u8; NONCE_BYTES] {
    let mut nonce = [0; NONCE_BYTES];
    rand::fill(&mut nonce);
    nonce
}

fn encrypt(key: &Key, nonce: &[u8; NONCE_BYTES], msg: &[u8], aad: &[u8]) -> Vec<u8> {
    ChaCha20Poly1305::new((&**key).into())
        .encrypt(&Nonce::from(*nonce), Payload { msg, aad })
        .expect("a message in memory is shorter than the cipher's 256 GB")
}

fn decrypt(key: &Key, nonce: &[u8], msg: &[u8], aad: &[u8]) -> Result<Vec<u8>, VaultError> {
    let nonce: [u8; NONCE_BYTES] = nonce.try_into().map_err(|_| VaultError::Unreadable)?;
    ChaCha20Poly1305::new((&**key).into())
        .decrypt(&Nonce::from(nonce), Payload { msg, aad })
        .map_err(|_| VaultError::Unreadable)
}
