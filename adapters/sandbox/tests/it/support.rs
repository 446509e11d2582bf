//! Starts sandboxes and reads what they print.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use adapter_sandbox::{Exit, Launcher, LauncherConfig, Sandboxed, Spec};

/// Longer than anything here takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// The launcher's program; another copy of it when the suite runs as an ordinary user.
pub(crate) fn launcher_program() -> PathBuf {
    match std::env::var_os("SANDBOX_TEST_LAUNCHER") {
        Some(path) => path.into(),
        None => env!("CARGO_BIN_EXE_dispatch-launcher").into(),
    }
}

pub(crate) fn start_launcher() -> Launcher {
    let program = launcher_program().to_str().unwrap().to_owned();
    Launcher::start(LauncherConfig::new([program])).unwrap()
}

/// One launcher for all tests of a process that need none of their own.
pub(crate) fn launcher() -> &'static Launcher {
    static SHARED: LazyLock<Launcher> = LazyLock::new(start_launcher);
    &SHARED
}

pub(crate) fn python(script: &str) -> Spec {
    let mut spec = Spec::new("/usr/bin/python3");
    spec.args = ["-I", "-S", "-c", script].map(str::to_owned).to_vec();
    spec
}

pub(crate) fn shell(script: &str) -> Spec {
    let mut spec = Spec::new("/bin/sh");
    spec.args = ["-c", script].map(str::to_owned).to_vec();
    spec.env = vec![("PATH".into(), "/usr/bin:/bin".into())];
    spec
}

/// What a sandbox printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) exit: Exit,
}

pub(crate) fn finish(sandboxed: Sandboxed) -> Output {
    let Sandboxed {
        channel,
        queue,
        stdout,
        stderr,
        listeners,
        process,
    } = sandboxed;
    let read = |fd| {
        let mut text = String::new();
        fs::File::from(fd).read_to_string(&mut text).unwrap();
        text
    };
    let (stdout, stderr) = (read(stdout), read(stderr));
    let exit = process.wait().unwrap();
    drop((channel, queue, listeners));
    Output {
        stdout,
        stderr,
        exit,
    }
}

pub(crate) fn run(spec: &Spec) -> Output {
    finish(launcher().spawn(spec).unwrap())
}

/// Runs a script that must succeed, and answers with what it printed.
pub(crate) fn printed(spec: &Spec) -> String {
    let output = run(spec);
    assert!(output.exit.success(), "{output:?}");
    output.stdout
}

pub(crate) fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A word that no other test's processes have among their arguments.
pub(crate) fn marker(test: &str) -> String {
    format!("marker-{test}-{}", std::process::id())
}

/// How many of the host's processes (but this one's own children) bear the marker.
pub(crate) fn count_marked(marker: &str) -> usize {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter(|entry| arguments(&entry.path()).contains(marker))
        .count()
}

fn arguments(process: &Path) -> String {
    String::from_utf8_lossy(&fs::read(process.join("cmdline")).unwrap_or_default()).into_owned()
}

/// Ends a process that this test has started.
pub(crate) fn kill_hard(pid: u32) {
    let status = Command::new("/bin/kill")
        .args(["-9", &pid.to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}

pub(crate) fn is_root() -> bool {
    fs::read_to_string("/proc/self/status")
        .unwrap()
        .contains("\nUid:\t0\t")
}
