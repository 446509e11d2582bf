//! Builds that attack the engine: a pack whose builder runs its manifest as a script stands for
//! whatever code gets to run in a build.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use adapter_functions::{Config, LayerSpec};
use serde_json::Value;

use crate::packs::pack;
use crate::support::{Node, node_with, revision, until};

const MANIFEST: &str = r#"
programs: [sh]
install: apt-get install dash
identify: [/bin/sh, -c, "printf '1\n/usr\n/bin/sh\n'"]
worker: {file: worker.sh, arguments: ["{worker}"], megabytes: 4}
source: {suffixes: [.txt], name: words.txt}
handler: {default: "{path}", form: a file's name}
layer: {folder: shown, mount: /layer}
build:
  manifest: script
  command: [/bin/sh, -c, '. "$MANIFEST"']
  variables: [CARGO_PKG_]
"#;
/// A folder with the pack; its language is called `script`.
pub(crate) fn packs() -> tempfile::TempDir {
    pack("script", MANIFEST)
}

/// A node with the pack, and its state directory.
fn scripted(packs: &Path, change: impl FnOnce(&mut Config)) -> (Node, PathBuf) {
    let mut state = PathBuf::new();
    let node = node_with(|config| {
        config.packs = Some(packs.to_owned());
        state.clone_from(&config.state_dir);
        change(config);
    });
    (node, state)
}

pub(crate) fn spec(script: &str) -> LayerSpec {
    LayerSpec {
        manifest: Some(script.to_owned()),
        system_packages: Vec::new(),
    }
}

async fn built(node: &Node, script: &str) -> Result<Option<adapter_functions::Layer>, String> {
    let base = node.functions.base_image("script", "").await;
    let base = base.expect("there is a shell");
    let built = node.functions.build_layer(&base, &spec(script)).await;
    built.map_err(|failure| failure.reason)
}

async fn fails(node: &Node, script: &str) -> String {
    let done = tokio::time::timeout(Duration::from_secs(60), built(node, script)).await;
    done.expect("it ends").expect_err("it does not build")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reason_of_a_builder_is_a_file_of_its_own_and_nothing_else() {
    let packs = packs();
    let (node, _) = scripted(packs.path(), |_| {});
    assert_eq!(fails(&node, "echo mine > $REASON; exit 1").await, "mine");
    // The host's file, which the sandbox itself could not open.
    let secret = tempfile::NamedTempFile::new().expect("a file");
    fs::write(secret.path(), "of the host").expect("writes");
    let link = format!("ln -s {} $REASON; exit 1", secret.path().display());
    for script in [&link, "mkfifo $REASON; exit 1", "mkdir $REASON; exit 1"] {
        let said = fails(&node, script).await;
        assert_eq!(said, "the builder exited with 1", "{script}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_in_the_place_of_a_layer_is_refused() {
    let packs = packs();
    let (node, _) = scripted(packs.path(), |_| {});
    for (script, what) in [
        ("cd /; rmdir $LAYER; ln -s /etc $LAYER", "layer"),
        ("cd /; rmdir $LAYER; mkfifo $LAYER", "layer"),
        ("ln -s /etc shown", "shown"),
        ("ln -s /etc .system", ".system"),
        ("echo x > .system", ".system"),
    ] {
        let expected = format!("the dependency layer has something else than a folder as {what:?}");
        assert_eq!(fails(&node, script).await, expected, "{script}");
    }
    let links_within = "mkdir shown; ln -s /etc shown/etc";
    assert!(built(&node, links_within).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_builder_that_closed_its_outputs_is_ended_at_its_deadline() {
    let packs = packs();
    let (node, _) = scripted(packs.path(), |c| c.builds.timeout = Duration::from_secs(1));
    let said = fails(&node, "exec >&- 2>&-; sleep 1000").await;
    assert_eq!(said, "the build did not finish within 1s");
    assert!(
        built(&node, "echo x > file").await.is_ok(),
        "the next one has its turn"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_builder_that_fills_the_disk_is_ended() {
    let packs = packs();
    let (node, _) = scripted(packs.path(), |c| c.builds.layer_bytes_max = 4 << 20);
    for (place, what) in [("/build/tmp", "folder"), ("$CACHE", "cache")] {
        let said = fails(
            &node,
            &format!("head -c 64000000 /dev/zero > {place}/big; sleep 1000"),
        )
        .await;
        let expected =
            format!("the build's {what} grew far beyond the 4 MiB that a layer may hold");
        assert_eq!(said, expected);
    }
    let small = built(&node, "test ! -e $CACHE/big && echo x > file").await;
    assert!(
        small.is_ok(),
        "a cache that is too large is emptied: {small:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_builder_made_unreadable_can_still_be_removed() {
    let packs = packs();
    let (node, _) = scripted(packs.path(), |c| c.builds.layer_bytes_max = 4 << 20);
    let hides =
        "mkdir $CACHE/a; head -c 64000000 /dev/zero > $CACHE/a/b; chmod 0 $CACHE/a $CACHE; exit 1";
    fails(&node, hides).await;
    let small = built(&node, "test ! -e $CACHE/a && echo x > file").await;
    assert!(small.is_ok(), "{small:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_with_a_layer_does_not_wait_for_a_build() {
    let packs = packs();
    let (first, _) = scripted(packs.path(), |_| {});
    let there = "mkdir shown && echo x > shown/file";
    let layer = built(&first, there).await.expect("it builds");
    let blobs = first.blobs.clone();
    let (node, state) = scripted(packs.path(), |config| config.blobs = blobs);
    let building = built(&node, "sleep 1000");
    let loading = async {
        let begun = || {
            let mut builds = fs::read_dir(state.join("builds")).expect("it is there");
            builds.next().is_some()
        };
        until("the build has begun", begun).await;
        let mut revision = revision("script", "a.txt", "x");
        revision.layer = layer.map(|layer| layer.digest);
        let began = Instant::now();
        assert_eq!(node.once(revision, Value::Null).await.error, None);
        began.elapsed()
    };
    tokio::select! {
        done = building => panic!("the build ended: {done:?}"),
        took = tokio::time::timeout(Duration::from_secs(30), loading) => {
            took.expect("the function does not wait");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_settings_of_the_nodes_owner_are_given_to_builds_on_the_host() {
    let packs = packs();
    let (node, _) = scripted(packs.path(), |_| {});
    let tells = "echo $CARGO_PKG_NAME > $REASON; exit 1";
    assert_eq!(fails(&node, tells).await, "adapter-functions");
}
