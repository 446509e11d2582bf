//! Packs: folders that make a language, the program's own and those that a node's owner adds.

use std::fs;
use std::path::{Path, PathBuf};

use adapter_functions::{Language, LayerSpec};
use serde_json::{Value, json};

use crate::support::{node_with, revision};

/// The example of the documentation.
fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples/packs")
}

/// A folder with one pack, of this manifest and the example's worker.
pub(crate) fn pack(label: &str, manifest: &str) -> tempfile::TempDir {
    let packs = tempfile::tempdir().expect("a folder");
    let pack = packs.path().join(label);
    fs::create_dir(&pack).expect("makes it");
    fs::write(pack.join("pack.yaml"), manifest).expect("writes");
    let worker = example().join("greeting/worker.sh");
    fs::copy(worker, pack.join("worker.sh")).expect("copies");
    packs
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_a_language() {
    let node = node_with(|config| config.packs = Some(example()));
    let base = node.functions.base_image("greeting2", "").await;
    let base = base.expect("there is a shell");
    assert_eq!(base.version, "1");
    let output = node
        .once(
            revision("greeting", "a.greeting", "Good evening, NAME."),
            json!({"name": "Ada"}),
        )
        .await;
    assert_eq!(output.output, json!({"greeting": "Good evening, Ada."}));
    assert_eq!(output.logs.stdout, ["greeting Ada"]);
    let mut two = revision("greeting", "a.greeting", "NAME");
    two.handler = "a.greeting".into();
    two.id = "with-a-handler".into();
    assert_eq!(node.once(two, Value::Null).await.error, None);
    let manifest = LayerSpec {
        manifest: Some("x".into()),
        system_packages: Vec::new(),
    };
    let said = node.functions.build_layer(&base, &manifest).await;
    assert_eq!(
        said.expect_err("none").reason,
        "greeting functions have no manifest of dependencies"
    );

    // Whoever has its sources finds it by them.
    let found = Language::of_file("a.greeting").expect("its ending is known");
    assert_eq!((found.label(), found.about()), ("greeting", "a greeting"));
    let template: Vec<&str> = found.template().map(|(name, _)| name).collect();
    assert_eq!(template, ["hello.greeting", "input.json", "output.json"]);
}
