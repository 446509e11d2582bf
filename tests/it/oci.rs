//! OCI images through the whole program: base images, dependencies, functions, logins.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use harness::oci::{self, Of, PASSWORD, Registry, skopeo};
use harness::process::{Dispatch, repository};
use serde_json::{Value, json};

const LOOK: &str = "
import os, sys
def handle(context, payload):
    mark = open('/etc/mark').read().strip()
    host = os.path.exists('/usr/share/doc') or os.path.exists('/usr/bin/cargo')
    try:
        import six
        return [mark, host, six.__version__]
    except ImportError:
        return [mark, host, None]
";

/// A Dispatch that reads images below a folder.
fn up(folder: &Path, more: &str) -> Dispatch {
    let folder = folder.display();
    Dispatch::up_as(&format!("worker: {{imageFolders: [{folder}]{more}}}\n"))
}

/// Makes a base image, and an image of it, of one name.
fn image(dispatch: &Dispatch, name: &str, url: &str, language: &str, flags: &[&str]) {
    let words = ["create", "base-image", name, url, "--language", language];
    let _ = dispatch.cli(&[&words[..], &["--wait"]].concat()).ok();
    let base = dispatch.get("base-image", name);
    assert_eq!(base["status"], "READY", "{base}");
    let words = [&["create", "image", name, name, "--wait"], flags].concat();
    let _ = dispatch.cli(&words).ok();
}

/// Makes a function of a file and says what it returns.
fn answer(dispatch: &Dispatch, image: &str, name: &str, file: &str) -> Value {
    let words = ["create", "function", image, name, file, "--wait"];
    let _ = dispatch.cli(&words).ok();
    let ran = dispatch.cli(&["exec", name, "--wait", "--json"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    ran.json()["output"].clone()
}

#[test]
fn an_image_of_a_registry_a_layout_or_a_tar_runs_functions() {
    let folder = tempfile::tempdir().unwrap();
    let layout = oci::layout(folder.path(), Of::Python).display().to_string();
    let registry = Registry::start();
    let in_registry = format!("{}/test/python:latest", registry.address);
    let in_layout = format!("oci:{layout}:one");
    let in_tar = format!("docker-archive:{}/saved.tar", folder.path().display());
    skopeo(&[&in_layout, &format!("docker://{in_registry}")]);
    skopeo(&[&in_layout, &format!("{in_tar}:test/python:saved")]);

    let dispatch = up(folder.path(), "");
    let look = dispatch.file("look.py", LOOK);
    let manifest = dispatch.file("requirements.txt", "six==1.17.0\n");
    let with_six = ["--runtime-deps", manifest.as_str()];
    image(&dispatch, "pulled", &in_registry, "python3", &with_six);
    image(&dispatch, "laid-out", &in_layout, "python3", &[]);
    image(&dispatch, "saved", &in_tar, "python3", &[]);
    let expected = json!(["made by umoci", false, "1.17.0"]);
    assert_eq!(answer(&dispatch, "pulled", "look-1", &look), expected);
    let expected = json!(["made by umoci", false, null]);
    for (image, name) in [("laid-out", "look-2"), ("saved", "look-3")] {
        assert_eq!(answer(&dispatch, image, name, &look), expected, "{image}");
    }
}

#[test]
fn java_and_node_run_in_images_too() {
    let folder = tempfile::tempdir().unwrap();
    let node = oci::layout(folder.path(), Of::Node);
    let java = oci::layout(folder.path(), Of::Java);
    let dispatch = up(folder.path(), "");
    let url = format!("oci:{}", node.display());
    image(&dispatch, "node", &url, "nodejs", &[]);
    let look = dispatch.file(
        "look.js",
        "const fs = require('fs');\n\
         module.exports = () => [fs.readFileSync('/etc/mark', 'utf8').trim(), \
         fs.existsSync('/usr/bin/cargo'), process.env.MADE_BY];\n",
    );
    let expected = json!(["made by umoci", false, "one"]);
    assert_eq!(answer(&dispatch, "node", "look-js", &look), expected);

    let url = format!("oci:{}", java.display());
    image(&dispatch, "java", &url, "java", &[]);
    let look = dispatch.file(
        "Look.java",
        "import java.nio.file.*;\nimport java.util.*;\nimport java.util.function.BiFunction;\n\
         public class Look implements BiFunction<Map<String, Object>, Object, List<Object>> {\n\
           public List<Object> apply(Map<String, Object> context, Object payload) {\n\
             try {\n\
               return List.of(Files.readString(Path.of(\"/etc/mark\")).strip(),\n\
                 Files.exists(Path.of(\"/usr/bin/cargo\")), System.getenv(\"MADE_BY\"));\n\
             } catch (java.io.IOException e) { throw new IllegalStateException(e); }\n\
           }\n\
         }\n",
    );
    assert_eq!(answer(&dispatch, "java", "look-java", &look), expected);
}

#[test]
fn a_registry_that_asks_for_a_login_gets_the_one_that_is_noted_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let layout = oci::layout(folder.path(), Of::Shell).display().to_string();
    let registry = Registry::start_with_login();
    let url = format!("{}/private/shell:1", registry.address);
    let login = format!("--dest-creds=joe:{PASSWORD}");
    skopeo(&[
        &login,
        &format!("oci:{layout}:one"),
        &format!("docker://{url}"),
    ]);

    let logins = folder.path().join("logins.json");
    let more = format!(
        ", registryCredentials: {}, packs: {}",
        logins.display(),
        repository().join("docs/examples/packs").display()
    );
    let dispatch = up(folder.path(), &more);
    let words = [
        "create",
        "base-image",
        "shell",
        &url,
        "--language",
        "greeting",
    ];
    let _ = dispatch.cli(&words).ok();
    let reason = |says: &str| {
        let base = dispatch.until("base-image", "shell", |base| {
            let reason = base["reason"][0].as_str();
            base["status"] == "ERROR" && reason.is_some_and(|reason| reason.contains(says))
        });
        base["reason"].to_string()
    };
    reason("does not let anybody read it");

    let log_in = |password: &str| {
        let auth = STANDARD.encode(format!("joe:{password}"));
        let noted = json!({"auths": {&registry.address: {"auth": auth}}});
        std::fs::write(&logins, noted.to_string()).unwrap();
        let _ = dispatch.cli(&["retry", "base-image", "shell"]).ok();
    };
    log_in("open barley");
    let said = reason("does not let \"joe\" read it");
    assert!(!said.contains("barley"), "{said}");

    log_in(PASSWORD);
    let ready = |base: &Value| base["status"] == "READY";
    dispatch.until("base-image", "shell", ready);
    let log = dispatch.log();
    for secret in [
        PASSWORD,
        "barley",
        &STANDARD.encode(format!("joe:{PASSWORD}")),
    ] {
        assert!(!log.contains(secret), "the log has a password");
    }
}
