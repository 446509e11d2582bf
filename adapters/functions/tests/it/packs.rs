//! Packs: folders that make a language, the program's own and those that a node's owner adds.

use std::fs;

use serde_json::{Value, json};

use crate::support::{node_with, revision};

const MANIFEST: &str = r#"
programs: [bash]
install: apt-get install bash
identify: [/bin/sh, -c, "printf '1\n/usr\n%s\n' {program}"]
worker: {file: worker.sh, arguments: ["{worker}"], megabytes: 4}
source: {suffixes: [.txt], name: words.txt}
handler: {default: "{path}", form: a file's name}
layer: {mount: /layer}
"#;
/// Answers every call with the number of bytes of its order.
const WORKER: &str = r#"
echo '{"ready":1,"version":"1"}' >&3
while read -r line <&3; do
    case $line in
        '{"init"'*) echo '{"ready":1}' >&3 ;;
        *) id=${line#*:}; echo "{\"ok\":${id%%,*},\"payload\":${#line}}" >&3 ;;
    esac
done
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_a_language() {
    let packs = tempfile::tempdir().expect("a folder");
    let pack = packs.path().join("counting");
    fs::create_dir(&pack).expect("makes it");
    fs::write(pack.join("pack.yaml"), MANIFEST).expect("writes");
    fs::write(pack.join("worker.sh"), WORKER).expect("writes");
    let node = node_with(|config| config.packs = Some(packs.path().to_owned()));
    let base = node.functions.base_image("counting2", "").await;
    assert_eq!(base.expect("bash runs").version, "1");
    let output = node
        .once(revision("counting", "a.txt", "x"), json!("four"))
        .await;
    assert!(output.output.as_u64() > Some(20), "{output:?}");
    let mut two = revision("counting", "a.txt", "x");
    two.handler = "a.txt".into();
    two.id = "with-a-handler".into();
    assert_eq!(node.once(two, Value::Null).await.error, None);
    let manifest = adapter_functions::LayerSpec {
        manifest: Some("x".into()),
        system_packages: Vec::new(),
    };
    let base = node
        .functions
        .base_image("counting", "")
        .await
        .expect("bash runs");
    let said = node
        .functions
        .build_layer(&base, &manifest)
        .await
        .expect_err("none");
    assert_eq!(
        said.reason,
        "counting functions have no manifest of dependencies"
    );
}
