//! A node with an attacker and a neighbour, its sandboxes made by root or by an ordinary user.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use adapter_functions::{
    Call, Completion, Config, ErrorType, Functions, Language, LauncherConfig, NetworkPolicy,
    Revision, Source,
};
use adapter_kit::MemoryBlobs;
use adapter_sandbox::Endpoint;
use harness::process::binary;
use serde_json::{Value, json};

const ATTACKS: &str = include_str!("attacks.py");

const NEIGHBOUR: &str = "
import os
def handle(context, payload):
    if payload == 'tidy':
        open('/tmp/left-by-another', 'w').close()
    return [payload, context['secrets'].get('key')]
";

/// What the neighbour was told and the attacker is not to find.
pub(super) const SECRET: &str = "canary-of-the-neighbour";

/// Who makes the sandboxes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum User {
    Root,
    Ordinary,
}

/// Both, where this is root; else the one that it is.
pub(super) fn users() -> Vec<User> {
    // Whoever makes a file owns it.
    let own = tempfile::tempdir().unwrap();
    match std::os::unix::fs::MetadataExt::uid(&fs::metadata(own.path()).unwrap()) {
        0 => vec![User::Root, User::Ordinary],
        _ => vec![User::Ordinary],
    }
}

/// A node under attack.
pub(super) struct Bed {
    functions: Functions,
    pub(super) user: User,
    pub(super) folder: tempfile::TempDir,
}

impl Bed {
    /// Starts a node, and its neighbour, who is told a secret.
    pub(super) async fn new(user: User) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let open = |path: &std::path::Path| {
            fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
        };
        open(folder.path());
        // An ordinary user may not reach the folder of the build.
        let program = folder.path().join("dispatch");
        fs::copy(binary("dispatch"), &program).unwrap();
        open(&program);
        let program = program.to_str().unwrap().to_owned();
        let own = [program, "sandbox-launcher".to_owned()];
        let prefix: &[&str] = match user {
            User::Ordinary if users().len() == 2 => &[
                "/usr/bin/setpriv",
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
            ],
            User::Ordinary | User::Root => &[],
        };
        let command = prefix.iter().map(|&word| word.to_owned()).chain(own);
        let state = folder.path().join("state");
        let launcher = LauncherConfig::new(command);
        let mut config = Config::new(state, launcher, Arc::new(MemoryBlobs::default()));
        config
            .interpreters
            .insert("python3".into(), "/usr/bin/python3".into());
        config.limits.memory_bytes = Some(256 << 20);
        config.limits.address_space_bytes = Some(512 << 20);
        config.limits.processes = 48;
        config.limits.tmp_bytes = 32 << 20;
        let functions = Functions::start(config).unwrap();
        let bed = Self {
            functions,
            user,
            folder,
        };
        bed.load(revision("neighbour", NEIGHBOUR)).await;
        assert_eq!(bed.neighbour("tidy").await, json!(["tidy", SECRET]));
        bed
    }

    pub(super) async fn load(&self, revision: Revision) {
        self.functions.load(revision).await.unwrap();
    }

    /// Why a revision is not loaded.
    pub(super) async fn refused(&self, revision: Revision) -> String {
        self.functions.load(revision).await.unwrap_err().reason
    }

    async fn neighbour(&self, input: &str) -> Value {
        let mut call = call(json!(input));
        call.context = json!({"secrets": {"key": SECRET}});
        let done = self.functions.call("neighbour", call).await;
        assert_eq!(done.error, None, "{:?}: {done:?}", self.user);
        done.output
    }

    /// Carries an attack out, and asks the neighbour meanwhile and afterwards whether it is well.
    pub(super) async fn attack(&self, revision: Revision, mut payload: Value) -> Completion {
        let id = revision.id.clone();
        if payload.get("attack").is_none() {
            payload["attack"] = json!(id);
        }
        self.load(revision).await;
        let attack = self.functions.call(&id, call(payload));
        tokio::pin!(attack);
        let done = loop {
            tokio::select! {
                done = &mut attack => break done,
                well = self.neighbour("meanwhile") => {
                    assert_eq!(well[0], "meanwhile");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        };
        assert_eq!(self.neighbour("afterwards").await[0], "afterwards");
        done
    }

    /// Carries out an attack that ends with a list of what it achieved, which must be nothing.
    pub(super) async fn holds(&self, attack: &str, payload: Value) {
        let done = self.attack(attacker(attack), payload).await;
        self.achieved_nothing(attack, &done);
    }

    pub(super) fn achieved_nothing(&self, attack: &str, done: &Completion) {
        assert_eq!(done.error, None, "{attack}, {:?}: {done:?}", self.user);
        let (user, said) = (self.user, &done.logs.stdout);
        assert_eq!(done.output, json!({}), "{attack}, {user:?}: {said:#?}");
        assert!(!said.is_empty(), "{attack}, {user:?}: nothing was refused");
    }

    /// Carries out an attack that costs the attacker its process; the next call finds another.
    pub(super) async fn ends(&self, attack: &str, timeout_ms: u64, message: &str) {
        let mut revision = attacker(attack);
        revision.timeout_ms = timeout_ms;
        let done = self.attack(revision, json!({})).await;
        let error = done.error.as_ref().unwrap_or_else(|| panic!("{done:?}"));
        assert_ne!(error.kind, ErrorType::InputError, "{attack}: {error:?}");
        let told = error.message.contains(message);
        assert!(told, "{attack}, {:?}: {error:?}", self.user);
        let again = self
            .functions
            .call(attack, call(json!({"attack": "host_files", "marker": "/"})));
        let again = again.await;
        assert!(
            !format!("{:?}", again.error).contains("process"),
            "{attack}: its next call found no worker: {again:?}"
        );
    }
}

pub(super) fn call(input: Value) -> Call {
    Call {
        patient: true,
        ..Call::new("run", input)
    }
}

/// The attacker; its id says which attack.
pub(super) fn attacker(attack: &str) -> Revision {
    revision(attack, ATTACKS)
}

/// An attacker whose services lie at `endpoints`.
pub(super) fn bound(attack: &str, endpoints: Vec<Endpoint>) -> Revision {
    Revision {
        network: NetworkPolicy::Services,
        endpoints,
        ..attacker(attack)
    }
}

pub(super) fn revision(id: &str, text: &str) -> Revision {
    let source = Source::File {
        name: "main.py".into(),
        text: text.to_owned(),
    };
    Revision {
        timeout_ms: 20_000,
        ..Revision::new(id, Language::parse("python3").unwrap(), source)
    }
}
