//! Envelope encryption of secrets.
//!
//! ```text
//! client ──HPKE──► public key        what travels in a command
//! vault  ──AEAD──► data key          what lies in an event; one data key per secret
//! vault  ──AEAD──► master key        what lies in the key store: the wrapped data key
//! file   ────────► master key        mode 0600, several versions, the highest wraps
//! ```
//!
//! Erasing a data key from the key store makes all that it sealed unreadable for ever, in every
//! copy of the log. The key pair that clients seal to is derived from the master key, so nothing
//! but the master key has to be kept safe.

mod cache;
mod client;
mod data_key;
mod master;
mod vault;

#[cfg(test)]
mod tests;

pub use client::{InvalidPublicKey, Sealer};
pub use master::{MASTER_KEY_ENV, MasterKeyError, MasterKeys};
pub use vault::EnvelopeVault;
