//! Node's layers: the dependencies of a `package.json`, by npm, without any package's scripts.

use std::path::Path;

use adapter_sandbox::{Mount, Network};
use serde_json::{Value, json};

use super::tool::{Room, on_path};
use crate::error::Failure;

/// The dependencies of a manifest, and nothing else of it; `None` when there are none.
pub(super) fn manifest(text: &str) -> Result<Option<String>, Failure> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let bad = |e: &dyn std::fmt::Display| Failure::of(format!("package.json: {e}"));
    let whole: Value = serde_json::from_str(text).map_err(|e| bad(&e))?;
    let Value::Object(fields) = &whole else {
        return Err(bad(&"not an object"));
    };
    let dependencies = match fields.get("dependencies") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(dependencies)) => dependencies,
        Some(_) => return Err(bad(&"dependencies is not an object")),
    };
    for (name, range) in dependencies {
        let from_registry = range.as_str().is_some_and(|r| {
            r.starts_with("npm:") || !(r.contains(':') || r.contains('/') || r.starts_with('.'))
        });
        if !from_registry {
            return Err(bad(&format!(
                "{name}: only packages from a registry can be installed"
            )));
        }
    }
    if dependencies.is_empty() {
        return Ok(None);
    }
    let mut kept = json!({"name": "function", "version": "0.0.0", "private": true});
    for field in ["dependencies", "overrides"] {
        if let Some(value) = fields.get(field) {
            kept[field] = value.clone();
        }
    }
    Ok(Some(kept.to_string()))
}

pub(super) async fn build(room: &Room<'_>, manifest: &str) -> Result<(), Failure> {
    room.furnish()?;
    room.write("layer/package.json", manifest)?;
    let npm = room.tools.npm.clone().or_else(|| on_path("npm"));
    let npm = npm.ok_or_else(|| Failure::of("npm was not found on this node: install npm"))?;
    let npm = std::fs::canonicalize(&npm).unwrap_or(npm);
    let script = npm.to_string_lossy();
    let arguments = [
        &script,
        "install",
        "--ignore-scripts",
        "--omit=dev",
        "--no-audit",
        "--no-fund",
        "--no-package-lock",
        "--no-update-notifier",
        "--loglevel=error",
        "--cache=/cache/npm",
    ];
    // bin/npm-cli.js lies in the package's own folder.
    let package = npm
        .parent()
        .and_then(Path::parent)
        .filter(|p| !p.starts_with("/usr"));
    let mounts = package
        .map(|p| Mount::read_only(p, p))
        .into_iter()
        .collect();
    room.run(
        "npm",
        &room.base.interpreter,
        &arguments,
        mounts,
        Network::Host,
    )
    .await?;
    tidy(&room.folder.join("layer"))
}

/// Leaves only `node_modules`, without npm's own notes, which say where things came from.
fn tidy(layer: &Path) -> Result<(), Failure> {
    let failed = |e| Failure::io("tidy up after npm", &e);
    std::fs::create_dir_all(layer.join("node_modules")).map_err(failed)?;
    for name in ["package.json", "node_modules/.package-lock.json"] {
        match std::fs::remove_file(layer.join(name)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_its_dependencies() {
        for none in [
            "",
            "{}",
            r#"{"dependencies":{}}"#,
            r#"{"scripts":{"install":"x"}}"#,
        ] {
            assert_eq!(manifest(none), Ok(None), "{none}");
        }
        let kept = manifest(r#"{"scripts":{"x":"y"},"dependencies":{"lodash":"^4"}}"#);
        let kept = kept.expect("is fine").expect("has dependencies");
        assert!(
            kept.contains("lodash") && !kept.contains("scripts"),
            "{kept}"
        );
    }

    #[test]
    fn what_is_not_from_a_registry_is_refused() {
        for range in [
            "file:../x",
            "git+ssh://host/x",
            "https://host/x.tgz",
            "user/repo",
            "./x",
            "..",
        ] {
            let text = json!({"dependencies": {"x": range}}).to_string();
            assert!(manifest(&text).is_err(), "{range}");
        }
        for text in [
            "[]",
            "{",
            r#"{"dependencies":[]}"#,
            r#"{"dependencies":{"x":1}}"#,
        ] {
            assert!(manifest(text).is_err(), "{text}");
        }
    }
}
