//! Packages that are built in two versions.

use std::collections::BTreeMap;
use std::fs;

use super::{none, tree};

/// Packages of which two versions cannot be avoided now, and who holds the older one.
const TWICE: &[(&str, &str)] = &[
    ("base64", "most have 0.22, hyper-util has 0.23"),
    (
        "bit-vec",
        "jsonschema's fancy-regex; the other is for tests",
    ),
    ("bitflags", "sled's parking_lot, on another system"),
    ("block-buffer", NKEYS),
    ("const-oid", NKEYS),
    ("cpufeatures", NKEYS),
    ("crypto-common", NKEYS),
    ("curve25519-dalek", NKEYS),
    ("digest", NKEYS),
    (
        "embedded-io",
        "wasmtime's postcard, of which it uses neither",
    ),
    ("fiat-crypto", NKEYS),
    ("getrandom", "async-nats's nkeys, and jsonschema's ahash"),
    ("hashbrown", "wasmtime's gimli, in the feature wasm"),
    (
        "io-lifetimes",
        "wasmtime-wasi's cap-std, in the feature wasm",
    ),
    ("parking_lot", SLED),
    ("parking_lot_core", SLED),
    ("phf", TZ),
    ("phf_shared", TZ),
    ("r-efi", "getrandom, on another system"),
    ("rand", NKEYS),
    ("rand_core", NKEYS),
    ("redox_syscall", "sled's parking_lot, on another system"),
    ("sha2", NKEYS),
    ("strum", OCI),
    ("strum_macros", OCI),
    (
        "syn",
        "curve25519-dalek-derive and others, while compiling only",
    ),
    ("synstructure", "derives of others, while compiling only"),
    ("wasi", "tokio-postgres's whoami, on another system"),
    ("windows-sys", "ring, on another system"),
];

const NKEYS: &str = "async-nats's nkeys";
const TZ: &str = "chrono-tz; tokio-postgres has the newer one";
const SLED: &str = "sled";
const OCI: &str = "oci-client's oci-spec; jsonschema has the newer one";

/// The packages of a lock file that it has more than once.
fn twice(lock: &str) -> Vec<String> {
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    for line in lock.lines() {
        if let Some(name) = line.strip_prefix("name = ") {
            *count.entry(name.trim_matches('"')).or_default() += 1;
        }
    }
    count
        .into_iter()
        .filter(|(_, n)| *n > 1)
        .map(|(name, _)| name.to_owned())
        .collect()
}

#[test]
fn no_package_is_built_twice_without_a_reason() {
    let lock = fs::read_to_string(tree::root().join("Cargo.lock")).unwrap();
    let known = |name: &String| TWICE.iter().any(|(known, _)| known == name);
    none(
        twice(&lock)
            .into_iter()
            .filter(|name| !known(name))
            .collect(),
    );
}

#[test]
fn a_package_that_is_there_twice_is_found() {
    let lock =
        "[[package]]\nname = \"a\"\n\n[[package]]\nname = \"b\"\n[[package]]\nname = \"a\"\n";
    assert_eq!(twice(lock), ["a"]);
}
