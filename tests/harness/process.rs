//! A Dispatch of a test's own: the real binary, in a temporary directory, on free ports.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::descendants;

/// A debug build on a machine that builds something else beside it is slow.
const START_MAX: Duration = Duration::from_secs(90);

/// How long a process may take to end after it was asked to.
const STOP_MAX: Duration = Duration::from_secs(30);

/// The folder that holds the binaries of this build.
///
/// # Panics
/// When they are not built.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    let me = std::env::current_exe().expect("a running program has a path");
    let found = me
        .ancestors()
        .map(|dir| dir.join(name))
        .find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} is not built; run 'cargo build --workspace' first"))
}

/// The root of the repository.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests lie in the repository")
        .into()
}

/// `PATH` with the tools that set-up put into the checkout.
#[must_use]
pub fn path_with_tools() -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let tools = repository().join(".tools/bin");
    std::env::join_paths(std::iter::once(tools).chain(std::env::split_paths(&path)))
        .expect("no directory of PATH has a colon")
}

/// A process that is ended with the test.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a process and waits until it prints a line that begins with `ready`; returns all
    /// lines up to it. Its standard error goes to `log`.
    ///
    /// # Panics
    /// When it ends or does not print the line in time.
    pub fn start(mut command: Command, ready: &str, log: &Path) -> (Self, Vec<String>) {
        let stderr = std::fs::File::options().create(true).append(true).open(log);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr.expect("the log can be written"))
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        let stdout = child.stdout.take().expect("standard output is a pipe");
        let process = Self {
            child,
            log: log.to_path_buf(),
        };
        let (sender, lines) = mpsc::channel();
        // Reads on to the end, so that the process never waits for a reader.
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let deadline = Instant::now() + START_MAX;
        let mut seen = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = lines.recv_timeout(left) else {
                panic!("it never said '{ready}', only {seen:?}\n{}", process.said());
            };
            seen.push(line);
            if seen.last().is_some_and(|line| line.starts_with(ready)) {
                return (process, seen);
            }
        }
    }

    /// What it wrote to standard error.
    #[must_use]
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end; kills it when it does not. `true` when it ended by itself.
    pub fn stop(&mut self) -> bool {
        adapter_sandbox::signal(self.child.id(), adapter_sandbox::Signal::Terminate);
        let deadline = Instant::now() + STOP_MAX;
        while Instant::now() < deadline {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return true;
            }
            thread::sleep(Duration::from_millis(20));
        }
        self.kill();
        false
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.stop();
        }
        if thread::panicking() {
            let said = self.said();
            let last: Vec<&str> = said.lines().rev().take(100).collect();
            crate::say(&format!("--- {} ---", self.log.display()));
            for line in last.into_iter().rev() {
                crate::say(line);
            }
        }
    }
}

/// What a command answered.
#[derive(Debug)]
pub struct Answered {
    /// Its exit code; -1 when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Answered {
    /// Standard output, of a command that succeeded.
    ///
    /// # Panics
    /// When it did not.
    #[must_use]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.out, self.err);
        self.out
    }

    /// Standard output as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out)
            .unwrap_or_else(|error| panic!("{error}: {}\n{}", self.out, self.err))
    }
}

impl From<Output> for Answered {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// A Dispatch at work.
#[derive(Debug)]
pub struct Dispatch {
    // Ends before its directory goes.
    process: Option<Process>,
    dir: TempDir,
}

impl Dispatch {
    /// One that is up.
    #[must_use]
    pub fn up() -> Self {
        Self::up_with(&[])
    }

    /// One that is up, with these variables in its environment.
    #[must_use]
    pub fn up_with(env: &[(&str, &str)]) -> Self {
        let mut this = Self::down();
        this.start(env);
        this
    }

    /// One that is up, with this server configuration.
    #[must_use]
    pub fn up_as(yaml: &str) -> Self {
        let mut this = Self::down();
        let file = this.file("server.yaml", yaml);
        let _ = this.cli(&["install", "-f", &file]).ok();
        this.start(&[]);
        this
    }

    /// One that was never started.
    ///
    /// # Panics
    /// When no temporary directory can be made.
    #[must_use]
    pub fn down() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        Self { process: None, dir }
    }

    /// Starts it again in the same directory.
    ///
    /// # Panics
    /// When it is still up, or does not come up.
    pub fn start(&mut self, env: &[(&str, &str)]) {
        assert!(self.process.is_none(), "it is up already");
        let mut command = self.command();
        command.arg("up").envs(env.iter().copied());
        let log = self.dir.path().join("dispatch.log");
        let (process, _) = Process::start(command, "Dispatch is up", &log);
        self.process = Some(process);
    }

    /// Waits until the server stands at the line that `DISPATCH_HOLD_AT` names.
    pub fn until_held(&self) {
        eventually("it is held", || self.log().contains("held for a test"));
    }

    /// Where its NATS server listens.
    #[must_use]
    pub fn nats_url(&self) -> String {
        self.config()["nats-url"]
            .as_str()
            .expect("it is a text")
            .to_owned()
    }

    /// The process of its NATS server.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn nats_server(&self) -> Option<u32> {
        let is_nats = |pid: &u32| {
            std::fs::read_to_string(format!("/proc/{pid}/comm"))
                .is_ok_and(|name| name.trim() == "nats-server")
        };
        descendants(self.id()).into_iter().find(is_nats)
    }

    /// Its data directory.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// A directory for a test's own files.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        self.dir.path()
    }

    /// What it logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("dispatch.log")).unwrap_or_default()
    }

    /// The process id.
    ///
    /// # Panics
    /// When it is not up.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.as_ref().expect("it is up").id()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Asks it to end. `true` when it did in time.
    pub fn stop(&mut self) -> bool {
        self.process.take().is_none_or(|mut process| process.stop())
    }

    /// A command of its binary, in its environment.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(binary("dispatch"));
        command
            .current_dir(repository())
            .env("PATH", path_with_tools())
            .env("DISPATCH_HOME", self.home())
            .env("HOME", self.dir.path())
            .env_remove("DISPATCH_CONFIG");
        keep_package_settings(&mut command);
        command
    }

    /// Runs a command of the client.
    ///
    /// # Panics
    /// When the binary cannot be run.
    pub fn cli(&self, args: &[&str]) -> Answered {
        self.command()
            .args(args)
            .output()
            .expect("the binary runs")
            .into()
    }

    /// The client's configuration.
    ///
    /// # Panics
    /// When it is not there.
    #[must_use]
    pub fn config(&self) -> Value {
        let text = std::fs::read_to_string(self.home().join("config.json"));
        serde_json::from_str(&text.expect("up has written it")).expect("it is JSON")
    }

    /// A document, as `get KIND NAME --json` shows it.
    #[must_use]
    pub fn get(&self, kind: &str, name: &str) -> Value {
        self.cli(&["get", kind, name, "--json"]).json()
    }

    /// All documents of a kind.
    #[must_use]
    pub fn all(&self, kinds: &str) -> Value {
        self.cli(&["get", kinds, "--json"]).json()
    }

    /// Waits until a document satisfies a condition.
    ///
    /// # Panics
    /// When it does not in time.
    pub fn until(&self, kind: &str, name: &str, what: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + START_MAX;
        loop {
            let answered = self.cli(&["get", kind, name, "--json"]);
            if answered.code == 0 && what(&answered.json()) {
                return answered.json();
            }
            assert!(
                Instant::now() < deadline,
                "{kind} {name}: {}{}",
                answered.out,
                answered.err
            );
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Makes a Python function of one file, with these flags, and waits until it is READY.
    pub fn function(&self, name: &str, source: &str, flags: &[&str]) {
        self.image("python3", "python3");
        let file = self.file(&format!("{name}.py"), source);
        let words = [&["create", "function", "python3", name, &file], flags].concat();
        let _ = self.cli(&words).ok();
        self.until("function", name, |function| function["status"] == "READY");
    }

    /// Makes an image without dependencies for a language, unless it is there.
    pub fn image(&self, name: &str, language: &str) {
        if self.cli(&["get", "image", name]).code == 0 {
            return;
        }
        let base = format!("{name}-base");
        let words = [
            "create",
            "base-image",
            &base,
            "host",
            "--language",
            language,
        ];
        let _ = self.cli(&words).ok();
        let _ = self.cli(&["create", "image", name, &base]).ok();
    }

    /// Waits until a run has ended.
    pub fn until_run(&self, function: &str, run: &str) -> Value {
        let mut ended = Value::Null;
        eventually(&format!("run {run} ends"), || {
            let answered = self.cli(&["get", "runs", function, run, "--json"]);
            if answered.code == 0 {
                ended = answered.json();
            }
            !ended["finishedTime"].is_null()
        });
        ended
    }

    /// Waits until a resource is not there any more.
    pub fn until_gone(&self, kind: &str, name: &str) {
        eventually(&format!("{kind} {name} is gone"), || {
            let answered = self.cli(&["get", kind, name, "--json"]);
            answered.code == 1 && answered.err.contains("[not-found]")
        });
    }

    /// Writes a file for a test and returns its path.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).expect("a temporary file can be written");
        path.display().to_string()
    }
}

/// Waits until something is so.
///
/// # Panics
/// When it does not become so in time.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + START_MAX;
    while !is_so() {
        assert!(
            Instant::now() < deadline,
            "{what}: not within {START_MAX:?}"
        );
        thread::sleep(Duration::from_millis(20));
    }
}

/// SIGKILL to a process that is not a child of the test.
///
/// # Panics
/// When it cannot be sent.
pub fn kill(pid: u32) {
    let sent = Command::new("kill")
        .args(["-KILL", &pid.to_string()])
        .status();
    assert!(
        sent.expect("kill is installed").success(),
        "process {pid} cannot be killed"
    );
}

/// A test's `HOME` is empty; where packages come from is still the machine's business.
fn keep_package_settings(command: &mut Command) {
    let Some(home) = std::env::var_os("HOME").map(PathBuf::from) else {
        return;
    };
    let files = [
        (
            "PIP_CONFIG_FILE",
            vec![".config/pip/pip.conf", ".pip/pip.conf"],
        ),
        ("UV_CONFIG_FILE", vec![".config/uv/uv.toml"]),
        ("NPM_CONFIG_USERCONFIG", vec![".npmrc"]),
    ];
    let mut found = HashMap::new();
    for (variable, candidates) in files {
        let there = candidates
            .into_iter()
            .map(|file| home.join(file))
            .find(|path| path.is_file());
        if let (Some(path), None) = (there, std::env::var_os(variable)) {
            found.insert(variable, path);
        }
    }
    command.envs(found);
}
