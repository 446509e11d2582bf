//! A node whose wasm interpreter is this crate's program, and components to run on it.

use std::io::Write as _;
use std::sync::Arc;

use adapter_functions::{
    Call, Completion, Config, ErrorType, Functions, Language, LauncherConfig, Revision, RunError,
    Source,
};
use adapter_kit::MemoryBlobs;
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_wasm-worker");

pub(crate) struct Node {
    pub(crate) functions: Functions,
    pub(crate) state: tempfile::TempDir,
}

pub(crate) fn node() -> Node {
    let state = tempfile::tempdir().expect("a state directory");
    let functions = start(state.path());
    Node { functions, state }
}

/// A node on a state directory.
pub(crate) fn start(state: &std::path::Path) -> Functions {
    let blobs = Arc::new(MemoryBlobs::default());
    let launcher = LauncherConfig::new([PROGRAM]);
    let mut config = Config::new(state, launcher, blobs);
    config.interpreters.insert("wasm".into(), PROGRAM.into());
    Functions::start(config).expect("functions start")
}

/// The function by hand.
pub(crate) fn by_hand() -> Vec<u8> {
    wat::parse_str(include_str!("function.wat")).expect("it is WAT")
}

pub(crate) fn revision(component: &[u8]) -> Revision {
    let language = Language::parse("wasm").expect("there is a pack");
    Revision::new("function-1", language, archive(component))
}

fn archive(component: &[u8]) -> Source {
    let gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(gz);
    let mut header = tar::Header::new_gnu();
    header.set_size(component.len() as u64);
    header.set_mode(0o644);
    let appended = tar.append_data(&mut header, "function.wasm", component);
    appended.expect("appends");
    let mut gz = tar.into_inner().expect("finishes");
    gz.flush().expect("flushes");
    Source::Archive(gz.finish().expect("packs").into())
}

impl Node {
    pub(crate) async fn load(&self, revision: Revision) -> String {
        let id = revision.id.clone();
        self.functions.load(revision).await.expect("it loads");
        id
    }

    pub(crate) async fn call(&self, id: &str, input: Value) -> Completion {
        let call = Call {
            context: json!({"secrets": {}}),
            ..Call::new("run", input)
        };
        self.functions.call(id, call).await
    }

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
    error
}
