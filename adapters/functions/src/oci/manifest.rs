//! The documents of an image: index, manifest and configuration.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::Failure;

/// What a registry is asked for, and what a manifest may be.
pub(super) const MANIFEST_TYPES: [&str; 4] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];
/// The longest index, manifest or configuration.
pub(super) const DOCUMENT_BYTES_MAX: u64 = 4 << 20;
/// The most layers of an image; builders stop at 127.
const LAYERS_MAX: usize = 256;

/// A blob: its digest, its size and what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    pub(super) media_type: String,
    pub(super) digest: String,
    pub(super) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) platform: Option<Platform>,
    #[serde(default, skip_serializing)]
    pub(super) annotations: std::collections::BTreeMap<String, String>,
}

/// What a manifest of an index is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Platform {
    pub(super) os: String,
    pub(super) architecture: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Index {
    pub(super) manifests: Vec<Descriptor>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    pub(super) schema_version: u32,
    #[serde(default)]
    pub(super) media_type: String,
    pub(super) config: Descriptor,
    pub(super) layers: Vec<Descriptor>,
}

/// What is read of an image's configuration.
#[derive(Debug, Deserialize)]
pub(super) struct ImageConfig {
    #[serde(default)]
    pub(super) os: String,
    #[serde(default)]
    pub(super) architecture: String,
    #[serde(default)]
    pub(super) config: Option<Process>,
    pub(super) rootfs: RootFs,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Process {
    #[serde(default)]
    pub(super) env: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct RootFs {
    pub(super) diff_ids: Vec<String>,
}

/// Either document that a reference may lead to.
pub(super) enum Document {
    Index(Index),
    Manifest(Manifest),
}

impl Document {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Failure> {
        #[derive(Deserialize)]
        struct Either {
            manifests: Option<serde::de::IgnoredAny>,
            #[serde(rename = "schemaVersion", default)]
            version: u32,
        }
        let either: Either = json("manifest", bytes)?;
        if either.version != 2 {
            return Err(Failure::of(format!(
                "a manifest of schema version {} is too old: push the image again with a newer tool",
                either.version
            )));
        }
        Ok(match either.manifests {
            Some(_) => Self::Index(json("index", bytes)?),
            None => Self::Manifest(json("manifest", bytes)?),
        })
    }
}

impl Index {
    /// The manifest for this machine.
    pub(super) fn here(&self) -> Result<&Descriptor, Failure> {
        let fits = |descriptor: &&Descriptor| match &descriptor.platform {
            Some(platform) => is_here(&platform.os, &platform.architecture),
            // A layout of one image may say it in the configuration only.
            None => self.manifests.len() == 1,
        };
        self.manifests.iter().find(fits).ok_or_else(|| {
            let there = self.manifests.iter().filter_map(|d| d.platform.as_ref());
            let there: Vec<_> = there
                .map(|p| format!("{}/{}", p.os, p.architecture))
                .collect();
            wrong_platform(&there.join(", "))
        })
    }
}

impl Manifest {
    /// Refuses what no image can be unpacked from.
    pub(super) fn check(&self, config: &ImageConfig) -> Result<(), Failure> {
        let said = !(config.os.is_empty() && config.architecture.is_empty());
        if said && !is_here(&config.os, &config.architecture) {
            return Err(wrong_platform(&format!(
                "{}/{}",
                config.os, config.architecture
            )));
        }
        if self.layers.len() != config.rootfs.diff_ids.len() {
            return Err(Failure::of(
                "its manifest and its configuration name different layers",
            ));
        }
        if self.layers.is_empty() || self.layers.len() > LAYERS_MAX {
            return Err(Failure::of(format!(
                "it has {} layers, and 1 to {LAYERS_MAX} can be unpacked",
                self.layers.len()
            )));
        }
        let digests = self.layers.iter().map(|layer| &layer.digest);
        for digest in digests
            .chain(&config.rootfs.diff_ids)
            .chain([&self.config.digest])
        {
            hex(digest)?;
        }
        Ok(())
    }
}

/// This machine in the words of Go, in which platforms are named.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

fn is_here(os: &str, architecture: &str) -> bool {
    os == "linux" && architecture == self::architecture()
}

fn wrong_platform(there: &str) -> Failure {
    Failure::of(format!(
        "it is for {there}, and this node is linux/{}: push an image for this platform too",
        architecture()
    ))
}

/// The digits of a `sha256:` digest.
pub(super) fn hex(digest: &str) -> Result<&str, Failure> {
    let digits = digest.strip_prefix("sha256:").unwrap_or_default();
    let lower = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    if digits.len() == 64 && digits.chars().all(lower) {
        Ok(digits)
    } else {
        Err(Failure::of(format!("{digest:?} is no sha256 digest")))
    }
}

/// The digest of bytes, with its algorithm.
pub(super) fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", digits(&Sha256::digest(bytes)))
}

/// A hash's bytes as digits.
pub(super) fn digits(hash: &[u8]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn json<T: serde::de::DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(bytes)
        .map_err(|e| Failure::of(format!("its {what} is not what an image has: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(platforms: &[(&str, &str)]) -> Index {
        let manifest = |(os, architecture): &(&str, &str)| Descriptor {
            media_type: MANIFEST_TYPES[0].into(),
            digest: format!("sha256:{architecture}"),
            size: 1,
            platform: Some(Platform {
                os: (*os).into(),
                architecture: (*architecture).into(),
            }),
            annotations: Default::default(),
        };
        Index {
            manifests: platforms.iter().map(manifest).collect(),
        }
    }

    #[test]
    fn an_index_gives_the_manifest_for_this_machine() {
        let here = architecture();
        let index = index(&[("linux", "s390x"), ("windows", here), ("linux", here)]);
        assert_eq!(index.here().expect("it is there"), &index.manifests[2]);
    }

    #[test]
    fn an_image_for_other_machines_is_refused_with_their_names() {
        let others = index(&[("linux", "s390x"), ("windows", "amd64")]);
        let reason = others.here().expect_err("none is for this machine").reason;
        assert!(reason.contains("linux/s390x, windows/amd64"), "{reason}");
        assert!(reason.contains(architecture()), "{reason}");
    }

    #[test]
    fn a_digest_that_could_be_a_path_is_refused() {
        for digest in ["sha256:../../etc", "sha512:00", "", "sha256:ABC"] {
            assert!(hex(digest).is_err(), "{digest}");
        }
        assert_eq!(hex(&digest_of(b"")).map(str::len), Ok(64));
    }

    #[test]
    fn a_manifest_of_the_first_schema_is_told_to_be_too_old() {
        let old = Document::parse(br#"{"schemaVersion":1,"fsLayers":[]}"#);
        assert!(old.is_err_and(|e| e.reason.contains("too old")));
    }
}
