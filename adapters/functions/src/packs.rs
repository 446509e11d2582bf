//! Language packs: what they say of a language, and what is made of sources with it.

pub(crate) mod base;
pub(crate) mod compiled;
pub(crate) mod language;
pub(crate) mod pack;
pub(crate) mod source;
pub(crate) mod untrusted;
