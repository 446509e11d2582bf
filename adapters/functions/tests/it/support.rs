//! A node for functions on real parts: the sandbox launcher, the interpreters, blobs in memory.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adapter_functions::{
    Call, Completion, Config, ErrorType, Functions, Language, LauncherConfig, NetworkPolicy,
    Revision, RunError, Source,
};
use adapter_kit::MemoryBlobs;
use serde_json::{Value, json};

/// A node with a state directory of its own.
pub(crate) struct Node {
    pub(crate) functions: Functions,
    pub(crate) blobs: Arc<MemoryBlobs>,
    _state: tempfile::TempDir,
}

pub(crate) fn launcher() -> LauncherConfig {
    LauncherConfig::new([env!("CARGO_BIN_EXE_functions-launcher")])
}

pub(crate) fn node() -> Node {
    node_with(|_| {})
}

pub(crate) fn node_with(change: impl FnOnce(&mut Config)) -> Node {
    let blobs = Arc::new(MemoryBlobs::default());
    let state = tempfile::tempdir().expect("a state directory");
    let mut config = Config::new(state.path(), launcher(), Arc::clone(&blobs) as _);
    // A call that hangs is to fail with its reason, and not with the patience of the test runner.
    config.pools.call_max = Duration::from_secs(60);
    change(&mut config);
    let functions = Functions::start(config).expect("functions start");
    Node {
        functions,
        blobs,
        _state: state,
    }
}

pub(crate) fn python(text: &str) -> Revision {
    revision("python3", "main.py", text)
}

pub(crate) fn nodejs(text: &str) -> Revision {
    revision("nodejs", "main.js", text)
}

/// A revision with no layer, schemas, timeout or network.
pub(crate) fn revision(language: &str, name: &str, text: &str) -> Revision {
    let id = format!("{}-1", name.replace('.', "-"));
    let source = Source::File {
        name: name.to_owned(),
        text: text.to_owned(),
    };
    Revision::new(
        id,
        Language::parse(language).expect("there is a pack"),
        source,
    )
}

/// A file of the documentation's examples.
pub(crate) fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs/examples")
        .join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

pub(crate) fn example_json(name: &str) -> Value {
    serde_json::from_str(&example(name)).expect("it is JSON")
}

pub(crate) fn call(input: Value) -> Call {
    Call {
        context: json!({"secrets": {}}),
        ..Call::new("run", input)
    }
}

impl Node {
    /// Loads a revision that must load.
    pub(crate) async fn load(&self, revision: Revision) -> String {
        let id = revision.id.clone();
        self.functions.load(revision).await.expect("it loads");
        id
    }

    /// Loads a revision, calls it once, and says what came of it.
    pub(crate) async fn once(&self, revision: Revision, input: Value) -> Completion {
        let id = self.load(revision).await;
        self.call(&id, input).await
    }

    pub(crate) async fn call(&self, id: &str, input: Value) -> Completion {
        self.functions.call(id, call(input)).await
    }

    /// The reason why a revision does not load.
    pub(crate) async fn reason(&self, revision: Revision) -> String {
        self.functions
            .load(revision)
            .await
            .expect_err("it does not load")
            .reason
    }

    /// A call that must succeed.
    pub(crate) async fn output(&self, id: &str, input: Value) -> Value {
        let done = self.call(id, input).await;
        assert_eq!(done.error, None, "logs: {:?}", done.logs);
        done.output
    }
}

/// The error of a completion that must have one of that type.
pub(crate) fn error(done: &Completion, kind: ErrorType) -> &RunError {
    let error = done.error.as_ref().expect("the run failed");
    assert_eq!(error.kind, kind, "{error:?}");
    assert_eq!(done.output, Value::Null);
    error
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(15);
    while !holds() {
        assert!(Instant::now() < deadline, "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A place at which functions wait until the test lets them go on.
pub(crate) struct Gate(tokio::net::TcpListener);

impl Gate {
    pub(crate) async fn shut() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        Self(listener.expect("a free port"))
    }

    /// A function of Python that waits at it wherever its text says `WAIT()`.
    pub(crate) fn before(&self, text: &str) -> Revision {
        let port = self.0.local_addr().expect("it is bound").port();
        let wait = format!(
            "def WAIT():\n    import socket\n    \
             socket.create_connection(('127.0.0.1', {port})).recv(1)\n"
        );
        Revision {
            network: NetworkPolicy::Host,
            ..python(&(wait + text))
        }
    }

    /// Waits until one waits at it, which goes on when what is returned is dropped.
    pub(crate) async fn reached(&self) -> tokio::net::TcpStream {
        let waited = tokio::time::timeout(Duration::from_secs(15), self.0.accept()).await;
        waited.expect("one comes soon").expect("it is accepted").0
    }
}
