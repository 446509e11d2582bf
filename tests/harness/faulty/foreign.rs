//! Brokers made with openbrokerapi, a library that is not ours: what is true of them and of the
//! fake one alike is true of more than our own reading of the API.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use adapter_osb::fake::{PASSWORD, USERNAME};
use serde_json::Value;
use tempfile::TempDir;

use super::wire::{self, Head, Place};
use crate::process::{Process, repository};

/// The folder of the broker and of what it needs, in the repository.
const SOURCE: &str = "tests/it/osb/openbrokerapi";

/// The folder in the build directory that the library is installed to once.
const INSTALLED: &str = "openbrokerapi-4.7.3";

/// A process of many brokers that share nothing.
#[derive(Debug)]
pub struct Foreign {
    port: u16,
    next: AtomicUsize,
    _process: Process,
    _directory: TempDir,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) place: Place,
}

impl Foreign {
    /// Starts the process; installs the library when it is not there yet.
    ///
    /// # Errors
    /// Why the library cannot be installed.
    ///
    /// # Panics
    /// When the process does not start.
    pub fn start() -> Result<Self, String> {
        let source = repository().join(SOURCE);
        let library = installed(&source)?;
        let directory = TempDir::new().expect("a temporary directory can be made");
        let mut command = Command::new("python3");
        command
            .arg(source.join("broker.py"))
            .env("PYTHONPATH", library)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("BROKER_USERNAME", USERNAME)
            .env("BROKER_PASSWORD", PASSWORD);
        let log = directory.path().join("log");
        let (process, lines) = Process::start(command, "Ready ", &log);
        let port = lines.last().and_then(|line| line.strip_prefix("Ready "));
        Ok(Self {
            port: port
                .and_then(|port| port.parse().ok())
                .expect("it says its port"),
            next: AtomicUsize::new(0),
            _process: process,
            _directory: directory,
        })
    }

    /// A broker that nobody has used.
    pub(super) fn slot(&self) -> Slot {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Slot {
            place: Place {
                address: ([127, 0, 0, 1], self.port).into(),
                prefix: format!("/{number}"),
            },
        }
    }
}

impl Slot {
    async fn control(&self, method: &str, body: &[u8]) -> Value {
        let head = Head {
            method: method.into(),
            target: "/control".into(),
            headers: vec![("host".into(), "localhost".into())],
        };
        let answer = wire::ask(&self.place, &head, body).await;
        let answer = answer.expect("the broker behind answers");
        assert_eq!(answer.status, 200, "there are too few brokers");
        serde_json::from_slice(&answer.body).expect("it answers with JSON")
    }

    pub(super) async fn say(&self, what: Value) {
        let _ = self.control("PUT", what.to_string().as_bytes()).await;
    }

    pub(super) async fn holds(&self, what: &str) -> Vec<String> {
        let mut all = self.control("GET", b"").await;
        serde_json::from_value(all[what].take()).expect("a list of ids")
    }
}

/// The folder that holds the library. It is installed beside it and moved there in one step, so
/// that tests which run at once do not disturb each other.
fn installed(source: &Path) -> Result<PathBuf, String> {
    let me = std::env::current_exe().expect("a running program has a path");
    let target = me.ancestors().nth(3).expect("it lies in target/x/deps");
    let library = target.join(INSTALLED);
    if library.join("openbrokerapi").is_dir() {
        return Ok(library);
    }
    let fresh = TempDir::with_prefix_in(INSTALLED, target).map_err(|error| error.to_string())?;
    let output = Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--no-deps"])
        .args(["--disable-pip-version-check", "--no-warn-script-location"])
        .args(["--only-binary", ":all:", "--target"])
        .arg(fresh.path())
        .arg("--requirement")
        .arg(source.join("requirements.txt"))
        .output()
        .map_err(|error| format!("python3 does not start: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    // Another test may have been faster, and its library is as good.
    if std::fs::rename(fresh.path(), &library).is_ok() {
        let _ = fresh.keep();
    }
    Ok(library)
}
