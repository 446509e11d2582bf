//! Base images that are OCI images, had from a real registry and from files, made by real tools.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use adapter_functions::{BaseImage, LayerSpec, Revision};
use engine_model::spec::Root;
use serde_json::{Value, json};

use crate::hostile;
use crate::oci::{self, Registry, must, skopeo};
use crate::support::{Node, node, node_with, python};

/// A layout with an image of Debian's Python, tagged `one`.
fn layout(folder: &Path) -> PathBuf {
    oci::layout(folder, oci::Of::Python)
}

fn root_of(base: &BaseImage, url: &str) -> Root {
    let root = base.root.as_ref().expect("it has a root");
    Root {
        url: url.to_owned(),
        digest: root.digest.clone(),
    }
}

fn on(root: &Root, id: &str, text: &str) -> Revision {
    Revision {
        id: id.to_owned(),
        root: Some(root.clone()),
        ..python(text)
    }
}

async fn base(node: &Node, url: &str) -> BaseImage {
    let base = node.functions.base_image("python3", url).await;
    base.unwrap_or_else(|failure| panic!("{url}: {failure}"))
}

async fn refused(node: &Node, url: &str) -> String {
    let base = node.functions.base_image("python3", url).await;
    base.expect_err("it is no base image").reason
}

const LOOK: &str = "
import os, sys
def handle(context, payload):
    return {
        'mark': open('/etc/mark').read().strip(),
        'made by': os.environ.get('MADE_BY'),
        'secrets': sorted(os.listdir('/secrets') + os.listdir('/secrets/below')),
        'host': os.path.exists('/usr/share/doc') or os.path.exists('/usr/bin/cargo'),
        'version': '%d.%d.%d' % sys.version_info[:3],
    }
";

fn seen(base: &BaseImage, made_by: &str) -> Value {
    json!({
        "mark": "made by umoci",
        "made by": made_by,
        "secrets": ["below", "other"],
        "host": false,
        "version": base.version,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_run_on_images_from_a_registry_a_layout_and_archives() {
    let folder = tempfile::tempdir().expect("a folder");
    let layout = layout(folder.path());
    let layout = layout.to_str().expect("a plain path");
    let registry = Registry::start();
    let url = format!("{}/test/python:latest", registry.address);
    skopeo(&[&format!("oci:{layout}:one"), &format!("docker://{url}")]);

    // From the registry, with a dependency layer that the image's own pip installs.
    let folders = vec![folder.path().to_owned()];
    let node = node_with(|config| config.images.folders = folders);
    let pulled = base(&node, &url).await;
    let root = root_of(&pulled, &url);
    let output = node.once(on(&root, "look", LOOK), Value::Null).await.output;
    assert_eq!(output, seen(&pulled, "one"));
    let spec = LayerSpec {
        manifest: Some("six==1.17.0\n".into()),
        system_packages: Vec::new(),
    };
    let layer = node.functions.build_layer(&pulled, &spec).await;
    let layer = layer.expect("it builds").expect("it is not empty");
    let uses = "import six\ndef handle(c, p):\n    return [six.__version__, six.__file__]\n";
    let mut revision = on(&root, "layered", uses);
    revision.layer = Some(layer.digest.clone());
    let output = node.once(revision, Value::Null).await.output;
    assert_eq!(output, json!(["1.17.0", "/layer/six.py"]));
    let host = node.functions.base_image("python3", "host").await;
    let host = host.expect("this machine has Python");
    let on_host = node
        .functions
        .build_layer(&host, &spec)
        .await
        .expect("it builds");
    assert!(on_host.is_some(), "the host's layer is built for itself");

    // The same image from files is the same content, whatever its form.
    let from_layout = base(&node, &format!("oci:{layout}:one")).await;
    assert_eq!(from_layout.root, pulled.root);
    let saved = folder.path().join("saved.tar");
    let saved = format!("docker-archive:{}", saved.display());
    skopeo(&[
        &format!("oci:{layout}:one"),
        &format!("{saved}:test/python:saved"),
    ]);
    let url_of_saved = format!("{saved}:saved");
    let from_saved = base(&node, &url_of_saved).await;
    let archive = folder.path().join("archive.tar");
    let archive = format!("oci-archive:{}", archive.display());
    skopeo(&[&format!("oci:{layout}:one"), &format!("{archive}:one")]);
    assert_eq!(
        base(&node, &format!("{archive}:one")).await.root,
        pulled.root
    );

    // Another node has what only one has in a file from the object store.
    let root = root_of(&from_saved, &url_of_saved);
    std::fs::remove_file(folder.path().join("saved.tar")).expect("it is there");
    let blobs = node.blobs.clone();
    let other = node_with(|config| config.blobs = blobs);
    let output = other
        .once(on(&root, "look", LOOK), Value::Null)
        .await
        .output;
    assert_eq!(output, seen(&pulled, "one"));

    // A tag that names another image now: both are there, each by its digest.
    must(
        Command::new("umoci")
            .args(["config", "--image", &format!("{layout}:one")])
            .args(["--tag", "two", "--config.env", "MADE_BY=two"]),
    );
    let zstd = [
        "--dest-compress-format",
        "zstd",
        "--dest-force-compress-format",
    ];
    let force = Command::new("skopeo")
        .args(["copy", "--help"])
        .output()
        .expect("it is there");
    let force = String::from_utf8_lossy(&force.stdout).contains(zstd[2]);
    let mut arguments: Vec<&str> = if force {
        zstd.to_vec()
    } else {
        zstd[..2].to_vec()
    };
    let (from, to) = (format!("oci:{layout}:two"), format!("docker://{url}"));
    arguments.extend([from.as_str(), to.as_str()]);
    skopeo(&arguments);
    let moved = base(&node, &url).await;
    assert_ne!(moved.root, pulled.root);
    let (before, after) = (root_of(&pulled, &url), root_of(&moved, &url));
    let late = node_with(|_| {});
    for (root, made_by) in [(&before, "one"), (&after, "two")] {
        let output = late.once(on(root, made_by, LOOK), Value::Null).await.output;
        assert_eq!(output, seen(&moved, made_by));
    }

    // What is no image says so.
    let reason = refused(&node, &format!("{}/test/python:never", registry.address)).await;
    assert!(
        reason.contains("does not have it: check the name and the tag"),
        "{reason}"
    );
    assert!(reason.contains(&registry.address), "{reason}");
    let reason = refused(&node, &format!("oci:{layout}:never")).await;
    assert!(reason.contains("0 images of the tag \"never\""), "{reason}");
    let wrong = node.functions.base_image("nodejs", &url).await;
    let reason = wrong.expect_err("it has Python only").reason;
    assert!(
        reason.contains("no nodejs interpreter on its PATH"),
        "{reason}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_not_there_is_named() {
    let node = node();
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = free.local_addr().expect("it is bound").to_string();
    drop(free);
    let reason = refused(&node, &format!("{address}/python:1")).await;
    assert!(
        reason.starts_with(&format!("image {address}/python:1: ")),
        "{reason}"
    );
    assert!(reason.contains("could not be read after"), "{reason}");
    let done = node.functions.load(on(
        &Root {
            url: "oci:/no/such/layout".into(),
            digest: format!("sha256:{}", "0".repeat(64)),
        },
        "lost",
        LOOK,
    ));
    let failure = done.await.expect_err("no node has it");
    assert!(failure.reason.contains("object store"), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_with_the_code_of_an_image_has_no_settings_of_the_nodes_owner() {
    let folder = tempfile::tempdir().expect("a folder");
    let layout = layout(folder.path());
    let packs = hostile::packs();
    let node = node_with(|config| {
        config.packs = Some(packs.path().to_owned());
        config.images.folders = vec![folder.path().to_owned()];
    });
    let url = format!("oci:{}:one", layout.display());
    let (host, image) = (
        node.functions.base_image("script", "host").await,
        node.functions.base_image("script", &url).await,
    );
    let (host, image) = (
        host.expect("there is a shell"),
        image.expect("it has a shell"),
    );
    let tells = "cached=$(ls -A $CACHE)
        echo it has ${CARGO_PKG_NAME:-no name} and ${cached:-nothing}. > $REASON
        echo x > $CACHE/$CARGO_PKG_NAME.x
        exit 1";
    let mut said = Vec::new();
    for base in [&host, &image, &host] {
        let spec = hostile::spec(tells);
        let built = node.functions.build_layer(base, &spec).await;
        said.push(built.expect_err("it says why").reason);
    }
    // Their caches are not the same either.
    assert_eq!(
        said,
        [
            "it has adapter-functions and nothing.",
            "it has no name and nothing.",
            "it has adapter-functions and adapter-functions.x."
        ]
    );
}
