//! Base images that are OCI images: pulled or read, checked, taken apart, and laid out as the root
//! of sandboxes.
//!
//! ```text
//!  dockerUrl ─► Place ─► manifest ─► layers, each once ─► root by hard links ─► sandbox, read-only
//!               registry │ layout │ tar    layers/<diff id>/       roots/<manifest>/
//! ```
//!
//! The manifest's digest is what a base image becomes when it is ready, so that every node has the
//! same content, whatever its tag says later.

mod entries;
mod layer;
mod local;
mod manifest;
mod reference;
mod registry;
mod store;
mod tree;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use adapter_kit::{Blobs, Digest};
use bytes::Bytes;

use self::local::{Local, allowed};
use self::manifest::{Descriptor, Document, ImageConfig, Manifest, digest_of, hex, json};
pub(crate) use self::reference::Place;
use self::registry::Registry;
pub use self::store::Root;
pub(crate) use self::store::is_younger;
use self::store::{Note, Store};
use crate::config;
use crate::error::{Error, Failure};
use crate::turns::Turns;

/// The longest part of an image that is given to the object store, from which other nodes have
/// what only one has in a file.
const SHARED_BYTES_MAX: u64 = 1 << 30;

/// The images of this node.
pub(crate) struct Images {
    store: Arc<Store>,
    settings: config::Images,
    blobs: Arc<dyn Blobs>,
    /// The same image is had once at a time, and none waits for another.
    turns: Turns<(String, Option<String>)>,
}

impl std::fmt::Debug for Images {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Images")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

/// Where an image's parts are read from.
enum Source {
    Registry(Registry),
    Local(Local),
    /// The object store, to which another node gave them.
    Blobs(Arc<dyn Blobs>),
}

impl Images {
    pub(crate) fn open(
        state: &Path,
        settings: config::Images,
        blobs: Arc<dyn Blobs>,
    ) -> Result<Self, Error> {
        Ok(Self {
            store: Arc::new(Store::open(&state.join("oci"))?),
            settings,
            blobs,
            turns: Turns::default(),
        })
    }

    /// The root of what `url` names now, or of the manifest of `digest`; made if it is not here.
    ///
    /// # Errors
    /// With the reference and what to do about it.
    pub(crate) async fn root(&self, place: &Place, digest: Option<&str>) -> Result<Root, Failure> {
        if let Some(digest) = digest
            && let Some(root) = self.store.root(digest)?
        {
            return Ok(root);
        }
        let key = (place.to_string(), digest.map(str::to_owned));
        let made = async {
            let _turn = self.turns.take(&key).await;
            self.make(place, digest).await
        };
        let pull_max = self.settings.pull_max;
        let made = tokio::time::timeout(pull_max, made).await;
        let made = made.unwrap_or_else(|_| {
            let reason = format!("it could not be had within {pull_max:?}: check its registry");
            Err(Failure::now(reason))
        });
        made.map_err(|failure| Failure {
            reason: format!("image {place}: {}", failure.reason),
            ..failure
        })
    }

    async fn make(&self, place: &Place, digest: Option<&str>) -> Result<Root, Failure> {
        let scratch = self.store.scratch()?;
        let source = self.source(place, digest, scratch.path()).await?;
        let document = source.manifest(digest).await?;
        let digest = digest_of(&document);
        if let Some(root) = self.store.root(&digest)? {
            return Ok(root);
        }
        let Document::Manifest(manifest) = Document::parse(&document)? else {
            return Err(Failure::of("its index leads to another index"));
        };
        let bytes_max = self.settings.root_bytes_max;
        if manifest
            .layers
            .iter()
            .map(|l| l.size)
            .fold(0, u64::saturating_add)
            > bytes_max
        {
            let max = bytes_max >> 20;
            return Err(Failure::of(format!(
                "its layers hold more than {max} MiB, which is the limit"
            )));
        }
        let config = source.document(&manifest.config).await?;
        let parsed: ImageConfig = json("configuration", &config)?;
        manifest.check(&parsed)?;
        let _pin = self.store.pin(&parsed.rootfs.diff_ids);
        self.fetch_layers(&source, &manifest, &parsed, scratch.path())
            .await?;
        if let Source::Local(local) = &source {
            self.share(local, &document, &config, &manifest).await;
        }
        let note = note(parsed);
        let (store, made) = (Arc::clone(&self.store), digest.clone());
        blocking(move || store.keep_root(&made, &note)).await?;
        let root = self.store.root(&digest)?;
        root.ok_or_else(|| Failure::now("its root went as soon as it was made"))
    }

    async fn source(
        &self,
        place: &Place,
        digest: Option<&str>,
        scratch: &Path,
    ) -> Result<Source, Failure> {
        let local = match place.clone() {
            Place::Host => return Err(Failure::of("the host is no image")),
            Place::Registry(reference) => {
                return Registry::new(&reference, &self.settings).map(Source::Registry);
            }
            Place::Layout { path, tag } => {
                let folders = self.settings.folders.clone();
                blocking(move || Local::layout(&allowed(&path, &folders)?, tag.as_deref())).await
            }
            Place::Archive { path, tag } => {
                let folders = self.settings.folders.clone();
                let (into, bytes_max) = (scratch.join("archive"), self.settings.root_bytes_max);
                let open = move || {
                    let path = allowed(&path, &folders)?;
                    Local::archive(&path, tag.as_deref(), &into, bytes_max)
                };
                blocking(open).await
            }
        };
        let Some(digest) = digest else {
            return local.map(Source::Local);
        };
        // The files may be another node's, or have changed since.
        let same = |local: &Local| {
            local::resolve(local).is_ok_and(|document| digest_of(&document) == digest)
        };
        Ok(match local {
            Ok(local) if same(&local) => Source::Local(local),
            _ => Source::Blobs(Arc::clone(&self.blobs)),
        })
    }

    async fn fetch_layers(
        &self,
        source: &Source,
        manifest: &Manifest,
        config: &ImageConfig,
        scratch: &Path,
    ) -> Result<(), Failure> {
        let mut left = self.settings.root_bytes_max;
        for (index, layer) in manifest.layers.iter().enumerate() {
            let diff_id = config.rootfs.diff_ids[index].clone();
            // Even one that is here: who only knows its digest has no right to its content.
            let blob = scratch.join(format!("layer-{index}"));
            let file = source.file(layer, &blob).await?;
            let store = Arc::clone(&self.store);
            let keep = move || store.keep_layer(&file, &diff_id, left);
            left = left.saturating_sub(blocking(keep).await?);
            // Nothing reads it again, and the next one needs the room.
            let _ = std::fs::remove_file(&blob);
        }
        Ok(())
    }

    /// Gives an image of this node's files to the object store. Without it the image is of use on
    /// this node alone, so that is no failure here.
    async fn share(&self, local: &Local, document: &[u8], config: &[u8], manifest: &Manifest) {
        let mut parts = vec![Ok(document.to_vec()), Ok(config.to_vec())];
        for layer in &manifest.layers {
            if layer.size > SHARED_BYTES_MAX {
                tracing::warn!(layer = %layer.digest, layer.size, "too long to be shared with other nodes");
                continue;
            }
            let path = local.checked(layer);
            parts.push(
                path.and_then(|p| std::fs::read(p).map_err(|e| Failure::io("read a layer", &e))),
            );
        }
        for part in parts {
            let stored = match part {
                Ok(bytes) => self
                    .blobs
                    .put(Bytes::from(bytes))
                    .await
                    .map_err(|e| e.to_string()),
                Err(failure) => Err(failure.reason),
            };
            if let Err(error) = stored {
                tracing::warn!(error, "an image is on this node only");
            }
        }
    }

    /// Removes what neither `used` says of a manifest's digest, nor was used within `grace`; how
    /// many folders went.
    pub(crate) async fn sweep(
        &self,
        used: impl Fn(&str) -> bool + Send + 'static,
        grace: Duration,
    ) -> Result<usize, Failure> {
        let store = Arc::clone(&self.store);
        blocking(move || store.sweep(&used, grace)).await
    }
}

impl Source {
    /// The manifest for this machine.
    async fn manifest(&self, digest: Option<&str>) -> Result<Vec<u8>, Failure> {
        match self {
            Self::Local(local) => local::resolve(local),
            Self::Blobs(blobs) => {
                let digest = digest.expect("the object store is asked by digest");
                fetch(blobs, digest).await.map(Vec::from)
            }
            Self::Registry(registry) => {
                let document = registry.document(digest).await?;
                match Document::parse(&document)? {
                    Document::Manifest(_) => Ok(document),
                    Document::Index(index) => registry.document(Some(&index.here()?.digest)).await,
                }
            }
        }
    }

    /// A short part of an image.
    async fn document(&self, wanted: &Descriptor) -> Result<Vec<u8>, Failure> {
        if wanted.size > manifest::DOCUMENT_BYTES_MAX {
            return Err(Failure::of("its configuration is too long"));
        }
        match self {
            Self::Local(local) => local.document(&wanted.digest),
            Self::Blobs(blobs) => fetch(blobs, &wanted.digest).await.map(Vec::from),
            Self::Registry(registry) => {
                let folder = tempfile::tempdir().map_err(|e| Failure::io("make a folder", &e))?;
                let path = folder.path().join("document");
                registry.blob(wanted, &path).await?;
                std::fs::read(path).map_err(|e| Failure::io("read a configuration", &e))
            }
        }
    }

    /// A file with the content of a blob: `to`, or where it lies.
    async fn file(&self, wanted: &Descriptor, to: &Path) -> Result<std::path::PathBuf, Failure> {
        match self {
            Self::Local(local) => local.checked(wanted),
            Self::Blobs(blobs) => {
                let bytes = fetch(blobs, &wanted.digest).await?;
                std::fs::write(to, bytes).map_err(|e| Failure::io("write a layer", &e))?;
                Ok(to.to_owned())
            }
            Self::Registry(registry) => {
                registry.blob(wanted, to).await?;
                Ok(to.to_owned())
            }
        }
    }
}

async fn fetch(blobs: &Arc<dyn Blobs>, digest: &str) -> Result<Bytes, Failure> {
    let known = Digest::parse(hex(digest)?).expect("it has the digits of a digest");
    blobs.get(&known).await.map_err(|error| match error {
        adapter_kit::BlobError::Absent(_) => Failure::of(format!(
            "its file is not on this node, and no node gave {digest} to the object store"
        )),
        error => Failure::now(format!("{digest} cannot be fetched: {error}")),
    })
}

fn note(config: ImageConfig) -> Note {
    let env = config.config.unwrap_or_default().env.unwrap_or_default();
    let pair = |text: &String| {
        let (name, value) = text.split_once('=')?;
        let plain = !name.is_empty() && !text.contains('\0');
        plain.then(|| (name.to_owned(), value.to_owned()))
    };
    Note {
        env: env.iter().filter_map(pair).collect(),
        layers: config.rootfs.diff_ids,
    }
}

async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(act).await;
    done.map_err(|e| Failure::now(format!("failed to handle an image: {e}")))?
}

#[cfg(test)]
mod tests;
