//! A component with an interpreter in it: Python, by componentize-py from its registry.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use adapter_functions::{ErrorType, NetworkPolicy};
use serde_json::json;

use crate::support::{error, node, revision};

/// The version that the example in the documentation is written for.
const TOOL: &str = "componentize-py==0.25.1";

/// The component of `tests/python/app.py`; nothing, and the reason on standard error, where the tool
/// cannot be had.
fn component(folder: &Path) -> Option<Vec<u8>> {
    let venv = folder.join("venv");
    let out = folder.join("app.wasm");
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let wit = own.join("../functions/packs/wasm/function.wit");
    let mut make = Command::new("python3");
    make.args(["-m", "venv"]).arg(&venv);
    let mut install = Command::new(venv.join("bin/pip"));
    install.args(["install", "--quiet", "--disable-pip-version-check", TOOL]);
    for step in [&mut make, &mut install] {
        let ran = step.output().map_err(|e| e.to_string()).and_then(|out| {
            let said = || String::from_utf8_lossy(&out.stderr).into_owned();
            out.status.success().then_some(()).ok_or_else(said)
        });
        if let Err(why) = ran {
            eprintln!("SKIPPED: components of Python are not tested, for want of {TOOL}: {why}");
            return None;
        }
    }
    let app = own.join("tests/python/app.py");
    // Python leaves what it compiles beside its sources.
    std::fs::copy(app, folder.join("app.py")).expect("it is copied");
    let built = Command::new(venv.join("bin/componentize-py"))
        .arg("-d")
        .arg(wit)
        .args(["-w", "function", "componentize", "-p"])
        .arg(folder)
        .args(["app", "-o"])
        .arg(&out)
        .output()
        .expect("it was installed");
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    Some(std::fs::read(out).expect("it was built"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_of_python_has_what_was_granted_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(component) = component(folder.path()) else {
        return;
    };
    let node = node();
    let mut python = revision(&component);
    python.timeout_ms = 5000;
    let begun = Instant::now();
    let id = node.load(python).await;
    eprintln!("compiled and loaded in {:?}", begun.elapsed());
    let workers = node.functions.idle_pids();

    let done = node.call(&id, json!({"name": "Jon"})).await;
    assert_eq!(
        done.output,
        json!({"myField": "Hello, Jon"}),
        "{:?}",
        done.error
    );
    assert_eq!(done.logs.stdout, ["greeting Jon"]);
    for _ in 0..3 {
        assert_eq!(node.output(&id, json!({"what": "calls"})).await, json!(1));
    }
    let input = node.call(&id, json!({"what": "input"})).await;
    let input = error(&input, ErrorType::InputError);
    assert_eq!(
        (&*input.message, &*input.stacktrace),
        ("a name is needed", &["app.py:1".to_owned()][..])
    );
    let raised = node.call(&id, json!({"what": "raise"})).await;
    let broke = error(&raised, ErrorType::FunctionError);
    assert!(broke.message.starts_with("KeyError: 'broke'"), "{broke:?}");
    assert!(
        broke.stacktrace.iter().any(|line| line.contains("line 2")),
        "{broke:?}"
    );
    assert!(
        raised
            .logs
            .stderr
            .iter()
            .any(|line| line.contains("Traceback")),
        "{:?}",
        raised.logs
    );
    let file = node.output(&id, json!({"what": "file"})).await;
    assert_eq!(file, json!("FileNotFoundError"));
    let memory = node.output(&id, json!({"what": "memory"})).await;
    assert_eq!(memory, json!("MemoryError"));

    // Somebody listens there, on the host; the sandbox has another loopback.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("it is bound").port();
    let connected = node
        .output(&id, json!({"what": "connect", "port": port}))
        .await;
    assert!(connected.to_string().contains("refused"), "{connected}");
    let mut open = revision(&component);
    open.id = "open".into();
    open.network = NetworkPolicy::Host;
    let open = node.load(open).await;
    let connected = node
        .output(&open, json!({"what": "connect", "port": port}))
        .await;
    assert_eq!(connected, json!("connected"));
    node.functions.retire(&open);

    let looping = node.call(&id, json!({"what": "loop"})).await;
    let message = &error(&looping, ErrorType::FunctionError).message;
    assert_eq!(message, "Function execution exceeded the timeout");
    assert!(
        looping
            .finished
            .duration_since(looping.started)
            .unwrap_or_default()
            > Duration::from_secs(4)
    );
    assert_eq!(
        node.functions.idle_pids(),
        workers,
        "its worker was replaced"
    );
}
