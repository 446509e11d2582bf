//! Which crate may know which. ARCHITECTURE.md says why.

use std::process::Command;

use serde_json::Value;

use super::{none, tree};

/// A crate, and the crates of the workspace that it may know.
const MAY_KNOW: &[(&str, &[&str])] = &[
    ("engine-model", &[]),
    ("engine-core", &["engine-model"]),
    // docs/adr/0001 says why a stream knows the kit: it implements the kit's ports.
    ("engine-stream", &["engine-model", "adapter-kit"]),
    (
        "engine-runtime",
        &[
            "engine-model",
            "engine-core",
            "engine-stream",
            "adapter-kit",
        ],
    ),
    (
        "projections",
        &["engine-model", "engine-stream", "adapter-kit"],
    ),
    ("adapter-kit", &["engine-model"]),
    ("adapter-osb", &["engine-model", "adapter-kit"]),
    ("adapter-vault", &["engine-model", "adapter-kit"]),
    ("adapter-gateway", &["engine-model", "adapter-kit"]),
    ("adapter-rest", &["engine-model", "adapter-kit"]),
    (
        "adapter-functions",
        &["engine-model", "adapter-kit", "adapter-sandbox"],
    ),
    // Products of their own.
    ("adapter-sandbox", &[]),
    ("adapter-wasm", &["adapter-sandbox"]),
    ("adapter-postgres-broker", &[]),
    // What puts everything together.
    ("dispatch-cli", ALL),
    ("dispatch-tests", ALL),
];

const ALL: &[&str] = &["*"];

/// What `engine-model` may use: it is read by everybody, and decides nothing.
const MODEL_USES: &[&str] = &[
    "base64",
    "chrono",
    "serde",
    "serde_json",
    "thiserror",
    "uuid",
];

/// What `engine-core` must not use: it has no clock, no chance, no log and no waiting.
const CORE_NEVER: &[&str] = &[
    "tokio",
    "futures",
    "async-trait",
    "rand",
    "getrandom",
    "tracing",
    "log",
    "reqwest",
];

/// The crates that may use NATS's client: the stream, and the tests, who play strangers.
const NATS_USERS: &[&str] = &["engine-stream", "dispatch-tests"];

struct Crate {
    name: String,
    dependencies: Vec<String>,
}

/// What cargo itself says about the workspace; development dependencies are left out.
fn workspace() -> Vec<Crate> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--offline",
            "--no-deps",
            "--format-version",
            "1",
        ])
        .current_dir(tree::root())
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .map(|package| Crate {
            name: package["name"].as_str().unwrap().to_owned(),
            dependencies: package["dependencies"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|dependency| dependency["kind"] != "dev")
                .map(|dependency| dependency["name"].as_str().unwrap().to_owned())
                .collect(),
        })
        .collect()
}

fn findings(crates: &[Crate]) -> Vec<String> {
    let ours = |name: &str| crates.iter().any(|each| each.name == name);
    let mut findings = Vec::new();
    for Crate { name, dependencies } in crates {
        let Some((_, may_know)) = MAY_KNOW.iter().find(|(known, _)| known == name) else {
            findings.push(format!(
                "{name} is in no line of the table of who may know whom"
            ));
            continue;
        };
        for other in dependencies {
            let known = may_know.contains(&other.as_str()) || *may_know == ALL;
            if ours(other) && !known {
                findings.push(format!("{name} must not know {other}"));
            }
            if other == "async-nats" && !NATS_USERS.contains(&name.as_str()) {
                findings.push(format!(
                    "{name} must not use async-nats; engine-stream does"
                ));
            }
            if name == "engine-model" && !MODEL_USES.contains(&other.as_str()) {
                findings.push(format!("{name} must not use {other}"));
            }
            if name == "engine-core" && CORE_NEVER.contains(&other.as_str()) {
                findings.push(format!("{name} must not use {other}: it is pure"));
            }
        }
    }
    findings
}

#[test]
fn no_crate_knows_more_than_the_table_says() {
    none(findings(&workspace()));
}

#[test]
fn every_line_of_the_table_is_a_crate() {
    let crates = workspace();
    let absent = MAY_KNOW
        .iter()
        .filter(|(name, _)| !crates.iter().any(|each| each.name == *name));
    none(
        absent
            .map(|(name, _)| format!("there is no crate {name}"))
            .collect(),
    );
}

#[test]
fn a_crate_that_knows_too_much_is_found() {
    let krate = |name: &str, dependencies: &[&str]| Crate {
        name: name.into(),
        dependencies: dependencies.iter().map(ToString::to_string).collect(),
    };
    let crates = [
        krate("engine-model", &["tokio"]),
        krate("engine-core", &["engine-stream", "tracing"]),
        krate("engine-stream", &["async-nats", "adapter-kit"]),
        krate("projections", &["async-nats"]),
        krate("adapter-kit", &["engine-core"]),
        krate("adapter-common", &[]),
        krate("dispatch-cli", &["engine-core", "adapter-kit"]),
    ];
    assert_eq!(
        findings(&crates),
        [
            "engine-model must not use tokio",
            "engine-core must not know engine-stream",
            "engine-core must not use tracing: it is pure",
            "projections must not use async-nats; engine-stream does",
            "adapter-kit must not know engine-core",
            "adapter-common is in no line of the table of who may know whom",
        ]
    );
}
